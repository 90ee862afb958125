//! Connections through a ClusterIP: how many a second, and how long one takes to open.
//!
//! ```text
//!   client Pod --> node-1 (the proxy's rules) --> server Pod, one of two
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_lab::bare::{BareLab, Node, Place, Pod, Spec};
use daymark_lab::control::{ControlPlane, Relay};
use daymark_lab::net::PodAddresses;
use daymark_sys::ns::NetNs;
use kube::Client;
use serde_json::json;

use super::super::clock;
use super::super::figure::percentile;
use super::super::ground::{API, Folder};
use super::cluster::create;
use super::{Row, Sizes, Wanted, start};
use crate::beside::Proxy;

/// Connections a second, and the 99th percentile of connect(2) in microseconds.
type Rate = [f64; 2];

/// Measures beside so many other Services.
pub(super) fn run(
    programs: &Path,
    folder: &Folder,
    sizes: &Sizes,
    (runs, others): (usize, usize),
) -> anyhow::Result<Vec<Row>> {
    let mut done = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (proxy, rates) in Proxy::BOTH.into_iter().zip(&mut done) {
            rates.push(one(proxy, programs, folder, sizes.connect)?);
        }
    }
    let [kube, daymark] = done;
    let row = |name: String, what: &str, unit, index: usize, wanted| Row {
        name,
        what: format!("{what} beside {others} other Services"),
        unit,
        kube: kube.iter().map(|rate: &Rate| rate[index]).collect(),
        daymark: daymark.iter().map(|rate: &Rate| rate[index]).collect(),
        wanted,
    };
    let services = others + 1;
    Ok(vec![
        row(
            format!("connections-{services}"),
            "new TCP connections a second through a ClusterIP",
            "/s",
            0,
            Wanted::AtLeast(0.95),
        ),
        row(
            format!("connect-p99-{services}"),
            "connect(2), p99",
            "us",
            1,
            Wanted::AtMost(1.05),
        ),
    ])
}

fn one(proxy: Proxy, programs: &Path, folder: &Folder, time: Duration) -> anyhow::Result<Rate> {
    let lab = BareLab::new(&spec())?;
    let node = lab.ns(&Place::Node("node-1".to_owned()))?;
    // The kubeconfig names the loopback of the namespace.
    let _relay = Relay::start(node, API, ControlPlane::address())?;
    let _servers = SERVERS
        .iter()
        .map(|server| serve(lab.ns(&pod(*server))?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // The thread that starts a process must stay: this one does.
    let part = node.within(|| start(proxy, programs, folder));
    let mut part = part.context("the namespace of the node")??;
    let clients = lab.ns(&pod(CLIENT))?;
    for _ in 0..ROUNDS {
        part.still_runs()?;
        if clients.run(|| TcpStream::connect_timeout(&SERVICE, ROUND).is_ok())? {
            // Both programs have more to do after their first commit, on the cores that are measured.
            std::thread::sleep(SETTLE);
            return clients.run(|| open(time))?;
        }
        std::thread::sleep(ROUND);
    }
    bail!("{} does not serve {SERVICE}", proxy.name())
}

/// Opens one connection after the other.
fn open(time: Duration) -> anyhow::Result<Rate> {
    let mut times = Vec::new();
    let started = clock::now();
    while clock::now() - started < time {
        let before = clock::now();
        let stream = TcpStream::connect_timeout(&SERVICE, LONGEST).context("connect")?;
        times.push((clock::now() - before).as_secs_f64() * 1e6);
        // A reset at the end: no port is kept waiting.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    let rate = times.len() as f64 / time.as_secs_f64();
    Ok([rate, percentile(&mut times, 99)])
}

/// Accepts and closes, until dropped.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn serve(ns: &NetNs) -> anyhow::Result<Server> {
    let listener = ns.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, TARGET)))??;
    let socket = socket2::SockRef::from(&listener);
    // A queue that overflows while this thread waits for a core costs a client a second: that of the library is short.
    socket.listen(QUEUE)?;
    socket.set_read_timeout(Some(ROUND))?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let accept = move || {
        while !stopped.load(Ordering::Relaxed) {
            // A time-out, to look whether it goes on.
            let _ = listener.accept();
        }
    };
    let thread = std::thread::Builder::new().spawn(accept)?;
    Ok(Server {
        stop,
        thread: Some(thread),
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The Service that is connected to.
pub(super) async fn target(client: &Client) -> anyhow::Result<()> {
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

fn spec() -> Spec {
    let pods = SERVERS.iter().chain([&CLIENT]).map(|last| Pod {
        name: address(*last).to_string(),
        addresses: PodAddresses {
            v4: Some(address(*last)),
            v6: None,
        },
        link: None,
    });
    Spec {
        nodes: vec![Node {
            name: "node-1".to_owned(),
            addresses: vec![IpAddr::from([172, 30, 0, 11])],
            pods: pods.collect(),
        }],
        outside: Vec::new(),
        ports: Vec::new(),
    }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, last)
}

fn pod(last: u8) -> Place {
    Place::Pod(address(last).to_string())
}

const SERVERS: [u8; 2] = [5, 6];
const CLIENT: u8 = 9;
const TARGET: u16 = 8080;
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 80)), 80);
const ROUND: Duration = Duration::from_millis(200);
/// kube-proxy needs up to a minute for ten thousand Services.
const ROUNDS: usize = 600;
/// Connections that wait to be accepted, at most; what Linux allows unless told otherwise.
const QUEUE: i32 = 4096;
const SETTLE: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(2);
