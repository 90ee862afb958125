//! A store as JSON lines.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::line::{Header, MARK, ObjectLine, as_json, to_hex};
use super::upkeep::open;
use crate::disk::{FORMAT, Stored, StoredObject};
use crate::error::OpenError;

/// Why a store was not exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The output failed.
    #[error("writing the export")]
    Write(#[from] io::Error),
}

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// How many objects.
    pub objects: usize,
    /// The revision of the store.
    pub revision: u64,
}

/// Writes a store out. Needs the store closed.
///
/// # Errors
/// See [`ExportError`].
pub fn export(path: &Path, out: &mut dyn Write) -> Result<Exported, ExportError> {
    let database = open(path)?;
    let stored = Stored::read(&database).map_err(|error| error.at(path))?;
    let header = Header {
        daymark: MARK.to_owned(),
        format: FORMAT,
        cluster: format!("{:032x}", stored.cluster),
        revision: stored.revision,
        reserved: stored.reserved,
    };
    write(out, &header)?;
    for object in &stored.objects {
        write(out, &line(object))?;
    }
    out.flush()?;
    Ok(Exported {
        objects: stored.objects.len(),
        revision: stored.revision,
    })
}

fn line(object: &StoredObject) -> ObjectLine {
    let value = as_json(&object.value);
    ObjectLine {
        kind: object.key.kind.to_string(),
        namespace: object.key.namespace.to_string(),
        name: object.key.name.to_string(),
        created: Some(object.created),
        revision: Some(object.revision),
        bytes: value.is_none().then(|| to_hex(&object.value)),
        value,
    }
}

fn write(out: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
