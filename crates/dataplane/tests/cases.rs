//! Every case before the compiled program, and every fault in the program before the cases.

#[path = "../../daymark/src/judge/trace.rs"]
mod trace;

use std::path::Path;

use daymark_case::{Case, judge};
use trace::TraceJudge;

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases");
    let mut files: Vec<_> = [folder.clone(), folder.join("unseen")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("the folder of cases"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "case"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a case");
        Case::parse(&path.to_string_lossy(), &text).expect("a case that parses")
    };
    files.iter().map(read).collect()
}

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
