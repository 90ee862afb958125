//! Of every random cluster, each place is found whole in the tables.

use daymark_case::random::{self, Random};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Kernel, Plane};
use daymark_dataplane::nft::compare;
use daymark_dataplane::nft::inspect::{Agreement, Asking, Held, Inspection, MOST_LISTED, Object};
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Program;
use daymark_model::desired::{Action, List, PoolKey};
use daymark_model::{Desired, Family, FrontendKey, World};
use daymark_netlink::nft::{Elements, Message, SetElem};
use proptest::prelude::*;

use crate::common::world_of;

/// How many backends the lists of a place have, that some client of it may go to.
fn backends(desired: &Desired, at: &FrontendKey) -> usize {
    let frontend = &desired.frontends[at];
    let actions = [frontend.inside, frontend.outside];
    let lists = [List::Cluster, List::Local].into_iter();
    let used = lists.filter(|list| actions.contains(&Action::Forward(*list)));
    let pool = |list| {
        let key = PoolKey {
            port: frontend.port.clone(),
            family: at.family(),
            list,
        };
        desired
            .pools
            .get(&key)
            .map_or(0, |pool| pool.backends.len())
    };
    used.map(pool).sum()
}

/// A plane that serves a Service of so many endpoints with affinity at two places.
fn plane_of(endpoints: usize) -> (World, Plane<Program>) {
    let mut text =
        "service web NodePort 80/TCP@30080 cluster=10.96.0.7 affinity=ClientIP\n".to_owned();
    for number in 0..endpoints {
        let (high, low) = (number / 250, number % 250 + 1);
        text += &format!("endpoint 10.244.{high}.{low} ready on node-2\n");
    }
    let world = world_of(&text);
    let (mut plane, _) = Plane::start(Program::default(), TableFlags::NONE).expect("a plane");
    plane
        .reconcile(world.desired().clone())
        .expect("a kernel that takes all");
    (world, plane)
}

/// How many objects of a set are listed, and how many more are told of.
fn of_set(found: &Inspection, name: &str) -> (usize, usize, usize) {
    let object = Object::Element(name.into());
    let listed = found.objects.iter().filter(|held| held.object == object);
    let more = found.more.iter().find(|more| *more.set == *name);
    let (same, differing) = more.map_or((0, 0), |more| (more.same, more.differing));
    (listed.count(), same, differing)
}

#[test]
fn a_large_pool_is_asked_for_whole_and_once_and_counted_beyond_its_first_slots() {
    let (world, mut plane) = plane_of(5000);
    let mut asking = Asking::within(2 * 5000 + 5000 + 100);
    for (at, frontend) in &world.desired().frontends {
        let found = plane.inspect_as_part(at, &frontend.port, &mut asking);
        let found = found.expect("readable");
        for name in [set::SLOTS, set::MEMBERS] {
            let expected = (MOST_LISTED, 5000 - MOST_LISTED, 0);
            assert_eq!(of_set(&found, name), expected, "{at}: {name}");
        }
        assert_eq!(found.unasked, 0, "{at}");
        assert!(found.agrees());
    }
    // Without room it says what it did not ask for.
    let (at, frontend) = world.desired().frontends.iter().next().expect("a place");
    let mut little = Asking::within(1000);
    let found = plane.inspect_as_part(at, &frontend.port, &mut little);
    let found = found.expect("readable");
    let (listed, same, _) = of_set(&found, set::SLOTS);
    assert!(listed + same < 1000);
    assert_eq!(found.unasked, 2 * 5000 - (listed + same));
}

#[test]
fn the_last_slot_of_a_large_pool_is_missed() {
    let (world, mut plane) = plane_of(300);
    let (at, frontend) = world.desired().frontends.iter().next().expect("a place");
    let table = plane.compiler().words(Family::V4).table();
    let program = plane.compiler().program();
    let contents = program.table(&table).expect("a table");
    let last = contents.elements(set::SLOTS).last().expect("slots");
    let slot = format!("slot {}:", last.key.host_word(1).expect("pool and slot"));
    let gone = Message::DelElems {
        table,
        elements: Elements {
            set: set::SLOTS.into(),
            elems: vec![SetElem::key(last.key)],
        },
    };
    plane.kernel().commit(&[gone]).expect("taken away");
    let found = plane.inspect(at, &frontend.port).expect("readable");
    assert!(!found.agrees());
    let expected = (MOST_LISTED + 1, 299 - MOST_LISTED, 0);
    assert_eq!(of_set(&found, set::SLOTS), expected);
    let missing = |held: &&Held| held.agreement == Agreement::Missing;
    let missing: Vec<_> = found.objects.iter().filter(missing).collect();
    assert_eq!(missing.len(), 1);
    assert!(missing[0].meaning.contains(&slot), "{missing:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_place_is_found_with_its_slots(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut world = World::new(random::options(&mut random));
        let (mut plane, _) = Plane::start(Program::default(), TableFlags::NONE).expect("a plane");
        for _ in 0..3 {
            let changes: Vec<_> = (0..20).map(|_| random::change(random.draw())).collect();
            world.apply(changes);
            plane.reconcile(world.desired().clone()).expect("a kernel that takes all");
            for (at, frontend) in &world.desired().frontends {
                let found = plane.inspect(at, &frontend.port).expect("readable");
                prop_assert!(found.agrees(), "{at}: {found:?}");
                let of = |name: &str| {
                    let object = Object::Element(name.into());
                    found.objects.iter().filter(move |held| held.object == object)
                };
                let maps = set::FRONTENDS.into_iter().chain(set::NODE_PORTS);
                prop_assert_eq!(maps.flat_map(of).count(), 1);
                prop_assert_eq!(of(set::SLOTS).count(), backends(world.desired(), at));
                for held in &found.objects {
                    prop_assert!(!held.meaning.is_empty(), "{held:?}");
                }
            }
            let held = compare::read(plane.kernel()).expect("readable");
            prop_assert_eq!(plane.compiler().compare(&held, 10).total, 0);
        }
    }
}
