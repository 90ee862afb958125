//! An agent may die between any two transactions: the next one ends in the right state.

use daymark_case::random::{Manner, Random, Size, case};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Kernel};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_model::World;
use daymark_sys::ns::isolated_test;

use crate::common::{compiled, pieces, sizes};
use crate::setup::{canonical, held, plane};

const SIZE: Size = Size {
    manner: Manner::Anything,
    start: 40,
    steps: 1,
    changes: 6,
    packets: 0,
};

#[test]
fn after_a_death_at_any_commit_the_next_agent_ends_right() {
    let test = "death::after_a_death_at_any_commit_the_next_agent_ends_right";
    isolated_test(test, || {
        for seed in 0..6 {
            let case = case(seed, SIZE);
            let mut random = Random::new(seed);
            let mut world = World::new(case.options.clone());
            world.apply(case.steps[0].changes.iter().cloned());
            let old = world.desired().clone();
            let delta = world.apply(case.steps[1].changes.iter().cloned());
            let (mut first, _) = plane(TableFlags::NONE);
            first.reconcile(old.clone()).expect("the old state");
            let all = pieces(&first.compiler().clone().update(&delta)).len();
            drop(first);
            // Behind each of them, for the first of the clusters; behind some of them, for the others.
            let cuts: Vec<usize> = match seed {
                0..2 => (0..=all).collect(),
                _ => (0..8).map(|_| random.below(all + 1)).collect(),
            };
            for cut in cuts {
                let (mut first, _) = plane(TableFlags::NONE);
                first.reconcile(old.clone()).expect("the old state");
                let mut compiler = first.compiler().clone();
                drop(first);
                let pieces = pieces(&compiler.update(&delta));
                let mut dying = Netlink::open().expect("a netfilter socket");
                for piece in pieces.iter().take(cut) {
                    dying.commit(piece).expect("what the compiler sends");
                }
                drop(dying);
                let (mut next, found) = plane(TableFlags::NONE);
                assert_eq!(found, Found::Adopted, "seed {seed}, cut at {cut}");
                next.reconcile(world.desired().clone()).expect("mended");
                let program = next.compiler().program();
                assert_eq!(held(), canonical(program), "seed {seed}, cut at {cut}");
                assert_eq!(
                    sizes(program),
                    sizes(&compiled(&world)),
                    "seed {seed}, cut at {cut}"
                );
            }
        }
    });
}
