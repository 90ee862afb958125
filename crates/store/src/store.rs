//! The handle: open, read, watch, submit.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use redb::{Database, StorageBackend};

use crate::clock;
use crate::disk::{
    BACKEND_NAME, Batch, Disk, Found, Memory, RedbDisk, Stored, WhenMissing, new_cluster,
    open_backend, open_file,
};
use crate::error::{Health, HistoryError, OpenError, SubmitError};
use crate::history::{History, Rings};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::submission::Submission;
use crate::value::{Change, Committed, Plan, Value};
use crate::writer::{Job, Pace, RESERVE, Revisions, Writer};

/// Where a store lives, and how much it keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    place: Place,
    /// How much of the past can be watched and listed.
    pub history: History,
    /// Memory for pages of the file, in bytes. The objects are in memory beside it: this serves writes only.
    pub cache: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Memory,
    File(PathBuf),
}

impl Options {
    /// A store in a file, made (mode 0600) if it is not there. The folder must be there.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            place: Place::File(path.into()),
            ..Self::in_memory()
        }
    }

    /// A store that ends with the process.
    pub fn in_memory() -> Self {
        Self {
            place: Place::Memory,
            history: History::default(),
            cache: DEFAULT_CACHE,
        }
    }

    /// Another history.
    #[must_use]
    pub fn with_history(self, history: History) -> Self {
        Self { history, ..self }
    }
}

/// A store: a cheap handle on one. With the last handle the writer thread ends and the file is closed.
pub struct Store<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    shared: Arc<Shared<V>>,
    cluster: u128,
    jobs: Option<Sender<Box<dyn Job<V>>>>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer starts from.
struct Start<V> {
    found: Found<V>,
    cluster: u128,
    /// The last revision that may have been handed out.
    last: u64,
    /// The last revision that the disk keeps for this process.
    reserved: u64,
    leftover: Vec<(u64, u32)>,
}

impl<V: Value> Store<V> {
    /// Opens the store, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`]. Whatever is wrong with a file, it stays as it is.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        check(&options)?;
        match &options.place {
            Place::Memory => {
                let found = Found {
                    snapshot: Snapshot::at(0, []),
                    rings: Rings::default(),
                };
                let cluster = new_cluster();
                let start = Start {
                    found,
                    cluster,
                    last: 0,
                    reserved: u64::MAX,
                    leftover: Vec::new(),
                };
                Self::start(Box::new(Memory), start, options.history)
            }
            Place::File(path) => {
                let database = open_file(path, options.cache, WhenMissing::Create)?;
                Self::open_database(database, path, options.history)
            }
        }
    }

    /// Opens the store in a storage backend of redb, or makes it there: for tests of what a disk can do.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn with_backend(backend: impl StorageBackend, options: Options) -> Result<Self, OpenError> {
        check(&options)?;
        let database = open_backend(backend, options.cache)?;
        Self::open_database(database, Path::new(BACKEND_NAME), options.history)
    }

    fn open_database(database: Database, path: &Path, history: History) -> Result<Self, OpenError> {
        let mut stored = Stored::read(&database).map_err(|error| error.at(path))?;
        let forgotten = stored.trim(history.min_entries);
        let (cluster, revision, last) = (stored.cluster, stored.revision, stored.reserved);
        let leftover = std::mem::take(&mut stored.leftover);
        let found: Found<V> = stored
            .decode(clock::now())
            .map_err(|error| error.at(path))?;
        let mut disk = RedbDisk::new(database);
        let reserved = last + RESERVE;
        let batch: Batch<'_, V> = Batch {
            revision,
            reserved,
            records: &[],
            forgotten: &forgotten,
        };
        disk.commit(&batch)
            .map_err(|reason| OpenError::Unwritable {
                path: path.to_owned(),
                reason,
            })?;
        Self::start(
            Box::new(disk),
            Start {
                found,
                cluster,
                last,
                reserved,
                leftover,
            },
            history,
        )
    }

    fn start(disk: Box<dyn Disk<V>>, start: Start<V>, history: History) -> Result<Self, OpenError> {
        let Start {
            found,
            cluster,
            last,
            reserved,
            leftover,
        } = start;
        let shared = Arc::new(Shared::new(found.snapshot, found.rings));
        let (jobs, queue) = channel();
        let writer = Writer {
            jobs: queue,
            shared: Arc::clone(&shared),
            disk,
            history,
            revisions: Revisions::new(last, reserved),
            leftover,
            pace: Pace::default(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                cluster,
                jobs: Some(jobs),
                thread: Some(thread),
            }),
        })
    }

    /// Queues a plan and returns at once. The writer thread runs it on the newest state, with the revision that its
    /// operations will get; `done` is called, on that thread, once the outcome is durable and visible to everybody.
    ///
    /// Both should be quick: every other plan waits. Neither may call [`Store::transact`].
    pub fn submit<R, E>(
        &self,
        plan: impl FnOnce(&Snapshot<V>, u64) -> Result<Plan<V, R>, E> + Send + 'static,
        done: impl FnOnce(Result<Committed<R>, SubmitError<E>>) + Send + 'static,
    ) where
        R: Send + 'static,
        E: Send + 'static,
    {
        let job = Box::new(Submission::new(plan, done));
        let jobs = self
            .inner
            .jobs
            .as_ref()
            .expect("the queue is open while a handle exists");
        if let Err(unsent) = jobs.send(job) {
            unsent.0.finish(Err("the writer thread is gone".to_owned()));
        }
    }

    /// [`Store::submit`], and waits for the outcome. Blocks: not for async code, and not for the writer thread.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn transact<R, E>(
        &self,
        plan: impl FnOnce(&Snapshot<V>, u64) -> Result<Plan<V, R>, E> + Send + 'static,
    ) -> Result<Committed<R>, SubmitError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        if self.inner.on_writer_thread() {
            return Err(SubmitError::Unavailable(
                "a plan or its callback waits for another plan".to_owned(),
            ));
        }
        let (answer, outcome) = channel();
        self.submit(plan, move |result| drop(answer.send(result)));
        outcome.recv().unwrap_or_else(|_| {
            Err(SubmitError::Unavailable(
                "the plan was not answered".to_owned(),
            ))
        })
    }
}

impl<V> Store<V> {
    /// The newest durable state.
    pub fn snapshot(&self) -> Snapshot<V> {
        self.inner.shared.snapshot()
    }

    /// The state at an earlier revision.
    ///
    /// # Errors
    /// [`HistoryError::Compacted`] if any kind's history does not reach back so far, [`HistoryError::Future`].
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot<V>, HistoryError> {
        self.inner.shared.snapshot_at(None, revision)
    }

    /// The state of one kind at an earlier revision; other kinds in the snapshot are as they are now. Reaches back as
    /// far as [`Store::changes`] of that kind, however busy the others are.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn snapshot_of_kind_at(
        &self,
        kind: &str,
        revision: u64,
    ) -> Result<Snapshot<V>, HistoryError> {
        self.inner.shared.snapshot_at(Some(kind), revision)
    }

    /// The changes of a kind after a revision, oldest first: about `limit` of them, rounded up so that a transaction
    /// is never cut. A watcher goes on after the last one's revision, at its own pace; one that is too slow learns it
    /// by [`HistoryError::Compacted`].
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn changes(
        &self,
        kind: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change<V>>>, HistoryError> {
        self.inner.shared.changes(kind, after, limit)
    }

    /// The oldest revision that [`Store::changes`] of a kind can go on from.
    pub fn floor(&self, kind: &str) -> u64 {
        self.inner.shared.floor(kind)
    }

    /// How many changes are kept in memory, of all kinds.
    pub fn kept_changes(&self) -> usize {
        self.inner.shared.kept()
    }

    /// Calls `f` with the newest durable revision after each group commit, on the writer thread: wake watchers here.
    pub fn on_publish(&self, f: impl Fn(u64) + Send + Sync + 'static) {
        self.inner.shared.listen(Box::new(f));
    }

    /// The newest durable revision.
    pub fn revision(&self) -> u64 {
        self.inner.shared.revision()
    }

    /// Whether writes are taken.
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// Names this store for its life: 32 hexadecimal digits, made with the file.
    pub fn cluster_id(&self) -> String {
        format!("{:032x}", self.inner.cluster)
    }
}

impl<V> Clone for Store<V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<V> fmt::Debug for Store<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl<V> Inner<V> {
    fn on_writer_thread(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }
}

/// Carries out what is queued, then closes the file: it can be opened again once the last handle is dropped. (The last
/// handle may be in a callback on the writer thread itself; that one ends by itself.)
impl<V> Drop for Inner<V> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let on_writer_thread = self.on_writer_thread();
        if let Some(thread) = self.thread.take()
            && !on_writer_thread
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

fn check(options: &Options) -> Result<(), OpenError> {
    let History {
        min_entries,
        max_entries,
        ..
    } = options.history;
    if min_entries == 0 || max_entries < min_entries {
        return Err(OpenError::Options(
            "history: min_entries must be at least 1 and at most max_entries",
        ));
    }
    Ok(())
}

/// Memory for pages of the file: writes of a group stay in it until the commit.
const DEFAULT_CACHE: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
