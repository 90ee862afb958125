//! A group of plans on its way to one fsync: the state each leaves for the next, and the changes they make.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::history::Record;
use crate::snapshot::Snapshot;
use crate::value::{Change, Entry, Key, Op, What};

pub(crate) struct Group<V> {
    /// The state after the plans so far: nobody but the next plan may see it.
    pub(crate) state: Snapshot<V>,
    /// What they changed, oldest first.
    pub(crate) records: Vec<Record<V>>,
}

impl<V> Group<V> {
    pub(crate) fn new(state: Snapshot<V>) -> Self {
        Self {
            state,
            records: Vec::new(),
        }
    }

    /// Adds the operations of one plan: all of them, or none and the reason.
    pub(crate) fn apply(
        &mut self,
        ops: Vec<Op<V>>,
        revision: u64,
        now: Instant,
    ) -> Result<(), String> {
        self.admit(&ops)?;
        for (index, op) in (0..).zip(ops) {
            let record = self.record(op, revision, index, now);
            self.records.push(record);
        }
        self.state.set_revision(revision);
        Ok(())
    }

    /// Holds a plan to the rules of [`crate::Plan`].
    fn admit(&self, ops: &[Op<V>]) -> Result<(), String> {
        let mut seen: HashSet<&Key> = HashSet::with_capacity(ops.len());
        for op in ops {
            let key = op.key();
            if [&key.kind, &key.namespace, &key.name]
                .iter()
                .any(|part| part.contains('\0'))
            {
                return Err(format!("{key:?}: the key holds a zero byte"));
            }
            if !seen.insert(key) {
                return Err(format!("{key}: the plan touches it twice"));
            }
            if matches!(op, Op::Delete { .. }) && self.state.get(key).is_none() {
                return Err(format!("{key}: the plan deletes it, but it is not there"));
            }
        }
        Ok(())
    }

    fn record(&mut self, op: Op<V>, revision: u64, index: u32, at: Instant) -> Record<V> {
        let before = self.state.get(op.key()).cloned();
        let created = before.as_ref().map_or(revision, |entry| entry.created);
        let (key, what, value) = match op {
            Op::Delete { key, last } => (key, What::Deleted, Arc::new(last)),
            Op::Put { key, value } if before.is_none() => (key, What::Added, Arc::new(value)),
            Op::Put { key, value } => (key, What::Modified, Arc::new(value)),
        };
        match what {
            What::Deleted => self.state.remove(&key),
            What::Added | What::Modified => {
                self.state.put(
                    key.clone(),
                    Entry {
                        value: Arc::clone(&value),
                        created,
                        revision,
                    },
                );
            }
        }
        let previous = before.as_ref().map(|entry| Arc::clone(&entry.value));
        let change = Arc::new(Change {
            revision,
            key,
            what,
            value,
            previous,
        });
        Record {
            change,
            index,
            created,
            before,
            at,
        }
    }
}
