//! The one place where this crate reads a clock.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

/// Now, on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the agent's only clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long this thread has had a processor, its system calls included: on a busy machine much less than the time that
/// passed.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The time of day, for Events.
#[allow(clippy::disallowed_methods, reason = "the agent's only clock")]
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::now()
}
