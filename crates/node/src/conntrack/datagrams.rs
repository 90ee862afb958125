//! When UDP flows are looked at.
//!
//! A change by itself is looked at at once. While changes follow each other, the one that comes in the rest after a look waits for
//! a pause of theirs ([`PAUSE`]), so that the next look sees them all; but no longer than [`HOLD`], which is how often
//! kube-proxy looks (`minSyncPeriod` of its configuration, 1 s): a burst costs no more walks here than there.

use std::time::{Duration, Instant};

use daymark_model::flows::Verdicts;

use super::PACE;

/// What waits for a look, and when that is due.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    waiting: Option<Waiting>,
    /// When the last look was.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// It is due then, whatever comes; `None` if it does not wait for a pause.
    latest: Option<Instant>,
    verdicts: Verdicts,
}

impl Datagrams {
    /// Takes verdicts in that a commit made true at a time.
    pub(super) fn add(&mut self, at: Instant, verdicts: Verdicts) {
        let Some(waiting) = &mut self.waiting else {
            let follows = self.looked.is_some_and(|looked| at < looked + PACE);
            self.waiting = Some(Waiting {
                due: at,
                latest: follows.then_some(at + HOLD),
                verdicts,
            });
            return;
        };
        waiting.verdicts.extend(verdicts);
        if let Some(latest) = waiting.latest {
            waiting.due = waiting.due.max(at + PAUSE).min(latest);
        }
    }

    /// When the next look is due; `None` if there is nothing to look for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.due)
    }

    /// What waits.
    pub(super) fn into_verdicts(self) -> Verdicts {
        self.waiting
            .map_or_else(Verdicts::default, |waiting| waiting.verdicts)
    }

    /// How long they still wait for a pause; `None` if they do not.
    pub(super) fn pauses(&self, now: Instant) -> Option<Duration> {
        let waiting = self.waiting.as_ref()?;
        waiting.latest?;
        let pause = waiting.due.saturating_duration_since(now);
        (!pause.is_zero()).then_some(pause)
    }

    /// Looks, if it is due. What a look fails for stays.
    ///
    /// # Errors
    /// The failure of `look`.
    pub(super) fn look<E>(
        &mut self,
        now: Instant,
        look: impl FnOnce(&Verdicts) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(waiting) = self.waiting.as_ref().filter(|waiting| waiting.due <= now) else {
            return Ok(());
        };
        self.looked = Some(now);
        look(&waiting.verdicts)?;
        self.waiting = None;
        Ok(())
    }
}

/// What comes without such a pause is one burst: the plane commits changes that never stop each quarter of a second.
const PAUSE: Duration = Duration::from_millis(300);
/// However long a burst is, the oldest of what waits for a pause waits so long at most.
const HOLD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(datagrams: &mut Datagrams, now: Instant) -> usize {
        let mut count = 0;
        let done = datagrams.look(now, |_| {
            count += 1;
            Ok::<_, ()>(())
        });
        assert_eq!(done, Ok(()));
        count
    }

    /// When the look after one at the start is due, in milliseconds from there, once changes have come at such times.
    fn due(changes: &[u64]) -> u128 {
        let start = crate::clock::now();
        let mut datagrams = Datagrams::default();
        datagrams.add(start, Verdicts::default());
        assert_eq!(datagrams.due(), Some(start), "the first at once");
        assert_eq!(looks(&mut datagrams, start), 1);
        for change in changes {
            datagrams.add(start + Duration::from_millis(*change), Verdicts::default());
        }
        let due = datagrams.due().expect("something waits");
        let (too_early, in_time) = (due - Duration::from_millis(1), due);
        assert_eq!(looks(&mut datagrams, too_early), 0);
        assert_eq!(looks(&mut datagrams, in_time), 1);
        assert_eq!(datagrams.due(), None);
        (due - start).as_millis()
    }

    #[test]
    fn a_change_by_itself_waits_for_nothing_and_a_burst_for_its_end() {
        let burst: Vec<u64> = (20..=520).step_by(20).collect();
        let endless: Vec<u64> = (20..=2000).step_by(20).collect();
        let rows: [(&[u64], u128); 6] = [
            (&[20], 20),
            (&[5000], 5000),
            (&[300, 310], 610),
            // Those that the look before is not the reason to wait for.
            (&[5000, 5010, 5020], 5000),
            (&burst, 820),
            (&endless, 1020),
        ];
        for (changes, expected) in rows {
            assert_eq!(due(changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn what_a_look_fails_for_stays_due() {
        let start = crate::clock::now();
        let mut datagrams = Datagrams::default();
        datagrams.add(start, Verdicts::default());
        assert_eq!(datagrams.look(start, |_| Err("no")), Err("no"));
        assert_eq!(
            (datagrams.due(), datagrams.pauses(start)),
            (Some(start), None)
        );
        assert_eq!(looks(&mut datagrams, start), 1);
    }
}
