//! The agent of a node as a child process, against an API server over TLS.
//!
//! Each run has a network namespace of its own, so that no agent finds the tables of the one before. One
//! API server listens in all of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use daymark_sys::netlink::GenerationWatch;
use kube::Client;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::figure::{Goal, percentile};
use super::ground::{Folder, Ground, Part, filled, until};
use super::inputs::{self, Stored};
use super::{Figure, Measurement, Sizes, api, clock};
use crate::client::from_kubeconfig;

/// Where the agent tells how it is.
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10_256);

/// What one run came to.
struct Run {
    /// Seconds to the first commit.
    start: f64,
    /// Milliseconds from the answer to a write to its commit, at the 99th percentile and the 50th.
    changes: [f64; 2],
    /// Milliseconds from sending a write to its commit, at the 99th percentile.
    write: f64,
    /// Peak after the first commit and after the changes, what is left, and the peak of a second agent that adopts, in
    /// megabytes of 1,000,000 bytes.
    memory: [f64; 4],
    /// Seconds that the second agent takes to its first commit.
    restart: f64,
}

/// `agent-start`, `agent-memory` and `agent-change`.
pub(crate) fn run(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    Ok(figures(sizes, &measured(base, sizes, runs)?))
}

fn measured(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Run>> {
    let folder = filled(base, sizes.services, Stored::WithEndpoints(sizes.endpoints))?;
    let grounds: Vec<Ground> = (0..runs).map(|_| Ground::new()).collect::<Result<_, _>>()?;
    let mut server = Part::api(&folder, &grounds.iter().collect::<Vec<_>>())?;
    let mut done = Vec::new();
    for (number, ground) in grounds.iter().enumerate() {
        done.push(ground.run(|| {
            api::ready(&mut server, &folder)?;
            one(&folder, sizes, number)
        })?);
        std::thread::sleep(QUIET);
    }
    server.stop()?;
    Ok(done)
}

/// `agent-many`: start and memory in a very large cluster.
pub(crate) fn many(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (services, endpoints) = (sizes.many, sizes.endpoints);
    let done = measured(
        base,
        &Sizes {
            services,
            changes: 10,
            ..*sizes
        },
        runs,
    )?;
    let figure = |name: &str, what: String, unit, value: &dyn Fn(&Run) -> f64| Figure {
        of: Measurement::AgentMany,
        name: name.to_owned(),
        what,
        unit,
        runs: done.iter().map(value).collect(),
        goal: None,
    };
    Ok(vec![
        figure(
            "agent-many",
            format!("agent start to first commit over TLS, {services} Services x {endpoints}"),
            "s",
            &|run| run.start,
        ),
        figure(
            "agent-many-memory",
            "its peak (VmHWM) after start and ten changes".to_owned(),
            "MB",
            &|run| run.memory[1],
        ),
        figure(
            "agent-many-rss",
            "what it holds then (VmRSS)".to_owned(),
            "MB",
            &|run| run.memory[2],
        ),
    ])
}

/// What the kernel and the API server still do for the run before should not be part of the next.
const QUIET: Duration = Duration::from_secs(1);

fn one(folder: &Folder, sizes: &Sizes, number: usize) -> anyhow::Result<Run> {
    let kubeconfig = folder.join("node.conf").to_string_lossy().into_owned();
    let socket = folder.join("node.sock").to_string_lossy().into_owned();
    let of = ["--kubeconfig", &kubeconfig, "--socket", &socket];
    let args = [&["node", "--node-name", "node-1"][..], &of].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let started = clock::now();
    let mut agent = Part::start(&args, Vec::new())?;
    until(&mut agent, "the agent's first commit", is_healthy)?;
    let start = (clock::now() - started).as_secs_f64();
    let peak_at_start = agent.memory("VmHWM:")?;
    let mut changes = Changes::default();
    api::runtime()?.block_on(async {
        let client = from_kubeconfig(&folder.join("admin.conf")).await?;
        changes.make(&client, sizes, number).await
    })?;
    let first = [agent.memory("VmHWM:")?, agent.memory("VmRSS:")?];
    agent.stop()?;
    let started = clock::now();
    let mut next = Part::start(&args, Vec::new())?;
    until(&mut next, "the next agent's first commit", is_healthy)?;
    let restart = (clock::now() - started).as_secs_f64();
    let memory = [peak_at_start, first[0], first[1], next.memory("VmHWM:")?];
    next.stop()?;
    Ok(Run {
        start,
        changes: [
            percentile(&mut changes.after_answer, 99),
            percentile(&mut changes.after_answer, 50),
        ],
        write: percentile(&mut changes.after_request, 99),
        memory: memory.map(|bytes| bytes / 1e6),
        restart,
    })
}

/// Whether `/healthz` says that the kernel holds the first state.
fn is_healthy() -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(HEALTH)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// How long changes took to reach the kernel, in milliseconds.
#[derive(Default)]
struct Changes {
    after_answer: Vec<f64>,
    after_request: Vec<f64>,
}

impl Changes {
    /// Replaces one endpoint after the other, each of another Service, each when the one before is in the kernel.
    async fn make(&mut self, client: &Client, sizes: &Sizes, run: usize) -> anyhow::Result<()> {
        let mut commits = Commits::follow()?;
        for change in 0..sizes.changes {
            let replaced = run * sizes.changes + change + 1;
            let service = replaced * 7919 % sizes.services;
            let requested = clock::now();
            let written = async {
                write(client, service, sizes.endpoints, replaced).await?;
                Ok(clock::now())
            };
            let (answered, committed) = tokio::try_join!(written, commits.next())?;
            let milliseconds =
                |since: Instant| committed.saturating_duration_since(since).as_secs_f64() * 1000.0;
            self.after_answer.push(milliseconds(answered));
            self.after_request.push(milliseconds(requested));
            // The commits of one update arrive together; the next change is another update.
            tokio::time::sleep(PAUSE).await;
            commits.forget();
        }
        Ok(())
    }
}

/// Between two changes: those that come faster than fifty a second wait for each other (`daymark_feed`), and this is the way of one.
const PAUSE: Duration = Duration::from_millis(25);
/// A change that takes longer is a failure.
const LONGEST: Duration = Duration::from_secs(5);

pub(super) async fn write(
    client: &Client,
    service: usize,
    endpoints: usize,
    replaced: usize,
) -> anyhow::Result<()> {
    let endpoints = inputs::endpoints_json(service, endpoints, replaced);
    let (namespace, slice) = (inputs::namespace(service), inputs::slice_name(service));
    patch_endpoints(client, &namespace, &slice, endpoints).await
}

/// Gives an EndpointSlice these endpoints.
pub(super) async fn patch_endpoints(
    client: &Client,
    namespace: &str,
    slice: &str,
    endpoints: Value,
) -> anyhow::Result<()> {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{slice}");
    let body = json!({ "endpoints": endpoints });
    let request = http::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&body)?)?;
    let _changed: Value = client.request(request).await?;
    Ok(())
}

/// Commits to nf_tables in the network namespace of this thread, as the kernel announces them.
pub(super) struct Commits(mpsc::UnboundedReceiver<Instant>);

impl Commits {
    pub(super) fn follow() -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let watch = GenerationWatch::open()?;
        std::thread::Builder::new().spawn(move || tell(watch, &sender))?;
        Ok(Self(receiver))
    }

    /// When the next update is in the kernel: at its first commit, which publishes; the others only clear away.
    pub(super) async fn next(&mut self) -> anyhow::Result<Instant> {
        let next = tokio::time::timeout(LONGEST, self.0.recv()).await;
        let within = || format!("no commit of a change within {} s", LONGEST.as_secs());
        next.with_context(within)?
            .context("the kernel's announcements ended")
    }

    /// When the last commit was, once there was none for `quiet`; `None` if there was none at all.
    pub(super) async fn last(&mut self, quiet: Duration, patience: Duration) -> Option<Instant> {
        let mut last = None;
        let mut wait = patience;
        while let Ok(Some(at)) = tokio::time::timeout(wait, self.0.recv()).await {
            last = Some(at);
            wait = quiet;
        }
        last
    }

    pub(super) fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }
}

/// Tells when each commit was announced, until nobody listens.
fn tell(mut watch: GenerationWatch, sender: &mpsc::UnboundedSender<Instant>) {
    let look = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    while !sender.is_closed() {
        let mut events = [PollFd::new(&watch, PollFlags::IN)];
        let ready = poll(&mut events, Some(&look));
        let at = clock::now();
        match ready {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        while let Ok(Some(_)) = watch.read() {
            if sender.send(at).is_err() {
                return;
            }
        }
    }
}

fn figures(sizes: &Sizes, runs: &[Run]) -> Vec<Figure> {
    let (services, endpoints) = (sizes.services, sizes.endpoints);
    let figure = |of, name: &str, what: String, unit, value: &dyn Fn(&Run) -> f64, goal| Figure {
        of,
        name: name.to_owned(),
        what,
        unit,
        runs: runs.iter().map(value).collect(),
        goal,
    };
    let (start, memory, change) = (
        Measurement::AgentStart,
        Measurement::AgentMemory,
        Measurement::AgentChange,
    );
    vec![
        figure(
            start,
            "agent-start",
            format!("agent start to first commit over TLS, {services} Services x {endpoints}"),
            "s",
            &|run| run.start,
            Some(Goal::AtMost(1.5)),
        ),
        figure(
            memory,
            "agent-memory",
            format!(
                "agent's peak (VmHWM) after start and {} changes",
                sizes.changes
            ),
            "MB",
            &|run| run.memory[1],
            Some(Goal::AtMost(80.0)),
        ),
        figure(
            memory,
            "agent-memory-start",
            "its peak at the first commit".to_owned(),
            "MB",
            &|run| run.memory[0],
            None,
        ),
        figure(
            memory,
            "agent-memory-rss",
            "what it holds in the end (VmRSS)".to_owned(),
            "MB",
            &|run| run.memory[2],
            None,
        ),
        figure(
            memory,
            "agent-memory-restart",
            "the peak of an agent that adopts the tables of one before".to_owned(),
            "MB",
            &|run| run.memory[3],
            None,
        ),
        figure(
            start,
            "agent-restart",
            "such an agent's start to its first commit".to_owned(),
            "s",
            &|run| run.restart,
            None,
        ),
        figure(
            change,
            "agent-change",
            "endpoint change: write answered, watch event sent, to kernel commit, p99".to_owned(),
            "ms",
            &|run| run.changes[0],
            Some(Goal::AtMost(5.0)),
        ),
        figure(
            change,
            "agent-change-p50",
            "the same, p50".to_owned(),
            "ms",
            &|run| run.changes[1],
            None,
        ),
        figure(
            change,
            "agent-change-write",
            "the same from sending the write, with its fsync: an upper bound, p99".to_owned(),
            "ms",
            &|run| run.write,
            None,
        ),
    ]
}
