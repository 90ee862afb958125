//! The benchmark's clock.

use std::time::Instant;

/// Now, on the monotonic clock.
#[allow(
    clippy::disallowed_methods,
    reason = "a measurement is what this module is for"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
