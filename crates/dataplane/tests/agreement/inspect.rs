//! Of every random cluster, each place is found whole in the tables.

use daymark_case::random::{self, Random};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::inspect::Object;
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Program;
use daymark_model::desired::{Action, List, PoolKey};
use daymark_model::{Desired, FrontendKey, World};
use proptest::prelude::*;

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
            let held = plane.kernel().clone();
            prop_assert_eq!(plane.compiler().compare(&held, 10).total, 0);
        }
    }
}
