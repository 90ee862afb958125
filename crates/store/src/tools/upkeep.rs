//! Is the file sound, and can it be smaller?

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use redb::Database;
use serde::Serialize;

use crate::clock;
use crate::disk::{Stored, WhenMissing, failed, open_file};
use crate::error::OpenError;
use crate::value::Raw;

/// What a sound store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Names the store for its life, 32 hexadecimal digits.
    pub cluster: String,
    /// The revision of the newest change.
    pub revision: u64,
    /// Revisions up to this one are not handed out again.
    pub reserved: u64,
    /// How many objects there are, by kind.
    pub objects: BTreeMap<String, usize>,
    /// How many changes the log keeps, by kind.
    pub changes: BTreeMap<String, usize>,
    /// The size of the file, in bytes.
    pub file_bytes: u64,
}

/// Verifies every page's checksum, every row, and that the log leads to the objects. Needs the store closed; if it was
/// not closed cleanly, it is recovered, as at the next start.
///
/// # Errors
/// See [`OpenError`]: what is wrong, and the remedy.
pub fn check(path: &Path) -> Result<Report, OpenError> {
    let database = open(path)?;
    let stored = Stored::read(&database).map_err(|error| error.at(path))?;
    let mut report = Report {
        cluster: format!("{:032x}", stored.cluster),
        revision: stored.revision,
        reserved: stored.reserved,
        objects: BTreeMap::new(),
        changes: BTreeMap::new(),
        file_bytes: size(path)?,
    };
    for object in &stored.objects {
        *report
            .objects
            .entry(object.key.kind.to_string())
            .or_default() += 1;
    }
    for change in &stored.log {
        *report
            .changes
            .entry(change.key.kind.to_string())
            .or_default() += 1;
    }
    stored
        .decode::<Raw>(clock::now())
        .map_err(|error| error.at(path))?;
    Ok(report)
}

/// The size of a store file before and after, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// Gives the file's free pages back to the file system. Needs the store closed.
///
/// # Errors
/// See [`OpenError`].
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    let before = size(path)?;
    let mut database = open(path)?;
    Stored::read(&database).map_err(|error| error.at(path))?;
    while database
        .compact()
        .map_err(|error| failed(path, error.into()))?
    {}
    database
        .close()
        .map_err(|error| failed(path, error.into()))?;
    Ok(Compacted {
        before,
        after: size(path)?,
    })
}

pub(super) fn open(path: &Path) -> Result<Database, OpenError> {
    open_file(path, CACHE, WhenMissing::Refuse)
}

fn size(path: &Path) -> Result<u64, OpenError> {
    let metadata = fs::metadata(path);
    metadata
        .map(|metadata| metadata.len())
        .map_err(|error| OpenError::Io {
            path: path.to_owned(),
            doing: "reading the store file",
            error,
        })
}

/// Memory for pages while a tool runs, in bytes.
pub(super) const CACHE: usize = 256 * 1024 * 1024;
