//! Counters, for an agent to expose.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::Kind;

/// What a feed counted since it started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Batches handed out.
    pub batches: AtomicU64,
    /// Events in them.
    pub events: AtomicU64,
    kinds: [KindMetrics; Kind::ALL.len()],
}

/// The same for one kind.
#[derive(Debug, Default)]
pub struct KindMetrics {
    /// Objects received: items of lists, and events.
    pub received: AtomicU64,
    /// Bytes of response bodies.
    pub bytes: AtomicU64,
    /// Complete lists, the first included.
    pub lists: AtomicU64,
    /// Times that a watch or list broke or could not be opened. An orderly end is none.
    pub failures: AtomicU64,
    /// Values and objects that could not be read.
    pub unreadable: AtomicU64,
    /// Whether this feed watches the kind at all.
    pub watched: AtomicBool,
    /// Whether a watch is open now.
    pub connected: AtomicBool,
}

impl Metrics {
    /// The counters of one kind.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> &KindMetrics {
        &self.kinds[kind.index()]
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
