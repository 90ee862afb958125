//! The redb file: its tables, and the one transaction of a group commit.

use redb::{Database, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::disk::{Batch, Disk, StoredObject};
use crate::history::{ALL_KINDS, Forgotten, Record};
use crate::record::{LogRow, ObjectRow, encode_key};
use crate::value::{Value, What};

/// The current objects: [`encode_key`] -> [`ObjectRow`].
pub(crate) const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
/// The changes: (revision, place in its transaction) -> [`LogRow`].
pub(crate) const LOG: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("log");
/// Kind -> the revision of the newest change that the log no longer holds.
pub(crate) const FLOORS: TableDefinition<'_, &str, u64> = TableDefinition::new("floors");
/// Numbers of the store as a whole, by the names below.
pub(crate) const META: TableDefinition<'_, &str, u128> = TableDefinition::new("meta");

/// In [`META`]: the layout of the tables; see [`FORMAT`].
pub(crate) const META_FORMAT: &str = "format";
/// In [`META`]: the revision of the newest change.
pub(crate) const META_REVISION: &str = "revision";
/// In [`META`]: revisions up to this one may have been handed out.
pub(crate) const META_RESERVED: &str = "reserved";
/// In [`META`]: random, made with the file.
pub(crate) const META_CLUSTER: &str = "cluster";

/// The layout that this program writes.
pub(crate) const FORMAT: u64 = 1;

/// A store in a redb file.
pub(crate) struct RedbDisk {
    database: Database,
}

impl RedbDisk {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }
}

impl<V: Value> Disk<V> for RedbDisk {
    fn commit(&mut self, batch: &Batch<'_, V>) -> Result<(), String> {
        commit(&self.database, batch).map_err(|error| error.to_string())
    }
}

/// Writes the tables of a new store: durable when this returns.
pub(crate) fn initialise(database: &Database, cluster: u128) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    {
        transaction.open_table(OBJECTS)?;
        transaction.open_table(LOG)?;
        transaction.open_table(FLOORS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, u128::from(FORMAT))?;
        meta.insert(META_REVISION, 0)?;
        meta.insert(META_RESERVED, 0)?;
        meta.insert(META_CLUSTER, cluster)?;
    }
    Ok(transaction.commit()?)
}

/// A store as an export describes it.
pub(crate) struct Restored {
    pub(crate) cluster: u128,
    pub(crate) revision: u64,
    pub(crate) reserved: u64,
    pub(crate) objects: Vec<StoredObject>,
}

/// Fills a new store: its history begins at its revision.
pub(crate) fn restore(database: &Database, restored: &Restored) -> Result<(), redb::Error> {
    initialise(database, restored.cluster)?;
    let transaction = begin(database)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for StoredObject {
            key,
            created,
            revision,
            value,
        } in &restored.objects
        {
            let row = ObjectRow {
                created: *created,
                revision: *revision,
                value,
            };
            objects.insert(encode_key(key).as_slice(), row.encode().as_slice())?;
        }
        transaction
            .open_table(FLOORS)?
            .insert(ALL_KINDS, restored.revision)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_REVISION, u128::from(restored.revision))?;
        meta.insert(META_RESERVED, u128::from(restored.reserved))?;
    }
    Ok(transaction.commit()?)
}

/// A transaction that is durable once committed, and recovers at once after a crash: quick repair keeps the allocator's
/// state in the file and commits in two phases, so that the newest commit is known to be whole.
pub(crate) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn commit<V: Value>(database: &Database, batch: &Batch<'_, V>) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut log = transaction.open_table(LOG)?;
        for record in batch.records {
            write(&mut objects, &mut log, record)?;
        }
        forget(&transaction, &mut log, batch.forgotten)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_REVISION, u128::from(batch.revision))?;
        meta.insert(META_RESERVED, u128::from(batch.reserved))?;
    }
    Ok(transaction.commit()?)
}

fn write<V: Value>(
    objects: &mut Table<'_, &'static [u8], &'static [u8]>,
    log: &mut Table<'_, (u64, u32), &'static [u8]>,
    record: &Record<V>,
) -> Result<(), redb::Error> {
    let change = &record.change;
    let key = encode_key(&change.key);
    let value = change.value.encode();
    let (before, last) = match change.what {
        What::Deleted => (objects.remove(key.as_slice())?, Some(value.as_slice())),
        What::Added | What::Modified => {
            let row = ObjectRow {
                created: record.created,
                revision: change.revision,
                value: &value,
            };
            (
                objects.insert(key.as_slice(), row.encode().as_slice())?,
                None,
            )
        }
    };
    let before = before.as_ref().map(|row| row.value());
    let row = LogRow {
        what: change.what,
        key: &key,
        before,
        last,
    };
    log.insert((change.revision, record.index), row.encode().as_slice())?;
    Ok(())
}

fn forget(
    transaction: &WriteTransaction,
    log: &mut Table<'_, (u64, u32), &'static [u8]>,
    forgotten: &Forgotten,
) -> Result<(), redb::Error> {
    for change in &forgotten.changes {
        log.remove(change)?;
    }
    let mut floors = transaction.open_table(FLOORS)?;
    for (kind, floor) in &forgotten.floors {
        floors.insert(&**kind, floor)?;
    }
    Ok(())
}

/// A number of [`META`]; an error in words if it is not there or too large.
pub(crate) fn number(
    meta: &impl ReadableTable<&'static str, u128>,
    name: &str,
) -> Result<u64, String> {
    let value = wide(meta, name)?;
    u64::try_from(value).map_err(|_| format!("the {name} of the store is {value}, too large"))
}

/// As [`number`], all 128 bits.
pub(crate) fn wide(
    meta: &impl ReadableTable<&'static str, u128>,
    name: &str,
) -> Result<u128, String> {
    match meta.get(name) {
        Ok(Some(value)) => Ok(value.value()),
        Ok(None) => Err(format!("the {name} of the store is missing")),
        Err(error) => Err(error.to_string()),
    }
}
