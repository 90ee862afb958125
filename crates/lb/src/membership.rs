//! Which announcers live, and for how long this one may answer.
//!
//! Each agent that announces renews a Lease of its own, `daymark-announcer-NODE`, and watches those of the
//! others. Why not the node's Lease in `kube-node-lease`: the kubelet renews that, and lives on when the
//! agent is killed. Why no gossip: the API server already is a failure detector that every agent can reach,
//! and an agent that cannot reach it does not know the Services either.
//!
//! - *Alive* is who was seen to renew within the Lease's duration. Seen by this process, in its own time: the
//!   time in a Lease is another machine's and is compared for equality alone.
//! - *Fencing*: this agent answers until [`Timing::fence`] after it **sent** the newest renewal that came back
//!   through its own watch. Others saw that renewal no earlier than it was sent, so they wait longer than
//!   that; and a watch that brings back the own renewals brings those of others too, so a hanging watch
//!   silences this agent instead of making it believe that it is alone.
//! - An agent whose renewals do not come back for a whole duration stops renewing until its watch has listed
//!   again: otherwise it would stay elected and silent.
//!
//! - *In the dark*: an agent who sees nobody renew, not even itself, does not know whether the API is away for all or for
//!   itself alone. It keeps to what was so before: who was alive is alive, also whoever would lapse before this agent's own fence.
//!   Past the fence an owner goes on with care ([`crate::l2::responder`]: it yields to whoever claims the address), and nobody
//!   takes over. A list is no sign of life: an API that can be read and not written renews nobody. Once somebody is seen to renew
//!   it waits until everybody has, or had a Lease's duration for it. One who hears others and not itself is dead: they see it so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use daymark_model::Cidr;
use thiserror::Error;

use crate::moment::Moment;

/// How often a Lease is renewed and when it lapses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    renew: Duration,
    lapse: Duration,
}

/// Why a [`Timing`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimingError {
    /// A Lease counts whole seconds.
    #[error(
        "the Lease duration is {0:?}, but a Lease counts whole seconds from 1 to 3600: round it"
    )]
    NotSeconds(Duration),
    /// One late renewal would lose every address.
    #[error(
        "renewing each {renew:?} is too seldom for a Lease of {lapse:?}: renew at least three times in it"
    )]
    TooSeldom {
        /// The time between renewals.
        renew: Duration,
        /// The Lease's duration.
        lapse: Duration,
    },
}

impl Default for Timing {
    /// Renewed each second, lapsed after three.
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(1),
            lapse: Duration::from_secs(3),
        }
    }
}

impl Timing {
    /// Renew each `renew`; a Lease not renewed for `lapse` has lapsed.
    ///
    /// # Errors
    /// When `lapse` is not 1 to 3600 whole seconds, or less than three times `renew`.
    pub fn new(renew: Duration, lapse: Duration) -> Result<Self, TimingError> {
        if lapse.subsec_nanos() != 0 || !(1..=3600).contains(&lapse.as_secs()) {
            return Err(TimingError::NotSeconds(lapse));
        }
        if renew.is_zero() || renew.saturating_mul(3) > lapse {
            return Err(TimingError::TooSeldom { renew, lapse });
        }
        Ok(Self { renew, lapse })
    }

    /// The time between renewals.
    #[must_use]
    pub fn renew(self) -> Duration {
        self.renew
    }

    /// The Lease's duration.
    #[must_use]
    pub fn lapse(self) -> Duration {
        self.lapse
    }

    /// How long after a renewal this agent may answer: half a renewal less than others wait. The margin is for
    /// clocks that run at different speeds and threads that wake late.
    #[must_use]
    pub fn fence(self) -> Duration {
        self.lapse - self.renew / 2
    }
}

/// What is read from an announcer's Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcer {
    /// The node, from the Lease's name.
    pub node: Arc<str>,
    /// Which process renews it, and the time it wrote: different whenever it was renewed.
    pub renewal: Renewal,
    /// The Lease's own duration, if it says one.
    pub lapse: Option<Duration>,
    /// The prefixes that the node is on the link of.
    pub prefixes: Vec<Cidr>,
}

/// One renewal of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// `spec.holderIdentity`: the node and a number of the process.
    pub holder: Arc<str>,
    /// `spec.renewTime` in microseconds since 1970, by the clock of the holder.
    pub written: i64,
}

/// The announcers that this process knows of, itself included.
#[derive(Clone, Debug)]
pub struct Membership {
    own: Arc<str>,
    holder: Arc<str>,
    timing: Timing,
    seen: BTreeMap<Arc<str>, Seen>,
    /// Own renewals that have not come back yet, oldest first.
    sent: VecDeque<(i64, Moment)>,
    /// When the newest own renewal that came back was sent.
    confirmed: Option<Moment>,
    /// When the watch last proved that it works: a list was complete, or an own renewal came back.
    proven: Option<Moment>,
    /// When anybody was last seen to renew.
    heard: Option<Moment>,
    dark: Option<Dark>,
}

/// A time in which nobody is seen to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dark {
    /// Who was alive then is.
    since: Moment,
    /// When somebody was seen to renew again, if renewals have gone on since.
    dawn: Option<Moment>,
}

#[derive(Clone, Debug)]
struct Seen {
    renewal: Renewal,
    prefixes: Vec<Cidr>,
    /// When it was seen to renew.
    at: Moment,
    until: Moment,
}

impl Membership {
    /// Knows nobody yet. `holder` names this process and no other one.
    #[must_use]
    pub fn new(node: Arc<str>, holder: Arc<str>, timing: Timing) -> Self {
        Self {
            own: node,
            holder,
            timing,
            seen: BTreeMap::new(),
            sent: VecDeque::new(),
            confirmed: None,
            proven: None,
            heard: None,
            dark: None,
        }
    }

    /// A Lease came or changed.
    pub fn saw(&mut self, now: Moment, lease: Announcer) {
        if lease.node == self.own {
            self.saw_own(now, &lease.renewal);
        }
        let until = now + lease.lapse.unwrap_or(self.timing.lapse);
        match self.seen.get_mut(&lease.node) {
            // The same renewal again, from a fresh list: no sign of life.
            Some(seen) if seen.renewal == lease.renewal => seen.prefixes = lease.prefixes,
            _ => {
                let seen = Seen {
                    renewal: lease.renewal,
                    prefixes: lease.prefixes,
                    at: now,
                    until,
                };
                self.seen.insert(lease.node, seen);
                self.hears(now);
            }
        }
    }

    fn saw_own(&mut self, now: Moment, renewal: &Renewal) {
        if renewal.holder != self.holder {
            return;
        }
        let Some(at) = self
            .sent
            .iter()
            .position(|(written, _)| *written == renewal.written)
        else {
            return;
        };
        let (_, sent) = self.sent[at];
        self.sent.drain(..=at);
        self.confirmed = self.confirmed.max(Some(sent));
        self.proven = Some(now);
    }

    /// A Lease was deleted: its holder left in order.
    pub fn left(&mut self, node: &str) {
        self.seen.remove(node);
        if *node == *self.own {
            self.confirmed = None;
        }
    }

    /// A list is complete: only these nodes have a Lease.
    pub fn listed(&mut self, now: Moment, nodes: &[Arc<str>]) {
        self.seen.retain(|node, _| nodes.contains(node));
        self.proven = Some(now);
    }

    fn hears(&mut self, now: Moment) {
        self.heard = Some(now);
        if let Some(dark) = &mut self.dark {
            dark.dawn.get_or_insert(now);
        }
    }

    /// In this time somebody renews, where anybody can.
    fn patience(&self) -> Duration {
        self.timing.renew + self.timing.renew / 2
    }

    /// Notes that the dark begins or ends, before anybody asks who is alive.
    pub fn look(&mut self, now: Moment) {
        let silent = self.falls_silent().filter(|at| now >= *at);
        match (&mut self.dark, silent) {
            (Some(dark), Some(_)) => dark.dawn = None,
            (None, Some(since)) => self.dark = Some(Dark { since, dawn: None }),
            (Some(dark), None) => {
                let dark = *dark;
                if self.is_over(dark, now) {
                    self.dark = None;
                }
            }
            (None, None) => {}
        }
    }

    /// From when on nobody's silence tells anything, if nobody is seen to renew until then.
    fn falls_silent(&self) -> Option<Moment> {
        self.confirmed?;
        Some(self.heard? + self.patience())
    }

    /// Whether everybody who was alive has renewed since the dawn, or had time to.
    fn is_over(&self, dark: Dark, now: Moment) -> bool {
        let Some(dawn) = dark.dawn else { return false };
        let renewed = |(node, seen): (&Arc<str>, &Seen)| {
            let lived = *node == self.own || seen.until > dark.since;
            !lived || seen.at >= dawn
        };
        let all = now < self.fence() && self.seen.iter().all(renewed);
        all || now >= self.ends(dawn)
    }

    /// When whoever has not renewed since the dawn is dead. It is the time that a Lease lasts: an agent whose watch has to be
    /// opened anew finds the API later than others do, and the first renewals meet an API that has just started.
    fn ends(&self, dawn: Moment) -> Moment {
        dawn + self.timing.lapse
    }

    /// Whether nobody is seen to renew, or not yet everybody who was alive.
    #[must_use]
    pub fn in_the_dark(&self) -> bool {
        self.dark.is_some()
    }

    /// Whether to renew now: the watch has shown within a Lease's duration that it works.
    #[must_use]
    pub fn may_renew(&self, now: Moment) -> bool {
        self.proven
            .is_some_and(|at| now.since(at) < self.timing.lapse)
    }

    /// A renewal that carries `written` is about to be sent.
    pub fn renewing(&mut self, now: Moment, written: i64) {
        self.sent.push_back((written, now));
        while self.sent.len() > UNANSWERED {
            self.sent.pop_front();
        }
    }

    /// Until when this agent may answer; in the past when it may not.
    #[must_use]
    pub fn fence(&self) -> Moment {
        self.confirmed
            .map_or(Moment::default(), |sent| sent + self.timing.fence())
    }

    /// Whether a node's announcer lives. This agent lives while it may answer.
    #[must_use]
    pub fn is_alive(&self, now: Moment, node: &str) -> bool {
        if *node == *self.own {
            return now < self.fence();
        }
        self.seen.get(node).is_some_and(|seen| now < seen.until)
    }

    /// The nodes whose announcers live, with the prefixes they are on the link of. In the dark those that lived when it
    /// began, this one among them.
    pub fn alive(&self, now: Moment) -> impl Iterator<Item = (&Arc<str>, &[Cidr])> {
        let living = self
            .seen
            .iter()
            .filter(move |(node, seen)| match self.dark {
                Some(dark) => **node == self.own || seen.until > dark.since,
                None => self.is_alive(now, node),
            });
        living.map(|(node, seen)| (node, seen.prefixes.as_slice()))
    }

    /// When somebody who lives now lapses, unless seen before, or the dark begins or ends.
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let others = self
            .seen
            .iter()
            .filter(|(node, _)| **node != self.own)
            .map(|(_, seen)| seen.until);
        let dark = self.dark.and_then(|dark| dark.dawn);
        let ends = dark.map(|dawn| self.ends(dawn));
        let all = others.chain([self.fence()]);
        let all = all.chain(ends).chain(self.falls_silent());
        all.filter(|at| *at > now).min()
    }
}

/// Own renewals that are remembered while they do not come back.
const UNANSWERED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::after_boot(Duration::from_secs(100));

    fn at(millis: u64) -> Moment {
        NOW + Duration::from_millis(millis)
    }

    fn lease(node: &str, holder: &str, written: i64) -> Announcer {
        let renewal = Renewal {
            holder: holder.into(),
            written,
        };
        Announcer {
            node: node.into(),
            renewal,
            lapse: Some(Duration::from_secs(3)),
            prefixes: vec![],
        }
    }

    fn membership() -> Membership {
        let mut membership = Membership::new("me".into(), "me_1".into(), Timing::default());
        membership.listed(NOW, &[]);
        membership
    }

    fn alive(membership: &Membership, now: Moment) -> Vec<&str> {
        membership.alive(now).map(|(node, _)| &**node).collect()
    }

    #[test]
    fn a_lease_lives_from_when_it_was_seen_to_change() {
        let mut membership = membership();
        // The times in the Lease are of another century: they do not matter.
        membership.saw(at(0), lease("other", "o", -5_000_000));
        assert_eq!(alive(&membership, at(2999)), ["other"]);
        assert_eq!(alive(&membership, at(3000)), [""; 0]);
        membership.saw(at(2500), lease("other", "o", -4_000_000));
        assert_eq!(alive(&membership, at(5499)), ["other"]);
        assert_eq!(membership.deadline(at(2500)), Some(at(5500)));
    }

    #[test]
    fn seeing_the_same_renewal_again_is_no_sign_of_life() {
        let mut membership = membership();
        membership.saw(at(0), lease("other", "o", 1));
        membership.listed(at(2000), &["other".into()]);
        membership.saw(at(2000), lease("other", "o", 1));
        assert_eq!(alive(&membership, at(3000)), [""; 0]);
        // A restarted process that writes the same time is another one.
        membership.saw(at(4000), lease("other", "o2", 1));
        assert_eq!(alive(&membership, at(4000)), ["other"]);
    }

    #[test]
    fn who_leaves_in_order_is_gone_at_once() {
        let mut membership = membership();
        membership.saw(at(0), lease("a", "a", 1));
        membership.saw(at(0), lease("b", "b", 1));
        membership.left("a");
        assert_eq!(alive(&membership, at(1)), ["b"]);
        membership.listed(at(1), &[]);
        assert_eq!(alive(&membership, at(1)), [""; 0]);
    }

    #[test]
    fn this_agent_lives_from_when_it_sent_a_renewal_that_came_back() {
        let mut membership = membership();
        membership.renewing(at(0), 7);
        assert!(!membership.is_alive(at(0), "me"));
        membership.saw(at(900), lease("me", "me_1", 7));
        assert_eq!(membership.fence(), at(2500));
        assert!(membership.is_alive(at(2499), "me") && !membership.is_alive(at(2500), "me"));
        // It falls silent before anybody who saw the renewal, at the earliest when it was sent, takes over.
        let mut other = Membership::new("other".into(), "other_1".into(), Timing::default());
        other.saw(at(0), lease("me", "me_1", 7));
        assert!(other.is_alive(membership.fence(), "me"));
    }

    /// Renews, is seen, and sees the others, at this time.
    fn all_is_well(membership: &mut Membership, now: Moment, written: i64) {
        membership.renewing(now, written);
        membership.saw(now, lease("me", "me_1", written));
        membership.saw(now, lease("other", "o", written));
        membership.look(now);
    }

    #[test]
    fn in_the_dark_everything_stays_as_it_was_until_everybody_could_renew() {
        let mut membership = membership();
        all_is_well(&mut membership, at(0), 1);
        all_is_well(&mut membership, at(1000), 2);
        // The API is away. Nothing lapses, and nobody takes over.
        for millis in [2499, 2500, 3499, 3500, 10_000, 900_000] {
            membership.look(at(millis));
            assert_eq!(alive(&membership, at(millis)), ["me", "other"], "{millis}");
            assert_eq!(membership.in_the_dark(), millis >= 2500);
        }
        assert_eq!(membership.fence(), at(3500), "it answers with care");
        // It is back with what it knew; only this agent has renewed so far.
        membership.listed(at(900_100), &["me".into(), "other".into()]);
        membership.renewing(at(900_100), 3);
        membership.saw(at(900_110), lease("me", "me_1", 3));
        membership.look(at(900_110));
        assert_eq!(alive(&membership, at(900_110)), ["me", "other"]);
        // It goes on to renew. Whoever has not in the time for that is dead.
        for second in 1..3 {
            let now = at(900_110 + second * 1000);
            assert_eq!(alive(&membership, now), ["me", "other"]);
            membership.renewing(now, 3 + second as i64);
            membership.saw(now, lease("me", "me_1", 3 + second as i64));
            membership.look(now);
        }
        assert_eq!(membership.deadline(at(902_110)), Some(at(903_110)));
        membership.look(at(903_110));
        assert_eq!(alive(&membership, at(903_110)), ["me"]);
    }

    #[test]
    fn nobody_lapses_at_the_beginning_of_the_dark_who_renewed_a_little_earlier() {
        let mut membership = membership();
        membership.saw(at(100), lease("other", "o", 1));
        membership.renewing(at(1000), 1);
        membership.saw(at(1000), lease("me", "me_1", 1));
        // The other's would end at 3100, before this agent has to doubt its own at 3500.
        for millis in [2000, 2500, 3099, 3100, 3499, 3500, 60_000] {
            membership.look(at(millis));
            assert_eq!(alive(&membership, at(millis)), ["me", "other"], "{millis}");
        }
        // Who had lapsed before stays dead: what was decided is not taken back.
        let mut late = self::membership();
        late.saw(at(0), lease("other", "o", 1));
        late.renewing(at(1400), 1);
        late.saw(at(1400), lease("me", "me_1", 1));
        late.renewing(at(1600), 2);
        late.saw(at(1600), lease("me", "me_1", 2));
        for millis in [3000, 3100, 60_000] {
            late.look(at(millis));
            assert_eq!(alive(&late, at(millis)), ["me"], "{millis}");
        }
    }

    #[test]
    fn the_dark_is_over_at_once_when_everybody_has_renewed() {
        let mut membership = membership();
        all_is_well(&mut membership, at(0), 1);
        membership.look(at(1500));
        assert!(membership.in_the_dark());
        membership.saw(at(1600), lease("other", "o", 2));
        membership.look(at(1600));
        assert!(membership.in_the_dark(), "not this agent yet");
        membership.renewing(at(1700), 2);
        membership.saw(at(1710), lease("me", "me_1", 2));
        membership.look(at(1710));
        assert!(!membership.in_the_dark());
        assert_eq!(alive(&membership, at(4199)), ["me", "other"]);
        assert_eq!(membership.fence(), at(4200));
    }

    #[test]
    fn an_api_that_is_read_and_not_written_ends_no_dark_nor_does_one_that_goes_again() {
        let mut membership = membership();
        all_is_well(&mut membership, at(0), 1);
        for second in 2..60 {
            membership.renewing(at(second * 1000), second as i64);
            for node in ["me", "other"] {
                let holder = if node == "me" { "me_1" } else { "o" };
                membership.saw(at(second * 1000), lease(node, holder, 1));
            }
            membership.listed(at(second * 1000), &["me".into(), "other".into()]);
            membership.look(at(second * 1000));
            let living = alive(&membership, at(second * 1000));
            assert_eq!(living, ["me", "other"], "{second}");
        }
        // One renewal comes through, and no more.
        membership.renewing(at(60_000), 60);
        membership.saw(at(60_000), lease("me", "me_1", 60));
        for millis in [60_000, 61_499, 61_500, 63_000, 90_000] {
            membership.look(at(millis));
            let living = alive(&membership, at(millis));
            assert_eq!(living, ["me", "other"], "{millis}");
        }
    }

    #[test]
    fn who_hears_others_and_not_itself_is_dead() {
        let mut membership = membership();
        all_is_well(&mut membership, at(0), 1);
        for second in 1..10 {
            membership.renewing(at(second * 1000), 100);
            membership.saw(at(second * 1000), lease("other", "o", second as i64 + 1));
            membership.look(at(second * 1000));
            let living = alive(&membership, at(second * 1000));
            assert_eq!(living.contains(&"me"), second < 3, "{second}");
            assert!(living.contains(&"other"));
        }
    }

    #[test]
    fn who_never_renewed_is_not_in_the_dark_but_dead() {
        let mut membership = membership();
        membership.saw(at(0), lease("other", "o", 1));
        membership.look(at(60_000));
        assert!(!membership.in_the_dark());
        assert_eq!(alive(&membership, at(60_000)), [""; 0]);
    }

    #[test]
    fn the_lease_of_an_earlier_process_of_this_node_is_not_this_one() {
        let mut membership = membership();
        membership.renewing(at(0), 7);
        membership.saw(at(1), lease("me", "me_0", 7));
        assert!(!membership.is_alive(at(1), "me"));
        assert_eq!(alive(&membership, at(1)), [""; 0]);
    }

    #[test]
    fn a_watch_that_hangs_ends_the_renewals_until_it_has_listed_again() {
        let mut membership = Membership::new("me".into(), "me_1".into(), Timing::default());
        assert!(
            !membership.may_renew(at(0)),
            "before the first list nobody is known"
        );
        membership.listed(at(0), &[]);
        assert!(membership.may_renew(at(2999)));
        membership.renewing(at(2000), 1);
        membership.saw(at(2100), lease("me", "me_1", 1));
        assert!(membership.may_renew(at(5099)) && !membership.may_renew(at(5100)));
        membership.listed(at(9000), &[]);
        assert!(membership.may_renew(at(9000)));
    }

    #[test]
    fn renewals_that_come_back_late_and_together_count_from_when_they_were_sent() {
        let mut membership = membership();
        membership.renewing(at(0), 1);
        membership.renewing(at(1000), 2);
        // A list shows only the newest.
        membership.saw(at(1500), lease("me", "me_1", 2));
        assert_eq!(membership.fence(), at(3500));
        membership.saw(at(1600), lease("me", "me_1", 1));
        assert_eq!(membership.fence(), at(3500));
    }

    #[test]
    fn a_timing_that_loses_addresses_by_one_late_renewal_is_refused() {
        let check = |renew, lapse, good| {
            let timing = Timing::new(Duration::from_millis(renew), Duration::from_millis(lapse));
            assert_eq!(timing.is_ok(), good, "{renew} {lapse}");
        };
        check(1000, 3000, true);
        check(300, 1000, true);
        check(1001, 3000, false);
        check(0, 3000, false);
        check(100, 1500, false);
        check(100, 0, false);
    }
}
