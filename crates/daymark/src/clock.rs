//! The one place where the binary reads a clock: to measure.

use std::time::{Duration, Instant};

/// Now, on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the binary's only clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long this thread has had a processor, its system calls included.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
