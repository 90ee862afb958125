//! Of every random cluster, each place is found whole in the tables.

use daymark_case::random::{self, Random};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::compare;
use daymark_dataplane::nft::inspect::{MOST_SLOTS, Object};
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Program;
use daymark_model::desired::{Action, List, PoolKey};
use daymark_model::{Desired, FrontendKey, World};
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

#[test]
fn of_a_large_pool_the_first_slots_are_asked_for_and_the_others_counted() {
    let mut text = "service web ClusterIP 80/TCP cluster=10.96.0.7\n".to_owned();
    for number in 0..500 {
        let (high, low) = (number / 250, number % 250 + 1);
        text += &format!("endpoint 10.244.{high}.{low} ready on node-2\n");
    }
    let world = world_of(&text);
    let (mut plane, _) = Plane::start(Program::default(), TableFlags::NONE).expect("a plane");
    plane
        .reconcile(world.desired().clone())
        .expect("a kernel that takes all");
    let (at, frontend) = world.desired().frontends.iter().next().expect("a place");
    let found = plane.inspect(at, &frontend.port).expect("readable");
    let slots = found.objects.iter();
    let slots = slots.filter(|held| held.object == Object::Element(set::SLOTS.into()));
    assert_eq!(
        (slots.count(), found.unasked),
        (MOST_SLOTS, 500 - MOST_SLOTS)
    );
    assert!(found.agrees());
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
