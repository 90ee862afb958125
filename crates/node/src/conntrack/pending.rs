//! Verdicts that wait for a look at the kernel's flows, and when it is due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daymark_dataplane::conntrack::Which;
use daymark_model::Protocol;
use daymark_model::flows::Verdicts;

use super::SETTLE;

/// What is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Pending {
    datagrams: Option<(Instant, Verdicts)>,
    /// The oldest first. What comes within [`TOGETHER`] waits together, for as long as its youngest part has to.
    openings: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    due: Instant,
    verdicts: Verdicts,
}

impl Pending {
    /// Takes verdicts in that a commit has just made true.
    pub(super) fn add(&mut self, now: Instant, verdicts: Verdicts) {
        if verdicts.concern(Protocol::Udp) {
            let (_, all) = self.datagrams.get_or_insert((now, Verdicts::default()));
            all.extend(verdicts.clone());
        }
        if !verdicts.concern(Protocol::Tcp) && !verdicts.concern(Protocol::Sctp) {
            return;
        }
        let due = now + SETTLE;
        match self.openings.back_mut() {
            Some(last) if now.saturating_duration_since(last.since) < TOGETHER => {
                last.due = due;
                last.verdicts.extend(verdicts);
            }
            _ => self.openings.push_back(Waiting {
                since: now,
                due,
                verdicts,
            }),
        }
    }

    /// When the next look is due; `None` if there is nothing to look for.
    pub(super) fn due(&self) -> Option<Instant> {
        let datagrams = self.datagrams.as_ref().map(|(due, _)| *due);
        let openings = self.openings.front().map(|first| first.due);
        datagrams.into_iter().chain(openings).min()
    }

    /// Looks for everything that is due. What a look fails for stays.
    ///
    /// # Errors
    /// The first failure of `look`.
    pub(super) fn look<E>(
        &mut self,
        now: Instant,
        mut look: impl FnMut(&Verdicts, Which) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some((_, verdicts)) = &self.datagrams {
            look(verdicts, Which::Datagrams)?;
            self.datagrams = None;
        }
        let count = self
            .openings
            .iter()
            .take_while(|one| one.due <= now)
            .count();
        let mut ripe = self.openings.drain(..count);
        let Some(mut all) = ripe.next() else {
            return Ok(());
        };
        // Newer verdicts about a place replace older ones.
        ripe.for_each(|newer| all.verdicts.extend(newer.verdicts));
        let looked = look(&all.verdicts, Which::Openings);
        if looked.is_err() {
            self.openings.push_front(all);
        }
        looked
    }
}

/// Verdicts this close together wait as one.
const TOGETHER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use daymark_model::{Change, Options, ServiceKey, World, flows};

    use super::*;

    /// Verdicts about one port of a protocol that some Service lost.
    fn verdicts(protocol: Protocol, port: u16) -> Verdicts {
        let text = format!("service a ClusterIP {port}/{protocol} cluster=10.96.0.9\n");
        let case = daymark_case::Case::parse("inline", &text).expect("a case");
        let mut world = World::new(Options::default());
        world.apply(case.steps[0].changes.iter().cloned());
        let gone = [Change::Service(ServiceKey::new("default", "a"), None)];
        let suspects = flows::suspects(&world, &gone);
        world.apply(gone);
        suspects.judge(&world)
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
        pending.add(start, verdicts(Protocol::Udp, 53));
        pending.add(start, verdicts(Protocol::Tcp, 53));
        assert_eq!(pending.due(), Some(start));
        let first = looked(&mut pending, start);
        assert_eq!(first, [(verdicts(Protocol::Udp, 53), Which::Datagrams)]);
        assert_eq!(pending.due(), Some(start + SETTLE));
        let second = looked(&mut pending, start + SETTLE);
        assert_eq!(second, [(verdicts(Protocol::Tcp, 53), Which::Openings)]);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn what_came_later_settles_later() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        let late = start + SETTLE / 2;
        pending.add(start, verdicts(Protocol::Tcp, 1));
        pending.add(start + TOGETHER / 2, verdicts(Protocol::Sctp, 2));
        pending.add(late, verdicts(Protocol::Tcp, 3));
        assert_eq!(looked(&mut pending, start + SETTLE), []);
        let mut both = verdicts(Protocol::Tcp, 1);
        both.extend(verdicts(Protocol::Sctp, 2));
        let first = looked(&mut pending, start + SETTLE + TOGETHER / 2);
        assert_eq!(first, [(both, Which::Openings)]);
        assert_eq!(pending.due(), Some(late + SETTLE));
    }

    #[test]
    fn what_a_look_fails_for_stays() {
        let start = crate::clock::now();
        let mut pending = Pending::default();
        pending.add(start, verdicts(Protocol::Tcp, 1));
        pending.add(start, verdicts(Protocol::Udp, 2));
        let late = start + SETTLE;
        assert_eq!(pending.look(late, |_, _| Err("no")), Err("no"));
        let again: Vec<Which> = looked(&mut pending, late).iter().map(|one| one.1).collect();
        assert_eq!(again, [Which::Datagrams, Which::Openings]);
    }
}
