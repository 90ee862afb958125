//! Every case of the repository, judged by the reference.

use std::fs;
use std::path::{Path, PathBuf};

use daymark_case::{Case, judge_model};

/// The files of `cases/` and of the folders in it.
fn files() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("its entries can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "case") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> Result<Case, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let shown = path.display().to_string();
    let name = shown.split_once("../../").map_or(&*shown, |(_, name)| name);
    Case::parse(name, &text).map_err(|error| error.to_string())
}

#[test]
fn every_case_holds_in_the_model() {
    let mut complaints = Vec::new();
    for path in files() {
        match read(&path) {
            Ok(case) => {
                let report = judge_model(&case);
                complaints.extend(report.failures.iter().map(ToString::to_string));
            }
            Err(error) => complaints.push(error),
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_case_says_what_it_is_about_and_sends_packets() {
    let cases: Vec<Case> = files().iter().filter_map(|path| read(path).ok()).collect();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    for case in &cases {
        assert!(case.checks() > 0, "{} sends no packet", case.file);
        assert!(
            !case.about.is_empty(),
            "{} does not say what it is about",
            case.file
        );
    }
}

#[test]
fn every_case_reads_the_same_after_it_was_written() {
    for path in files() {
        let case = read(&path).expect("judged by another test");
        let text = case.to_string();
        let again =
            Case::parse(&case.file, &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again.without_places(), case.without_places(), "{text}");
    }
}
