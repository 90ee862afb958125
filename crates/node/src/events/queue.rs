//! What waits to be written as an Event, and when it may be. The time and the chance are handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::{Notice, Scope};

/// What waits.
#[derive(Debug)]
pub(super) struct Queue {
    own: Line,
    common: Line,
    /// When the first of `common` may go.
    turn: Instant,
    /// How far apart the nodes' turns are spread, for what is in `common`.
    spread: Duration,
}

/// What waits of one scope. Each has a budget of its own: neither keeps the other from being said.
#[derive(Debug)]
struct Line {
    waiting: VecDeque<Waiting>,
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
            own: Line::new(now),
            common: Line::new(now),
            turn: now,
            spread: LEAST_SPREAD,
        }
    }

    /// Whether this node's next turn is to be drawn ([`Self::draw`]) before this one is added.
    pub(super) fn wants_turn(&self, notice: &Notice) -> bool {
        notice.scope == Scope::Cluster && self.common.waiting.is_empty()
    }

    /// Draws this node's turn among so many, by `chance` in 0.0..1.0.
    pub(super) fn draw(&mut self, nodes: usize, chance: f64, now: Instant) {
        self.spread = spread(nodes);
        self.turn = self.turn.max(now + self.spread.mul_f64(chance));
    }

    /// Returns how many found no room. What waits already does so once: a Service that changes each second has one place; and so has
    /// an object whose values change each second, with the newest words.
    pub(super) fn add(&mut self, notice: Notice, Moment { now, at }: Moment) -> u64 {
        let scope = notice.scope;
        let waiting = &mut self.line(scope).waiting;
        let same = |one: &Waiting| one.notice == notice && scope.window(one.at) == scope.window(at);
        if waiting.iter().any(same) {
            return 0;
        }
        let mut old = waiting.iter_mut();
        if let Some(old) = old.find(|one| one.notice.is_outdated_by(&notice)) {
            old.notice = notice;
            old.at = at;
            return 0;
        }
        if waiting.len() >= ROOM {
            return 1;
        }
        waiting.push_back(Waiting {
            notice,
            at,
            since: now,
        });
        0
    }

    /// When something may be taken, if anything waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let common = self.common.due().map(|due| due.max(self.turn));
        self.own.due().into_iter().chain(common).min()
    }

    /// The next one, if it may be written now: this node's own before what other nodes say too. It costs nothing before [`Self::spend`].
    pub(super) fn take(&mut self, now: Instant) -> Option<Waiting> {
        let own = self.own.take(now);
        own.or_else(|| {
            let is_turn = self.turn <= now;
            is_turn.then(|| self.common.take(now)).flatten()
        })
    }

    /// The API was asked to write what was taken.
    pub(super) fn spend(&mut self, scope: Scope, now: Instant) {
        self.line(scope).budget.spend(now);
        if scope == Scope::Cluster {
            self.turn = now + self.spread / SHARE;
        }
    }

    fn line(&mut self, scope: Scope) -> &mut Line {
        match scope {
            Scope::Node => &mut self.own,
            Scope::Cluster => &mut self.common,
        }
    }

    /// Gives up what has waited for too long to be news; how many those are.
    pub(super) fn give_up(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        for Line { waiting, .. } in [&mut self.own, &mut self.common] {
            let before = waiting.len();
            waiting.retain(|one| now.saturating_duration_since(one.since) < LONGEST);
            lost += before - waiting.len();
        }
        lost as u64
    }
}

impl Line {
    fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            budget: Budget::full(now),
        }
    }

    fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.budget.due())
    }

    fn take(&mut self, now: Instant) -> Option<Waiting> {
        if self.budget.due() > now {
            return None;
        }
        self.waiting.pop_front()
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
/// How many wait in each line.
pub(super) const ROOM: usize = 256;
/// How long.
const LONGEST: Duration = Duration::from_secs(3600);

/// How many Events of one scope a node may write: a token bucket.
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
            about: ServiceKey::new("default", "web").into(),
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

    /// What is written at a moment; nothing if none may be.
    fn written(queue: &mut Queue, now: Instant) -> String {
        let Some(taken) = queue.take(now) else {
            return String::new();
        };
        queue.spend(taken.notice.scope, now);
        taken.notice.message
    }

    fn add(queue: &mut Queue, scope: Scope, messages: std::ops::Range<u32>, now: Instant) {
        for message in messages {
            queue.add(notice(scope, &message.to_string()), moment(now));
        }
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
        assert_eq!(written(&mut queue, start + 15 * SECOND), "one");
        assert_eq!(queue.due(), Some(start + 18 * SECOND));
        assert!(queue.take(start + 17 * SECOND).is_none());
        assert_eq!(written(&mut queue, start + 18 * SECOND), "two");
        assert_eq!(queue.due(), None);
        // The next has a turn of its own, and not before the last one's rest is over.
        queue.draw(4, 0.0, start + 19 * SECOND);
        queue.add(notice(Scope::Cluster, "three"), moment(start + 19 * SECOND));
        assert_eq!(queue.due(), Some(start + 21 * SECOND));
    }

    #[test]
    fn a_nodes_own_go_first_and_each_sort_has_a_budget_of_its_own() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        queue.draw(4, 0.0, start);
        let count = BURST + 2;
        add(&mut queue, Scope::Cluster, 1000..1000 + count, start);
        add(&mut queue, Scope::Node, 0..count, start);
        for number in 0..BURST {
            assert!(queue.due() <= Some(start));
            assert_eq!(written(&mut queue, start), number.to_string());
        }
        // The node's own are spent, the others' are not; and the other way round.
        let mut now = start;
        for number in 1000..1000 + BURST {
            assert_eq!(written(&mut queue, now), number.to_string());
            now += LEAST_SPREAD / SHARE;
        }
        assert_eq!(written(&mut queue, now), "");
        assert_eq!(queue.due(), Some(start + EACH));
        assert_eq!(written(&mut queue, start + EACH), BURST.to_string());
        let next = (1000 + BURST).to_string();
        assert_eq!(written(&mut queue, start + EACH), next);
        // After a while as many as it takes tokens to come, and never more than a burst.
        add(&mut queue, Scope::Node, 100..110, start + EACH);
        let later = start + EACH * 3 + SECOND;
        assert_eq!(written(&mut queue, later), (BURST + 1).to_string());
        assert_eq!(written(&mut queue, later), "100");
        let much_later = start + EACH * 1000;
        add(&mut queue, Scope::Node, 200..200 + BURST, much_later);
        let own = std::iter::repeat_with(|| written(&mut queue, much_later));
        let last = own.take_while(|message| message.len() == 3).count();
        assert_eq!(last, BURST as usize);
    }

    #[test]
    fn a_service_that_changes_each_second_keeps_nobody_waiting() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        queue.draw(4, 0.0, start);
        let at = |second| Moment {
            now: start,
            at: Timestamp::from_second(second).expect("a time"),
        };
        let flaps = || notice(Scope::Cluster, "flaps");
        let lost: u64 = (0..600).map(|second| queue.add(flaps(), at(second))).sum();
        assert_eq!(lost, 0);
        queue.add(notice(Scope::Cluster, "another"), at(599));
        // It has another name from then on.
        queue.add(flaps(), at(600));
        for message in ["flaps", "another", "flaps"] {
            // None of them leads to a request: none costs a token, or a turn.
            let taken = queue.take(start).map(|taken| taken.notice.message);
            assert_eq!(taken.as_deref(), Some(message));
        }
        assert!(queue.take(start).is_none() && queue.due().is_none());
        for _ in 0..BURST * 2 {
            queue.add(flaps(), at(601));
            assert!(queue.take(start).is_some());
        }
        queue.add(notice(Scope::Cluster, "news"), at(601));
        assert_eq!(written(&mut queue, start), "news");
    }

    #[test]
    fn an_object_whose_values_change_each_second_has_one_place_with_the_newest_words() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        queue.draw(4, 0.0, start);
        let value = |message: &str| Notice {
            reason: super::super::UNUSABLE,
            ..notice(Scope::Cluster, message)
        };
        for second in 0..ROOM * 2 {
            assert_eq!(queue.add(value(&second.to_string()), moment(start)), 0);
        }
        // What else is said about it stays, and so does what is said of others.
        let other = Notice {
            about: ServiceKey::new("default", "other").into(),
            ..value("other")
        };
        for notice in [notice(Scope::Cluster, "lost"), other, value("newest")] {
            assert_eq!(queue.add(notice, moment(start)), 0);
        }
        let mut now = start;
        for message in ["newest", "lost", "other"] {
            assert_eq!(written(&mut queue, now), message);
            now += LEAST_SPREAD / SHARE;
        }
        assert_eq!(queue.due(), None);
    }

    #[test]
    fn what_finds_no_room_or_is_no_news_is_counted() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        let lost: u64 = (0..ROOM + 3)
            .map(|number| queue.add(notice(Scope::Node, &number.to_string()), moment(start)))
            .sum();
        assert_eq!(lost, 3);
        queue.add(notice(Scope::Cluster, "later"), moment(start + LONGEST / 2));
        assert_eq!(queue.give_up(start + LONGEST - SECOND), 0);
        assert_eq!(queue.give_up(start + LONGEST), ROOM as u64);
        assert_eq!(written(&mut queue, start + LONGEST), "later");
    }
}
