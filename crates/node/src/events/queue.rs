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
    /// Before this the API is not asked: it did not take the last one.
    again: Instant,
}

/// What waits of one scope. Each has a budget of its own: neither keeps the other from being said.
#[derive(Debug)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// How many have come since nothing waited, those that found no room among them.
    came: usize,
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
            again: now,
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
    /// an object whose values change each second, with the newest words. Of more than there is room for, which of them wait is drawn by
    /// `chance` in 0.0..1.0, where other nodes have the same to say: what one of them leaves out others have.
    pub(super) fn add(&mut self, notice: Notice, Moment { now, at }: Moment, chance: f64) -> u64 {
        let scope = notice.scope;
        let line = self.line(scope);
        let waiting = &mut line.waiting;
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
        let new = Waiting {
            notice,
            at,
            since: now,
        };
        line.came = if waiting.is_empty() { 1 } else { line.came + 1 };
        if waiting.len() < ROOM {
            waiting.push_back(new);
            return 0;
        }
        // Each that came has the same chance to be among those that wait (reservoir sampling).
        if scope == Scope::Cluster
            && let Some(old) = waiting.get_mut(drawn(line.came, chance))
        {
            *old = new;
        }
        1
    }

    /// When something may be taken, if anything waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let common = self.common.due().map(|due| due.max(self.turn));
        let first = self.own.due().into_iter().chain(common).min();
        first.map(|due| due.max(self.again))
    }

    /// The next one, if it may be written now: this node's own in order, before what other nodes say too. Of that any, by `chance` in 0.0..1.0:
    /// all nodes have it in one order, and what stands late in it would be said by none of them. It costs nothing before [`Self::spend`].
    pub(super) fn take(&mut self, now: Instant, chance: f64) -> Option<Waiting> {
        if self.again > now {
            return None;
        }
        let own = self.own.take(now, 0.0);
        own.or_else(|| {
            let is_turn = self.turn <= now;
            is_turn.then(|| self.common.take(now, chance)).flatten()
        })
    }

    /// The API was asked to write what was taken.
    pub(super) fn spend(&mut self, scope: Scope, now: Instant) {
        self.line(scope).budget.spend(now);
        if scope == Scope::Cluster {
            self.turn = now + self.spread / SHARE;
        }
    }

    /// The API could not take what was taken: it waits on, behind the others, and for a [`pause`] nothing is tried. What all nodes say needs a turn
    /// to be drawn too.
    pub(super) fn put_back(&mut self, waiting: Waiting, chance: f64, now: Instant) {
        self.again = now + pause(chance);
        // It has the room that it had.
        self.line(waiting.notice.scope).waiting.push_back(waiting);
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
            came: 0,
            budget: Budget::full(now),
        }
    }

    fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.budget.due())
    }

    /// `chance` of 0.0 takes the first.
    fn take(&mut self, now: Instant, chance: f64) -> Option<Waiting> {
        if self.budget.due() > now {
            return None;
        }
        self.waiting.remove(drawn(self.waiting.len(), chance))
    }
}

/// One of so many, from 0 on, by a chance in 0.0..1.0.
fn drawn(of: usize, chance: f64) -> usize {
    (of as f64 * chance) as usize
}

/// Over how long so many nodes spread what all of them say: some three a second. The first of them is not later for that there are many.
fn spread(nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    A_NODE
        .saturating_mul(nodes)
        .clamp(LEAST_SPREAD, MOST_SPREAD)
}

const A_NODE: Duration = Duration::from_millis(300);
const LEAST_SPREAD: Duration = Duration::from_secs(5);
/// Less than [`LONGEST`], after which nobody says it any more, and in which an API server forgets what was said.
const MOST_SPREAD: Duration = Duration::from_secs(3000);
/// From more nodes than that on the spread is the same: twice as many as a cluster is said to have at most
/// (kubernetes.io, "Considerations for large clusters").
pub(super) const MOST_NODES: usize = 10_000;
/// Of what all nodes say a node writes one each such part of the spread.
const SHARE: u32 = 10;
/// Before an API that could not take an Event is asked for the next. By `chance` in 0.0..1.0, so that not all nodes come back at once.
pub(super) fn pause(chance: f64) -> Duration {
    AWAY.mul_f64((1.0 + chance) / 2.0)
}

const AWAY: Duration = Duration::from_secs(60);
/// How many wait in each line.
pub(super) const ROOM: usize = 256;
/// How long.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

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
pub(super) const EACH: Duration = Duration::from_secs(30);

/// So many of one scope a node writes within such a time at most.
pub(super) const fn most_within(time: Duration) -> usize {
    BURST as usize + (time.as_secs() / EACH.as_secs()) as usize + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use daymark_model::ServiceKey;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

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
        let Some(taken) = queue.take(now, FIRST) else {
            return String::new();
        };
        queue.spend(taken.notice.scope, now);
        taken.notice.message
    }

    fn add(queue: &mut Queue, scope: Scope, messages: std::ops::Range<u32>, now: Instant) {
        for message in messages {
            queue.add(notice(scope, &message.to_string()), moment(now), FIRST);
        }
    }

    /// The chance that takes the first.
    const FIRST: f64 = 0.0;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nodes_spread_by_their_number_from_seconds_to_minutes() {
        let nodes = [0, 4, 100, 1000, 5000, 10_000, 100_000];
        let seconds = nodes.map(|nodes| spread(nodes).as_secs());
        assert_eq!(seconds, [5, 5, 30, 300, 1500, 3000, 3000]);
        assert_eq!(spread(MOST_NODES), MOST_SPREAD);
    }

    /// What a cluster asks the API for, second by second, when all its nodes find the same things in the same order in the same moment.
    fn asked(nodes: usize, things: u32, within: u64) -> Vec<Vec<String>> {
        let mut random = StdRng::seed_from_u64(7);
        let start = clock::now();
        let mut asked = vec![Vec::new(); usize::try_from(within).unwrap()];
        for _ in 0..nodes {
            let mut queue = Queue::new(start);
            queue.draw(nodes, random.random(), start);
            add(&mut queue, Scope::Cluster, 0..things, start);
            while let Some(due) = queue.due() {
                let second = due.saturating_duration_since(start).as_secs();
                if second >= within {
                    break;
                }
                let taken = queue.take(due, random.random()).expect("it is due");
                queue.spend(Scope::Cluster, due);
                asked[usize::try_from(second).unwrap()].push(taken.notice.message);
            }
        }
        asked
    }

    #[test]
    fn one_thing_is_as_little_work_for_the_api_in_a_cluster_of_thousands() {
        for nodes in [1000, 5000] {
            let asked = asked(nodes, 1, 3600);
            let all: usize = asked.iter().map(Vec::len).sum();
            assert_eq!(all, nodes, "each node tries once");
            let first = asked.iter().position(|second| !second.is_empty());
            assert!(first < Some(10), "{nodes} nodes: {first:?}");
            let most = asked
                .chunks(60)
                .map(|minute| minute.iter().map(Vec::len).sum());
            let most: usize = most.max().unwrap();
            assert!((180..300).contains(&most), "{nodes} nodes: {most} a minute");
        }
    }

    #[test]
    fn of_many_things_that_all_nodes_say_in_one_order_each_is_said_soon() {
        let asked = asked(2000, 40, 300);
        let said: BTreeSet<&String> = asked.iter().flatten().collect();
        assert_eq!(said.len(), 40, "a node has had the time to say five");
    }

    #[test]
    fn of_more_than_there_is_room_for_each_waits_somewhere() {
        let mut random = StdRng::seed_from_u64(8);
        let start = clock::now();
        let all = ROOM * 2;
        let mut somewhere = BTreeSet::new();
        for _ in 0..30 {
            let mut queue = Queue::new(start);
            let mut lost = 0;
            for number in 0..all {
                let notice = notice(Scope::Cluster, &number.to_string());
                lost += queue.add(notice, moment(start), random.random());
            }
            assert_eq!(lost, ROOM as u64);
            let waiting = queue.common.waiting.into_iter();
            let waiting: BTreeSet<String> = waiting.map(|one| one.notice.message).collect();
            assert_eq!(waiting.len(), ROOM);
            somewhere.extend(waiting);
        }
        assert_eq!(somewhere.len(), all);
    }

    #[test]
    fn what_the_api_could_not_take_waits_on_and_so_do_the_others() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        add(&mut queue, Scope::Node, 0..2, start);
        for chance in [0.0, 0.5] {
            let waiting = queue.take(start, FIRST).expect("it may be written");
            queue.put_back(waiting, chance, start);
            let again = start + pause(chance);
            assert_eq!(queue.due(), Some(again));
            assert!(queue.take(again - SECOND, FIRST).is_none());
            // Each costs nothing, and lets the next go first.
            queue.again = start;
        }
        assert_eq!(written(&mut queue, start), "0");
        assert_eq!(written(&mut queue, start), "1");
        // It has been waiting since it came.
        add(&mut queue, Scope::Cluster, 2..3, start);
        let waiting = queue.take(start, FIRST).expect("it may be written");
        queue.put_back(waiting, FIRST, start + LONGEST - SECOND);
        assert_eq!(queue.give_up(start + LONGEST), 1);
        assert_eq!(queue.due(), None);
    }

    #[test]
    fn what_every_node_says_waits_for_the_nodes_turn_and_comes_in_order() {
        let start = clock::now();
        let mut queue = Queue::new(start);
        let first = notice(Scope::Cluster, "one");
        assert!(queue.wants_turn(&first) && queue.due().is_none());
        queue.draw(100, 0.5, start);
        queue.add(first, moment(start), FIRST);
        let second = notice(Scope::Cluster, "two");
        assert!(!queue.wants_turn(&second));
        queue.add(second, moment(start), FIRST);
        assert_eq!(queue.due(), Some(start + 15 * SECOND));
        assert!(queue.take(start + 14 * SECOND, FIRST).is_none());
        assert_eq!(written(&mut queue, start + 15 * SECOND), "one");
        assert_eq!(queue.due(), Some(start + 18 * SECOND));
        assert!(queue.take(start + 17 * SECOND, FIRST).is_none());
        assert_eq!(written(&mut queue, start + 18 * SECOND), "two");
        assert_eq!(queue.due(), None);
        // The next has a turn of its own, and not before the last one's rest is over.
        queue.draw(4, 0.0, start + 19 * SECOND);
        queue.add(
            notice(Scope::Cluster, "three"),
            moment(start + 19 * SECOND),
            FIRST,
        );
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
        let lost: u64 = (0..600)
            .map(|second| queue.add(flaps(), at(second), FIRST))
            .sum();
        assert_eq!(lost, 0);
        queue.add(notice(Scope::Cluster, "another"), at(599), FIRST);
        // It has another name from then on.
        queue.add(flaps(), at(600), FIRST);
        for message in ["flaps", "another", "flaps"] {
            // None of them leads to a request: none costs a token, or a turn.
            let taken = queue.take(start, FIRST).map(|taken| taken.notice.message);
            assert_eq!(taken.as_deref(), Some(message));
        }
        assert!(queue.take(start, FIRST).is_none() && queue.due().is_none());
        for _ in 0..BURST * 2 {
            queue.add(flaps(), at(601), FIRST);
            assert!(queue.take(start, FIRST).is_some());
        }
        queue.add(notice(Scope::Cluster, "news"), at(601), FIRST);
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
            assert_eq!(
                queue.add(value(&second.to_string()), moment(start), FIRST),
                0
            );
        }
        // What else is said about it stays, and so does what is said of others.
        let other = Notice {
            about: ServiceKey::new("default", "other").into(),
            ..value("other")
        };
        for notice in [notice(Scope::Cluster, "lost"), other, value("newest")] {
            assert_eq!(queue.add(notice, moment(start), FIRST), 0);
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
            .map(|number| {
                queue.add(
                    notice(Scope::Node, &number.to_string()),
                    moment(start),
                    FIRST,
                )
            })
            .sum();
        assert_eq!(lost, 3);
        queue.add(
            notice(Scope::Cluster, "later"),
            moment(start + LONGEST / 2),
            FIRST,
        );
        assert_eq!(queue.give_up(start + LONGEST - SECOND), 0);
        assert_eq!(queue.give_up(start + LONGEST), ROOM as u64);
        assert_eq!(written(&mut queue, start + LONGEST), "later");
    }
}
