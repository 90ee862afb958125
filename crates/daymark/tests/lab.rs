//! Whole labs: brought up, entered, ended, and the scenarios of `examples/scenarios`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daymark_sys::process::{Isolation, Namespaces};

/// Runs the binary with a runtime folder of the test's own.
fn daymark(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daymark"))
        .args(args)
        .env("XDG_RUNTIME_DIR", folder)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Whether the machine lets this user have labs; if not, it is said past the harness's capture.
fn possible(output: &Output, test: &str) -> bool {
    let said = text(output);
    let forbidden = [
        "user namespaces are forbidden",
        "this kernel has no",
        "mounting proc on /proc",
        "read-only here",
    ];
    let is_forbidden =
        !output.status.success() && forbidden.iter().any(|reason| said.contains(reason));
    if is_forbidden {
        skipped(test, &said);
    }
    !is_forbidden
}

fn skipped(test: &str, why: &str) {
    assert!(
        std::env::var_os("DAYMARK_FAIL_ON_SKIP").is_none(),
        "{test} cannot run: {why}"
    );
    let _ = writeln!(std::io::stderr(), "test {test} ... SKIPPED: {why}");
}

/// A folder short enough for sockets in it.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(format!("/tmp/dmt-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// [`daymark`] where the kernel makes no more namespaces of a kind: as root of a user namespace whose limit is 0.
fn daymark_without(kind: &str, folder: &Path, args: &[&str]) -> std::io::Result<Output> {
    let limit = format!("echo 0 > /proc/sys/user/max_{kind}_namespaces && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limit, env!("CARGO_BIN_EXE_daymark")])
        .args(args)
        .env("XDG_RUNTIME_DIR", folder);
    Isolation {
        namespaces: Namespaces::Fresh,
        ..Isolation::default()
    }
    .apply(&mut command);
    command.output()
}

fn scenario_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/scenarios/{name}.scenario"))
}

fn scenario_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{name}"))
}

fn scenario(name: &str) {
    let file = scenario_file(name);
    let folder = folder(name);
    let output = daymark(&folder, &["lab", "run", file.to_str().unwrap()]);
    if possible(&output, name) {
        assert!(output.status.success(), "{}", text(&output));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_pod_is_replaced_under_load_without_a_failed_request() {
    scenario("replace_under_load");
}

#[test]
fn a_silent_node_is_not_asked_and_comes_back() {
    scenario("node_dies");
}

#[test]
fn killed_parts_come_back_and_the_kernel_goes_on_meanwhile() {
    scenario("parts_die");
}

#[test]
fn load_balancer_addresses_stay_where_they_are_while_the_api_is_away() {
    scenario("api_is_away");
}

#[test]
fn a_node_whose_agent_stays_dead_keeps_its_pods_ready() {
    scenario("agent_is_gone");
}

#[test]
fn node_ports_are_served_on_loopback() {
    scenario("localhost_node_ports");
}

#[test]
fn what_every_node_finds_is_one_event() {
    scenario("one_event_for_all_nodes");
}

#[test]
fn a_value_that_cannot_be_used_is_one_event_on_its_service() {
    scenario("unusable_values_are_told");
}

#[test]
fn cluster_dns_answers_at_its_ipv6_address() {
    scenario("dns_by_ipv6");
}

#[test]
fn probes_of_every_kind_decide_who_is_asked() {
    scenario("probes");
}

/// docs/e2e.md says which test each follows.
#[test]
fn kubernetes_own_tests_of_services_hold() {
    let test = "kubernetes_own_tests_of_services_hold";
    let (files, folder) = (scenario_folder("e2e"), folder("e2e"));
    let output = daymark(&folder, &["lab", "run", files.to_str().unwrap()]);
    if possible(&output, test) {
        assert!(output.status.success(), "{}", text(&output));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_table_of_kubernetes_own_tests_has_every_scenario_and_no_other() {
    let table = include_str!("../../../docs/e2e.md");
    let linked: BTreeSet<&str> = table
        .split("](../examples/e2e/")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    let root = scenario_folder("e2e");
    let mut there = BTreeSet::new();
    for folder in std::fs::read_dir(&root).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            there.insert(path.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    let linked: BTreeSet<String> = linked.into_iter().map(str::to_owned).collect();
    assert!(there.len() > 100, "{}", there.len());
    assert_eq!(linked, there);
}

#[test]
fn many_scenarios_are_counted_and_one_that_fails_is_told() {
    let test = "many_scenarios_are_counted_and_one_that_fails_is_told";
    let folder = folder("many");
    let files = folder.join("scenarios");
    std::fs::create_dir(&files).unwrap();
    for (name, steps) in [
        ("a_good", "expect outside misses 10.96.0.1:443"),
        (
            "b_bad",
            "sleep 0s\nexpect outside reaches 10.96.0.1:443 within 0s",
        ),
        ("c_alone", "kill controller\nstart controller"),
    ] {
        std::fs::write(files.join(format!("{name}.scenario")), steps).unwrap();
    }
    let output = daymark(&folder, &["lab", "run", files.to_str().unwrap()]);
    if possible(&output, test) {
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("b_bad.scenario: line 2 (expect"), "{said}");
        assert_eq!(said.lines().last(), Some("2 passed, 1 failed"), "{said}");
        let why = String::from_utf8_lossy(&output.stderr);
        for part in ["agent-node-1", "api", "kubelet-node-1"] {
            assert!(why.contains(&format!("--- {part} said last:")), "{why}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn labs_with_different_names_run_side_by_side() {
    let test = "labs_with_different_names_run_side_by_side";
    let folder = folder("two");
    let names = ["left", "right"];
    let lab = |name: &str, verb: &[&str]| {
        let args = [&["lab", verb[0], "--name", name], &verb[1..]].concat();
        daymark(&folder, &args)
    };
    for (name, nodes) in names.iter().zip(["1", "2"]) {
        let up = lab(name, &["up", "--nodes", nodes]);
        if !possible(&up, test) {
            return;
        }
        assert!(up.status.success(), "{name}: {}", text(&up));
    }
    // Each has its own nodes at the same addresses, and its own API.
    let status = |name: &str| {
        let output = lab(name, &["status", "-o", "json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let nodes = names.map(|name| status(name)["nodes"].as_array().unwrap().len());
    assert_eq!(nodes, [1, 2]);
    let second = |name| lab(name, &["exec", "node-2", "--", "true"]).status.code();
    assert_eq!(names.map(second), [Some(1), Some(0)]);
    let kubeconfigs = names.map(|name| text(&lab(name, &["kubeconfig"])));
    assert_ne!(kubeconfigs[0], kubeconfigs[1]);

    let down = lab("left", &["down"]);
    assert!(down.status.success(), "{}", text(&down));
    assert_eq!(status("right")["nodes"].as_array().unwrap().len(), 2);
    let down = lab("right", &["down"]);
    assert!(down.status.success(), "{}", text(&down));
    let left = std::fs::read_dir(folder.join("daymark")).unwrap().count();
    assert_eq!(left, 0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_lab_that_gets_no_namespaces_leaves_no_files() {
    let test = "a_lab_that_gets_no_namespaces_leaves_no_files";
    let folder = folder("refused");
    let file = scenario_file("node_dies");
    let rows: [(&str, &[&str]); 4] = [
        ("user", &["demo"]),
        // Root of its user namespace needs no other one.
        ("net", &["demo"]),
        ("mnt", &["lab", "run", file.to_str().unwrap()]),
        ("mnt", &["lab", "up"]),
    ];
    for (kind, args) in rows {
        let output = match daymark_without(kind, &folder, args) {
            Ok(output) => output,
            Err(error) => return skipped(test, &error.to_string()),
        };
        let said = text(&output);
        if said.contains("/proc/sys/user/") {
            return skipped(test, &said);
        }
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("namespaces are forbidden"),
            "{args:?}: {said}"
        );
        let left = std::fs::read_dir(folder.join("daymark")).unwrap().count();
        assert_eq!(left, 0, "{args:?}: {said}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_lab_is_entered_by_another_process_and_ended_without_a_trace() {
    let folder = folder("up");
    let up = daymark(&folder, &["lab", "up", "--nodes", "2"]);
    if !possible(
        &up,
        "a_lab_is_entered_by_another_process_and_ended_without_a_trace",
    ) {
        return;
    }
    assert!(up.status.success(), "{}", text(&up));

    let again = daymark(&folder, &["lab", "up"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again).contains("lab lab runs already"),
        "{}",
        text(&again)
    );

    let inside = daymark(
        &folder,
        &["lab", "exec", "node-2", "--", "cat", "/proc/net/fib_trie"],
    );
    assert!(text(&inside).contains("172.30.0.12"), "{}", text(&inside));
    let code = daymark(
        &folder,
        &["lab", "exec", "outside", "--", "sh", "-c", "exit 7"],
    );
    assert_eq!(code.status.code(), Some(7));
    let unknown = daymark(&folder, &["lab", "exec", "node-9", "--", "true"]);
    assert!(
        text(&unknown).contains("there is no node node-9; there are node-1, node-2"),
        "{}",
        text(&unknown)
    );

    let status = daymark(&folder, &["lab", "status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    let kubeconfig = text(&daymark(&folder, &["lab", "kubeconfig"]));
    assert!(Path::new(kubeconfig.trim()).is_file(), "{kubeconfig}");

    let down = daymark(&folder, &["lab", "down"]);
    assert!(down.status.success(), "{}", text(&down));
    assert_eq!(
        std::fs::read_dir(folder.join("daymark")).unwrap().count(),
        0
    );
    let gone = daymark(&folder, &["lab", "down"]);
    assert!(text(&gone).contains("no lab runs in"), "{}", text(&gone));
    std::fs::remove_dir_all(folder).unwrap();
}
