//! What the binary says when it cannot start: the flag, the reason once, and the remedy.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

/// All that the binary says on standard error when it ends by itself with this code.
fn said(code: i32, command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    said
}

fn node(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
    command.arg("node").args(args);
    command
}

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

#[test]
fn a_node_names_what_of_its_configuration_and_its_flags_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let wrong = file(
        "wrong.yaml",
        &format!("{HEAD}mode: fast\nconntrack: {{min: -1}}\n"),
    );
    let missing = folder.path().join("missing.yaml");
    let rows: [(i32, &[&str], &[&str]); 6] = [
        (
            1,
            &["--config", &wrong],
            &[
                &wrong,
                "mode: \"fast\" cannot be used: write iptables, ipvs, nftables",
                "conntrack.min: -1 cannot be used: write 0 or more",
            ],
        ),
        (
            1,
            &["--config", missing.to_str().unwrap()],
            &["cannot read the configuration", "--config"],
        ),
        (1, &["--proxy-mode=fast"], &["--proxy-mode: \"fast\""]),
        (
            2,
            &["--conntrack-min=few"],
            &["--conntrack-min: \"few\" cannot be used"],
        ),
        (
            2,
            &["--proxy-mod=iptables"],
            &["--proxy-mod", "--proxy-mode"],
        ),
        (
            1,
            &["--write-config-to", "/proc/x"],
            &["--write-config-to /proc/x"],
        ),
    ];
    for (code, args, parts) in rows {
        let said = said(code, &mut node(args));
        for part in parts {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
}

#[test]
fn a_file_is_judged_without_a_kernel_an_api_or_its_kubeconfig() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let kubeconfig = kubeconfig(folder.path());
    let judged = |body: &str, more: &[&str]| {
        let file = path("config.conf");
        std::fs::write(&file, format!("{HEAD}{body}")).unwrap();
        let config = format!("--config={}", file.display());
        let args = [&["--validate-only", "--node-name=Node-1", &config], more].concat();
        let ended = node(&args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (code, said) = (ended.status.code(), text(&ended.stderr));
        (code, text(&ended.stdout), said)
    };
    let with = |kubeconfig: &str| format!("clientConnection: {{kubeconfig: {kubeconfig}}}\n");
    let good = with(kubeconfig.to_str().unwrap());
    let body = format!("{good}mode: iptables\nclusterCIDR: 10.244.0.0/16\nnodeport: 7\n");
    let choices = [
        "--choice=unknown-ports=refuse",
        "--choice=unnamed-family=closed",
    ];
    let (code, judgement, said) = judged(&body, &choices);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{judgement}");
    for part in [
        "config.conf can be used",
        "node-1",
        "127.0.0.1, by clusters[].cluster.server of the kubeconfig",
        "credential  a client certificate",
        "kube-proxy's, of mode iptables",
        "in 10.244.0.0/16",
        "all, 127.0.0.0/8",
        "0.0.0.0:10256",
        "unknown-ports=refuse ",
        "unnamed-family=closed ",
        "unallocated=let-through ",
        "no effect: the configuration: nodeport: there is no such field",
        "Event ServedByNftables on the Node: ",
    ] {
        assert!(judgement.contains(part), "{part} is not in: {judgement}");
    }
    assert!(!judgement.contains("warning: "), "{judgement}");
    // Where the probes of the manifest do not reach.
    for (at, warned) in [
        ("192.0.2.1:10256", true),
        ("0.0.0.0:10257", true),
        ("'[::1]:10256'", true),
        ("'[::]:10256'", false),
        ("127.0.0.1:10256", false),
    ] {
        let (code, judgement, _) = judged(&format!("{good}healthzBindAddress: {at}\n"), &[]);
        assert_eq!(code, Some(0), "{judgement}");
        let said = judgement.contains("warning: healthzBindAddress: ")
            && judgement.contains("the probes of deploy/node.yaml ask 127.0.0.1:10256");
        assert_eq!(said, warned, "{at}: {judgement}");
    }
    // The kubeconfig of the nodes is not where a file is written.
    let (code, judgement, _) = judged(&with("/nowhere/kubeconfig.conf"), &[]);
    assert_eq!(code, Some(0), "{judgement}");
    assert!(
        judgement.contains("not judged: the kubeconfig /nowhere/"),
        "{judgement}"
    );
    let rows: [(&str, &[&str], &[&str]); 5] = [
        (
            "mode: fast\nconntrack: {min: -1}\n",
            &[],
            &["mode: \"fast\"", "conntrack.min: -1"],
        ),
        (
            &with(path("config.conf").to_str().unwrap()),
            &[],
            &["config.conf cannot be used"],
        ),
        (
            "",
            &[],
            &["it is not known where the API is", "--kubeconfig FILE"],
        ),
        (
            &good,
            &["--choice=unknown-ports=maybe"],
            &["--choice unknown-ports=maybe"],
        ),
        (
            &good,
            &["--announce", "--announce-lapse=3.5"],
            &["--announce-lapse: "],
        ),
    ];
    for (body, more, parts) in rows {
        let (code, judgement, said) = judged(body, more);
        assert_eq!((code, judgement.as_str()), (Some(1), ""), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
}

#[test]
fn a_kubeconfig_that_would_leave_the_agent_without_a_credential_is_refused_by_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.conf");
    let path = file.to_str().unwrap();
    let cluster = "clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]";
    let rows: [(&str, &[&str]); 4] = [
        (
            "current-context: y\ncontexts: [{name: y, context: {cluster: c, user: q}}]\nusers: []",
            &[
                "contexts[].context.user",
                "\"q\"",
                "users[] is empty",
                "add that user",
            ],
        ),
        (
            "current-context: y\ncontexts: [{name: y, context: {cluster: d}}]",
            &[
                "contexts[].context.cluster",
                "\"d\"",
                "clusters[] has \"c\"",
            ],
        ),
        (
            "contexts: [{name: y, context: {cluster: c}}]",
            &["current-context is not set", "\"y\""],
        ),
        (
            "current-context: y",
            &["current-context is \"y\"", "contexts[] is empty"],
        ),
    ];
    for (text, parts) in rows {
        std::fs::write(&file, format!("{text}\n{cluster}\n")).unwrap();
        let kubeconfig = format!("--kubeconfig={path}");
        let said = said(1, &mut node(&["--validate-only", &kubeconfig]));
        for part in [&[path, "cannot be used"], parts].concat() {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(!said.contains("--issue"), "{said}");
    }
}

/// A pipe that nobody reads.
fn nobody_reads() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn a_command_whose_reader_has_gone_ends_quietly_and_not_as_if_all_were_well() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig(folder.path()).display());
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../cases/a_node_port_answers_at_the_nodes_address.case"
    );
    let rows: [&[&str]; 4] = [
        &["node", "--validate-only", &kubeconfig],
        &["node", "--version"],
        &["case", case],
        &["case", case, "-o", "json"],
    ];
    for args in rows {
        let command = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
            command.args(args);
            command
        };
        said(0, &mut command());
        let said_to_nobody = said(141, command().stdout(nobody_reads()));
        assert_eq!(said_to_nobody, "", "{args:?}");
        let full = std::fs::File::create("/dev/full").unwrap();
        let said = said(1, command().stdout(full));
        let whole = said.starts_with("daymark: standard output cannot be written: No space left");
        assert!(whole && said.lines().count() == 1, "{args:?}: {said}");
    }
}

#[test]
fn who_reads_no_log_and_no_error_ends_nothing() {
    let mut command = node(&["--validate-only"]);
    let ended = command.stderr(nobody_reads()).status().unwrap();
    assert_eq!(ended.code(), Some(1), "it is not known where the API is");
    isolated_test("who_reads_no_log_and_no_error_ends_nothing", || {
        let mut command = node(&["--init-only"]);
        let ended = command.stderr(nobody_reads()).status().unwrap();
        assert_eq!(ended.code(), Some(0));
    });
}

#[test]
fn the_defaults_that_are_written_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("defaults.yaml");
    let file = file.to_str().unwrap();
    said(0, &mut node(&["--write-config-to", file]));
    // What needs privileges is refused to a user without; the rest of it must be good.
    isolated_test("the_defaults_that_are_written_can_be_read_again", || {
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, text.replace("maxPerCore: 32768", "maxPerCore: 0")).unwrap();
        let said = said(0, &mut node(&["--config", file, "--init-only"]));
        assert!(said.contains("what needs privileges is done"), "{said}");
        // Conntrack is loaded first: before it has no settings.
        let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
        assert!(
            at("and so conntrack") < at("set a kernel setting"),
            "{said}"
        );
        assert!(!said.contains("WARN"), "{said}");
    });
}

#[test]
fn a_limit_that_may_not_be_raised_ends_an_init_step_and_not_an_agent() {
    let test = "a_limit_that_may_not_be_raised_ends_an_init_step_and_not_an_agent";
    isolated_test(test, || {
        let most = [
            "--conntrack-max-per-core=2147483647",
            "--conntrack-min=2147483647",
        ];
        let said = said(1, &mut node(&[&most[..], &["--init-only"]].concat()));
        for part in ["some kernel settings cannot be set", "nf_conntrack_max"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        // The agent goes on, here to the API that it is not told.
        let said = agent_said(&most);
        assert!(said.contains("left as it is; a privileged"), "{said}");
        assert!(said.contains("it is not known where the API is"), "{said}");
    });
}

fn agent_said(args: &[&str]) -> String {
    said(1, &mut node(args))
}

#[test]
fn the_service_address_of_a_pods_environment_is_no_way_to_the_api() {
    let test = "the_service_address_of_a_pods_environment_is_no_way_to_the_api";
    isolated_test(test, || {
        let mut command = node(&["--node-name", "node-1"]);
        let said = said(1, command.env("KUBERNETES_PORT", "tcp://10.96.0.1:443"));
        for part in [
            "10.96.0.1",
            "--kubeconfig FILE",
            "--master https://ADDRESS:6443",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    });
}

#[test]
fn an_agent_whose_configuration_changes_ends_if_it_could_start_with_the_new_one() {
    let test = "an_agent_whose_configuration_changes_ends_if_it_could_start_with_the_new_one";
    isolated_test(test, || {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let kubeconfig = kubeconfig(folder.path());
        // As kubelet does it: the file is a link into a folder that is a link.
        let client = format!(
            "clientConnection: {{kubeconfig: {}}}\n",
            kubeconfig.display()
        );
        let versions = [
            ("1", "nftables", &client),
            ("2", "nftable", &client),
            (
                "3",
                "ipvs",
                &"clientConnection: {kubeconfig: /nowhere}\n".to_owned(),
            ),
            ("4", "iptables", &client),
        ];
        for (version, mode, client) in versions {
            std::fs::create_dir(path(version)).unwrap();
            let text = format!("{HEAD}mode: {mode}\n{client}");
            std::fs::write(path(version).join("config.conf"), text).unwrap();
        }
        let link = |to: &str| {
            std::os::unix::fs::symlink(to, path("..new")).unwrap();
            std::fs::rename(path("..new"), path("..data")).unwrap();
        };
        link("1");
        std::os::unix::fs::symlink("..data/config.conf", path("config.conf")).unwrap();
        let socket = format!("--socket={}", path("node.sock").display());
        let config = format!("--config={}", path("config.conf").display());
        let at_once = "--config-spread=0";
        let mut command = node(&[&config, &socket, "--node-name=node-1", at_once]);
        let mut agent = command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs(1));
        for version in ["2", "3"] {
            link(version);
            // Long enough to be read more than once.
            std::thread::sleep(Duration::from_secs(5));
            assert_eq!(agent.try_wait().unwrap(), None, "version {version}");
        }
        link("4");
        let output = agent.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("config.conf changed: start again to run with it"),
            "{said}"
        );
        let refused = said.lines().filter(|line| line.contains("is not used"));
        let refused: Vec<&str> = refused.collect();
        assert_eq!(refused.len(), 2, "each once: {said}");
        assert!(refused[0].contains("config.conf cannot be used"), "{said}");
        for part in ["mode: ", "nftable"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(refused[1].contains("/nowhere"), "{said}");
    });
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
        let socket = folder.path().join("node.sock");
        let agent = [
            "node",
            "--node-name",
            "node-1",
            "--kubeconfig",
            file.to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
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
