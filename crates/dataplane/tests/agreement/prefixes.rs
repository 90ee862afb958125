//! Every prefix of an update is a valid state, cut at every element, and a good start for an agent.

use daymark_case::random::{Manner, Random, Size, case};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::compile::{Compiler, Update};
use daymark_dataplane::nft::program::Program;
use daymark_dataplane::nft::trace::Host;
use daymark_model::{Delta, Desired, Packet, World};

use crate::common::{compiled, compiled_desired, pieces, sizes};
use crate::meaning::meaning;
use crate::singles;

/// Small steps, so that most packets see one thing change.
const SIZE: Size = Size {
    manner: Manner::Anything,
    start: 25,
    steps: 4,
    changes: 2,
    packets: 12,
};

/// One step of a random case.
struct Step<'a> {
    seed: u64,
    number: usize,
    old: &'a Desired,
    new: &'a Desired,
    packets: &'a [Packet],
}

/// Calls `visit` with each step of some random cases: the program before it, and the update.
fn each_step(seeds: std::ops::Range<u64>, mut visit: impl FnMut(&Step<'_>, &Program, &Update)) {
    for seed in seeds {
        let case = case(seed, SIZE);
        let mut world = World::new(case.options.clone());
        // Plans go as soon as nobody uses them, or never.
        let spare = if seed % 2 == 0 { 0 } else { usize::MAX };
        let (compiler, _) = Compiler::new(TableFlags::NONE);
        let mut compiler = compiler.keeping_plans(spare);
        for (number, step) in case.steps.iter().enumerate() {
            let old = world.desired().clone();
            let delta = world.apply(step.changes.iter().cloned());
            let before = compiler.program().clone();
            let update = compiler.update(&delta);
            let mut packets: Vec<Packet> = step.checks.iter().map(|check| check.packet).collect();
            if let Some(earlier) = number.checked_sub(1) {
                packets.extend(case.steps[earlier].checks.iter().map(|check| check.packet));
            }
            let step = Step {
                seed,
                number,
                old: &old,
                new: world.desired(),
                packets: &packets,
            };
            visit(&step, &before, &update);
        }
    }
}

/// Carries an update out piece by piece, and asks about every packet after each.
fn hold_all_along(step: &Step<'_>, program: &mut Program, update: &Update) {
    let allowed: Vec<_> = step
        .packets
        .iter()
        .map(|packet| {
            let old = singles::of_model(step.old, packet);
            let new = singles::of_model(step.new, packet);
            (packet, &old | &new)
        })
        .collect();
    for piece in pieces(update) {
        program.apply(&piece).expect("what the kernel takes");
        for (packet, allowed) in &allowed {
            let host = Host {
                program,
                addresses: &step.new.own_addresses,
            };
            let seen = singles::of_program(host, packet);
            let holds = seen.is_subset(allowed)
                || seen.is_subset(&singles::while_changing(step.old, step.new, packet));
            assert!(
                holds,
                "seed {}, step {}, after {piece:?}:\n{packet:?} got {seen:?}, not of {allowed:?}",
                step.seed, step.number
            );
        }
    }
}

#[test]
fn at_every_element_of_an_update_each_packet_gets_the_old_or_the_new_verdict() {
    each_step(2_000..2_030, |step, before, update| {
        hold_all_along(step, &mut before.clone(), update);
    });
}

#[test]
fn a_program_kept_up_to_date_equals_one_made_at_once() {
    each_step(6_000..6_100, |step, before, update| {
        let mut program = before.clone();
        for transaction in &update.transactions {
            program.apply(transaction).expect("what the kernel takes");
        }
        assert_eq!(
            meaning(&program),
            meaning(&compiled_desired(step.new)),
            "seed {}, step {}",
            step.seed,
            step.number
        );
    });
}

#[test]
fn a_first_load_in_pieces_is_valid_all_along_and_ends_as_one_in_whole() {
    let empty = Desired::default();
    each_step(5_000..5_012, |step, _, _| {
        for size in [1, 3] {
            let (mut compiler, _) = Compiler::new(TableFlags::NONE);
            let mut program = compiler.program().clone();
            let first = Step {
                old: &empty,
                ..*step
            };
            for delta in Delta::from_nothing(step.new, size) {
                hold_all_along(&first, &mut program, &compiler.update(&delta));
            }
            assert_eq!(
                (compiler.desired(), compiler.program()),
                (step.new, &program)
            );
            assert_eq!(meaning(&program), meaning(&compiled_desired(step.new)));
            let idle = compiler.reconcile(step.new.clone());
            assert!(idle.is_empty(), "seed {}: {idle:?}", step.seed);
        }
    });
}

#[test]
fn an_agent_that_died_at_any_element_is_followed_by_one_that_ends_right() {
    each_step(3_000..3_030, |step, before, update| {
        let pieces = pieces(update);
        let mut random = Random::new(step.seed);
        for _ in 0..3 {
            let mut program = before.clone();
            for piece in &pieces[..random.below(pieces.len() + 1)] {
                program.apply(piece).expect("what the kernel takes");
            }
            let adopted = Compiler::adopt(program.clone(), TableFlags::NONE);
            let mut compiler = adopted.expect("a table of this layout");
            let update = compiler.reconcile(step.new.clone());
            hold_all_along(step, &mut program, &update);
            assert_eq!(&program, compiler.program());
            assert_eq!(
                meaning(&program),
                meaning(&compiled_desired(step.new)),
                "seed {}, step {}: what the two agents leave is not what one makes at once",
                step.seed,
                step.number
            );
            let again = Compiler::adopt(program, TableFlags::NONE).expect("our own table");
            let idle = { again }.reconcile(step.new.clone());
            assert!(idle.is_empty(), "seed {}: {idle:?}", step.seed);
        }
    });
}

#[test]
fn an_empty_world_leaves_no_element_behind() {
    each_step(4_000..4_020, |step, before, update| {
        let mut program = before.clone();
        for piece in pieces(update) {
            program.apply(&piece).expect("what the kernel takes");
        }
        let mut compiler = Compiler::adopt(program, TableFlags::NONE).expect("our own table");
        compiler.reconcile(Desired::default());
        let left: usize = sizes(compiler.program()).values().sum();
        assert_eq!(left, 0, "seed {}", step.seed);
    });
    assert_eq!(
        sizes(&compiled(&World::default())).values().sum::<usize>(),
        0
    );
}
