//! One Pod's life: sandbox, containers, restarts, probes, and a graceful end.
//!
//! A worker owns its Pod's processes and decides; it never waits for the API. What it has to say goes to a
//! [`Reporter`], which sends the newest status and drops older ones.

mod containers;
mod reporter;
mod sandbox;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Config;
use super::address::Addresses;
use super::api::Session;
use super::container::{self, Spaces};
use super::plan::{self, BeforeStop, Plan, Refusal, Restart};
use super::status::{self, ContainerView, State, View};
use crate::clock;
use crate::net::Host;
use containers::Live;
use reporter::{Reporter, Then};
use sandbox::PodSandbox;

/// What the workers of a node share.
pub(super) struct Kubelet {
    pub(super) config: Config,
    pub(super) session: Session,
    node_addresses: Vec<IpAddr>,
    host: Arc<Mutex<Host>>,
    addresses: RefCell<Addresses>,
    next_link: Cell<u32>,
    spaces: RefCell<BTreeMap<(String, String), Spaces>>,
}

impl Kubelet {
    pub(super) fn new(config: Config, host: Host, session: Session) -> Self {
        // Links of a kubelet that was killed vanish some time after it: a new one numbers apart from them.
        let first_link = (std::process::id() % 8192) * 2048 + 1;
        Self {
            addresses: RefCell::new(Addresses::new(&config.pod_cidrs)),
            node_addresses: config
                .addresses
                .iter()
                .map(|prefix| prefix.address)
                .collect(),
            host: Arc::new(Mutex::new(host)),
            next_link: Cell::new(first_link),
            spaces: RefCell::default(),
            session,
            config,
        }
    }

    /// The namespaces of a running Pod.
    pub(super) fn spaces(&self, namespace: &str, name: &str) -> Option<Spaces> {
        self.spaces
            .borrow()
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }
}

/// What a worker is told from outside.
pub(super) enum Update {
    /// The object changed.
    Changed(Box<Pod>),
    /// The object is no more.
    Gone,
}

/// What a worker is told by its own tasks. `run` tells a container's incarnations apart.
enum Event {
    Ended {
        index: usize,
        run: u32,
        status: ExitStatus,
    },
    Readiness {
        index: usize,
        run: u32,
        ready: bool,
    },
    Restart {
        index: usize,
    },
    /// The handler before SIGTERM has finished.
    Stop {
        index: usize,
        run: u32,
    },
}

/// Runs one Pod.
pub(super) struct Worker {
    kubelet: Rc<Kubelet>,
    pod: Pod,
    inbox: mpsc::UnboundedReceiver<Update>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    restart: Restart,
    containers: Vec<Live>,
    sandbox: Option<PodSandbox>,
    reporter: Reporter,
    seen: Timestamp,
    stage: Stage,
}

/// How far a Pod's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// SIGTERM is under way; SIGKILL follows at the deadline.
    Ending {
        deadline: Instant,
    },
    /// SIGKILL was sent: only the processes' end is awaited.
    Killed,
}

/// Why a worker's loop ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The Pod's processes have ended as its deletion asked.
    Deleted,
    /// The object is gone already.
    Gone,
}

impl Worker {
    pub(super) fn new(
        kubelet: Rc<Kubelet>,
        pod: Pod,
        inbox: mpsc::UnboundedReceiver<Update>,
    ) -> Self {
        let reporter = Reporter::start(&kubelet, &pod);
        let seen = clock::now();
        Self {
            kubelet,
            pod,
            inbox,
            events: mpsc::unbounded_channel(),
            restart: Restart::Always,
            containers: Vec::new(),
            sandbox: None,
            reporter,
            seen,
            stage: Stage::Running,
        }
    }

    /// The whole life.
    pub(super) async fn run(mut self) {
        let outcome = self.live().await;
        if let Some(sandbox) = self.sandbox.take() {
            self.forget();
            sandbox.remove(&self.kubelet).await;
        }
        if outcome == Outcome::Deleted {
            self.report(Then::Delete);
            // A finalizer may hold the object for long; until it is gone nobody else may start it.
            while !matches!(self.inbox.recv().await, Some(Update::Gone) | None) {}
        }
    }

    async fn live(&mut self) -> Outcome {
        if let Some(outcome) = self.nothing_to_run().await {
            return outcome;
        }
        match plan::plan(&self.pod) {
            Ok(plan) => match self.prepare(&plan).await {
                Ok(()) => self.start_all(&plan),
                Err(outcome) => return outcome,
            },
            Err(refusal) => self.refuse(&refusal),
        }
        self.attend().await
    }

    /// A Pod that has ended, or is being deleted, when this kubelet first sees it.
    async fn nothing_to_run(&mut self) -> Option<Outcome> {
        let phase = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let ended = matches!(phase, Some("Succeeded" | "Failed"));
        if !ended && self.pod.metadata.deletion_timestamp.is_none() {
            return None;
        }
        while self.pod.metadata.deletion_timestamp.is_none() {
            match self.inbox.recv().await {
                Some(Update::Changed(pod)) => self.pod = *pod,
                Some(Update::Gone) | None => return Some(Outcome::Gone),
            }
        }
        Some(Outcome::Deleted)
    }

    /// Makes the sandbox, however often it takes.
    async fn prepare(&mut self, plan: &Plan) -> Result<(), Outcome> {
        self.restart = plan.restart;
        self.containers = plan
            .containers
            .iter()
            .map(|container| Live::new(container, creating("")))
            .collect();
        loop {
            match PodSandbox::make(&self.kubelet, &self.pod, plan.network).await {
                Ok(sandbox) => {
                    self.sandbox = Some(sandbox);
                    return Ok(());
                }
                Err(message) => {
                    for live in &mut self.containers {
                        live.view.state = State::Waiting(creating(&message));
                    }
                    self.report(Then::Keep);
                }
            }
            let retry = tokio::time::timeout(SANDBOX_RETRY, self.inbox.recv());
            match retry.await {
                Ok(Some(Update::Gone) | None) => return Err(Outcome::Gone),
                Ok(Some(Update::Changed(pod))) => self.pod = *pod,
                Err(_elapsed) => {}
            }
            if self.pod.metadata.deletion_timestamp.is_some() {
                return Err(Outcome::Deleted);
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        self.containers = containers
            .map(|container| Live::refused(container, refusal))
            .collect();
        self.report(Then::Keep);
    }

    fn start_all(&mut self, plan: &Plan) {
        for index in 0..plan.containers.len() {
            self.start(index);
        }
        self.report(Then::Keep);
    }

    /// Follows the Pod until its end.
    async fn attend(&mut self) -> Outcome {
        loop {
            let deadline = match self.stage {
                Stage::Ending { deadline } => Some(deadline),
                Stage::Running | Stage::Killed => None,
            };
            tokio::select! {
                update = self.inbox.recv() => match update {
                    Some(Update::Changed(pod)) => self.changed(*pod),
                    Some(Update::Gone) | None => {
                        self.kill();
                        self.all_ended().await;
                        return Outcome::Gone;
                    }
                },
                event = self.events.1.recv() => if let Some(event) = event { self.happened(event) },
                () = wait_until(deadline) => self.kill(),
            }
            if self.stage != Stage::Running
                && self.containers.iter().all(|live| live.handle.is_none())
            {
                return Outcome::Deleted;
            }
        }
    }

    async fn all_ended(&mut self) {
        while self.containers.iter().any(|live| live.handle.is_some()) {
            match self.events.1.recv().await {
                Some(event) => self.happened(event),
                None => return,
            }
        }
    }

    fn changed(&mut self, pod: Pod) {
        self.pod = pod;
        if self.pod.metadata.deletion_timestamp.is_some() {
            self.end();
        }
        if self
            .reporter
            .reported()
            .is_some_and(|reported| status::differs(&self.pod, &reported))
        {
            self.report(Then::Keep);
        }
    }

    /// Begins the graceful end, or shortens it.
    fn end(&mut self) {
        let grace = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let deadline = clock::instant() + Duration::from_secs(grace.unwrap_or(30));
        match self.stage {
            Stage::Running => {
                self.stage = Stage::Ending { deadline };
                for index in 0..self.containers.len() {
                    self.stop(index);
                }
            }
            Stage::Ending { deadline: before } => {
                self.stage = Stage::Ending {
                    deadline: before.min(deadline),
                }
            }
            Stage::Killed => {}
        }
    }

    /// The handler before SIGTERM, then SIGTERM.
    fn stop(&self, index: usize) {
        let live = &self.containers[index];
        let Some(handle) = &live.handle else { return };
        let Some(before) = live.plan.as_ref().and_then(|plan| plan.before_stop.clone()) else {
            handle.terminate();
            return;
        };
        let (run, events) = (live.run, self.events.0.clone());
        let spaces = self
            .sandbox
            .as_ref()
            .map(|sandbox| sandbox.spaces(handle.mounts()));
        tokio::task::spawn_local(async move {
            match (before, spaces) {
                (BeforeStop::Sleep(duration), _) => tokio::time::sleep(duration).await,
                (BeforeStop::Exec(command), Some(spaces)) => {
                    if let Err(error) = container::execute(&command, &spaces).await {
                        tracing::warn!(%error, "preStop");
                    }
                }
                (BeforeStop::Exec(_), None) => {}
            }
            // The worker may be gone with its Pod.
            let _ = events.send(Event::Stop { index, run });
        });
    }

    fn kill(&mut self) {
        self.stage = Stage::Killed;
        for handle in self
            .containers
            .iter()
            .filter_map(|live| live.handle.as_ref())
        {
            handle.kill();
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Ended { index, run, status } if self.containers[index].run == run => {
                self.ended(index, status)
            }
            Event::Readiness { index, run, ready } if self.containers[index].run == run => {
                let (namespace, name) = names(&self.pod);
                tracing::info!(pod = %format!("{namespace}/{name}"), ready, "the probe's verdict");
                self.containers[index].view.ready = ready;
                self.report(Then::Keep);
            }
            Event::Stop { index, run } if self.containers[index].run == run => {
                if let Some(handle) = &self.containers[index].handle {
                    handle.terminate();
                }
            }
            Event::Restart { index } if self.stage == Stage::Running => {
                self.containers[index].view.restarts += 1;
                self.start(index);
                self.report(Then::Keep);
            }
            // Of a container's earlier incarnation, or too late.
            _ => {}
        }
    }

    fn report(&mut self, then: Then) {
        let views: Vec<ContainerView> = self
            .containers
            .iter()
            .map(|live| live.view.clone())
            .collect();
        let addresses = self
            .sandbox
            .as_ref()
            .map(|sandbox| sandbox.addresses.clone())
            .unwrap_or_default();
        let view = View {
            pod: &self.pod,
            containers: &views,
            restart: if self.stage == Stage::Running {
                self.restart
            } else {
                Restart::Never
            },
            addresses: &addresses,
            node_addresses: &self.kubelet.node_addresses,
            seen: self.seen,
        };
        self.reporter
            .report(status::status(view, clock::now()), then);
    }

    fn forget(&self) {
        let (namespace, name) = names(&self.pod);
        self.kubelet
            .spaces
            .borrow_mut()
            .remove(&(namespace.to_owned(), name.to_owned()));
    }
}

fn creating(message: &str) -> Refusal {
    Refusal {
        reason: "ContainerCreating",
        message: message.to_owned(),
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Namespace and name.
fn names(pod: &Pod) -> (&str, &str) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    (namespace, pod.metadata.name.as_deref().unwrap_or_default())
}

const SANDBOX_RETRY: Duration = Duration::from_secs(1);
