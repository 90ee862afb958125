//! Where the store keeps its state for the next start: a narrow seam, with a redb file or nothing behind it.

mod file;
mod load;
mod redb;

pub(crate) use file::{
    BACKEND_NAME, WhenMissing, create_with, failed, new_cluster, open_backend, open_file,
};
pub(crate) use load::{Found, Stored, StoredObject};
pub(crate) use redb::{FORMAT, RedbDisk, Restored, restore};

use crate::history::{Forgotten, Record};

/// What one fsync makes durable: all of it or nothing.
pub(crate) struct Batch<'a, V> {
    /// The revision of the newest change.
    pub(crate) revision: u64,
    /// No revision up to here may be handed out after a restart.
    pub(crate) reserved: u64,
    /// The changes, oldest first.
    pub(crate) records: &'a [Record<V>],
    /// What the log need not keep any longer.
    pub(crate) forgotten: &'a Forgotten,
}

/// A disk that commits.
pub(crate) trait Disk<V>: Send {
    /// Returns once the batch is durable. After an error the disk is not used again.
    fn commit(&mut self, batch: &Batch<'_, V>) -> Result<(), String>;
}

/// No disk: everything is gone when the process ends.
pub(crate) struct Memory;

impl<V> Disk<V> for Memory {
    fn commit(&mut self, _batch: &Batch<'_, V>) -> Result<(), String> {
        Ok(())
    }
}
