//! Random changes, one after the other: the kernel holds what the program says after each of them.

use daymark_case::random::{Manner, Size, case};
use daymark_dataplane::nft::TableFlags;
use daymark_model::World;
use daymark_sys::ns::isolated_test;

use crate::common::{compiled, sizes};
use crate::setup::{canonical, held, plane_of};

const SIZE: Size = Size {
    manner: Manner::Anything,
    start: 30,
    steps: 20,
    changes: 5,
    packets: 0,
};

#[test]
fn after_each_of_many_random_changes_the_kernel_holds_the_program() {
    let test = "walk::after_each_of_many_random_changes_the_kernel_holds_the_program";
    isolated_test(test, || {
        for seed in 0..8 {
            let case = case(seed, SIZE);
            let (first, rest) = case.steps.split_first().expect("a first step");
            let mut world = World::new(case.options.clone());
            world.apply(first.changes.iter().cloned());
            let mut plane = plane_of(&world, TableFlags::NONE);
            assert_eq!(rest.len(), SIZE.steps, "seed {seed}");
            for (number, step) in rest.iter().enumerate() {
                let delta = world.apply(step.changes.iter().cloned());
                plane
                    .update(&delta)
                    .unwrap_or_else(|error| panic!("seed {seed}, change {number}: {error}"));
                let program = plane.compiler().program();
                assert_eq!(held(), canonical(program), "seed {seed}, change {number}");
                assert_eq!(
                    sizes(program),
                    sizes(&compiled(&world)),
                    "seed {seed}, change {number}: missing or left over"
                );
            }
        }
    });
}
