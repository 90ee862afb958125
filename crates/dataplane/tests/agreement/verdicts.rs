//! Random clusters and their packets before the compiled program.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;

use daymark_case::random::{Size, case};
use daymark_case::{Case, judge};
use daymark_dataplane::nft::trace::Host;

use crate::common::{compiled, world};
use crate::singles;
use crate::trace::TraceJudge;

/// Clusters that are the same in every run, and clusters that are new in each.
const KNOWN: u64 = 200;
const NEW: u64 = 100;

#[test]
fn twenty_thousand_packets_get_the_models_verdict_from_the_program() {
    // No clock and no device: the seed of a hash table, which the standard library draws for every process.
    let first = RandomState::new().build_hasher().finish() >> 1;
    let mut packets = 0;
    for seed in (0..KNOWN).chain(first..first + NEW) {
        let case = case(seed, Size::default());
        let report = judge(&case, &mut TraceJudge::new());
        packets += report.checks;
        let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
        assert!(
            failures.is_empty(),
            "seed {seed}:\n{}\n{case}",
            failures.join("\n")
        );
    }
    said(format_args!(
        "{packets} packets of {} random clusters, seeds 0 to {} and {first} to {}: all alike",
        KNOWN + NEW,
        KNOWN - 1,
        first + NEW - 1
    ));
    assert!(packets >= 20_000, "only {packets} packets");
}

/// Past the harness, which keeps what a test that passes prints.
fn said(line: fmt::Arguments<'_>) {
    writeln!(std::io::stderr(), "{line}").expect("the standard error can be written");
}

#[test]
fn a_program_grown_by_changes_gives_the_verdicts_of_one_made_at_once() {
    for seed in 1_000..1_030 {
        let whole = case(seed, Size::default());
        for steps in 1..=whole.steps.len() {
            let part = Case {
                steps: whole.steps[..steps].to_vec(),
                ..whole.clone()
            };
            let at_once = compiled(&world(&part));
            let desired = world(&part).desired().clone();
            let host = Host {
                program: &at_once,
                addresses: &desired.own_addresses,
            };
            for check in &part.steps[steps - 1].checks {
                assert_eq!(
                    singles::of_program(host, &check.packet),
                    singles::of_model(&desired, &check.packet),
                    "seed {seed}, step {steps}: {:?}\n{part}",
                    check.packet
                );
            }
        }
    }
}
