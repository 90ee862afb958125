//! The clocks: the only place of this crate that reads them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A time to measure from.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, as the serial of an SOA record carries them.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the clock"
)]
pub(crate) fn serial() -> u32 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Serial arithmetic wraps (RFC 1982); so does this in 2106.
    u32::try_from(since.as_secs() & u64::from(u32::MAX)).expect("masked to 32 bits")
}
