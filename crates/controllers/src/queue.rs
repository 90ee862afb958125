//! Work to do, by key: each key runs once at a time, changes meanwhile make it run once more, failures wait longer
//! and longer. Handed the time; answers with the next deadline.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing is left to do.
    Done,
    /// Look again after that time.
    Again(Duration),
    /// It did not work; the queue decides when to try again.
    Failed,
}

#[derive(Default)]
struct State {
    waiting: bool,
    running: bool,
    dirty: bool,
    failures: u32,
}

/// See the module.
pub(crate) struct Queue<J> {
    ready: VecDeque<J>,
    states: HashMap<J, State>,
    timers: BTreeSet<(Instant, J)>,
    alarms: HashMap<J, Instant>,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            states: HashMap::new(),
            timers: BTreeSet::new(),
            alarms: HashMap::new(),
        }
    }
}

impl<J: Clone + Eq + Hash + Ord> Queue<J> {
    /// Something changed for this key.
    pub(crate) fn add(&mut self, job: J) {
        let state = self.states.entry(job.clone()).or_default();
        if state.running {
            state.dirty = true;
        } else if !state.waiting {
            state.waiting = true;
            self.ready.push_back(job);
        }
    }

    /// Look at this key at that time, or before: of several times the first one counts, so that a key that asks at
    /// every run has one timer and not one more each time.
    pub(crate) fn add_at(&mut self, job: J, at: Instant) {
        match self.alarms.get(&job) {
            Some(first) if *first <= at => return,
            Some(later) => {
                self.timers.remove(&(*later, job.clone()));
            }
            None => {}
        }
        self.alarms.insert(job.clone(), at);
        self.timers.insert((at, job));
    }

    /// The next key to run.
    pub(crate) fn take(&mut self, now: Instant) -> Option<J> {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, job)) = self.timers.pop_first() {
                self.alarms.remove(&job);
                self.add(job);
            }
        }
        let job = self.ready.pop_front()?;
        let state = self.states.entry(job.clone()).or_default();
        (state.waiting, state.running) = (false, true);
        Some(job)
    }

    /// A key has run.
    pub(crate) fn finish(&mut self, job: &J, ended: Ended, now: Instant) {
        let Some(state) = self.states.get_mut(job) else {
            return;
        };
        state.running = false;
        let dirty = std::mem::take(&mut state.dirty);
        state.failures = if ended == Ended::Failed {
            state.failures + 1
        } else {
            0
        };
        let retry = FIRST_RETRY
            .saturating_mul(1 << state.failures.saturating_sub(1).min(12))
            .min(LAST_RETRY);
        match ended {
            Ended::Done if !dirty => {
                self.states.remove(job);
            }
            Ended::Failed => self.add_at(job.clone(), now + retry),
            Ended::Again(after) => self.add_at(job.clone(), now + after),
            Ended::Done => {}
        }
        if dirty && ended != Ended::Failed {
            self.add(job.clone());
        }
    }

    /// When to call [`Queue::take`] again although nothing was added.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "any point in time will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_key_waits_once_and_runs_alone() {
        let (mut queue, now) = (Queue::default(), start());
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.take(now), Some("a"));
        assert_eq!(queue.take(now), None);
        queue.add("a");
        assert_eq!(queue.take(now), None, "it is running");
        queue.finish(&"a", Ended::Done, now);
        assert_eq!(queue.take(now), Some("a"), "it changed meanwhile");
        queue.finish(&"a", Ended::Done, now);
        assert_eq!(queue.take(now), None);
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let (mut queue, mut now) = (Queue::default(), start());
        queue.add("a");
        for expected in [50, 100, 200, 400] {
            assert_eq!(queue.take(now), Some("a"));
            queue.finish(&"a", Ended::Failed, now);
            assert_eq!(
                queue.deadline(),
                Some(now + Duration::from_millis(expected))
            );
            assert_eq!(queue.take(now), None);
            now += Duration::from_millis(expected);
        }
        assert_eq!(queue.take(now), Some("a"));
        queue.finish(&"a", Ended::Done, now);
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn a_key_can_ask_to_be_looked_at_again() {
        let (mut queue, now) = (Queue::default(), start());
        queue.add("a");
        queue.take(now);
        queue.finish(&"a", Ended::Again(Duration::from_secs(1)), now);
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.take(now + Duration::from_secs(1)), Some("a"));
    }

    #[test]
    fn a_key_has_one_timer_the_first_one() {
        let (mut queue, now) = (Queue::default(), start());
        let second = Duration::from_secs(1);
        for after in [3, 2, 4] {
            queue.add_at("a", now + second * after);
        }
        assert_eq!(queue.deadline(), Some(now + second * 2));
        assert_eq!(queue.take(now + second * 2), Some("a"));
        queue.finish(&"a", Ended::Done, now + second * 2);
        assert_eq!(queue.deadline(), None);
    }
}
