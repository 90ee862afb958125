//! What everybody may see: the published state, the recent changes, the health. All of it durable.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use crate::error::{Health, HistoryError};
use crate::history::{Forgotten, History, Record, Rings};
use crate::snapshot::Snapshot;
use crate::value::Change;

type Listener = Box<dyn Fn(u64) + Send + Sync>;

pub(crate) struct Shared<V> {
    state: RwLock<Published<V>>,
    health: Mutex<Health>,
    listeners: RwLock<Vec<Listener>>,
}

struct Published<V> {
    snapshot: Snapshot<V>,
    rings: Rings<V>,
}

impl<V> Shared<V> {
    pub(crate) fn new(snapshot: Snapshot<V>, rings: Rings<V>) -> Self {
        Self {
            state: RwLock::new(Published { snapshot, rings }),
            health: Mutex::new(Health::Ready),
            listeners: RwLock::new(Vec::new()),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<V> {
        self.read().snapshot.clone()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.read().snapshot.revision()
    }

    /// The state at an earlier revision: of one kind, or of all.
    pub(crate) fn snapshot_at(
        &self,
        kind: Option<&str>,
        revision: u64,
    ) -> Result<Snapshot<V>, HistoryError> {
        let state = self.read();
        not_future(&state, revision)?;
        state.rings.rewind(state.snapshot.clone(), kind, revision)
    }

    pub(crate) fn changes(
        &self,
        kind: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change<V>>>, HistoryError> {
        let state = self.read();
        not_future(&state, after)?;
        state.rings.changes(kind, after, limit)
    }

    pub(crate) fn floor(&self, kind: &str) -> u64 {
        self.read().rings.floor(kind)
    }

    pub(crate) fn kept(&self) -> usize {
        self.read().rings.len()
    }

    pub(crate) fn excess(&self, history: &History, now: Instant, limit: usize) -> Forgotten {
        self.read().rings.excess(history, now, limit)
    }

    /// Shows a durable state and the changes that led to it.
    pub(crate) fn publish(
        &self,
        snapshot: Snapshot<V>,
        records: Vec<Record<V>>,
        forgotten: &Forgotten,
    ) {
        let mut state = self.write();
        let old = std::mem::replace(&mut state.snapshot, snapshot);
        for record in records {
            state.rings.push(record);
        }
        let gone = state.rings.forget(forgotten);
        drop(state);
        drop((old, gone)); // frees memory, perhaps much: not while readers wait
    }

    pub(crate) fn forget(&self, forgotten: &Forgotten) {
        let gone = self.write().rings.forget(forgotten);
        drop(gone);
    }

    pub(crate) fn listen(&self, listener: Listener) {
        self.listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(listener);
    }

    pub(crate) fn announce(&self, revision: u64) {
        for listener in self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            listener(revision);
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether writes are taken; if not, why.
    pub(crate) fn writable(&self) -> Result<(), String> {
        match self.health() {
            Health::Ready => Ok(()),
            Health::ReadOnly { reason } => Err(reason),
        }
    }

    /// Ends writing. Returns what to tell.
    pub(crate) fn fail(&self, cause: &str) -> String {
        let reason = format!(
            "the disk failed ({cause}): the store is read-only; free space or repair the disk, then restart daymark"
        );
        tracing::error!(cause, "the store is read-only");
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::ReadOnly {
            reason: reason.clone(),
        };
        reason
    }

    fn read(&self) -> RwLockReadGuard<'_, Published<V>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Published<V>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_future<V>(state: &Published<V>, revision: u64) -> Result<(), HistoryError> {
    let current = state.snapshot.revision();
    if revision > current {
        Err(HistoryError::Future { current })
    } else {
        Ok(())
    }
}
