//! Something that is wrong on the node for as long as it is: a gauge for whoever is called, and the words for who comes to look.

use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// What is wrong of one kind, in words; the gauge has how many things that are, and is 0 while all is well.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    gauge: Gauge<i64, AtomicI64>,
    words: Mutex<Vec<String>>,
}

impl Wrong {
    /// What is to be registered.
    pub(super) fn gauge(&self) -> Gauge<i64, AtomicI64> {
        self.gauge.clone()
    }

    /// This is wrong now, and what was before is not.
    pub(super) fn set(&self, now: impl IntoIterator<Item = String>) {
        let now: Vec<String> = now.into_iter().collect();
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauge.set(i64::try_from(now.len()).unwrap_or(i64::MAX));
        *words = now;
    }

    pub(super) fn words(&self) -> Vec<String> {
        let words = self.words.lock();
        words.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of what is one thing at most.
    pub(super) fn word(&self) -> Option<String> {
        self.words().pop()
    }
}
