//! Verdicts that wait for a look at the kernel's flows, and when it is due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daymark_dataplane::conntrack::Which;
use daymark_model::Protocol;
use daymark_model::flows::Verdicts;

use super::datagrams::Datagrams;
use super::pace::Since;
use super::{PACE, SETTLE, Told};

/// What is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Pending {
    datagrams: Datagrams,
    /// The oldest first.
    openings: VecDeque<Waiting>,
    rest: Option<Rest>,
}

/// After a look for openings.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Before this no look for openings is due, while changes come without end.
    until: Instant,
    /// They do if something is due by then.
    calm: Instant,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    verdicts: Verdicts,
}

impl Pending {
    /// Takes verdicts in that a commit has just made true.
    pub(super) fn add(&mut self, told: Told) {
        let Told { at, verdicts } = told;
        if verdicts.concern(Protocol::Udp) {
            self.datagrams.add(at, verdicts.clone());
        }
        if verdicts.concern(Protocol::Tcp) || verdicts.concern(Protocol::Sctp) {
            let due = at + SETTLE;
            self.openings.push_back(Waiting { due, verdicts });
        }
    }

    /// When the next look is due; `None` if there is nothing to look for.
    pub(super) fn due(&self) -> Option<Instant> {
        let openings = self.openings.front();
        let openings =
            openings.map(|first| self.rested().map_or(first.due, |at| at.max(first.due)));
        self.datagrams.due().into_iter().chain(openings).min()
    }

    /// No look for openings is due for so long, while changes come without end.
    pub(super) fn rest(&mut self, now: Instant, length: Duration) {
        let (until, calm) = (now + length, now + CALM);
        self.rest = Some(Rest { until, calm });
    }

    /// When the rest is over: as soon as something is due that connections which stand wait for (no client sends a second SYN for
    /// those, which is what the rest is counted from), or that came after a calm.
    fn rested(&self) -> Option<Instant> {
        let mut openings = self.openings.iter();
        let standing = openings.find(|one| one.verdicts.concern_standing());
        let Rest { until, calm } = self.rest?;
        let after_calm = self.openings.front().filter(|first| first.due > calm);
        let ends = standing.into_iter().chain(after_calm);
        ends.map(|one| one.due).chain([until]).min()
    }

    /// What has come for the next look for openings while it rested.
    pub(super) fn since(&self) -> Since {
        let first = self.openings.front().zip(self.rest);
        match first {
            Some((first, rest)) if first.due <= rest.until.min(rest.calm) => Since::Changes,
            Some(_) | None => Since::Calm,
        }
    }

    /// How long openings that wait still rest; `None` if none wait, or they rest no more.
    fn rests(&self, now: Instant) -> Option<Duration> {
        let rested = self.rested().filter(|_| !self.openings.is_empty())?;
        let rest = rested.saturating_duration_since(now);
        (!rest.is_zero()).then_some(rest)
    }

    /// How long nothing that comes has to wake anybody; `None` if something may be due sooner than what waits.
    pub(super) fn sleeps(&self, now: Instant) -> Option<Duration> {
        let pauses = self.datagrams.pauses(now);
        pauses.or_else(|| self.rests(now).map(|rest| rest.min(PACE)))
    }

    /// Looks for everything that is due. What a look fails for stays, as one; neither kind waits for the other.
    ///
    /// # Errors
    /// The first failure of `look`.
    pub(super) fn look<E>(
        &mut self,
        now: Instant,
        mut look: impl FnMut(&Verdicts, Which) -> Result<(), E>,
    ) -> Result<(), E> {
        let datagrams = &mut self.datagrams;
        let looked = datagrams.look(now, |verdicts| look(verdicts, Which::Datagrams));
        if self.rests(now).is_some() {
            return looked;
        }
        let ripe = self.openings.iter().take_while(|one| one.due <= now);
        let count = ripe.count();
        // Of two ripe verdicts about a place the newer counts.
        let newer = |mut all: Waiting, newer: Waiting| {
            all.verdicts.extend(newer.verdicts);
            all
        };
        let Some(ripe) = self.openings.drain(..count).reduce(newer) else {
            return looked;
        };
        // An endpoint that is back since answers again: what has just been opened to it is not to be forgotten.
        let mut verdicts = ripe.verdicts.clone();
        for young in &self.openings {
            verdicts.soften(&young.verdicts);
        }
        // Back in their place, for a look that fails or panics.
        self.openings.push_front(ripe);
        if let Err(error) = look(&verdicts, Which::Connections) {
            return looked.and(Err(error));
        }
        self.openings.pop_front();
        looked
    }

    /// Everything that waits, as one.
    pub(super) fn into_verdicts(self) -> Verdicts {
        let mut all = Verdicts::default();
        for waiting in self.openings {
            all.extend(waiting.verdicts);
        }
        // Of both kinds those that come are the same verdicts, and these are the newest.
        all.extend(self.datagrams.into_verdicts());
        all
    }
}

/// After a look for openings of which nothing is due for so long, changes are calm.
const CALM: Duration = Duration::from_millis(1_200);

#[cfg(test)]
mod tests {
    use daymark_model::flows;
    use daymark_model::rules::GoneEndpoints;

    use super::super::steps::{self, lost as verdicts};
    use super::*;

    /// Between two commits.
    const STEP: Duration = Duration::from_millis(70);

    fn told(at: Instant, verdicts: Verdicts) -> Told {
        Told { at, verdicts }
    }

    /// What a look at a moment looks for.
    fn looked(pending: &mut Pending, now: Instant) -> Vec<(Verdicts, Which)> {
        let mut all = Vec::new();
        let _ = pending.look(now, |verdicts, which| {
            all.push((verdicts.clone(), which));
            Ok::<_, ()>(())
        });
        all
    }

    #[test]
    fn datagrams_are_due_at_once_and_openings_when_they_settled() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        assert_eq!(pending.due(), None);
        pending.add(told(start, verdicts(Protocol::Udp, 53)));
        pending.add(told(start, verdicts(Protocol::Tcp, 53)));
        assert_eq!(pending.due(), Some(start));
        let first = looked(&mut pending, start);
        assert_eq!(first, [(verdicts(Protocol::Udp, 53), Which::Datagrams)]);
        assert_eq!(pending.due(), Some(start + SETTLE));
        let second = looked(&mut pending, start + SETTLE);
        assert_eq!(second, [(verdicts(Protocol::Tcp, 53), Which::Connections)]);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn what_came_later_settles_later() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        pending.add(told(start, verdicts(Protocol::Tcp, 1)));
        pending.add(told(start + STEP, verdicts(Protocol::Sctp, 2)));
        pending.add(told(start + STEP * 2, verdicts(Protocol::Tcp, 3)));
        assert_eq!(looked(&mut pending, start + SETTLE - STEP), []);
        let mut both = verdicts(Protocol::Tcp, 1);
        both.extend(verdicts(Protocol::Sctp, 2));
        let first = looked(&mut pending, start + SETTLE + STEP);
        assert_eq!(first, [(both, Which::Connections)]);
        assert_eq!(pending.due(), Some(start + STEP * 2 + SETTLE));
    }

    #[test]
    fn openings_that_rest_keep_no_datagrams_waiting() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        pending.rest(start, SETTLE * 3);
        assert_eq!((pending.due(), pending.rests(start)), (None, None));
        pending.add(told(start, verdicts(Protocol::Tcp, 1)));
        assert_eq!(pending.due(), Some(start + SETTLE * 3));
        assert_eq!(pending.rests(start + SETTLE), Some(SETTLE * 2));
        assert_eq!(pending.since(), Since::Changes);
        assert_eq!(looked(&mut pending, start + SETTLE * 2), []);
        pending.add(told(start + SETTLE, verdicts(Protocol::Udp, 2)));
        assert_eq!(pending.due(), Some(start + SETTLE));
        let first = looked(&mut pending, start + SETTLE * 2);
        assert_eq!(first, [(verdicts(Protocol::Udp, 2), Which::Datagrams)]);
        let second = looked(&mut pending, start + SETTLE * 3);
        assert_eq!(second, [(verdicts(Protocol::Tcp, 1), Which::Connections)]);
        pending.add(told(start + SETTLE * 2 + STEP, verdicts(Protocol::Tcp, 1)));
        assert_eq!(pending.since(), Since::Calm);
    }

    #[test]
    fn a_change_after_a_calm_waits_for_no_rest() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        pending.rest(start, CALM * 10);
        let late = start + CALM * 2;
        pending.add(told(late, verdicts(Protocol::Tcp, 1)));
        assert_eq!(pending.due(), Some(late + SETTLE));
        assert_eq!(pending.since(), Since::Calm);
        let looked = looked(&mut pending, late + SETTLE);
        assert_eq!(looked, [(verdicts(Protocol::Tcp, 1), Which::Connections)]);
    }

    #[test]
    fn connections_that_are_to_be_reset_wait_for_no_rest() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        pending.rest(start, SETTLE * 20);
        pending.add(told(start, verdicts(Protocol::Tcp, 1)));
        assert_eq!(pending.due(), Some(start + SETTLE * 20));
        let reset = || steps::verdicts_of(GoneEndpoints::Reset, &[&["10.244.1.5"]]).remove(0);
        pending.add(told(start + STEP, reset()));
        let settled = start + STEP + SETTLE;
        assert_eq!(pending.due(), Some(settled));
        assert_eq!(pending.rests(start + STEP), Some(SETTLE));
        assert_eq!(looked(&mut pending, settled - STEP / 2), []);
        assert_eq!(pending.rests(settled), None);
        // What waited before them is looked at with them, and what comes later rests still.
        pending.add(told(settled, verdicts(Protocol::Tcp, 2)));
        let mut both = verdicts(Protocol::Tcp, 1);
        both.extend(reset());
        let first = looked(&mut pending, settled);
        assert_eq!(first, [(both, Which::Connections)]);
        assert_eq!(pending.due(), Some(start + SETTLE * 20));
    }

    #[test]
    fn an_opening_goes_once_its_endpoint_was_away_for_the_whole_time() {
        const ONE: &[&str] = &["10.244.1.5"];
        const TWO: &[&str] = &["10.244.1.5", "10.244.1.6"];
        // The endpoints at each step, how many steps after the first is due to look, and whether an opening to the second
        // one goes then.
        let rows: [(&[&[&str]], u32, bool); 6] = [
            (&[ONE], 0, true),
            (&[TWO], 0, false),
            // It went a step after a change that left it in: it goes a step later.
            (&[TWO, ONE], 0, false),
            (&[TWO, ONE], 1, true),
            // It went and is back.
            (&[ONE, TWO], 0, false),
            (&[ONE, TWO, ONE], 2, true),
        ];
        let flow = flows::Flow {
            protocol: Protocol::Tcp,
            stage: flows::Stage::Opening,
            original: "10.96.0.9:80".parse().expect("an address"),
            answers: "10.244.1.6:80".parse().expect("an address"),
        };
        for (states, late, expected) in rows {
            let start = crate::clock::now();
            let mut pending = Pending::default();
            for (step, endpoints) in (0..).zip(states) {
                pending.add(told(
                    start + STEP * step,
                    steps::verdicts(&[endpoints]).remove(0),
                ));
            }
            let seen = looked(&mut pending, start + SETTLE + STEP * late);
            let goes = seen.first().map(|(verdicts, _)| verdicts.is_stale(&flow));
            assert_eq!(goes, Some(expected), "{states:?}, {late} steps later");
        }
    }

    #[test]
    fn what_a_look_fails_for_stays_as_one_and_stops_nothing_else() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        pending.add(told(start, verdicts(Protocol::Udp, 2)));
        for step in 0..20 {
            pending.add(told(start + STEP * step, verdicts(Protocol::Tcp, 1)));
        }
        let late = start + STEP * 20 + SETTLE;
        let mut asked = Vec::new();
        let failed = pending.look(late, |_, which| {
            asked.push(which);
            Err("no")
        });
        assert_eq!((failed, pending.openings.len()), (Err("no"), 1));
        assert_eq!(asked, [Which::Datagrams, Which::Connections]);
        let again: Vec<Which> = looked(&mut pending, late).iter().map(|one| one.1).collect();
        assert_eq!(again, [Which::Datagrams, Which::Connections]);
        assert_eq!(pending.due(), None);
    }
}
