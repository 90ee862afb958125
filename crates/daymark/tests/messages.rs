//! What the binary says when it cannot start: the flag, the reason once, and the remedy.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use daymark_apiserver::tls::{Pki, Role};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_sys::ns::isolated_test;
use daymark_sys::probe;

/// Runs the binary, which must end by itself with exit code 1, and returns the line that it ends with.
fn refused(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
    let output = command.args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    let last = said.lines().find(|line| line.starts_with("daymark: "));
    last.unwrap_or_else(|| panic!("{args:?}: {said}"))
        .to_owned()
}

/// The parts are in the line, and each once.
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert_eq!(line.matches(part).count(), 1, "{part:?} in {line:?}");
    }
}

/// A kubeconfig of a server that does not run.
fn kubeconfig(folder: &Path) -> PathBuf {
    let file = folder.join("admin.conf");
    let pki = Pki::ephemeral().unwrap();
    let config = pki.kubeconfig(&Role::Admin, "test", "https://127.0.0.1:9");
    config.unwrap().write(&file).unwrap();
    file
}

/// Said past the harness's capture; the kernel is what it is, so this is no failure.
fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "test {test} ... SKIPPED: {why}");
}

#[test]
fn a_file_or_folder_that_cannot_be_used_is_named_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "no kubeconfig").unwrap();
    let missing = folder.path().join("missing");
    let [text, missing] = [&text, &missing].map(|path| path.to_str().unwrap());
    let rows: [(&[&str], &[&str]); 3] = [
        (
            &["controller", "--kubeconfig", missing],
            &[missing, "No such file", "--kubeconfig", "--issue"],
        ),
        (
            &["controller", "--kubeconfig", text],
            &[text, "cannot be used", "--kubeconfig", "YAML"],
        ),
        (
            &["api", "--listen", "127.0.0.1:0", "--data", "/proc/x"],
            &["--data /proc/x", "No such file", "choose one"],
        ),
    ];
    for (args, parts) in rows {
        assert_says(&refused(args), parts);
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag_by_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let kubeconfig = ["controller", "--kubeconfig", file.to_str().unwrap()];
    let line = refused(&[&kubeconfig[..], &["--metrics", &address]].concat());
    assert_says(&line, &["--metrics", &address, "in use", "choose a free"]);
}

#[test]
fn an_agent_names_the_port_that_is_taken_and_the_agent_that_is_there() {
    let test = "an_agent_names_the_port_that_is_taken_and_the_agent_that_is_there";
    isolated_test(test, || {
        let folder = tempfile::tempdir().unwrap();
        let file = kubeconfig(folder.path());
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let agent = [
            "node",
            "--node-name",
            "node-1",
            "--kubeconfig",
            file.to_str().unwrap(),
        ];
        for flag in ["--healthz-bind-address", "--metrics-bind-address"] {
            let line = refused(&[&agent[..], &[flag, &address]].concat());
            assert_says(&line, &[flag, &address, "in use", "another program"]);
        }

        let mut first = Netlink::open().unwrap();
        if !probe::persistent_owner(first.socket()).unwrap().is_yes() {
            return skipped(test, "its second half needs Linux 6.9");
        }
        let flags = TableFlags::OWNER | TableFlags::PERSIST;
        let _first = Plane::start(first, flags).unwrap();
        let line = refused(&agent);
        assert_says(&line, &["table ip daymark belongs to", "stop the other"]);
    });
}
