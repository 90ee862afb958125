//! From a Pod that becomes ready to the first packet that it answers through its Service: every part of daymark in a row.
//!
//! ```text
//!   status of the Pod --> API --> EndpointSlice controller --> API --> agent --> kernel <-- client Pod, again and again
//! ```
//!
//! API, controllers and the agent are processes of their own, over TLS, on one machine; other Services are there. The Pod's
//! container runs all the time: its readiness alone is told to the API. What is measured begins when the request
//! with it is sent, so both writes to the store, with their fsync, are part of it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use daymark_lab::bare::{BareLab, Place};
use daymark_sys::ns::NetNs;
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::agent::Commits;
use super::figure::{Goal, percentile};
use super::ground::{API, Folder, Part, filled};
use super::inputs::Stored;
use super::pods::{NODE, NODE_ADDRESS, address, pod, spec};
use super::server::Server;
use super::{Figure, Measurement, Sizes, api, clock};
use crate::client::from_kubeconfig;

/// What one Pod took to serve, in milliseconds since its status was sent.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// The API has answered: the Pod is ready.
    answered: f64,
    /// The kernel of the client's node has the endpoint.
    committed: f64,
    /// The client is answered.
    served: f64,
}

/// `pod-ready`.
pub(crate) fn run(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let folder = filled(base, sizes.beside, Stored::Services)?;
    let mut done = Vec::new();
    for _ in 0..runs {
        done.push(one(&folder, sizes)?);
    }
    Ok(figures(sizes, &done))
}

fn one(folder: &Folder, sizes: &Sizes) -> anyhow::Result<Vec<Times>> {
    let lab = BareLab::new(&spec(&[SERVER, CLIENT]))?;
    let place = Place::Node(NODE.to_owned());
    lab.lift_icmp_limits(&place)?;
    let _server = Server::start(lab.ns(&pod(SERVER))?, TARGET)?;
    let probe = Probe::start(lab.ns(&pod(CLIENT))?)?;
    // Processes end with the thread that started them: this one stays.
    lab.ns(&place)?.run(|| {
        let mut server = Part::api_at(folder, vec![TcpListener::bind(API)?])?;
        api::ready(&mut server, folder)?;
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let controller = ["controller", "--node-grace", "1h", "--kubeconfig"].map(str::to_owned);
        let controller = [&controller[..], &[file("controller.conf")]].concat();
        let agent = ["node", "--node-name", NODE, "--kubeconfig"].map(str::to_owned);
        let socket = ["--socket".to_owned(), file("node.sock")];
        let agent = [&agent[..], &[file("node.conf")], &socket].concat();
        let taken = api::runtime()?.block_on(async {
            let client = from_kubeconfig(&folder.join("admin.conf")).await?;
            let cluster = Cluster::create(client).await?;
            let mut parts = [
                Part::start(&controller, Vec::new())?,
                Part::start(&agent, Vec::new())?,
            ];
            cluster.await_controllers(sizes.beside).await?;
            let taken = cluster.measure(&probe, sizes.readies).await;
            // That one of them has ended explains more than that nobody answers.
            parts.iter_mut().try_for_each(Part::still_runs)?;
            for part in parts {
                part.stop()?;
            }
            cluster.remove().await?;
            taken
        });
        server.stop()?;
        taken
    })?
}

/// The objects of a run.
struct Cluster {
    client: Client,
    service: SocketAddr,
}

impl Cluster {
    async fn create(client: Client) -> anyhow::Result<Self> {
        let mut it = Self {
            client,
            service: API,
        };
        let node = json!({
            "metadata": {"name": NODE},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
        });
        it.write(Method::POST, "/api/v1/nodes", &node).await?;
        let service = json!({
            "metadata": {"name": NAME, "namespace": "default"},
            "spec": {
                "selector": {"app": NAME},
                "ports": [{"port": 80, "targetPort": TARGET}],
            },
        });
        let service = it.write(Method::POST, SERVICES, &service).await?;
        let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let ip: IpAddr = ip.parse().context("the Service's clusterIP")?;
        it.service = SocketAddr::new(ip, 80);
        let pod = json!({
            "metadata": {"name": NAME, "namespace": "default", "labels": {"app": NAME}},
            "spec": {"nodeName": NODE, "containers": [{"name": "serve", "image": "serve"}]},
        });
        it.write(Method::POST, PODS, &pod).await?;
        Ok(it)
    }

    /// Removes what [`Cluster::create`] made.
    async fn remove(&self) -> anyhow::Result<()> {
        let now = json!({"gracePeriodSeconds": 0});
        for path in [PODS, SERVICES] {
            let path = format!("{path}/{NAME}");
            self.write(Method::DELETE, &path, &now).await?;
        }
        let path = format!("/api/v1/nodes/{NODE}");
        self.write(Method::DELETE, &path, &now).await.map(drop)
    }

    async fn write(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let shown = format!("{method} {path}");
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, kind)
            .body(serde_json::to_vec(body)?)?;
        self.client.request(request).await.context(shown)
    }

    /// Waits until every Service has the slice that the controllers make for it.
    async fn await_controllers(&self, beside: usize) -> anyhow::Result<()> {
        let end = clock::now() + PATIENCE;
        loop {
            let path = "/apis/discovery.k8s.io/v1/endpointslices";
            let request = http::Request::get(path).body(Vec::new())?;
            let slices: Value = self.client.request(request).await.context(path)?;
            let count = slices["items"].as_array().map_or(0, Vec::len);
            if count > beside {
                // They have more to write: Endpoints, for instance.
                tokio::time::sleep(SETTLE).await;
                return Ok(());
            }
            let after = PATIENCE.as_secs();
            ensure!(
                clock::now() < end,
                "{count} of {beside} Services have a slice after {after} s"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn tell(&self, ready: Ready) -> anyhow::Result<()> {
        let address = address(SERVER);
        let condition = |kind| json!({"type": kind, "status": ready.word()});
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [condition("Ready"), condition("ContainersReady")],
        }});
        let path = format!("{PODS}/{NAME}/status");
        self.write(Method::PATCH, &path, &status).await.map(drop)
    }

    /// The Pod becomes ready so many times.
    async fn measure(&self, probe: &Probe, times: usize) -> anyhow::Result<Vec<Times>> {
        let mut commits = Commits::follow()?;
        let mut all = Vec::new();
        // The first one opens connections and fills caches, in every process.
        for time in 0..=times {
            self.tell(Ready::No).await?;
            probe.until(self.service, Wanted::Refusal).await?;
            // Another phase of whatever has a period.
            tokio::time::sleep(PAUSE + Duration::from_millis((time * 7 % 20) as u64)).await;
            commits.forget();
            let times = self.become_ready(probe, &mut commits).await?;
            if time > 0 {
                all.push(times);
            }
        }
        Ok(all)
    }

    async fn become_ready(&self, probe: &Probe, commits: &mut Commits) -> anyhow::Result<Times> {
        let sent = clock::now();
        let since = |at: Instant| at.saturating_duration_since(sent).as_secs_f64() * 1000.0;
        let answered = async {
            self.tell(Ready::Yes).await?;
            anyhow::Ok(clock::now())
        };
        let served = probe.until(self.service, Wanted::Connection);
        let (answered, committed, served) = tokio::try_join!(answered, commits.next(), served)?;
        Ok(Times {
            answered: since(answered),
            committed: since(committed),
            served: since(served),
        })
    }
}

/// What the API is told of the Pod.
#[derive(Clone, Copy)]
enum Ready {
    Yes,
    No,
}

impl Ready {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "True",
            Self::No => "False",
        }
    }
}

/// How a client is to be answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Connection,
    Refusal,
}

/// A question to the client: until when, and to whom the moment is told.
type Question = (
    SocketAddr,
    Wanted,
    tokio::sync::oneshot::Sender<Option<Instant>>,
);

/// A client in a Pod, on a thread of its own.
struct Probe(mpsc::Sender<Question>);

impl Probe {
    fn start(ns: &NetNs) -> anyhow::Result<Self> {
        let (sender, questions) = mpsc::channel::<Question>();
        let ns = ns.clone();
        let run = move || {
            let entered = ns.move_thread();
            for (service, wanted, reply) in questions {
                let answer = entered.as_ref().ok().and_then(|()| ask(service, wanted));
                // Who asked may have given up.
                let _ = reply.send(answer);
            }
        };
        std::thread::Builder::new()
            .name("client".into())
            .spawn(run)?;
        Ok(Self(sender))
    }

    /// When the client was first answered like that.
    async fn until(&self, service: SocketAddr, wanted: Wanted) -> anyhow::Result<Instant> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let gone = "the client's thread has ended";
        self.0.send((service, wanted, reply)).ok().context(gone)?;
        let Some(at) = answer.await.context(gone)? else {
            bail!("{service} did not change within {} s", PATIENCE.as_secs());
        };
        Ok(at)
    }
}

/// Connects again and again.
fn ask(service: SocketAddr, wanted: Wanted) -> Option<Instant> {
    let end = clock::now() + PATIENCE;
    loop {
        // One that is dropped on its way counts neither way.
        let connected = TcpStream::connect_timeout(&service, ANSWER);
        let now = clock::now();
        let seen = match connected {
            Ok(_) => Some(Wanted::Connection),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Some(Wanted::Refusal)
            }
            Err(_) => None,
        };
        if seen == Some(wanted) {
            return Some(now);
        }
        if now > end {
            return None;
        }
        std::thread::sleep(BETWEEN);
    }
}

fn figures(sizes: &Sizes, runs: &[Vec<Times>]) -> Vec<Figure> {
    let at = |percent, value: fn(&Times) -> f64| -> Vec<f64> {
        let of = |run: &Vec<Times>| {
            let mut values: Vec<f64> = run.iter().map(value).collect();
            percentile(&mut values, percent)
        };
        runs.iter().map(of).collect()
    };
    let figure = |name: &str, what: String, runs, goal| Figure {
        of: Measurement::PodReady,
        name: name.to_owned(),
        what,
        unit: "ms",
        runs,
        goal,
    };
    let (times, beside) = (sizes.readies, sizes.beside);
    let what = format!(
        "Pod's readiness sent to the API until its first answer through the Service, {times} times beside {beside} Services, p99"
    );
    vec![
        figure(
            "pod-ready",
            what,
            at(99, |times| times.served),
            Some(Goal::AtMost(20.0)),
        ),
        figure(
            "pod-ready-p50",
            "the same, p50".to_owned(),
            at(50, |times| times.served),
            None,
        ),
        figure(
            "pod-ready-after",
            "the same from the API's answer, p99".to_owned(),
            at(99, |times| times.served - times.answered),
            None,
        ),
        figure(
            "pod-ready-write",
            "of that, until the API has answered, p50".to_owned(),
            at(50, |times| times.answered),
            None,
        ),
        figure(
            "pod-ready-commit",
            "then until the kernel has the endpoint, p50".to_owned(),
            at(50, |times| times.committed - times.answered),
            None,
        ),
        figure(
            "pod-ready-packet",
            "then until the client is answered, p50".to_owned(),
            at(50, |times| times.served - times.committed),
            None,
        ),
    ]
}

const SERVER: u8 = 5;
const CLIENT: u8 = 9;
const TARGET: u16 = 8080;
const NAME: &str = "target";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Between two tries of the client: what a time may be too long by.
const BETWEEN: Duration = Duration::from_micros(200);
/// How long a try waits for an answer.
const ANSWER: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
