//! How long to wait before the next attempt.

use std::time::Duration;

use crate::config::Retry;

/// Doubles from `first` to `longest`, until something works again.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            next: retry.first,
        }
    }

    /// The next attempt works: start small again.
    pub(super) fn reset(&mut self) {
        self.next = self.retry.first;
    }

    /// The wait before the next attempt; `chance` in 0.0..1.0 takes up to a quarter off, so that
    /// the agents of a cluster do not come back all at once.
    pub(super) fn wait(&mut self, chance: f64) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.retry.longest);
        wait.mul_f64(1.0 - chance / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_small_again() {
        let retry = Retry {
            first: Duration::from_millis(20),
            longest: Duration::from_millis(100),
        };
        let mut backoff = Backoff::new(retry);
        let waits: Vec<u128> = (0..5).map(|_| backoff.wait(0.0).as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 100, 100]);
        backoff.reset();
        assert_eq!(backoff.wait(0.0), Duration::from_millis(20));
        assert_eq!(backoff.wait(1.0), Duration::from_millis(30));
    }
}
