//! Connections through a ClusterIP: how many a second, and how long one takes to open.
//!
//! ```text
//!   client Pod --> node-1 (the proxy's rules) --> server Pod, one of two
//! ```
//!
//! Both programs run, each on a node of a lab of its own. Once both are at rest their clients open connections in turn,
//! half a second each, neither always first: what else the machine does meanwhile is shared. A run's rate is the median
//! of its turns. A connection that waits for a SYN to be sent again is counted, and costs one turn.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_lab::bare::{BareLab, Place};
use daymark_lab::control::{ControlPlane, Relay};
use kube::Client;
use serde_json::json;

use super::super::clock;
use super::super::figure::{Goal, median, percentile};
use super::super::ground::{API, Part};
use super::super::pods::{address, pod, spec};
use super::super::server::Server;
use super::cluster::{self, create};
use super::{Both, Row, Setup, Wanted, in_turn, start};
use crate::beside::Proxy;

/// What one program came to in one run.
struct Run {
    /// Connections a second.
    rate: f64,
    /// The 99th percentile of connect(2), in microseconds.
    latency: f64,
    /// Connections that took longer than any packet needs.
    waits: f64,
}

/// Measures beside each number of other Services, and hands out rows.
pub(super) fn run(setup: &Setup<'_>, take: &mut impl FnMut(Vec<Row>)) -> anyhow::Result<()> {
    setup.runtime.block_on(async {
        // The namespaces and the node, even beside no other Service.
        cluster::fill(setup.client, 0..0, 0).await?;
        target(setup.client).await
    })?;
    let mut done = Vec::new();
    for others in setup.sizes.others {
        let filled = cluster::fill(setup.client, 0..others, 1);
        setup.runtime.block_on(filled)?;
        let mut runs: Both<Vec<Run>> = Both::default();
        for _ in 0..setup.runs {
            one(setup, &mut runs)?;
        }
        take(rows(others + 1, &runs));
        done.push(runs);
    }
    if let [few, many] = done.as_slice() {
        let [_, others] = setup.sizes.others;
        take(flat(others + 1, few, many));
    }
    Ok(())
}

/// One run: both programs are started, and their clients have their turns.
fn one(setup: &Setup<'_>, runs: &mut Both<Vec<Run>>) -> anyhow::Result<()> {
    let mut sites = Both {
        kube: Site::start(Proxy::Kube, setup)?,
        daymark: Site::start(Proxy::Daymark, setup)?,
    };
    // Both programs have more to do after their first commit, on the cores that are measured.
    std::thread::sleep(SETTLE);
    let mut turns: Both<Vec<Vec<f64>>> = Both::default();
    for turn in 0..setup.sizes.turns {
        for proxy in in_turn(turn) {
            let times = sites.of(proxy).open(setup.sizes.turn)?;
            turns.of(proxy).push(times);
        }
    }
    let turn = setup.sizes.turn;
    runs.kube.push(Run::of(&turns.kube, turn));
    runs.daymark.push(Run::of(&turns.daymark, turn));
    sites.kube.part.stop()?;
    sites.daymark.part.stop()
}

impl Run {
    fn of(turns: &[Vec<f64>], turn: Duration) -> Self {
        let rates = turns
            .iter()
            .map(|times| times.len() as f64 / turn.as_secs_f64());
        let mut all = turns.concat();
        let waits = all.iter().filter(|time| **time > RETRANSMITTED);
        Self {
            rate: median(&rates.collect::<Vec<_>>()),
            waits: waits.count() as f64,
            latency: percentile(&mut all, 99),
        }
    }
}

/// A lab with one program on its node, a client and servers.
struct Site {
    // In this order: who uses the lab ends before it.
    part: Part,
    _servers: Vec<Server>,
    _relay: Relay,
    lab: BareLab,
}

impl Site {
    /// Starts everything, and waits until the program serves.
    fn start(proxy: Proxy, setup: &Setup<'_>) -> anyhow::Result<Self> {
        let lab = BareLab::new(&spec(&[&SERVERS[..], &[CLIENT]].concat()))?;
        let node = lab.ns(&Place::Node("node-1".to_owned()))?;
        // The kubeconfig names the loopback of the namespace.
        let relay = Relay::start(node, API, ControlPlane::address())?;
        let servers = SERVERS
            .iter()
            .map(|server| Server::start(lab.ns(&pod(*server))?, TARGET))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // The thread that starts a process must stay: this one does.
        let part = node.within(|| start(proxy, setup.programs, setup.folder));
        let mut site = Self {
            part: part.context("the namespace of the node")??,
            _servers: servers,
            _relay: relay,
            lab,
        };
        for _ in 0..ROUNDS {
            site.part.still_runs()?;
            let clients = site.lab.ns(&pod(CLIENT))?;
            if clients.run(|| TcpStream::connect_timeout(&SERVICE, ROUND).is_ok())? {
                return Ok(site);
            }
            std::thread::sleep(ROUND);
        }
        bail!("{} does not serve {SERVICE}", proxy.name())
    }

    /// Opens one connection after the other for so long; how long each took, in microseconds.
    fn open(&mut self, time: Duration) -> anyhow::Result<Vec<f64>> {
        self.part.still_runs()?;
        self.lab.ns(&pod(CLIENT))?.run(|| open(time))?
    }
}

fn open(time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    let started = clock::now();
    while clock::now() - started < time {
        let before = clock::now();
        let stream = TcpStream::connect_timeout(&SERVICE, LONGEST).context("connect")?;
        times.push((clock::now() - before).as_secs_f64() * 1e6);
        // A reset at the end: no port is kept waiting.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(times)
}

fn rows(services: usize, runs: &Both<Vec<Run>>) -> Vec<Row> {
    let beside = services - 1;
    let named = |name: &str, what: &str| {
        let what = format!("{what} beside {beside} other Services");
        (format!("{name}-{services}"), what)
    };
    vec![
        runs.row(
            named(
                "connections",
                "new TCP connections a second through a ClusterIP",
            ),
            "/s",
            Wanted::AtLeast(0.95),
            |run| run.rate,
        ),
        runs.row(
            named("connect-p99", "connect(2), p99"),
            "us",
            Wanted::AtMost(1.05),
            |run| run.latency,
        ),
        runs.row(
            named("connect-waits", "connections that waited for a second SYN"),
            "",
            Wanted::Nothing,
            |run| run.waits,
        ),
    ]
}

/// What many Services cost a connection.
fn flat(many_services: usize, few: &Both<Vec<Run>>, many: &Both<Vec<Run>>) -> Vec<Row> {
    let row = |name: &str, what: &str, goal, value: fn(&Run) -> f64| {
        let of = |few: &[Run], many: &[Run]| -> Vec<f64> {
            let pairs = many.iter().zip(few);
            pairs.map(|(many, few)| value(many) / value(few)).collect()
        };
        Row {
            name: name.to_owned(),
            what: format!("{what} at {many_services} Services against 1"),
            unit: "",
            kube: of(&few.kube, &many.kube),
            daymark: of(&few.daymark, &many.daymark),
            wanted: Wanted::Itself(goal),
        }
    };
    vec![
        row(
            "connections-flat",
            "new connections a second",
            Goal::AtLeast(0.9),
            |run| run.rate,
        ),
        row(
            "connect-p99-flat",
            "p99 of connect(2)",
            Goal::AtMost(1.1),
            |run| run.latency,
        ),
    ]
}

/// The Service that is connected to.
async fn target(client: &Client) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "target", "namespace": "default"},
        "spec": {
            "clusterIP": SERVICE.ip(), "clusterIPs": [SERVICE.ip()],
            "ports": [{"name": "http", "port": SERVICE.port(), "targetPort": TARGET}],
        },
    });
    let endpoints = SERVERS.map(|last| {
        json!({"addresses": [address(last)], "conditions": {"ready": true}, "nodeName": "node-1"})
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "target", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "target"},
        },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": TARGET}],
    });
    for (kind, value) in [
        ("services", service),
        ("discovery.k8s.io/endpointslices", slice),
    ] {
        let line = json!({"kind": kind, "namespace": "default", "name": "target", "value": value});
        create(client, line).await?;
    }
    Ok(())
}

const SERVERS: [u8; 2] = [5, 6];
const CLIENT: u8 = 9;
const TARGET: u16 = 8080;
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 80)), 80);
const ROUND: Duration = Duration::from_millis(200);
/// kube-proxy needs up to a minute for ten thousand Services.
const ROUNDS: usize = 600;
const SETTLE: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(5);
/// A SYN is sent again after a second (RFC 6298, section 2.1); a busy machine delays one by less than this, in
/// microseconds.
const RETRANSMITTED: f64 = 900_000.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Run;

    #[test]
    fn one_lost_packet_costs_one_turn() {
        let good = vec![50.0; 1000];
        let run = Run::of(
            &[good.clone(), vec![50.0, 1_000_050.0], good],
            Duration::from_millis(500),
        );
        assert_eq!((run.rate, run.latency, run.waits), (2000.0, 50.0, 1.0));
    }
}
