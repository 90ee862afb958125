//! JSON lines into a store: a backup restored, or objects added.
//!
//! - No file yet: the store is made with what the lines say, revisions included. It appears whole or not at all.
//! - A store is there: all objects are written in one transaction, at a new revision.
//!
//! Objects that get a new revision (a line without one, or into a store that is there) are stamped with it.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::line::{Header, MARK, ObjectLine};
use super::upkeep::CACHE;
use crate::disk::{FORMAT, Restored, StoredObject, create_with, new_cluster, restore};
use crate::error::{OpenError, SubmitError};
use crate::snapshot::Snapshot;
use crate::store::{Options, Store};
use crate::value::{Key, Op, Plan, Raw};

/// Writes the revision of an object into its bytes, where the objects carry it.
pub type Stamp = fn(&Key, Vec<u8>, u64) -> Vec<u8>;

/// What to do with an object that the store has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Import nothing.
    Refuse,
    /// Replace it.
    Replace,
}

/// Why nothing was imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The input failed.
    #[error("reading the import")]
    Read(#[from] io::Error),
    /// A line is wrong.
    #[error("line {line}: {reason}: nothing was imported")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is in the store already.
    #[error(
        "{0} is in the store already: nothing was imported; `--replace` replaces what is there"
    )]
    Exists(Key),
    /// The store did not take the objects.
    #[error("nothing was imported: {0}")]
    Unavailable(String),
}

/// What was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// How many objects.
    pub objects: usize,
    /// The revision of the store now.
    pub revision: u64,
}

/// Imports what [`crate::tools::export`] wrote, or lines written by hand: the header, `created` and `revision` may be
/// left out.
///
/// # Errors
/// See [`ImportError`]; the store is as before.
pub fn import(
    path: &Path,
    lines: impl BufRead,
    existing: Existing,
    stamp: Stamp,
) -> Result<Imported, ImportError> {
    let parsed = parse(lines)?;
    match path.exists() {
        true => add(path, parsed, existing, stamp),
        false => make(path, parsed, stamp),
    }
}

/// All lines of an import.
#[derive(Default)]
struct Parsed {
    header: Option<Header>,
    objects: Vec<Object>,
}

struct Object {
    key: Key,
    /// (created, revision)
    at: Option<(u64, u64)>,
    value: Vec<u8>,
}

fn parse(lines: impl BufRead) -> Result<Parsed, ImportError> {
    let mut parsed = Parsed::default();
    let mut seen = HashSet::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line?;
        let wrong = |reason: String| ImportError::Line {
            line: number,
            reason,
        };
        if line.trim().is_empty() {
            continue;
        }
        if number == 1 && line.contains("\"daymark\"") {
            parsed.header = Some(header(&line).map_err(wrong)?);
            continue;
        }
        let object = object(&line).map_err(wrong)?;
        if !seen.insert(object.key.clone()) {
            return Err(wrong(format!("{} was on an earlier line", object.key)));
        }
        parsed.objects.push(object);
    }
    Ok(parsed)
}

fn header(line: &str) -> Result<Header, String> {
    let header: Header =
        serde_json::from_str(line).map_err(|error| format!("not a header: {error}"))?;
    if header.daymark != MARK || header.format > FORMAT {
        return Err(format!(
            "a `{}` of format {}; this program reads a `{MARK}` up to {FORMAT}",
            header.daymark, header.format
        ));
    }
    Ok(header)
}

fn object(line: &str) -> Result<Object, String> {
    let line: ObjectLine =
        serde_json::from_str(line).map_err(|error| format!("not an object: {error}"))?;
    for (field, text) in [("kind", &line.kind), ("name", &line.name)] {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("`{field}` is empty or holds a zero byte"));
        }
    }
    if line.namespace.contains('\0') {
        return Err("`namespace` holds a zero byte".to_owned());
    }
    let at = match (line.created, line.revision) {
        (None, None) => None,
        (Some(created), Some(revision)) if (1..=revision).contains(&created) => {
            Some((created, revision))
        }
        (None, Some(revision)) if revision > 0 => Some((revision, revision)),
        _ => return Err("`created` must be at least 1 and at most `revision`".to_owned()),
    };
    let value = line.stored()?;
    Ok(Object {
        key: Key::new(line.kind, line.namespace, line.name),
        at,
        value,
    })
}

/// A new store of what the lines say.
fn make(path: &Path, parsed: Parsed, stamp: Stamp) -> Result<Imported, ImportError> {
    let restored = arrange(parsed, stamp)?;
    create_with(path, CACHE, |database| restore(database, &restored))?;
    Ok(Imported {
        objects: restored.objects.len(),
        revision: restored.revision,
    })
}

/// Gives every object its revision, and the store the highest.
fn arrange(Parsed { header, objects }: Parsed, stamp: Stamp) -> Result<Restored, ImportError> {
    let known = objects
        .iter()
        .filter_map(|object| object.at)
        .map(|(_, revision)| revision);
    let newest = known
        .chain(header.as_ref().map(|header| header.revision))
        .max()
        .unwrap_or(0);
    let reserved = header
        .as_ref()
        .map_or(0, |header| header.reserved)
        .max(newest);
    let fresh = objects.iter().any(|object| object.at.is_none());
    let next = reserved + 1;
    let store = |Object { key, at, value }: Object| match at {
        Some((created, revision)) => StoredObject {
            key,
            created,
            revision,
            value,
        },
        None => {
            let value = stamp(&key, value, next);
            StoredObject {
                key,
                created: next,
                revision: next,
                value,
            }
        }
    };
    let (revision, reserved) = if fresh {
        (next, next)
    } else {
        (newest, reserved)
    };
    let cluster = match header {
        None => new_cluster(),
        Some(header) => {
            u128::from_str_radix(&header.cluster, 16).map_err(|_| ImportError::Line {
                line: 1,
                reason: "`cluster` is not a hexadecimal number".to_owned(),
            })?
        }
    };
    Ok(Restored {
        cluster,
        revision,
        reserved,
        objects: objects.into_iter().map(store).collect(),
    })
}

/// Adds to a store, in one transaction.
fn add(
    path: &Path,
    parsed: Parsed,
    existing: Existing,
    stamp: Stamp,
) -> Result<Imported, ImportError> {
    let store: Store<Raw> = Store::open(Options::at(path))?;
    let objects = parsed.objects;
    let count = objects.len();
    let committed = store.transact(move |state, revision| {
        refuse_existing(state, &objects, existing)?;
        let put = |Object { key, value, .. }: Object| {
            let value = Raw(stamp(&key, value, revision));
            Op::Put { key, value }
        };
        Ok(Plan {
            ops: objects.into_iter().map(put).collect(),
            answer: (),
        })
    });
    match committed {
        Ok(committed) => Ok(Imported {
            objects: count,
            revision: committed.revision,
        }),
        Err(SubmitError::Refused(key)) => Err(ImportError::Exists(key)),
        Err(SubmitError::Unavailable(reason)) => Err(ImportError::Unavailable(reason)),
    }
}

fn refuse_existing(
    state: &Snapshot<Raw>,
    objects: &[Object],
    existing: Existing,
) -> Result<(), Key> {
    let taken = |object: &&Object| state.get(&object.key).is_some();
    match objects.iter().find(taken) {
        Some(object) if existing == Existing::Refuse => Err(object.key.clone()),
        _ => Ok(()),
    }
}
