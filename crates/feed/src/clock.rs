//! The clock.

use std::time::Instant;

/// The time now, of the clock that tokio's timers go by: a test that stops it stops this.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the clock"
)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
