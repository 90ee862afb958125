//! What becomes of tracked flows when many UDP ports lose an endpoint.
//!
//! Half of the ports belong to one Service, half to a Service each. The flows are put into the kernel's table once the
//! program has loaded everything; then the first half changes by one write, and the other half by a write each.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daymark_lab::control::{ControlPlane, Relay};
use daymark_netlink::ct::{Filter, Flow, Ports};
use daymark_sys::netlink::NfSocket;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::{Value, json};

use super::super::agent::{Commits, patch_endpoints};
use super::super::conntrack::{flow, is_stale, nth, room_for};
use super::super::figure::Goal;
use super::super::ground::{Ground, Part};
use super::super::inputs::namespace;
use super::super::{api, clock};
use super::metrics::Metrics;
use super::{Both, PATIENCE, QUIET, Row, Setup, Wanted, cluster, in_turn, start};
use crate::beside::Proxy;
use crate::client::from_kubeconfig;

/// How ports change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Those of one Service, by one write.
    AtOnce,
    /// Those of a Service each, by as many writes, as fast as the API takes them.
    OneByOne,
}

/// What one change of so many ports came to.
struct Change {
    /// Of the table of one family, by the program's own count.
    walks: f64,
    /// Seconds of processor time, with that for the rules.
    processor: f64,
    /// Seconds from the answer to the last write until the last stale flow was gone.
    cleaned: f64,
}

/// What one program did in one run.
struct Run {
    changes: [Change; 2],
    /// Megabytes at its peak above what it held before.
    memory: f64,
}

pub(super) fn run(setup: &Setup<'_>) -> anyhow::Result<Vec<Row>> {
    let ports = usize::from(setup.sizes.ports);
    let objects = async {
        cluster::fill(setup.client, 0..0, 0).await?;
        stream::iter(objects(ports))
            .map(|line| cluster::create(setup.client, line))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    };
    setup.runtime.block_on(objects)?;
    let mut done: Both<Vec<Run>> = Both::default();
    for number in 0..setup.runs {
        for proxy in in_turn(number) {
            for how in How::BOTH {
                let whole = write(setup.client, how, ports, &[0, 1]);
                setup.runtime.block_on(whole)?;
            }
            done.of(proxy).push(one(proxy, setup)?);
        }
    }
    Ok(rows(setup, &done))
}

fn one(proxy: Proxy, setup: &Setup<'_>) -> anyhow::Result<Run> {
    let ground = Ground::new()?;
    let _relay = Relay::accepting(ground.listener()?, ControlPlane::address())?;
    ground.run(|| {
        api::runtime()?.block_on(async {
            let mut commits = Commits::follow()?;
            let mut part = start(proxy, setup.programs, setup.folder)?;
            let loaded = commits.last(QUIET, PATIENCE).await;
            part.still_runs()?;
            loaded.with_context(|| format!("{} committed nothing", proxy.name()))?;
            let mut table = Table::fill(setup)?;
            let client = from_kubeconfig(&setup.folder.join("admin.kubeconfig")).await?;
            part.reset_peak()?;
            let before = part.memory("VmRSS:")?;
            let mut changes = Vec::new();
            for how in How::BOTH {
                let change = change(how, &client, &part, &mut commits, &mut table).await;
                changes.push(change.with_context(|| proxy.name())?);
            }
            let memory = (part.memory("VmHWM:")? - before) / 1e6;
            part.stop()?;
            let changes = <[Change; 2]>::try_from(changes);
            let changes = changes.map_err(|_| anyhow::anyhow!("not two changes"))?;
            Ok(Run { changes, memory })
        })
    })
}

/// The flows in the kernel's table, in the network namespace of this thread.
struct Table {
    socket: NfSocket,
    ports: usize,
    /// How many stale flows each of [`How::BOTH`] makes.
    stale: [usize; 2],
}

impl Table {
    fn fill(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let ports = usize::from(setup.sizes.ports);
        let mut table = Self {
            socket: NfSocket::open()?,
            ports,
            stale: [0, 0],
        };
        for number in 0..room_for(setup.sizes.flows)? {
            let leaves = is_stale(number, 2 * ports);
            let at = number % (2 * ports);
            let how = How::BOTH[at / ports];
            let to = flow(
                number,
                how.place(at % ports),
                how.endpoint(at % ports, leaves.into()),
            );
            table.socket.add_flow(&to)?;
            table.stale[how as usize] += usize::from(leaves);
        }
        Ok(table)
    }

    /// Stale flows that are still there.
    fn left(&mut self, how: How) -> anyhow::Result<usize> {
        let gone = (0..self.ports).map(|port| SocketAddr::from(how.endpoint(port, 1)));
        let gone: HashSet<SocketAddr> = gone.collect();
        let to_gone = |flow: &Flow| match flow.reply.ports {
            Ports::Pair { src, .. } => gone.contains(&SocketAddr::new(flow.reply.src, src)),
            Ports::Icmp { .. } | Ports::None => false,
        };
        Ok(self.socket.flows_that(&Filter::default(), to_gone)?.len())
    }
}

async fn change(
    how: How,
    client: &Client,
    part: &Part,
    commits: &mut Commits,
    table: &mut Table,
) -> anyhow::Result<Change> {
    let (walks, processor) = (walks()?, part.processor_time()?);
    let aim = tracked()?.saturating_sub(table.stale[how as usize]) + OTHERS;
    write(client, how, table.ports, &[0]).await?;
    let written = clock::now();
    let cleaned = until_tracked(aim, written).await?;
    commits.last(QUIET, QUIET).await;
    let left = table.left(how)?;
    ensure!(
        left == 0,
        "{left} flows to endpoints that left are there still"
    );
    Ok(Change {
        walks: self::walks()? - walks,
        processor: part.processor_time()? - processor,
        cleaned,
    })
}

/// Seconds until no more flows than this are tracked.
async fn until_tracked(aim: usize, since: Instant) -> anyhow::Result<f64> {
    loop {
        let (tracked, took) = (tracked()?, (clock::now() - since).as_secs_f64());
        if tracked <= aim {
            return Ok(took);
        }
        let more = tracked - aim;
        ensure!(
            took < LONGEST.as_secs_f64(),
            "{more} flows to endpoints that left are there after {took:.0} s"
        );
        tokio::time::sleep(STEP).await;
    }
}

/// Flows of this network namespace.
fn tracked() -> anyhow::Result<usize> {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    Ok(count.context("nf_conntrack_count")?.trim().parse()?)
}

fn walks() -> anyhow::Result<f64> {
    let metrics = Metrics::read().context("the program's metrics")?;
    Ok(metrics.of_ipv4("kubeproxy_conntrack_reconciler_sync_duration_seconds_count"))
}

impl How {
    const BOTH: [Self; 2] = [Self::AtOnce, Self::OneByOne];

    /// Where clients send to.
    fn place(self, port: usize) -> SocketAddrV4 {
        match self {
            Self::AtOnce => SocketAddrV4::new(Ipv4Addr::new(10, 96, 200, 1), number(port)),
            Self::OneByOne => SocketAddrV4::new(nth(Ipv4Addr::new(10, 96, 208, 0), port), FIRST),
        }
    }

    /// The endpoint that stays (0), or the one that leaves (1).
    fn endpoint(self, port: usize, which: usize) -> SocketAddrV4 {
        let first = match self {
            Self::AtOnce => Ipv4Addr::new(10, 200, 0, 1),
            Self::OneByOne => nth(Ipv4Addr::new(10, 201, 0, 1), 2 * port),
        };
        SocketAddrV4::new(nth(first, which), self.place(port).port())
    }

    fn service(self, port: usize) -> String {
        match self {
            Self::AtOnce => "ports".to_owned(),
            Self::OneByOne => format!("port-{port}"),
        }
    }

    /// One port of each Service.
    fn services(self, ports: usize) -> Range<usize> {
        match self {
            Self::AtOnce => 0..1,
            Self::OneByOne => 0..ports,
        }
    }

    /// The ports of the Service that one port belongs to.
    fn ports(self, port: usize, ports: usize) -> Range<usize> {
        match self {
            Self::AtOnce => 0..ports,
            Self::OneByOne => port..port + 1,
        }
    }

    /// The endpoints of a Service, as a slice names them.
    fn endpoints(self, port: usize, which: &[usize]) -> Value {
        let endpoint = |which: &usize| {
            let address = *self.endpoint(port, *which).ip();
            json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "node-2"})
        };
        which.iter().map(endpoint).collect()
    }
}

fn number(port: usize) -> u16 {
    FIRST + u16::try_from(port).expect("ports are counted in 16 bits")
}

/// Every Service, with its slice of two endpoints.
fn objects(ports: usize) -> impl Iterator<Item = Value> {
    How::BOTH.into_iter().flat_map(move |how| {
        how.services(ports).flat_map(move |port| {
            [
                line("services", &how.service(port), service(how, port, ports)),
                line(
                    "discovery.k8s.io/endpointslices",
                    &how.service(port),
                    slice(how, port, ports),
                ),
            ]
        })
    })
}

fn line(kind: &str, name: &str, value: Value) -> Value {
    json!({"kind": kind, "namespace": namespace(0), "name": name, "value": value})
}

fn service(how: How, port: usize, ports: usize) -> Value {
    let ip = *how.place(port).ip();
    let port_of = |port: usize| {
        let number = how.place(port).port();
        json!({"name": format!("p{port}"), "protocol": "UDP", "port": number, "targetPort": number})
    };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": how.service(port), "namespace": namespace(0)},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip],
            "ports": how.ports(port, ports).map(port_of).collect::<Vec<_>>(),
        },
    })
}

fn slice(how: How, port: usize, ports: usize) -> Value {
    let name = how.service(port);
    let port_of = |port: usize| {
        let number = how.place(port).port();
        json!({"name": format!("p{port}"), "protocol": "UDP", "port": number})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": namespace(0), "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4", "endpoints": how.endpoints(port, &[0, 1]),
        "ports": how.ports(port, ports).map(port_of).collect::<Vec<_>>(),
    })
}

/// Gives every Service these of its two endpoints.
async fn write(client: &Client, how: How, ports: usize, which: &[usize]) -> anyhow::Result<()> {
    let each = how.services(ports).map(|port| {
        let endpoints = how.endpoints(port, which);
        async move { patch_endpoints(client, &namespace(0), &how.service(port), endpoints).await }
    });
    stream::iter(each)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn rows(setup: &Setup<'_>, done: &Both<Vec<Run>>) -> Vec<Row> {
    let ports = setup.sizes.ports;
    let flows = room_for(setup.sizes.flows).unwrap_or(setup.sizes.flows);
    let mut rows = Vec::new();
    for how in How::BOTH {
        let (name, what, one_walk) = match how {
            How::AtOnce => (
                "conntrack",
                format!("{flows} flows, {ports} UDP ports lose an endpoint by one write"),
                Wanted::Itself(Goal::AtMost(1.0)),
            ),
            How::OneByOne => (
                "conntrack-burst",
                format!("the same by {ports} writes as fast as the API takes them"),
                Wanted::Nothing,
            ),
        };
        let named =
            |ending: &str, words: &str| (format!("{name}-{ending}"), format!("{what}: {words}"));
        let of = move |run: &Run, value: fn(&Change) -> f64| value(&run.changes[how as usize]);
        rows.extend([
            done.row(
                named("walks", "walks of the table of a family"),
                "",
                one_walk,
                |run| of(run, |change| change.walks),
            ),
            done.row(
                named("cpu", "processor time, with that for the rules"),
                "s",
                Wanted::Nothing,
                |run| of(run, |change| change.processor),
            ),
            done.row(
                named("clean", "last write answered to last stale flow gone"),
                "s",
                Wanted::Nothing,
                |run| of(run, |change| change.cleaned),
            ),
        ]);
    }
    let memory = (
        "conntrack-memory".to_owned(),
        "memory for both, at the peak".to_owned(),
    );
    rows.push(done.row(memory, "MB", Wanted::Nothing, |run| run.memory));
    rows
}

/// The first port of the Service that has many, and the only one of the others.
const FIRST: u16 = 1000;
/// Writes under way at a time.
const AT_ONCE: usize = 16;
/// Connections that are opened meanwhile and tracked like any other: [`AT_ONCE`] for the writes, those of the program that is
/// measured, and of its metrics. Flows are forgotten by the thousand, so a few of them are no time; that none is left is
/// looked at afterwards.
const OTHERS: usize = 4 * AT_ONCE;
/// Stale flows that last longer are a failure.
const LONGEST: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(5);
