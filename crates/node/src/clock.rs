//! The one place where this crate reads a clock.

use std::time::Instant;

use k8s_openapi::jiff::Timestamp;

/// Now, on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the agent's only clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for Events.
#[allow(clippy::disallowed_methods, reason = "the agent's only clock")]
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::now()
}
