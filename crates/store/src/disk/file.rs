//! Opening a store file, and making one: never half a store, never another's, never an emptied one.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::OpenError;
use crate::disk::redb::initialise;

/// What to do when there is no file yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WhenMissing {
    /// Make a store.
    Create,
    /// Say so.
    Refuse,
}

/// Opens a store file. `cache` in bytes.
pub(crate) fn open_file(
    path: &Path,
    cache: usize,
    missing: WhenMissing,
) -> Result<Database, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(broken(path, "it is a folder, not a store file"));
        }
        Ok(metadata) if metadata.len() == 0 => {
            return Err(broken(path, "the file is empty, which a store never is"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == WhenMissing::Create => {
            create(path, cache)?
        }
        Err(error) => return Err(io_error(path, "reading the store file", error)),
    }
    guard(path, || builder(cache).open(path))
}

/// Opens the store in a backend, or makes one if the backend is empty.
pub(crate) fn open_backend(
    backend: impl StorageBackend,
    cache: usize,
) -> Result<Database, OpenError> {
    let path = PathBuf::from(BACKEND_NAME);
    let empty = backend
        .len()
        .map_err(|error| io_error(&path, "reading the length", error))?
        == 0;
    let database = guard(&path, || builder(cache).create_with_backend(backend))?;
    if empty {
        initialise(&database, new_cluster()).map_err(|error| broken(&path, &error.to_string()))?;
    }
    Ok(database)
}

/// Every page is verified against its checksum on the way in: redb trusts a file otherwise, and a damaged one may be
/// answered with a panic.
fn builder(cache: usize) -> Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(cache)
        .set_check_integrity_on_open(true);
    builder
}

/// Makes an empty store, unless somebody else was faster.
fn create(path: &Path, cache: usize) -> Result<(), OpenError> {
    let empty = |database: &Database| initialise(database, new_cluster());
    match create_with(path, cache, empty) {
        Err(OpenError::Exists { .. }) => Ok(()),
        other => other,
    }
}

/// Makes a store with this content: under another name, and linked to its own once it is whole and durable.
pub(crate) fn create_with(
    path: &Path,
    cache: usize,
    content: impl FnOnce(&Database) -> Result<(), redb::Error>,
) -> Result<(), OpenError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = folder.join(name);
    let result = fill(&temporary, cache, content).and_then(|()| publish(&temporary, path, folder));
    // A failure to remove it says nothing about the store, and has a more telling one before it.
    drop(fs::remove_file(&temporary));
    result
}

fn fill(
    temporary: &Path,
    cache: usize,
    content: impl FnOnce(&Database) -> Result<(), redb::Error>,
) -> Result<(), OpenError> {
    drop(fs::remove_file(temporary)); // of a process with this id that died here
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(|error| io_error(temporary, "creating the store file", error))?;
    let database = guard(temporary, || {
        builder(cache).create_with_backend(FileBackend::new(file)?)
    })?;
    content(&database).map_err(|error| failed(temporary, error))?;
    database
        .close()
        .map_err(|error| failed(temporary, error.into()))
}

fn publish(temporary: &Path, path: &Path, folder: &Path) -> Result<(), OpenError> {
    match fs::hard_link(temporary, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(OpenError::Exists {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(io_error(path, "creating the store file", error)),
    }
    let sync = File::open(folder).and_then(|folder| folder.sync_all());
    sync.map_err(|error| io_error(folder, "syncing the folder", error))
}

/// Runs an open of redb; a panic over a damaged file becomes an error too.
fn guard(
    path: &Path,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<Database, OpenError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Ok(Err(error)) => Err(failed(path, error.into())),
        Err(_) => Err(broken(path, "the file is damaged")),
    }
}

/// A torn or foreign file is broken; everything else is the system's answer.
pub(crate) fn failed(path: &Path, error: redb::Error) -> OpenError {
    match error {
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => broken(
            path,
            "it is not a store of daymark, or its first page is damaged",
        ),
        redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            broken(path, "the file is cut short")
        }
        redb::Error::Io(error) => io_error(path, "opening the store", error),
        other => broken(path, &other.to_string()),
    }
}

fn broken(path: &Path, reason: &str) -> OpenError {
    OpenError::Broken {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn io_error(path: &Path, doing: &'static str, error: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        doing,
        error,
    }
}

/// 128 random bits that name a store for its life: the seeds of a hasher come from the system's randomness.
pub(crate) fn new_cluster() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    (half() << 64) | half()
}

/// What errors call a store that is not a file.
pub(crate) const BACKEND_NAME: &str = "(storage backend)";
