//! The clock.

use std::time::Instant;

/// The time now.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
