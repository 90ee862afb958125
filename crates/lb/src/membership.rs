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
//! - *Joining*: an agent whose Lease is new is known before it is elected. Its first renewal says that it joins, and the one after that, a
//!   renewal's time later, does not any more: with that event of the watch everybody elects it, itself included, so that an address passes from
//!   one to the other without a pause. Where nobody is elected, the first who has joined is the beginning for all who are known by then:
//!   agents that start in the same moment do not each begin alone. That it is the first is for itself to find and to say in its Lease: were it for
//!   everybody, those would differ for whom the only one before lapses a moment earlier or later. An agent whose Lease is there already, from a
//!   process before it, is known.
//! - *In the dark*: an agent who sees nobody renew, not even itself, does not know whether the API is away for all or for
//!   itself alone. It keeps to what was so before: who was alive is alive, also whoever would lapse before this agent's own fence.
//!   Past the fence an owner goes on with care ([`crate::l2::responder`]: it yields to whoever claims the address), and nobody
//!   takes over. A list is no sign of life: an API that can be read and not written renews nobody. Once somebody is seen to renew
//!   it waits until everybody has, or had a Lease's duration for it. One who hears others and not itself is dead: they see it so.

mod timing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use daymark_model::Cidr;

use crate::moment::Moment;
pub use timing::{Timing, TimingError};

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
    /// Whether it is to be elected.
    pub standing: Standing,
}

/// Whether an announcer is elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet: it makes itself known.
    Joining,
    /// It is.
    Joined,
    /// It is, and knew of nobody else who was when it came to be: so are all who are known by then. It says so for as long as its process
    /// lives: who missed that event learns it from any later one.
    First,
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
    entry: Entry,
}

/// How far this agent has come with joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Whether others know it is not known before the first list.
    Unlisted,
    /// Its Lease is new. When the first renewal was sent that came back.
    Joining(Option<Moment>),
    /// Others elect it, or will with its next renewal.
    Joined,
    /// The same, and it is the beginning for others.
    First,
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
    election: Election,
    /// When it was seen to renew.
    at: Moment,
    until: Moment,
}

/// Whether somebody who lives is elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Election {
    Not,
    Elected,
}

impl Seen {
    /// Whether it lives and is elected.
    fn is_elected(&self, now: Moment) -> bool {
        self.election == Election::Elected && now < self.until
    }
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
            entry: Entry::Unlisted,
        }
    }

    /// A Lease came or changed.
    pub fn saw(&mut self, now: Moment, lease: Announcer) {
        if lease.node == self.own {
            self.saw_own(now, &lease.renewal);
        }
        let until = now + lease.lapse.unwrap_or(self.timing.lapse);
        let before = self.seen.get_mut(&lease.node);
        let election = match before {
            // The same renewal again, from a fresh list: no sign of life.
            Some(seen) if seen.renewal == lease.renewal => {
                seen.prefixes = lease.prefixes;
                return;
            }
            // It began together with the first who had joined.
            Some(seen) if seen.is_elected(now) && seen.renewal.holder == lease.renewal.holder => {
                Election::Elected
            }
            Some(seen) if seen.election == Election::Not && lease.standing == Standing::First => {
                self.begin();
                Election::Elected
            }
            _ => match lease.standing {
                Standing::Joining => Election::Not,
                Standing::Joined | Standing::First => Election::Elected,
            },
        };
        let seen = Seen {
            renewal: lease.renewal,
            prefixes: lease.prefixes,
            election,
            at: now,
            until,
        };
        self.seen.insert(lease.node, seen);
        self.hears(now);
    }

    /// What a list shows. The first goes first: it is the beginning for those who were known before, and not for who comes with the same list.
    pub fn saw_all(&mut self, now: Moment, mut leases: Vec<Announcer>) {
        leases.sort_by_key(|lease| lease.standing != Standing::First);
        for lease in leases {
            self.saw(now, lease);
        }
    }

    /// The first has joined, and so have all who are known. If that is this agent, its own event says so, and it stays the first for those
    /// who missed it.
    fn begin(&mut self) {
        for seen in self.seen.values_mut() {
            seen.election = Election::Elected;
        }
        if self.entry != Entry::First && self.seen.contains_key(&self.own) {
            self.entry = Entry::Joined;
        }
    }

    /// What the renewal says of this agent that is sent now.
    pub fn standing(&mut self, now: Moment) -> Standing {
        // A clock that ticks each renewal does not do so to the microsecond.
        let long_enough = self.timing.renew - self.timing.renew / 4;
        if let Entry::Joining(Some(sent)) = self.entry
            && now.since(sent) >= long_enough
        {
            let others = self.alive(now).next();
            self.entry = others.map_or(Entry::First, |_| Entry::Joined);
        }
        match self.entry {
            Entry::Unlisted | Entry::Joining(_) => Standing::Joining,
            Entry::Joined => Standing::Joined,
            Entry::First => Standing::First,
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
        if self.entry == Entry::Joining(None) {
            self.entry = Entry::Joining(Some(sent));
        }
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
        if self.entry == Entry::Unlisted {
            self.entry = if nodes.contains(&self.own) {
                Entry::Joined
            } else {
                Entry::Joining(None)
            };
        }
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

    /// Whether no renewal of this agent has come back yet.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.confirmed.is_none()
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

    /// The nodes whose announcers live and have joined, with the prefixes they are on the link of. In the dark those that lived when it
    /// began, this one among them.
    pub fn alive(&self, now: Moment) -> impl Iterator<Item = (&Arc<str>, &[Cidr])> {
        let living = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.election == Election::Elected)
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
mod tests;
