//! The examples of docs/cases.md are cases, and they hold.

use daymark_case::{Case, judge_model};

#[test]
fn the_examples_of_the_documentation_hold() {
    let text = include_str!("../../../docs/cases.md");
    let blocks = text.split("```case\n").skip(1);
    let examples: Vec<&str> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    assert!(examples.len() >= 2, "{} examples", examples.len());
    for example in examples {
        let case = Case::parse("docs/cases.md", example).unwrap_or_else(|error| panic!("{error}"));
        assert!(case.checks() > 0);
        assert_eq!(judge_model(&case).failures, []);
    }
}

#[test]
fn the_documentation_names_every_key_and_word() {
    let text = include_str!("../../../docs/cases.md");
    for word in [
        "options",
        "detector=",
        "name=",
        "node-ports=",
        "unnamed-family",
        "masquerade-all=",
        "machine",
        "families=",
        "external=",
        "internal-policy=",
        "external-policy=",
        "affinity=",
        "ranges=",
        "proxy-name=",
        "created=",
        "health=",
        "lb-class=",
        "lb-addresses=",
        "lb-pool=",
        "dns-only",
        "zones=",
        "nodes=",
        "hostname=",
        "draining",
        "terminating",
        "not-ready",
        "sticky",
        "no-endpoint",
        "no-local-endpoint",
        "source-range",
        "unknown-port",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

/// The table of the choices: the words of each, as it has them.
fn choices() -> Vec<(&'static str, String)> {
    let text = include_str!("../../../docs/cases.md");
    let (_, table) = text
        .split_once("| choice | words |\n")
        .expect("the table of the choices");
    let rows = table.lines().skip(1).map_while(|line| {
        let (names, words) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some((names, words.trim_end_matches(" |").replace('`', "")))
    });
    let each = |(names, words): (&'static str, String)| {
        let names = names.split(", ").map(|name| name.trim_matches('`'));
        names.map(move |name| (name, words.clone()))
    };
    let mut all: Vec<_> = rows.flat_map(each).collect();
    all.sort();
    all
}

#[test]
fn the_table_of_the_choices_is_that_of_the_program() {
    let known = daymark_model::rules::NAMES;
    let mut known = known.map(|(name, words)| (name, words.to_owned()));
    known.sort();
    assert_eq!(choices(), known);
}

fn repository() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Words between backticks in docs/semantics.md.
fn quoted() -> impl Iterator<Item = &'static str> {
    let text = include_str!("../../../docs/semantics.md");
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_proof_of_a_rule_exists() {
    let folders = ["cases", "cases/unseen"].map(|folder| repository().join(folder));
    let cases: Vec<&str> = quoted().filter(|word| word.ends_with(".case")).collect();
    assert!(cases.len() > 100, "{} cases", cases.len());
    for case in cases {
        let there = folders.iter().any(|folder| folder.join(case).exists());
        assert!(there, "docs/semantics.md names {case}, which is not there");
    }
    let is_path = |word: &&str| word.starts_with("crates/") || word.starts_with("examples/");
    for path in quoted().filter(is_path) {
        let there = repository().join(path).exists();
        assert!(there, "docs/semantics.md names {path}, which is not there");
    }
}

#[test]
fn every_case_proves_a_rule() {
    let named: std::collections::BTreeSet<&str> = quoted().collect();
    for folder in ["cases", "cases/unseen"] {
        let entries = std::fs::read_dir(repository().join(folder)).expect("the folder of cases");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        for name in names.filter(|name| name.ends_with(".case")) {
            assert!(
                named.contains(&*name),
                "docs/semantics.md names no rule for {name}"
            );
        }
    }
}
