//! Leases that come, stay away and come back.

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
        standing: Standing::Joined,
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

fn joining(node: &str, holder: &str, written: i64) -> Announcer {
    Announcer {
        standing: Standing::Joining,
        ..lease(node, holder, written)
    }
}

/// Agents that watch one API: each event reaches all of them, in one order.
struct Agents(Vec<(&'static str, Membership)>);

impl Agents {
    /// Each lists before any of them has a Lease.
    fn begin(names: &[&'static str]) -> Self {
        let agent = |name: &&'static str| {
            let holder = format!("{name}_1");
            let mut one =
                Membership::new((*name).into(), holder.as_str().into(), Timing::default());
            one.listed(NOW, &[]);
            (*name, one)
        };
        Self(names.iter().map(agent).collect())
    }

    /// The membership of this one.
    fn of(&mut self, name: &str) -> &mut Membership {
        let found = self.0.iter_mut().find(|(one, _)| *one == name);
        &mut found.unwrap().1
    }

    /// One writes a renewal: its Lease then.
    fn writes(&mut self, name: &str, millis: u64) -> Announcer {
        let written = i64::try_from(millis).unwrap();
        let one = self.of(name);
        let standing = one.standing(at(millis));
        one.renewing(at(millis), written);
        Announcer {
            standing,
            ..lease(name, &format!("{name}_1"), written)
        }
    }

    /// One renews, and all see it a millisecond later. Whom each holds for alive then.
    fn renews(&mut self, name: &str, millis: u64) -> Vec<Vec<String>> {
        let seen = self.writes(name, millis);
        let views = self.0.iter_mut().map(|(_, one)| {
            one.saw(at(millis + 1), seen.clone());
            one.look(at(millis + 1));
            let living = alive(one, at(millis + 1)).into_iter();
            living.map(str::to_owned).collect()
        });
        views.collect()
    }
}

#[test]
fn those_who_start_in_the_same_moment_are_elected_together() {
    let mut agents = Agents::begin(&["a", "b", "c"]);
    for (name, millis) in [("a", 0), ("b", 3), ("c", 900)] {
        let views = agents.renews(name, millis);
        assert!(views.iter().all(Vec::is_empty), "{name}: {views:?}");
    }
    // The first who has joined is the beginning for all, and nobody begins alone.
    for (name, millis) in [("a", 1000), ("b", 1003), ("c", 1900), ("a", 2000)] {
        let views = agents.renews(name, millis);
        assert_eq!(views, vec![["a", "b", "c"]; 3], "{name}");
    }
}

/// Two join, and the only one before them lapses in the very moment in which one of them has joined, for one of them a little earlier than
/// for the other.
#[test]
fn who_is_elected_is_the_same_for_all_whoever_lapses_meanwhile() {
    for (late, expected) in [([0, 5], &["b", "c"][..]), ([5, 0], &["b"])] {
        let mut agents = Agents::begin(&["b", "c"]);
        for ((_, one), late) in agents.0.iter_mut().zip(late) {
            one.saw(at(late), lease("a", "a_1", 1));
        }
        for (name, millis) in [("b", 1900), ("c", 1950)] {
            let views = agents.renews(name, millis);
            assert_eq!(views, vec![["a"]; 2]);
        }
        agents.renews("b", 3002);
        for (_, one) in &agents.0 {
            assert_eq!(alive(one, at(3010)), expected, "{late:?}");
        }
        let views = agents.renews("c", 3010);
        assert_eq!(views, vec![["b", "c"]; 2], "{late:?}");
    }
}

#[test]
fn the_first_says_so_with_every_renewal_and_nobody_else_does() {
    let mut agents = Agents::begin(&["a", "b"]);
    for (name, millis, expected) in [
        ("a", 0, Standing::Joining),
        ("b", 3, Standing::Joining),
        ("a", 1000, Standing::First),
        ("b", 1003, Standing::Joined),
        ("a", 2000, Standing::First),
        ("b", 2003, Standing::Joined),
        ("a", 3000, Standing::First),
    ] {
        assert_eq!(agents.of(name).standing(at(millis)), expected, "{millis}");
        agents.renews(name, millis);
    }
}

/// The watch of one is opened anew, and it sees of the others what a list shows after so many renewals of the first.
#[test]
fn a_list_that_shows_the_first_elects_who_was_known_before_it() {
    for renewals in 1..3 {
        let mut agents = Agents::begin(&["b", "c", "late"]);
        for (name, millis) in [("b", 0), ("c", 1), ("late", 2)] {
            agents.renews(name, millis);
        }
        let (_, mut late) = agents.0.pop().unwrap();
        let mut shown = agents.writes("b", 1000);
        for renewal in 1..=renewals {
            for (_, one) in &mut agents.0 {
                one.saw(at(renewal * 1000 + 1), shown.clone());
            }
            if renewal < renewals {
                shown = agents.writes("b", (renewal + 1) * 1000);
            }
        }
        let now = at(renewals * 1000 + 2);
        // One more has come meanwhile: it is not elected by what was before.
        let list = [joining("a", "a_1", 1), shown, joining("c", "c_1", 2)];
        late.saw_all(now, list.to_vec());
        let known = ["b", "c", "late"];
        assert_eq!(alive(&late, now), known, "after {renewals} renewals");
        assert_eq!(late.standing(now), Standing::Joined);
        // That it was the first says nothing of who came later.
        late.saw(now, agents.writes("b", (renewals + 1) * 1000));
        assert_eq!(alive(&late, now), known, "after {renewals} renewals");
    }
}

#[test]
fn one_alone_is_elected_after_a_renewal() {
    let mut agents = Agents::begin(&["a"]);
    assert_eq!(agents.renews("a", 0), [[""; 0]]);
    // What hastens a renewal, such as an interface that comes, does not hasten this.
    assert_eq!(agents.renews("a", 300), [[""; 0]]);
    assert_eq!(agents.renews("a", 999), [["a"]]);
}

#[test]
fn who_comes_later_is_elected_by_all_with_the_same_event() {
    let mut agents = Agents::begin(&["a", "b"]);
    for (name, millis) in [("a", 0), ("b", 1), ("a", 1000), ("b", 1001)] {
        agents.renews(name, millis);
    }
    // Two more come, one after the other. They find the first two, who have joined.
    for (name, millis) in [("c", 1500), ("d", 1900)] {
        let mut late = Agents::begin(&[name]).0.remove(0);
        for (node, written) in [("a", 1000), ("b", 1001)] {
            late.1
                .saw(at(millis), lease(node, &format!("{node}_1"), written));
        }
        agents.0.push(late);
        let views = agents.renews(name, millis);
        assert!(views.iter().all(|view| view == &["a", "b"]), "{views:?}");
    }
    for (name, millis, expected) in [
        ("a", 2000, &["a", "b"][..]),
        ("b", 2001, &["a", "b"]),
        ("c", 2500, &["a", "b", "c"]),
        ("d", 2900, &["a", "b", "c", "d"]),
    ] {
        let views = agents.renews(name, millis);
        assert!(
            views.iter().all(|view| view == expected),
            "{name}: {views:?}"
        );
    }
}

#[test]
fn a_process_whose_lease_is_there_is_known_already() {
    let mut membership = Membership::new("me".into(), "me_2".into(), Timing::default());
    membership.saw(at(0), lease("me", "me_1", 1));
    membership.listed(at(0), &["me".into()]);
    assert_eq!(membership.standing(at(0)), Standing::Joined);
    membership.renewing(at(0), 2);
    membership.saw(at(1), lease("me", "me_2", 2));
    assert_eq!(alive(&membership, at(1)), ["me"]);
}

#[test]
fn who_lapsed_while_joining_or_joins_anew_begins_with_nothing() {
    let mut membership = membership();
    membership.saw(at(0), lease("b", "b", 1));
    membership.saw(at(0), joining("a", "a", 1));
    assert_eq!(alive(&membership, at(0)), ["b"]);
    // It goes, and another process of that node comes with a new Lease.
    membership.left("a");
    membership.saw(at(100), joining("a", "a2", 1));
    assert_eq!(alive(&membership, at(100)), ["b"]);
    membership.saw(at(1100), lease("a", "a2", 2));
    assert_eq!(alive(&membership, at(1100)), ["a", "b"]);
    // The same process does not fall back while it lives.
    membership.saw(at(1200), joining("a", "a2", 3));
    assert_eq!(alive(&membership, at(1200)), ["a", "b"]);
    // In the dark whoever had joined stays, and who had not does not come.
    let mut dark = self::membership();
    all_is_well(&mut dark, at(0), 1);
    dark.saw(at(10), joining("new", "n", 1));
    dark.look(at(60_000));
    assert_eq!(alive(&dark, at(60_000)), ["me", "other"]);
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
