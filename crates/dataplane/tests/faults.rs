//! One fault in the program, and some case fails: in the trace, and with real packets.

mod common;
#[path = "../../daymark/src/judge/mod.rs"]
#[allow(dead_code, reason = "the binary uses all of it")]
mod judge;
#[path = "faults/list.rs"]
mod list;

use std::collections::BTreeSet;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_sys::ns::isolated_test;

use common::cases;
use judge::lab::LabJudge;
use judge::trace::TraceJudge;
use list::{Fault, faults};

/// The cases that fail in the trace of the program with this fault.
fn noticed<'a>(fault: &Fault, cases: &'a [Case]) -> impl Iterator<Item = &'a Case> {
    let spoil = fault.spoil.clone();
    cases.iter().filter(move |case| {
        let spoil = spoil.clone();
        let mut spoiled = TraceJudge::spoiled(move |program| spoil(program));
        !daymark_case::judge(case, &mut spoiled).failures.is_empty()
    })
}

#[test]
fn each_fault_fails_a_case_in_the_trace() {
    let (cases, faults) = (cases(), faults());
    assert!(faults.len() >= 30, "only {} faults", faults.len());
    let names: BTreeSet<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
    assert_eq!(names.len(), faults.len(), "two faults have one name");
    let unseen: Vec<&str> = faults
        .iter()
        .filter(|fault| noticed(fault, &cases).next().is_none())
        .map(|fault| fault.name.as_str())
        .collect();
    assert!(
        unseen.is_empty(),
        "{} of {} faults fail no case:\n{}",
        unseen.len(),
        faults.len(),
        unseen.join("\n")
    );
}

#[test]
fn each_fault_fails_a_case_with_real_packets() {
    isolated_test("each_fault_fails_a_case_with_real_packets", || {
        let cases = cases();
        let seen = |fault: &Fault| {
            let found: Vec<&Case> = noticed(fault, &cases).take(CASES).collect();
            let mut tried = found.iter().cycle().take(TRIES);
            tried.any(|case| fails_in_lab(fault, case))
        };
        let mut tried = faults();
        tried.retain(|fault| !fault.is_hidden_from_packets());
        assert!(tried.len() >= 30, "only {} faults", tried.len());
        tried.retain(|fault| !seen(fault));
        let unseen: Vec<String> = tried.into_iter().map(|fault| fault.name).collect();
        assert!(
            unseen.is_empty(),
            "these faults fail no case with real packets:\n{}",
            unseen.join("\n")
        );
    });
}

fn fails_in_lab(fault: &Fault, case: &Case) -> bool {
    let spoil = fault.spoil.clone();
    let mut spoiled = LabJudge::spoiled(case, TableFlags::NONE, move |program| spoil(program))
        .unwrap_or_else(|why| panic!("{}: {why}", case.file));
    !daymark_case::judge(case, &mut spoiled).failures.is_empty()
}

/// How many of the cases that the trace fails are tried with real packets.
const CASES: usize = 6;
/// How often, one after the other: which endpoint a real packet meets is chance, and a fault may show with one of them alone.
const TRIES: usize = 24;
