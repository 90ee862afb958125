//! The one place of this crate that reads a clock.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::moment::Moment;

/// Now, for protocol machines.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the machine booted in the past");
    let nanos = u32::try_from(time.tv_nsec).expect("nanoseconds are below 1,000,000,000");
    Moment::after_boot(Duration::new(seconds, nanos))
}

/// The time of day, for what people read: Events, and the renewal times that nobody judges by.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the clock.rs of the crate"
)]
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::now()
}
