//! Holds the crates to the layers of ARCHITECTURE.md: an edge that is not listed here fails.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each crate, and which of our crates it may use.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("case", &["model"]),
    ("netlink", &[]),
    ("sys", &["netlink"]),
    ("dataplane", &["model", "netlink", "sys"]),
    ("feed", &["model"]),
    ("node", &["feed", "model", "dataplane", "sys"]),
    ("dns", &["feed", "model", "sys"]),
    ("lb", &["feed", "model", "sys"]),
    ("store", &[]),
    ("apiserver", &["store"]),
    ("controllers", &[]),
    ("lab", &["model", "case", "sys", "feed"]),
    (
        "daymark",
        &[
            "model",
            "case",
            "netlink",
            "sys",
            "dataplane",
            "feed",
            "node",
            "dns",
            "lb",
            "store",
            "apiserver",
            "controllers",
            "lab",
        ],
    ),
];

/// Crates that know nothing of the API or of an async runtime, and what they must not use.
const PURE: [&str; 5] = ["model", "case", "netlink", "dataplane", "store"];
const NOT_IN_PURE: [&str; 3] = ["kube", "k8s-openapi", "tokio"];

fn short(package: &str) -> &str {
    package.strip_prefix("daymark-").unwrap_or(package)
}

/// Normal and build dependencies by member, as `cargo metadata` tells them.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let of = |package: &Value| {
        let all = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter();
        all.filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| dependency["name"].as_str().expect("name").to_owned())
            .collect()
    };
    packages
        .iter()
        .map(|package| {
            (
                short(package["name"].as_str().expect("name")).to_owned(),
                of(package),
            )
        })
        .collect()
}

#[test]
fn each_crate_uses_only_the_layers_below_it() {
    let found = dependencies();
    let listed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    assert_eq!(
        found.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        listed.keys().copied().collect()
    );
    for (member, used) in &found {
        let ours = used
            .iter()
            .filter(|name| name.starts_with("daymark-"))
            .map(|name| short(name));
        for name in ours {
            assert!(
                listed[member.as_str()].contains(&name),
                "{member} uses {name}: see ARCHITECTURE.md, \"Layers\""
            );
        }
    }
}

#[test]
fn the_pure_crates_know_neither_the_api_nor_a_runtime() {
    let found = dependencies();
    for member in PURE {
        for banned in NOT_IN_PURE {
            assert!(!found[member].contains(banned), "{member} uses {banned}");
        }
    }
    assert!(
        found["model"].is_empty(),
        "model uses the standard library alone"
    );
    assert!(
        found["case"].iter().all(|name| name == "daymark-model"),
        "case uses model and the standard library alone"
    );
}

#[test]
fn the_members_stand_in_reading_order() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
            .expect("manifest");
    let members = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"crates/")?.strip_suffix("\","));
    assert_eq!(members.collect::<Vec<_>>(), MAY_USE.map(|(name, _)| name));
}
