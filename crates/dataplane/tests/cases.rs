//! Every case before the compiled program.

mod common;
#[path = "../../daymark/src/judge/trace.rs"]
mod trace;

use common::cases;
use daymark_case::judge;
use trace::TraceJudge;

#[test]
fn the_compiled_program_gives_every_packet_of_every_case_its_verdict() {
    let cases = cases();
    assert!(cases.len() >= 100, "only {} cases", cases.len());
    let reports: Vec<_> = cases
        .iter()
        .map(|case| judge(case, &mut TraceJudge::new()))
        .collect();
    let failures: Vec<String> = reports
        .iter()
        .flat_map(|report| &report.failures)
        .map(ToString::to_string)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
