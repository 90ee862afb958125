//! A Pod's containers: started, watched, started again.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use tokio::task::AbortHandle;

use super::reporter::Then;
use super::{Event, SANDBOX_RETRY, Stage, Worker, names};
use crate::clock;
use crate::kubelet::container::{self, Handle, Launch, Process};
use crate::kubelet::environment::{Facts, environment, expand};
use crate::kubelet::plan::{Container, Program, Refusal, Restart, Role};
use crate::kubelet::probe::{self, Verdict};
use crate::kubelet::status::{ContainerView, Ended, State};

/// A container and its process.
pub(super) struct Live {
    pub(super) view: ContainerView,
    pub(super) plan: Option<Container>,
    pub(super) handle: Option<Handle>,
    pub(super) started: Timestamp,
    pub(super) run: u32,
    pub(super) tasks: Vec<AbortHandle>,
}

impl Worker {
    /// Starts a container, and the tasks that watch it.
    pub(super) fn start(&mut self, index: usize) {
        let launched = self.launch(index);
        let live = &mut self.containers[index];
        live.run += 1;
        live.started = clock::now();
        match launched {
            Ok(Process { child, handle }) => {
                live.view.state = State::Running {
                    since: live.started,
                    pid: handle.pid,
                };
                live.view.ready = live
                    .plan
                    .as_ref()
                    .is_some_and(|plan| plan.readiness.is_none());
                let mounts = handle.mounts();
                live.handle = Some(handle);
                self.await_end(index, child);
                self.await_readiness(index, mounts);
            }
            Err(refusal) => {
                live.view.state = State::Waiting(refusal);
                let events = self.events.0.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(SANDBOX_RETRY).await;
                    let _ = events.send(Event::Restart { index });
                });
            }
        }
    }

    fn launch(&self, index: usize) -> Result<Process, Refusal> {
        let failed = |message: String| Refusal {
            reason: "CreateContainerError",
            message,
        };
        let (Some(plan), Some(sandbox)) = (&self.containers[index].plan, &self.sandbox) else {
            return Err(failed("the Pod has no sandbox".to_owned()));
        };
        let config = &self.kubelet.config;
        let facts = Facts {
            pod: &self.pod,
            node: &config.node,
            node_addresses: &self.kubelet.node_addresses,
            addresses: &sandbox.addresses,
        };
        let env = environment(&plan.env, facts)?;
        let binary = config.binary.to_string_lossy().into_owned();
        let command = match &plan.program {
            Program::Command(words) => {
                let mut words: Vec<String> = words.iter().map(|word| expand(word, &env)).collect();
                if words[0] == "daymark" {
                    words[0] = binary;
                }
                words
            }
            Program::Echo { ports } => {
                let ports = ports
                    .iter()
                    .flat_map(|port| ["--port".to_owned(), port.to_string()]);
                [binary, "echo".to_owned()]
                    .into_iter()
                    .chain(ports)
                    .collect()
            }
        };
        let (namespace, name) = names(&self.pod);
        let log = config
            .state
            .join("logs")
            .join(format!("{namespace}_{name}_{}.log", plan.name));
        let launch = Launch {
            command: &command,
            env: &env,
            directory: plan.directory.as_deref(),
            log: &log,
        };
        container::start(&sandbox.shared, &launch).map_err(|error| {
            failed(format!(
                "{}: {error}; is it installed on this machine?",
                command[0]
            ))
        })
    }

    fn await_end(&mut self, index: usize, mut child: tokio::process::Child) {
        let (run, events) = (self.containers[index].run, self.events.0.clone());
        tokio::task::spawn_local(async move {
            let status = child.wait().await.unwrap_or_default();
            let _ = events.send(Event::Ended { index, run, status });
        });
    }

    fn await_readiness(&mut self, index: usize, mounts: PathBuf) {
        let Some(sandbox) = &self.sandbox else { return };
        let spaces = sandbox.spaces(mounts);
        let key = names(&self.pod);
        self.kubelet
            .spaces
            .borrow_mut()
            .insert((key.0.to_owned(), key.1.to_owned()), spaces.clone());
        let live = &mut self.containers[index];
        let Some(probe) = live.plan.as_ref().and_then(|plan| plan.readiness.clone()) else {
            return;
        };
        let Some(address) = sandbox.addresses.first().copied() else {
            return;
        };
        let (run, events) = (live.run, self.events.0.clone());
        let task = tokio::task::spawn_local(async move {
            tokio::time::sleep(probe.initial_delay).await;
            let (mut verdict, mut was_ready) = (Verdict::new(), false);
            loop {
                let attempt = probe::attempt(&probe, address, &spaces).await;
                if let Some(ready) = verdict.record(attempt, &probe) {
                    was_ready = true;
                    let _ = events.send(Event::Readiness { index, run, ready });
                }
                tokio::time::sleep(verdict.pause(&probe, was_ready)).await;
            }
        });
        live.tasks.push(task.abort_handle());
    }

    /// What follows the end of a container's process: another start, or the container's end.
    pub(super) fn ended(&mut self, index: usize, status: ExitStatus) {
        let live = &mut self.containers[index];
        live.tasks.drain(..).for_each(|task| task.abort());
        let Some(handle) = live.handle.take() else {
            return;
        };
        handle.kill_group();
        let ended = ended(status, live.started, handle.pid);
        live.view.ready = false;
        let again = self.stage == Stage::Running
            && match self.restart {
                _ if live.view.role == Role::Sidecar => true,
                Restart::Always => true,
                Restart::OnFailure => ended.code != 0,
                Restart::Never => false,
            };
        if again {
            let pause = pause(live.view.restarts);
            live.view.last = Some(ended);
            live.view.state = State::Waiting(Refusal {
                reason: "CrashLoopBackOff",
                message: format!("restarting in {} ms", pause.as_millis()),
            });
            let events = self.events.0.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(pause).await;
                let _ = events.send(Event::Restart { index });
            });
        } else {
            live.view.state = State::Ended(ended);
        }
        // The last report of a Pod that is being deleted is sent with the deletion.
        if self.stage == Stage::Running || self.containers.iter().any(|live| live.handle.is_some())
        {
            self.report(Then::Keep);
        }
    }
}

impl Live {
    pub(super) fn new(plan: &Container, waiting: Refusal) -> Self {
        let view = ContainerView {
            name: plan.name.clone(),
            role: plan.role,
            image: plan.image.clone(),
            state: State::Waiting(waiting),
            ready: false,
            restarts: 0,
            last: None,
        };
        Self {
            view,
            plan: Some(plan.clone()),
            handle: None,
            started: clock::now(),
            run: 0,
            tasks: Vec::new(),
        }
    }

    pub(super) fn refused(container: &core::Container, refusal: &Refusal) -> Self {
        let view = ContainerView {
            name: container.name.clone(),
            role: Role::Main,
            image: container.image.clone().unwrap_or_default(),
            state: State::Waiting(refusal.clone()),
            ready: false,
            restarts: 0,
            last: None,
        };
        Self {
            view,
            plan: None,
            handle: None,
            started: clock::now(),
            run: 0,
            tasks: vec![],
        }
    }
}

fn ended(status: ExitStatus, started: Timestamp, pid: u32) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal();
    let code = status
        .code()
        .or_else(|| signal.map(|signal| 128 + signal))
        .unwrap_or(-1);
    Ended {
        code,
        signal,
        started,
        finished: clock::now(),
        pid,
    }
}

/// Before a restart: a tenth of a second, doubled each time, at most ten seconds (a kubelet's hundredth).
fn pause(restarts: i32) -> Duration {
    let doublings = u32::try_from(restarts).unwrap_or(0).min(7);
    (Duration::from_millis(100) * 2_u32.pow(doublings)).min(Duration::from_secs(10))
}
