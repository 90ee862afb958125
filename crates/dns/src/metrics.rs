//! Counters, for an agent to expose.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;

/// What a server counted since it started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Packets and TCP messages received.
    pub queries_udp: AtomicU64,
    /// TCP messages received.
    pub queries_tcp: AtomicU64,
    /// Packets that got no answer: too short, or no question at all.
    pub dropped: AtomicU64,
    /// Answers by RCODE.
    pub noerror: AtomicU64,
    /// NXDOMAIN.
    pub nxdomain: AtomicU64,
    /// SERVFAIL.
    pub servfail: AtomicU64,
    /// FORMERR.
    pub formerr: AtomicU64,
    /// Every other RCODE.
    pub other_rcode: AtomicU64,
    /// UDP answers that were cut, with TC set.
    pub truncated: AtomicU64,
    /// Questions that the zone answered.
    pub zone: AtomicU64,
    /// Questions sent to an upstream.
    pub forwarded: AtomicU64,
    /// Questions that no upstream answered.
    pub forward_failures: AtomicU64,
    /// Questions refused because too many were under way.
    pub forward_rejects: AtomicU64,
    /// Questions answered from the cache.
    pub cache_hits: AtomicU64,
    /// TCP connections closed at once because there were too many.
    pub tcp_rejects: AtomicU64,
    /// Names held back for the data plane.
    pub held: AtomicU64,
    /// Names that were let go because the data plane took too long.
    pub hold_timeouts: AtomicU64,
    /// Questions about which the server panicked.
    pub panics: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, code: ResponseCode) {
        add(
            match code {
                ResponseCode::NoError => &self.noerror,
                ResponseCode::NXDomain => &self.nxdomain,
                ResponseCode::ServFail => &self.servfail,
                ResponseCode::FormErr => &self.formerr,
                _ => &self.other_rcode,
            },
            1,
        );
    }
}

/// Counts a panic that goes through the place where it is held.
pub(crate) struct Panics<'a>(pub(crate) &'a Metrics);

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            add(&self.0.panics, 1);
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
