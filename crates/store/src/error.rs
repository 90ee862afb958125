//! Why the store did not open, did not write, or cannot show that part of its history.

use std::path::PathBuf;

use thiserror::Error;

use crate::Key;

/// Why a store did not open. Nothing in the file was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle in this one, has the file open.
    #[error(
        "{path}: the store is open in another process: stop that one first, or use another path"
    )]
    Locked {
        /// The store file.
        path: PathBuf,
    },
    /// Somebody else made the file at the same moment.
    #[error("{path}: the file is there already")]
    Exists {
        /// The store file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{path}: {doing}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The answer of the system.
        error: std::io::Error,
    },
    /// The file is no store, or is damaged.
    #[error(
        "{path}: {reason}: the file was left as it is; restore it from a backup, or move it away and load an export \
         with `daymark store import`"
    )]
    Broken {
        /// The store file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// An object's bytes do not decode.
    #[error(
        "{path}: {key}: {reason}: the file was left as it is; `daymark store export` writes every object out as it is \
         stored"
    )]
    Undecodable {
        /// The store file.
        path: PathBuf,
        /// The object.
        key: Key,
        /// What its decoder said.
        reason: String,
    },
    /// A later version of the program wrote the file.
    #[error(
        "{path}: the store has format {found}, this program reads {known}: use the version of daymark that wrote it"
    )]
    Format {
        /// The store file.
        path: PathBuf,
        /// The format in the file.
        found: u64,
        /// The newest format that this program reads.
        known: u64,
    },
    /// The first write failed.
    #[error(
        "{path}: the store cannot be written: {reason}: free space or repair the disk, then try again"
    )]
    Unwritable {
        /// The store file.
        path: PathBuf,
        /// What the commit said.
        reason: String,
    },
    /// The writer thread did not start.
    #[error("starting the writer thread of the store: {0}")]
    Thread(std::io::Error),
    /// A setting that contradicts itself.
    #[error("{0}")]
    Options(&'static str),
}

/// Why a plan was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SubmitError<E> {
    /// The plan itself said no.
    #[error("{0}")]
    Refused(E),
    /// The store could not do it: the disk failed and the store is read-only, the store is closing, or the plan broke a
    /// rule of [`crate::Plan`]. After a disk failure it is unknown whether the write survives a restart; in this
    /// process nobody sees it.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// Why a part of the history cannot be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HistoryError {
    /// It is no longer kept: list again, and watch from there.
    #[error("too old: the history reaches back to revision {floor}")]
    Compacted {
        /// The oldest revision that can be asked for.
        floor: u64,
    },
    /// It has not happened yet.
    #[error("the newest revision is {current}")]
    Future {
        /// The newest durable revision.
        current: u64,
    },
}

/// Whether the store takes writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// It does.
    Ready,
    /// The disk failed: reads and watches go on, writes are refused until a restart.
    ReadOnly {
        /// What failed, and the remedy.
        reason: String,
    },
}

impl Health {
    /// Whether writes are taken.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}
