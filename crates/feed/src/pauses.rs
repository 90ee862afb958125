//! The pauses of the watches while changes come without end.
//!
//! A watch that waits is not woken up by what comes meanwhile, but its thread is: for every record of TLS there is a turn of the
//! runtime, on memory that others have used since the last. A thread that serves a feed and little else can sleep instead: nothing of
//! what comes is wanted before the pause is over.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;

/// When the watches of a feed read on. All that pause do so together.
///
/// ```
/// use daymark_feed::{Config, Pauses};
/// let pauses = Pauses::default();
/// let config = Config { pauses: pauses.clone(), ..Config::node("node-1") };
/// // A runtime of one thread, for a feed of that configuration: what else is on it sleeps too, for a quarter of a second at most.
/// let runtime = tokio::runtime::Builder::new_current_thread()
///     .on_thread_park(move || pauses.sleep_through())
///     .build()?;
/// # drop((config, runtime));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// The end of the pause that is, or of the last one.
    until: Arc<Mutex<Option<Instant>>>,
}

impl Pauses {
    /// Begins a pause of this length, or takes part in the one that is. Returns its end.
    pub(crate) fn begin(&self, now: Instant, length: Duration) -> Instant {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let end = until.filter(|end| *end > now).unwrap_or(now + length);
        *until = Some(end);
        end
    }

    /// Sleeps until no watch pauses; returns at once if none does. For a thread that has nothing else to do.
    pub fn sleep_through(&self) {
        thread::sleep(self.left(clock::now()));
    }

    fn left(&self, now: Instant) -> Duration {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_pause_together_and_nobody_sleeps_longer() {
        let (pauses, start) = (Pauses::default(), clock::now());
        let second = Duration::from_secs(1);
        assert_eq!(pauses.left(start), Duration::ZERO);
        assert_eq!(pauses.begin(start, second), start + second);
        assert_eq!(pauses.begin(start + second / 2, second), start + second);
        assert_eq!(pauses.left(start + second / 4), second * 3 / 4);
        assert_eq!(pauses.left(start + second), Duration::ZERO);
        assert_eq!(pauses.begin(start + second, second), start + second * 2);
    }
}
