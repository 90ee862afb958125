//! The one place where the binary reads a clock: to measure.

use std::time::Instant;

/// Now, on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the binary's only clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
