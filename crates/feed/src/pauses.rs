//! The pauses of the watches while changes come without end.
//!
//! A watch that waits is not woken up by what comes meanwhile, but its thread is: for every record of TLS there is a turn of the
//! runtime, on memory that others have used since the last. A thread that serves a feed and little else can sleep instead: nothing of
//! what comes is wanted before the pause is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The end of the pause that is, or of the last one.
    until: Option<Instant>,
    /// Before this nobody sleeps: what was read last is on its way yet.
    settled: Option<Instant>,
    /// How many watches have read something and wait for a moment for more of it.
    awake: usize,
}

/// While it is there nobody sleeps.
#[derive(Debug)]
pub(crate) struct Awake(Pauses);

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.lock().awake -= 1;
    }
}

impl Pauses {
    /// Begins a pause of this length, or takes part in the one that is. Returns its end.
    pub(crate) fn begin(&self, now: Instant, length: Duration) -> Instant {
        let mut shared = self.lock();
        let end = shared.until.filter(|end| *end > now);
        // Who would have waited for less is not kept waiting.
        let end = end.map_or(now + length, |end| end.min(now + length));
        shared.until = Some(end);
        shared.settled = Some(now + SETTLE);
        end
    }

    /// For a watch that is not done with what it reads, whoever else pauses.
    pub(crate) fn stay_awake(&self) -> Awake {
        self.lock().awake += 1;
        Awake(self.clone())
    }

    /// Sleeps until no watch pauses; returns at once if none does. For a thread that has nothing else to do.
    pub fn sleep_through(&self) {
        thread::sleep(self.left(clock::now()));
    }

    fn left(&self, now: Instant) -> Duration {
        let shared = self.lock();
        let is_busy = shared.awake > 0 || shared.settled.is_some_and(|at| now < at);
        let until = shared.until.filter(|_| !is_busy);
        until.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the thread is awake in a pause, so that what the batch before it came to is told to who waits for it: a commit takes a
/// millisecond or two.
const SETTLE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_pause_together_and_nobody_sleeps_longer() {
        let (pauses, start) = (Pauses::default(), clock::now());
        let second = Duration::from_secs(1);
        assert_eq!(pauses.left(start), Duration::ZERO);
        assert_eq!(pauses.begin(start, second), start + second);
        assert_eq!(pauses.left(start + SETTLE / 2), Duration::ZERO);
        assert_eq!(pauses.begin(start, second * 2), start + second);
        assert_eq!(pauses.left(start + second / 4), second * 3 / 4);
        let awake = [pauses.stay_awake(), pauses.stay_awake()];
        assert_eq!(pauses.left(start + second / 4), Duration::ZERO);
        drop(awake);
        assert_eq!(pauses.left(start + second / 4), second * 3 / 4);
        assert_eq!(pauses.left(start + second), Duration::ZERO);
        assert_eq!(pauses.begin(start + second, second), start + second * 2);
        let short = pauses.begin(start + second, second / 8);
        assert_eq!(short, start + second + second / 8);
    }
}
