//! The one place of this crate that reads a clock.

#![allow(
    clippy::disallowed_methods,
    reason = "the crate's one reader of clocks"
)]

use jiff::Timestamp;
use tokio::time::Instant;

/// The time of day, for what is written into objects.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The time that deadlines are measured by.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
