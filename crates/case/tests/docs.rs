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
        "unnamed-family=",
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
