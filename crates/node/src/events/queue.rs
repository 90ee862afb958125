//! What waits to be written as an Event, and when it may be. The time and the chance are handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::{Notice, Scope};

/// What waits.
#[derive(Debug)]
pub(super) struct Queue {
    own: VecDeque<Waiting>,
    common: VecDeque<Waiting>,
    /// When the first of `common` may go.
    turn: Instant,
    /// How far apart the nodes' turns are spread, for what is in `common`.
    spread: Duration,
    budget: Budget,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) notice: Notice,
    /// When it was put up: that names its Event, whenever it is written.
    pub(super) at: Timestamp,
    since: Instant,
}

/// When something is put up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) at: Timestamp,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            own: VecDeque::new(),
            common: VecDeque::new(),
            turn: now,
            spread: LEAST_SPREAD,
            budget: Budget::full(now),
        }
    }

    /// Whether this node's next turn is to be drawn ([`Self::draw`]) before this one is added.
    pub(super) fn wants_turn(&self, notice: &Notice) -> bool {
        notice.scope == Scope::Cluster && self.common.is_empty()
    }

    /// Draws this node's turn among so many, by `chance` in 0.0..1.0.
    pub(super) fn draw(&mut self, nodes: usize, chance: f64, now: Instant) {
        self.spread = spread(nodes);
        self.turn = self.turn.max(now + self.spread.mul_f64(chance));
    }

    /// Returns how many found no room.
    pub(super) fn add(&mut self, notice: Notice, Moment { now, at }: Moment) -> u64 {
        let queue = match notice.scope {
            Scope::Node => &mut self.own,
            Scope::Cluster => &mut self.common,
        };
        if queue.len() >= ROOM {
            return 1;
        }
        queue.push_back(Waiting {
            notice,
            at,
            since: now,
        });
        0
    }

    /// When something may be taken, if anything waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let turn = match (self.own.is_empty(), self.common.is_empty()) {
            (true, true) => return None,
            (false, _) => self.budget.since,
            (true, false) => self.turn,
        };
        Some(self.budget.due().max(turn))
    }

    /// The next one, if it may be written now: this node's own before what other nodes say too.
    pub(super) fn take(&mut self, now: Instant) -> Option<Waiting> {
        if self.budget.due() > now {
            return None;
        }
        let taken = match self.own.pop_front() {
            Some(own) => own,
            None if self.turn <= now => {
                let next = self.common.pop_front()?;
                self.turn = now + self.spread / SHARE;
                next
            }
            None => return None,
        };
        self.budget.spend(now);
        Some(taken)
    }

    /// Gives up what has waited for too long to be news; how many those are.
    pub(super) fn give_up(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        for queue in [&mut self.own, &mut self.common] {
            let before = queue.len();
            queue.retain(|waiting| now.saturating_duration_since(waiting.since) < LONGEST);
            lost += before - queue.len();
        }
        lost as u64
    }
}

/// Over how long so many nodes spread what all of them say: some three a second.
fn spread(nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    A_NODE
        .saturating_mul(nodes)
        .clamp(LEAST_SPREAD, MOST_SPREAD)
}

const A_NODE: Duration = Duration::from_millis(300);
const LEAST_SPREAD: Duration = Duration::from_secs(5);
const MOST_SPREAD: Duration = Duration::from_secs(300);
/// From more nodes than that on the spread is the same.
pub(super) const MOST_NODES: usize = 1000;
/// Of what all nodes say a node writes one each such part of the spread.
const SHARE: u32 = 10;
/// How many wait in each queue.
pub(super) const ROOM: usize = 256;
/// How long.
const LONGEST: Duration = Duration::from_secs(3600);

/// How many Events a node may write: a token bucket.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// When `left` was so: the next comes [`EACH`] later.
    since: Instant,
}

impl Budget {
    fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    /// From when on one may be written.
    fn due(&self) -> Instant {
        if self.left > 0 {
            self.since
        } else {
            self.since + EACH
        }
    }

    fn spend(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos() / EACH.as_nanos();
        let come = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(come).min(BURST);
        // What does not fit is not saved; the time towards the next is.
        self.since = if self.left == BURST {
            now
        } else {
            self.since + EACH * come
        };
        self.left = self.left.saturating_sub(1);
    }
}

/// So many at once.
pub(super) const BURST: u32 = 25;
/// And then one each so long.
const EACH: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use daymark_model::ServiceKey;

    use super::super::Severity;
    use super::*;
    use crate::clock;

    fn notice(scope: Scope, message: &str) -> Notice {
        Notice {
            about: ServiceKey::new("default", "web"),
            scope,
            severity: Severity::Warning,
            reason: "Conflict",
            message: message.to_owned(),
        }
    }

    fn moment(now: Instant) -> Moment {
        Moment {
            now,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn message(taken: Option<Waiting>) -> String {
        taken.map_or_else(String::new, |waiting| waiting.notice.message)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nodes_spread_by_their_number_from_seconds_to_minutes() {
        let seconds = [0, 4, 100, 1000, 100_000].map(|nodes| spread(nodes).as_secs());
        assert_eq!(seconds, [5, 5, 30, 300, 300]);
        assert_eq!(spread(MOST_NODES), MOST_SPREAD);
    }

    #[test]
    fn what_every_node_says_waits_for_the_nodes_turn_and_comes_in_order() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        let first = notice(Scope::Cluster, "one");
        assert!(queue.wants_turn(&first) && queue.due().is_none());
        queue.draw(100, 0.5, start);
        queue.add(first, moment(start));
        let second = notice(Scope::Cluster, "two");
        assert!(!queue.wants_turn(&second));
        queue.add(second, moment(start));
        assert_eq!(queue.due(), Some(start + 15 * SECOND));
        assert!(queue.take(start + 14 * SECOND).is_none());
        assert_eq!(message(queue.take(start + 15 * SECOND)), "one");
        assert_eq!(queue.due(), Some(start + 18 * SECOND));
        assert!(queue.take(start + 17 * SECOND).is_none());
        assert_eq!(message(queue.take(start + 18 * SECOND)), "two");
        assert_eq!(queue.due(), None);
        // The next has a turn of its own, and not before the last one's rest is over.
        queue.draw(4, 0.0, start + 19 * SECOND);
        queue.add(notice(Scope::Cluster, "three"), moment(start + 19 * SECOND));
        assert_eq!(queue.due(), Some(start + 21 * SECOND));
    }

    #[test]
    fn a_nodes_own_go_first_and_at_once_until_the_budget_is_spent() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        queue.draw(4, 0.0, start);
        queue.add(notice(Scope::Cluster, "common"), moment(start));
        for _ in 0..BURST + 2 {
            queue.add(notice(Scope::Node, "own"), moment(start));
        }
        for _ in 0..BURST {
            assert!(queue.due() <= Some(start));
            assert_eq!(message(queue.take(start)), "own");
        }
        assert!(queue.take(start).is_none());
        assert_eq!(queue.due(), Some(start + EACH));
        // After a while as many as it takes tokens to come, and never more than a burst.
        let later = start + EACH * 2 + SECOND;
        assert_eq!(message(queue.take(later)), "own");
        assert_eq!(message(queue.take(later)), "own");
        assert!(queue.take(later).is_none());
        assert_eq!(queue.due(), Some(start + EACH * 3));
        assert_eq!(message(queue.take(start + EACH * 3)), "common");
        let much_later = start + EACH * 1000;
        for _ in 0..=BURST {
            queue.add(notice(Scope::Node, "own"), moment(much_later));
        }
        let taken = std::iter::from_fn(|| queue.take(much_later)).count();
        assert_eq!(taken, BURST as usize);
    }

    #[test]
    fn what_finds_no_room_or_is_no_news_is_counted() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        let lost: u64 = (0..ROOM + 3)
            .map(|_| queue.add(notice(Scope::Node, "own"), moment(start)))
            .sum();
        assert_eq!(lost, 3);
        queue.add(notice(Scope::Cluster, "later"), moment(start + LONGEST / 2));
        assert_eq!(queue.give_up(start + LONGEST - SECOND), 0);
        assert_eq!(queue.give_up(start + LONGEST), ROOM as u64);
        assert_eq!(message(queue.take(start + LONGEST)), "later");
    }
}
