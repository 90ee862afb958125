//! Whether changes come without end, and should be taken in by the handful.
//!
//! What one change costs, alone, is for the most part what it costs to wake up for it: the socket, the hub, each subscriber, a
//! commit, and memory that others have used meanwhile. So after [`AT_ONCE`] changes that came faster than one every [`PAUSE`], a watch
//! waits that long before it reads on, and everything that came meanwhile is one batch. Where not even a millisecond passes without
//! another, the batch is closed after as long again: no change waits for longer than twice [`PAUSE`]. Whatever comes slower, and
//! every change after a calm, is read at once.

use std::time::{Duration, Instant};

/// How long changes wait for each other while they come without end.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// So many are read at once before that.
const AT_ONCE: u32 = 50;

/// Counts what comes, as a bucket that runs empty by one every [`PAUSE`].
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// When the bucket will be empty.
    empty: Option<Instant>,
}

impl Crowd {
    /// Takes note of something that was read. Returns whether to wait before more is.
    pub(super) fn came(&mut self, now: Instant) -> Next {
        let empty = self.empty.map_or(now, |empty| empty.max(now));
        // Full is full: the calm after a crowd need not be longer than that before it.
        let empty = (empty + PAUSE).min(now + PAUSE * (AT_ONCE + 1));
        self.empty = Some(empty);
        if empty - now > PAUSE * AT_ONCE {
            Next::AfterAPause
        } else {
            Next::AtOnce
        }
    }
}

/// When to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// As soon as something is there.
    AtOnce,
    /// After [`PAUSE`], everything that is there by then.
    AfterAPause,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` changes, one every so many milliseconds, are followed by a pause, if that takes no time.
    fn pauses(count: u32, every: u64) -> u32 {
        let mut crowd = Crowd::default();
        let start = crate::clock::now();
        let mut at = start;
        let mut pauses = 0;
        for _ in 0..count {
            pauses += u32::from(crowd.came(at) == Next::AfterAPause);
            at += Duration::from_millis(every);
        }
        pauses
    }

    #[test]
    fn what_comes_slower_than_the_pause_is_read_at_once_and_so_is_a_burst() {
        assert_eq!(pauses(1_000, 20), 0);
        assert_eq!(pauses(AT_ONCE, 0), 0);
        assert_eq!(pauses(AT_ONCE + 1, 0), 1);
        // At twice that pace every second one stays in the bucket.
        assert_eq!((pauses(99, 10), pauses(105, 10)), (0, 6));
    }

    #[test]
    fn after_a_crowd_reading_comes_back_with_the_calm() {
        let mut crowd = Crowd::default();
        let start = crate::clock::now();
        for _ in 0..1_000 {
            crowd.came(start);
        }
        assert_eq!(crowd.came(start + PAUSE / 2), Next::AfterAPause);
        assert_eq!(crowd.came(start + PAUSE * 3), Next::AtOnce);
    }
}
