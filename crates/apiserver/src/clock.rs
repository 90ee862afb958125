//! The one place where the API server reads a clock.

use std::time::Instant;

use jiff::Timestamp;

/// Wall-clock time, for timestamps in objects and certificates.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for measuring how long something took.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The moment so long from now, for timers.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub(crate) fn deadline(from_now: std::time::Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + from_now
}
