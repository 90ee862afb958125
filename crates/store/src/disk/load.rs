//! From the rows of a file to the state in memory.
//!
//! The log is walked from its newest change to the oldest that is kept, undoing each: so every change must fit the
//! state after it, or the file is broken.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use redb::{Database, ReadableDatabase, ReadableTable};

use crate::OpenError;
use crate::disk::redb::{
    FLOORS, FORMAT, LOG, META, META_CLUSTER, META_FORMAT, META_RESERVED, META_REVISION, OBJECTS,
    number, wide,
};
use crate::history::{Forgotten, Record, Rings};
use crate::record::{LogRow, ObjectRow, decode_key};
use crate::snapshot::Snapshot;
use crate::value::{Change, Entry, Key, Value, What};

/// Why rows are not a state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoadError {
    /// The file contradicts itself.
    Broken(String),
    /// An object's bytes do not decode.
    Undecodable(Key, String),
    /// A later version wrote it.
    Format(u64),
}

impl LoadError {
    /// The same, told to whoever opened the file.
    pub(crate) fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Broken(reason) => OpenError::Broken { path, reason },
            Self::Undecodable(key, reason) => OpenError::Undecodable { path, key, reason },
            Self::Format(found) => OpenError::Format {
                path,
                found,
                known: FORMAT,
            },
        }
    }
}

impl From<String> for LoadError {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

impl From<redb::Error> for LoadError {
    fn from(error: redb::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// An object as its row has it.
#[derive(Clone, Debug)]
pub(crate) struct StoredObject {
    pub(crate) key: Key,
    pub(crate) created: u64,
    pub(crate) revision: u64,
    pub(crate) value: Vec<u8>,
}

/// A change as its row has it.
#[derive(Clone, Debug)]
pub(crate) struct StoredChange {
    pub(crate) revision: u64,
    pub(crate) index: u32,
    pub(crate) key: Key,
    pub(crate) what: What,
    pub(crate) before: Option<StoredObject>,
    pub(crate) last: Option<Vec<u8>>,
}

/// All rows of a file.
pub(crate) struct Stored {
    pub(crate) cluster: u128,
    pub(crate) revision: u64,
    pub(crate) reserved: u64,
    /// In the order of their keys.
    pub(crate) objects: Vec<StoredObject>,
    /// Oldest first; nothing at or below the floor of its kind.
    pub(crate) log: Vec<StoredChange>,
    pub(crate) floors: HashMap<Arc<str>, u64>,
    /// Log rows at or below the floor: still to be removed.
    pub(crate) leftover: Vec<(u64, u32)>,
}

/// The state that a file holds.
pub(crate) struct Found<V> {
    pub(crate) snapshot: Snapshot<V>,
    pub(crate) rings: Rings<V>,
}

impl Stored {
    /// Reads every row.
    pub(crate) fn read(database: &Database) -> Result<Self, LoadError> {
        let reading = database.begin_read().map_err(redb::Error::from)?;
        let meta = reading.open_table(META).map_err(redb::Error::from)?;
        let format = number(&meta, META_FORMAT)?;
        if format != FORMAT {
            return Err(LoadError::Format(format));
        }
        let mut floors = HashMap::new();
        for row in rows(&reading.open_table(FLOORS).map_err(redb::Error::from)?)? {
            let (kind, floor) = row.map_err(redb::Error::from)?;
            floors.insert(Arc::from(kind.value()), floor.value());
        }
        let mut stored = Self {
            cluster: wide(&meta, META_CLUSTER)?,
            revision: number(&meta, META_REVISION)?,
            reserved: number(&meta, META_RESERVED)?,
            objects: Vec::new(),
            log: Vec::new(),
            floors,
            leftover: Vec::new(),
        };
        stored.read_objects(&reading.open_table(OBJECTS).map_err(redb::Error::from)?)?;
        stored.read_log(&reading.open_table(LOG).map_err(redb::Error::from)?)?;
        stored.check_numbers()?;
        Ok(stored)
    }

    fn read_objects(
        &mut self,
        table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<(), LoadError> {
        for row in rows(table)? {
            let (key, value) = row.map_err(redb::Error::from)?;
            let key = decode_key(key.value(), self.objects.last().map(|object| &object.key))?;
            self.objects.push(StoredObject::decode(key, value.value())?);
        }
        Ok(())
    }

    fn read_log(
        &mut self,
        table: &impl ReadableTable<(u64, u32), &'static [u8]>,
    ) -> Result<(), LoadError> {
        for row in rows(table)? {
            let (id, value) = row.map_err(redb::Error::from)?;
            let (revision, index) = id.value();
            let row = LogRow::decode(value.value())?;
            let key = decode_key(row.key, self.log.last().map(|change| &change.key))?;
            if self
                .floors
                .get(&key.kind)
                .is_some_and(|floor| revision <= *floor)
            {
                self.leftover.push((revision, index));
                continue;
            }
            let before = row
                .before
                .map(|bytes| StoredObject::decode(key.clone(), bytes))
                .transpose()?;
            let last = row.last.map(<[u8]>::to_vec);
            self.log.push(StoredChange {
                revision,
                index,
                key,
                what: row.what,
                before,
                last,
            });
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), String> {
        let objects = self
            .objects
            .iter()
            .map(|object| (&object.key, object.revision));
        let changes = self.log.iter().map(|change| (&change.key, change.revision));
        for (key, revision) in objects.chain(changes) {
            if revision == 0 || revision > self.revision {
                return Err(format!(
                    "{key}: revision {revision}, but the store is at {}",
                    self.revision
                ));
            }
        }
        if self.reserved < self.revision {
            return Err(format!("revision {} was never reserved", self.revision));
        }
        Ok(())
    }

    /// Drops changes from the log but for the newest `keep` of each kind (and the rest of their transactions): what a
    /// watcher that was connected before the restart may still ask for. Returns the new floors; the rows become
    /// leftover.
    pub(crate) fn trim(&mut self, keep: usize) -> Forgotten {
        let mut kept: HashMap<Arc<str>, (usize, u64)> = HashMap::new();
        let mut floors: HashMap<Arc<str>, u64> = HashMap::new();
        for change in self.log.iter().rev() {
            let (count, oldest) = kept
                .entry(Arc::clone(&change.key.kind))
                .or_insert((0, change.revision));
            if *count >= keep && *oldest != change.revision {
                floors
                    .entry(Arc::clone(&change.key.kind))
                    .or_insert(change.revision);
            }
            (*count, *oldest) = (*count + 1, change.revision);
        }
        let gone = |change: &StoredChange| {
            floors
                .get(&change.key.kind)
                .is_some_and(|floor| change.revision <= *floor)
        };
        self.leftover.extend(
            self.log
                .iter()
                .filter(|change| gone(change))
                .map(|change| (change.revision, change.index)),
        );
        self.log.retain(|change| !gone(change));
        self.floors.extend(floors.clone());
        Forgotten {
            changes: Vec::new(),
            floors: floors.into_iter().collect(),
        }
    }

    /// The state of these rows.
    pub(crate) fn decode<V: Value>(self, now: Instant) -> Result<Found<V>, LoadError> {
        let entries = in_parallel(self.objects, decode_object::<V>)?;
        let snapshot = Snapshot::at(self.revision, entries);
        let changes = in_parallel(self.log, decode_change::<V>)?;
        let mut rings = Rings::default();
        for (kind, floor) in self.floors {
            rings.set_floor(kind, floor);
        }
        for record in replay(&snapshot, changes, now)? {
            rings.push(record);
        }
        Ok(Found { snapshot, rings })
    }
}

impl StoredObject {
    fn decode(key: Key, bytes: &[u8]) -> Result<Self, String> {
        let row = ObjectRow::decode(bytes).map_err(|reason| format!("{key}: {reason}"))?;
        Ok(Self {
            key,
            created: row.created,
            revision: row.revision,
            value: row.value.to_vec(),
        })
    }
}

/// A change whose values are decoded; its new value is still to be found.
struct DecodedChange<V> {
    stored: StoredChange,
    before: Option<Entry<V>>,
    last: Option<Arc<V>>,
}

fn decode_object<V: Value>(object: StoredObject) -> Result<(Key, Entry<V>), LoadError> {
    let value = V::decode(&object.key, &object.value)
        .map_err(|reason| LoadError::Undecodable(object.key.clone(), reason))?;
    Ok((
        object.key,
        Entry {
            value: Arc::new(value),
            created: object.created,
            revision: object.revision,
        },
    ))
}

fn decode_change<V: Value>(mut stored: StoredChange) -> Result<DecodedChange<V>, LoadError> {
    let before = stored
        .before
        .take()
        .map(decode_object)
        .transpose()?
        .map(|(_, entry)| entry);
    let last = match stored.last.take() {
        None => None,
        Some(bytes) => {
            let value = V::decode(&stored.key, &bytes)
                .map_err(|reason| LoadError::Undecodable(stored.key.clone(), reason))?;
            Some(Arc::new(value))
        }
    };
    Ok(DecodedChange {
        stored,
        before,
        last,
    })
}

/// Finds each change's new value by going back from the newest state; oldest first again.
fn replay<V>(
    snapshot: &Snapshot<V>,
    changes: Vec<DecodedChange<V>>,
    now: Instant,
) -> Result<Vec<Record<V>>, LoadError> {
    let mut undone: HashMap<Key, Option<Entry<V>>> = HashMap::new();
    let mut records = Vec::with_capacity(changes.len());
    for change in changes.into_iter().rev() {
        let key = change.stored.key.clone();
        let after = undone
            .get(&key)
            .map_or_else(|| snapshot.get(&key), Option::as_ref)
            .cloned();
        let record = join(change, after, now)?;
        undone.insert(key, record.before.clone());
        records.push(record);
    }
    records.reverse();
    Ok(records)
}

/// A change and the state of its object after it: they must fit.
fn join<V>(
    change: DecodedChange<V>,
    after: Option<Entry<V>>,
    now: Instant,
) -> Result<Record<V>, LoadError> {
    let DecodedChange {
        stored,
        before,
        last,
    } = change;
    let StoredChange {
        revision,
        index,
        key,
        what,
        ..
    } = stored;
    let misfit = |found: &str| {
        format!("{key}: the log has it {what:?} at revision {revision}, but then it {found}")
    };
    if before
        .as_ref()
        .is_some_and(|entry| entry.revision >= revision)
    {
        return Err(misfit("was newer before").into());
    }
    let (value, created) = match (last, after) {
        (Some(_), Some(_)) => return Err(misfit("is still there").into()),
        (None, None) => return Err(misfit("is missing").into()),
        (None, Some(entry)) if entry.revision != revision => {
            return Err(misfit("has another revision").into());
        }
        (None, Some(entry)) => (entry.value, entry.created),
        (Some(last), None) => (
            last,
            before.as_ref().map_or(revision, |entry| entry.created),
        ),
    };
    let previous = before.as_ref().map(|entry| Arc::clone(&entry.value));
    let change = Arc::new(Change {
        revision,
        key,
        what,
        value,
        previous,
    });
    Ok(Record {
        change,
        index,
        created,
        before,
        at: now,
    })
}

/// Maps in chunks, one thread each: decoding is most of what opening costs.
fn in_parallel<T, U, F>(items: Vec<T>, map: F) -> Result<Vec<U>, LoadError>
where
    T: Send,
    U: Send,
    F: Fn(T) -> Result<U, LoadError> + Sync,
{
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let size = items.len().div_ceil(threads).max(MIN_CHUNK);
    let mut items = items.into_iter();
    let map = &map;
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        while items.len() > 0 {
            let chunk: Vec<T> = items.by_ref().take(size).collect();
            workers.push(
                scope.spawn(move || chunk.into_iter().map(map).collect::<Result<Vec<U>, _>>()),
            );
        }
        let mut all = Vec::new();
        for worker in workers {
            let part = worker
                .join()
                .map_err(|_| LoadError::Broken("a decoder panicked".to_owned()))?;
            all.extend(part?);
        }
        Ok(all)
    })
}

fn rows<K: redb::Key + 'static, W: redb::Value + 'static>(
    table: &impl ReadableTable<K, W>,
) -> Result<redb::Range<'_, K, W>, LoadError> {
    Ok(table.iter().map_err(redb::Error::from)?)
}

/// Below this a thread costs more than it saves.
const MIN_CHUNK: usize = 512;
