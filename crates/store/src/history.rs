//! The recent past: which changes are kept, and for how long.
//!
//! Each kind has a ring of its own, so that Leases renewed each second do not push out the last change of a Service. A
//! change leaves the ring, and the log on disk with it, once
//! 1. the kind has more than [`History::max_entries`], or
//! 2. the kind has more than [`History::min_entries`] and this one is older than [`History::min_age`].
//!
//! The floor of a kind is the revision of the newest change that left: everything after it is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::HistoryError;
use crate::snapshot::Snapshot;
use crate::value::{Change, Entry};

/// How much of the past is kept, per kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// So many changes are always kept.
    pub min_entries: usize,
    /// Changes younger than this are kept, up to `max_entries`.
    pub min_age: Duration,
    /// Never more than this, whatever their age.
    pub max_entries: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            min_entries: 4096,
            min_age: Duration::from_secs(300),
            max_entries: 65_536,
        }
    }
}

/// A change with what is needed to undo it.
pub(crate) struct Record<V> {
    pub(crate) change: Arc<Change<V>>,
    /// Its place among the changes of its revision.
    pub(crate) index: u32,
    /// When the object was created; for a deleted one, its last life.
    pub(crate) created: u64,
    /// The object before.
    pub(crate) before: Option<Entry<V>>,
    /// When this process learned of it.
    pub(crate) at: Instant,
}

impl<V> Clone for Record<V> {
    fn clone(&self) -> Self {
        Self {
            change: Arc::clone(&self.change),
            index: self.index,
            created: self.created,
            before: self.before.clone(),
            at: self.at,
        }
    }
}

struct Ring<V> {
    records: VecDeque<Record<V>>,
    floor: u64,
}

impl<V> Default for Ring<V> {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            floor: 0,
        }
    }
}

/// The rings of all kinds.
pub(crate) struct Rings<V> {
    kinds: BTreeMap<Arc<str>, Ring<V>>,
    /// The floor of every kind that has no higher one: where a restored store begins.
    base: u64,
}

impl<V> Default for Rings<V> {
    fn default() -> Self {
        Self {
            kinds: BTreeMap::new(),
            base: 0,
        }
    }
}

/// What left a ring: the log on disk forgets it too.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// (revision, index) of each change.
    pub(crate) changes: Vec<(u64, u32)>,
    /// The kinds with a new floor.
    pub(crate) floors: Vec<(Arc<str>, u64)>,
}

impl<V> Rings<V> {
    /// Sets the floor of a kind, as the disk remembers it; of all kinds, by [`ALL_KINDS`].
    pub(crate) fn set_floor(&mut self, kind: Arc<str>, floor: u64) {
        match &*kind {
            ALL_KINDS => self.base = floor,
            _ => self.kinds.entry(kind).or_default().floor = floor,
        }
    }

    /// Adds the newest change of its kind.
    pub(crate) fn push(&mut self, record: Record<V>) {
        let kind = Arc::clone(&record.change.key.kind);
        self.kinds
            .entry(kind)
            .or_default()
            .records
            .push_back(record);
    }

    /// Which changes may go now: about `limit` of them, whole transactions only. Nothing is changed: they go with
    /// [`Rings::forget`], once the disk has forgotten them.
    pub(crate) fn excess(&self, history: &History, now: Instant, limit: usize) -> Forgotten {
        let mut forgotten = Forgotten::default();
        for (kind, ring) in &self.kinds {
            let left = limit.saturating_sub(forgotten.changes.len());
            let going = ring.excess(history, now, left);
            if let Some(last) = going.checked_sub(1) {
                let records = ring.records.range(..going);
                forgotten
                    .changes
                    .extend(records.map(|record| (record.change.revision, record.index)));
                forgotten
                    .floors
                    .push((Arc::clone(kind), ring.records[last].change.revision));
            }
        }
        forgotten
    }

    /// Drops what [`Rings::excess`] named. Returns it: freeing the memory can wait.
    pub(crate) fn forget(&mut self, forgotten: &Forgotten) -> Vec<Record<V>> {
        let mut gone = Vec::new();
        for (kind, floor) in &forgotten.floors {
            let ring = self.kinds.entry(Arc::clone(kind)).or_default();
            let going = ring
                .records
                .partition_point(|record| record.change.revision <= *floor);
            gone.extend(ring.records.drain(..going));
            ring.floor = *floor;
        }
        gone
    }

    /// The changes of a kind after a revision, oldest first: at least `limit` if there are so many, and never a part
    /// of a transaction.
    pub(crate) fn changes(
        &self,
        kind: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change<V>>>, HistoryError> {
        self.reach(kind, after)?;
        let Some(ring) = self.kinds.get(kind) else {
            return Ok(Vec::new());
        };
        let first = ring.first_after(after);
        let mut found: Vec<Arc<Change<V>>> = Vec::new();
        for record in ring.records.range(first..) {
            let same = found
                .last()
                .is_some_and(|last| last.revision == record.change.revision);
            if found.len() >= limit && !same {
                break;
            }
            found.push(Arc::clone(&record.change));
        }
        Ok(found)
    }

    /// Takes a snapshot back to `revision`: one kind of it, or all.
    pub(crate) fn rewind(
        &self,
        mut snapshot: Snapshot<V>,
        kind: Option<&str>,
        revision: u64,
    ) -> Result<Snapshot<V>, HistoryError> {
        let wanted = |name: &str| kind.is_none_or(|kind| kind == name);
        self.reach(kind.unwrap_or(ALL_KINDS), revision)?;
        for (name, ring) in self.kinds.iter().filter(|(name, _)| wanted(name)) {
            self.reach(name, revision)?;
            let first = ring.first_after(revision);
            for record in ring.records.range(first..).rev() {
                record.undo(&mut snapshot);
            }
        }
        snapshot.set_revision(revision);
        Ok(snapshot)
    }

    /// The oldest revision that a kind's changes go back to.
    pub(crate) fn floor(&self, kind: &str) -> u64 {
        self.kinds
            .get(kind)
            .map_or(self.base, |ring| ring.floor.max(self.base))
    }

    /// Whether a kind's history goes back to a revision.
    fn reach(&self, kind: &str, revision: u64) -> Result<(), HistoryError> {
        let floor = self.floor(kind);
        if revision < floor {
            Err(HistoryError::Compacted { floor })
        } else {
            Ok(())
        }
    }

    /// How many changes are kept.
    pub(crate) fn len(&self) -> usize {
        self.kinds.values().map(|ring| ring.records.len()).sum()
    }
}

impl<V> Ring<V> {
    /// How many of the oldest changes may go.
    fn excess(&self, history: &History, now: Instant, limit: usize) -> usize {
        let len = self.records.len();
        let forced = len.saturating_sub(history.max_entries);
        let old = |record: &Record<V>| now.saturating_duration_since(record.at) >= history.min_age;
        let old = self
            .records
            .partition_point(old)
            .min(len.saturating_sub(history.min_entries));
        let mut going = forced.max(old);
        while going > 0 && self.cuts(going) {
            going -= 1;
        }
        let mut some = limit.min(going);
        while some > 0 && self.cuts(some) {
            some += 1;
        }
        some
    }

    /// Whether the first `going` changes end inside a transaction.
    fn cuts(&self, going: usize) -> bool {
        let next = self.records.get(going);
        next.is_some_and(|next| self.records[going - 1].change.revision == next.change.revision)
    }

    fn first_after(&self, revision: u64) -> usize {
        self.records
            .partition_point(|record| record.change.revision <= revision)
    }
}

impl<V> Record<V> {
    fn undo(&self, snapshot: &mut Snapshot<V>) {
        match &self.before {
            None => snapshot.remove(&self.change.key),
            Some(entry) => snapshot.put(self.change.key.clone(), entry.clone()),
        }
    }
}

/// Stands for all kinds where a floor is kept; no kind has an empty name.
pub(crate) const ALL_KINDS: &str = "";

#[cfg(test)]
mod tests;
