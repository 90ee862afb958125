//! The one place where the store reads a clock.

use std::time::Instant;

/// Monotonic time: how old a change is, how long a commit took.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
