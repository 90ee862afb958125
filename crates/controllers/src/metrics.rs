//! Counters of the controllers, for whoever serves them.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters since the start; shared by the loop and a reader.
#[derive(Debug, Default)]
pub struct Metrics {
    synced: AtomicBool,
    slice_writes: AtomicU64,
    bindings: AtomicU64,
    failures: AtomicU64,
    watch_failures: AtomicU64,
}

impl Metrics {
    /// Whether every watch has delivered its first list.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    pub(crate) fn synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wrote_slice(&self) {
        self.slice_writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bound(&self) {
        self.bindings.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn watch_failed(&self) {
        self.watch_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters in the Prometheus text format.
    pub fn render(&self) -> String {
        let rows = [
            (
                "endpointslice_writes",
                "EndpointSlices created, updated or deleted",
                &self.slice_writes,
            ),
            ("bindings", "Pods given a node", &self.bindings),
            (
                "failures",
                "pieces of work that failed and are tried again",
                &self.failures,
            ),
            (
                "watch_failures",
                "watches that failed and were started again",
                &self.watch_failures,
            ),
        ];
        let mut text = String::new();
        for (name, help, value) in rows {
            let value = value.load(Ordering::Relaxed);
            let name = format!("daymark_controller_{name}_total");
            writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"
            )
            .expect("writing to a String does not fail");
        }
        text
    }
}
