//! How long to wait before the next attempt.

use std::time::Duration;

use crate::config::Retry;

/// Doubles from `first` to `longest`, and once that has lasted for [`AWAY`] to `longest_away`, until something works again.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    next: Duration,
    /// Waited since something worked.
    waited: Duration,
}

/// From so much waiting on the API counts as away for long.
const AWAY: Duration = Duration::from_secs(60);

impl Backoff {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            next: retry.first,
            waited: Duration::ZERO,
        }
    }

    /// The next attempt works: start small again.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.retry);
    }

    /// The wait before the next attempt; `chance` in 0.0..1.0 takes up to half off, so that
    /// the agents of a cluster do not come back all at once.
    pub(super) fn wait(&mut self, chance: f64) -> Duration {
        let wait = self.next;
        self.waited += wait;
        let longest = if self.waited < AWAY {
            self.retry.longest
        } else {
            self.retry.longest_away
        };
        self.next = (self.next * 2).min(longest);
        wait.mul_f64(1.0 - chance / 2.0)
    }

    /// The same after an answer that asks to be left alone for so many seconds: never less than that, and up to a quarter more,
    /// since everybody was asked the same.
    pub(super) fn wait_as_asked(&mut self, seconds: Option<u32>, chance: f64) -> Duration {
        let own = self.wait(chance);
        let asked = Duration::from_secs(seconds.map_or(0, u64::from)).min(MOST_ASKED);
        own.max(asked.mul_f64(1.0 + chance / 4.0))
    }
}

/// Nobody is left alone for longer.
const MOST_ASKED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(first: u64, longest: u64, longest_away: u64) -> Backoff {
        Backoff::new(Retry {
            first: Duration::from_millis(first),
            longest: Duration::from_millis(longest),
            longest_away: Duration::from_millis(longest_away),
        })
    }

    #[test]
    fn waits_double_up_to_the_longest_and_start_small_again() {
        let mut backoff = retry(20, 100, 1000);
        let waits: Vec<u128> = (0..5).map(|_| backoff.wait(0.0).as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 100, 100]);
        backoff.reset();
        assert_eq!(backoff.wait(0.0), Duration::from_millis(20));
        assert_eq!(backoff.wait(1.0), Duration::from_millis(20));
    }

    #[test]
    fn an_api_that_stays_away_for_a_minute_is_asked_less_often() {
        let mut backoff = Backoff::new(Retry::default());
        let mut passed = Duration::ZERO;
        while passed < AWAY {
            let wait = backoff.wait(0.0);
            assert!(wait <= Duration::from_secs(5), "{wait:?} after {passed:?}");
            passed += wait;
        }
        let waits: Vec<u64> = (0..4).map(|_| backoff.wait(0.0).as_secs()).collect();
        assert_eq!(waits, [10, 20, 30, 30]);
        backoff.reset();
        let waits: Vec<u128> = (0..9).map(|_| backoff.wait(0.0).as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000]);
    }

    #[test]
    fn what_the_api_asks_for_is_waited_for_but_not_for_ever() {
        let seconds = |seconds| Duration::from_secs(seconds);
        let mut backoff = retry(20, 100, 100);
        assert_eq!(backoff.wait_as_asked(Some(7), 0.0), seconds(7));
        assert_eq!(backoff.wait_as_asked(Some(4), 1.0), seconds(5));
        assert_eq!(backoff.wait_as_asked(Some(u32::MAX), 0.0), MOST_ASKED);
        assert_eq!(backoff.wait_as_asked(None, 0.0), Duration::from_millis(100));
        assert_eq!(
            backoff.wait_as_asked(Some(0), 0.0),
            Duration::from_millis(100)
        );
    }
}
