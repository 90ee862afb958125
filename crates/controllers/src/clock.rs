//! The one place of this crate that reads a clock.

use std::time::Instant;

use jiff::Timestamp;

/// Time that only goes forward, for deadlines.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for what is written into objects.
pub(crate) fn today() -> Timestamp {
    Timestamp::now()
}
