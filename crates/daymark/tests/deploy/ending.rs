//! Parts that are asked to end as kubelet asks them: by SIGTERM, as the first process of a container, which the kernel spares every signal
//! that it does not listen for. While a part starts it ends at once, whatever it waits for; an agent that serves gives up its
//! load-balancer addresses first, however it comes to end.

use std::io::ErrorKind;
use std::path::Path;

use k8s_openapi::api::coordination::v1::Lease;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use daymark_node::ask::server::vacancy;

use super::*;

/// The binary as the first process of a PID namespace.
struct First {
    unshare: Program,
    pid: Pid,
}

impl First {
    /// Waits until it listens for SIGTERM, so that the signal finds it in the midst of what follows.
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child"])
            .arg(env!("CARGO_BIN_EXE_daymark"))
            .args(args);
        let unshare = Program::run(&mut command);
        let parent = unshare.child.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let found = until(|| {
            let text = std::fs::read_to_string(&children).ok()?;
            let pid: i32 = text.trim().parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            listens(&status).then_some(pid)
        });
        let pid = found.unwrap_or_else(|| panic!("it does not listen:\n{}", unshare.said()));
        Self {
            pid: Pid::from_raw(pid).unwrap(),
            unshare,
        }
    }

    /// Its exit code, which `unshare` hands on; it has two seconds.
    fn end(mut self) -> Option<i32> {
        kill_process(self.pid, Signal::TERM).unwrap();
        let ended = until(|| self.unshare.child.try_wait().unwrap());
        let ended = ended.unwrap_or_else(|| panic!("it goes on:\n{}", self.unshare.said()));
        ended.code()
    }
}

/// Whether a process that was started from here catches SIGTERM: before its exec it does not.
fn listens(status: &str) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (Signal::TERM.as_raw() - 1)) != 0)
}

/// Looks for two seconds.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..100).find_map(|_| {
        let found = look();
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        found
    })
}

/// A file that never has anything to read, and whoever waits for it: the result is there once somebody does.
fn fifo(path: &Path) -> impl FnOnce() -> std::fs::File + use<> {
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let path = path.to_owned();
    move || {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        let opened = until(|| rustix::fs::open(&path, flags, Mode::empty()).ok());
        opened.expect("nobody reads it").into()
    }
}

#[test]
fn the_first_process_of_a_container_ends_at_once_while_it_starts() {
    isolated_test(
        "ending::the_first_process_of_a_container_ends_at_once_while_it_starts",
        || {
            match Command::new("unshare").arg("--version").output() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let why = "there is no unshare (util-linux) here";
                    let _ = writeln!(std::io::stderr(), "test ending ... SKIPPED: {why}");
                    return;
                }
                other => drop(other.unwrap()),
            }
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let socket = path("node.sock");
            let socket = format!("--socket={}", socket.display());
            let silent = path("silent");
            let silent_flag = |flag: &str| format!("{flag}={}", silent.display());
            // A configuration, and a kubeconfig, on a file system that does not answer.
            let hang = fifo(&silent);
            let agent = First::start(&["node", &silent_flag("--config"), &socket]);
            let writer = hang();
            assert_eq!(agent.end(), Some(0));
            drop(writer);
            let args = ["node", &silent_flag("--config"), "--init-only"];
            let init = First::start(&args);
            assert_eq!(init.end(), Some(128 + 15), "what it was to do is not done");
            for verb in ["node", "controller"] {
                let part = First::start(&[verb, &silent_flag("--kubeconfig")]);
                assert_eq!(part.end(), Some(0), "{verb}");
            }
            // The place of an agent, while a cleanup has it.
            let held = vacancy(&path("node.sock")).unwrap();
            let master = "--master=https://192.0.2.1:6443";
            let agent = First::start(&["node", master, "--node-name=node-1", &socket]);
            let said = until(|| {
                agent
                    .unshare
                    .said()
                    .contains("daymark cleanup works")
                    .then_some(())
            });
            assert!(said.is_some(), "{}", agent.unshare.said());
            assert_eq!(agent.end(), Some(0));
            drop(held);
            // And an API that is not there.
            let agent = First::start(&["node", master, "--node-name=node-1", &socket]);
            assert_eq!(agent.end(), Some(0));
            let cleanup = [
                "cleanup",
                "--daymark",
                "--once-healthy=127.0.0.1:9",
                &socket,
            ];
            let cleanup = First::start(&cleanup);
            assert_eq!(cleanup.end(), Some(128 + 15));
        },
    );
}

#[test]
fn an_agent_whose_configuration_changed_gives_its_addresses_up_before_it_ends() {
    isolated_test(
        "ending::an_agent_whose_configuration_changed_gives_its_addresses_up_before_it_ends",
        || {
            run(async {
                let objects = all();
                let ground = Ground::new(grants(&objects)).await;
                ground.node().await;
                for namespace in ["metallb-system", "daymark-announcers"] {
                    ground.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
                }
                let kubeconfig = ground.kubeconfig(ANNOUNCER);
                let config = config_file(&objects, ground.folder.path(), &kubeconfig);
                let container = &pod_of(&objects, "daymark-announcer")["containers"][0];
                let args = arguments(container, &config);
                let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
                args.push("--config-spread=0");
                let mut agent = Program::start(&args);
                ground.lease(&agent, "daymark-announcers").await;
                let text = std::fs::read_to_string(&config).unwrap();
                agent.counts("daymark_configuration_refused 0").await;
                std::fs::write(&config, format!("{text}conntrack: {{min: -1}}\n")).unwrap();
                agent.counts("daymark_configuration_refused 1").await;
                std::fs::write(&config, format!("{text}configSyncPeriod: 1m\n")).unwrap();
                for _ in 0..200 {
                    if agent.child.try_wait().unwrap().is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let ended = agent.child.try_wait().unwrap();
                let ended = ended.unwrap_or_else(|| panic!("it goes on:\n{}", agent.said()));
                assert_eq!(ended.code(), Some(1), "{}", agent.said());
                agent.says("changed: start again to run with it").await;
                let leases: Api<Lease> =
                    Api::namespaced(ground.client.clone(), "daymark-announcers");
                let left = leases.list(&ListParams::default()).await.unwrap().items;
                assert!(left.is_empty(), "{left:?}\n{}", agent.said());
            });
        },
    );
}
