//! The one place where this crate reads a clock.

use std::time::Instant;

/// Now, on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the agent's only clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
