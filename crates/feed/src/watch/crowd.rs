//! Whether changes come without end, and should be taken in by the handful.
//!
//! What one change costs, alone, is for the most part what it costs to wake up for it: the socket, the hub, each subscriber, a
//! commit, and memory that others have used meanwhile (of the plane's part most: `nft-paced`, docs/benchmarks.md). So after [`AT_ONCE`] changes
//! that came faster than one every [`LEAK`], a watch waits before it reads on ([`LONGEST`], or less where the configuration says so or that would be more than
//! [`PLENTY`]), and everything that came meanwhile is one batch. Where not even a millisecond passes without another, the
//! batch is closed after [`LEAST`]. Whatever comes slower, and every change after a calm, is read at once.

use std::time::{Duration, Instant};

use crate::config::LONGEST_PAUSE as LONGEST;

/// One change every so often may go on for ever without a pause.
const LEAK: Duration = Duration::from_millis(20);
/// So many are read at once before that.
const AT_ONCE: u32 = 50;
/// But not for many more than this: what is gained by more is little.
const PLENTY: usize = 50;
/// Nor for much more than so many bytes: a server must not be left waiting until there is room to send, which is a megabyte
/// where the agent connects. Slices of a hundred endpoints are some 30 kB each.
const MUCH: usize = 128 << 10;
/// However many they are, for so long: the pause of a watch, and what is added to a batch after one.
pub(super) const LEAST: Duration = Duration::from_millis(20);

/// What was read at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// How many changes.
    pub(super) changes: usize,
    /// How large they were.
    pub(super) bytes: usize,
}

/// Counts what comes, as a bucket that runs empty by one every [`LEAK`].
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// When the bucket will be empty.
    empty: Option<Instant>,
}

impl Crowd {
    /// Takes note of what was read. Returns whether to wait before more is.
    pub(super) fn came(&mut self, now: Instant, batch: Batch) -> Next {
        let changes = batch.changes;
        let empty = self.empty.map_or(now, |empty| empty.max(now));
        let full = LEAK * AT_ONCE;
        let more = LEAK * u32::try_from(changes).unwrap_or(AT_ONCE).min(AT_ONCE);
        // Fuller it does not get than what runs out of it in a pause: the calm after a crowd need not be longer than that before it.
        let empty = (empty + more).min(now + full + LONGEST);
        self.empty = Some(empty);
        if empty - now > full {
            Next::After(pause(batch))
        } else {
            Next::AtOnce
        }
    }
}

/// How long to wait after a batch, if they come on at that pace.
fn pause(batch: Batch) -> Duration {
    let times = (batch.changes / PLENTY).max(batch.bytes / MUCH);
    let times = u32::try_from(times).unwrap_or(u32::MAX).max(1);
    (LONGEST / times).max(LEAST)
}

/// When to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// As soon as something is there.
    AtOnce,
    /// After a pause of this length, everything that is there by then.
    After(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many small ones.
    fn small(changes: usize) -> Batch {
        Batch {
            changes,
            bytes: changes.saturating_mul(1_000),
        }
    }

    /// How many batches of `changes` that come in `seconds`, evenly, are followed by a pause; and how long a change waits at most.
    fn pauses(changes: u32, seconds: f64) -> (usize, Duration) {
        let mut crowd = Crowd::default();
        let start = crate::clock::now();
        let times: Vec<Instant> = (0..changes)
            .map(|n| start + Duration::from_secs_f64(seconds * f64::from(n) / f64::from(changes)))
            .collect();
        let (mut at, mut pauses, mut longest) = (start, 0, Duration::ZERO);
        let mut waiting = &times[..];
        while let Some(first) = waiting.first().copied() {
            at = at.max(first);
            let come = waiting.partition_point(|time| *time <= at);
            longest = longest.max(at - first);
            waiting = &waiting[come..];
            if let Next::After(pause) = crowd.came(at, small(come)) {
                pauses += 1;
                at += pause;
            }
        }
        (pauses, longest)
    }

    #[test]
    fn what_comes_slower_than_the_bucket_runs_empty_is_read_at_once_and_so_is_a_burst() {
        assert_eq!(pauses(1_000, 20.0).0, 0);
        assert_eq!(pauses(AT_ONCE, 0.0).0, 0);
        // One after the other, as from a socket.
        let mut crowd = Crowd::default();
        let now = crate::clock::now();
        let nexts: Vec<Next> = (0..=AT_ONCE).map(|_| crowd.came(now, small(1))).collect();
        assert!(nexts[..50].iter().all(|next| *next == Next::AtOnce));
        assert_eq!(nexts[50], Next::After(LONGEST));
    }

    #[test]
    fn at_a_hundred_a_second_there_are_four_batches_a_second_after_the_first() {
        let (pauses, longest) = pauses(6_000, 60.0);
        assert!((225..=245).contains(&pauses), "{pauses}");
        assert!(longest <= LONGEST, "{longest:?}");
    }

    #[test]
    fn the_more_come_the_shorter_they_wait() {
        assert_eq!([0, 1, 50, 99].map(small).map(pause), [LONGEST; 4]);
        assert_eq!(pause(small(100)), LONGEST / 2);
        assert_eq!(pause(small(usize::MAX)), LEAST);
        let large = |changes| Batch {
            changes,
            bytes: changes * 30_000,
        };
        // At 135 of them a second no pause is for as much as a megabyte.
        assert_eq!(pause(large(4)), LONGEST);
        assert_eq!(pause(large(34)), LONGEST / 7);
        let (batches, longest) = pauses(50_000, 10.0);
        // As many as come in the pause that so many ask for.
        assert!((100..=200).contains(&batches), "{batches}");
        assert!(longest <= LONGEST, "{longest:?}");
    }

    #[test]
    fn after_a_crowd_reading_comes_back_with_the_calm() {
        let mut crowd = Crowd::default();
        let start = crate::clock::now();
        crowd.came(start, small(50));
        for _ in 0..1_000 {
            crowd.came(start, small(50));
        }
        assert_eq!(
            crowd.came(start + LONGEST / 2, small(1)),
            Next::After(LONGEST)
        );
        let calm = start + LONGEST + LEAK * 2;
        assert_eq!(crowd.came(calm, small(1)), Next::AtOnce);
    }
}
