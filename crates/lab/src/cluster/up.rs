//! Bringing a cluster up.
//!
//! In order: namespaces and links; the API server; and, as soon as its kubeconfig is there, everything else at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daymark_sys::mount::Bind;
use daymark_sys::ns::NetNs;
use daymark_sys::process::{Isolation, Mounts};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, Client};
use thiserror::Error;

use super::kubeconfig::{self, KubeconfigError};
use super::memory::Memory;
use super::outside::{Upstream, Zone};
use super::plan::{self, API_PORT, DNS, FABRIC, NodePlan, OUTSIDE, Spec};
use super::real;
use super::{Cluster, Node, Part};
use crate::child::{Child, ChildError};
use crate::clock;
use crate::control::ControlError;
use crate::etc;
use crate::net::{NetError, Prefix, Segment, Via};

/// How far a cluster has come, for those who show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Namespaces and links stand.
    Network,
    /// The API answers.
    Api,
    /// Every process was started.
    Started,
    /// Every node is ready.
    Ready,
}

/// Why a cluster did not come up.
#[derive(Debug, Error)]
pub enum UpError {
    /// Namespaces and links.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A kubeconfig.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The control plane of Kubernetes.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A file or socket.
    #[error("{what}: {source}")]
    Setup {
        /// What was to be set up.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It took too long.
    #[error("{what} after {} s; the logs are in {}", patience.as_secs(), logs.display())]
    Patience {
        /// What was still missing.
        what: String,
        /// How long was waited.
        patience: Duration,
        /// Where to look.
        logs: PathBuf,
    },
}

impl Cluster {
    /// Builds the cluster and waits until every node is ready.
    ///
    /// The calling thread must be in fresh namespaces; its network namespace becomes the fabric. `progress` is called
    /// at each stage.
    ///
    /// # Errors
    /// [`UpError`], with the end of the log of a process that failed. What was started ends with it.
    pub async fn up(spec: Spec, mut progress: impl FnMut(Stage)) -> Result<Self, UpError> {
        for folder in ["logs", "parts", "data"] {
            std::fs::create_dir_all(spec.state.join(folder)).map_err(setup("state folder"))?;
        }
        let mut cluster = Self::wire(spec)?;
        progress(Stage::Network);
        match &cluster.spec.control {
            plan::Control::Embedded => {
                cluster.start(&Part::Api)?;
                cluster.await_api().await?;
            }
            plan::Control::Real(programs) => {
                let programs = programs.clone();
                cluster.start_real(programs).await?;
            }
        }
        progress(Stage::Api);
        let mut parts = vec![Part::Controller, Part::Outside];
        for plan in cluster.spec.node_plans() {
            parts.extend([Part::Kubelet(plan.name.clone()), Part::Agent(plan.name)]);
        }
        for part in &parts {
            cluster.start(part)?;
        }
        progress(Stage::Started);
        cluster.await_nodes().await?;
        cluster
            .record()
            .write(&cluster.spec.state)
            .map_err(setup("lab.json"))?;
        progress(Stage::Ready);
        Ok(cluster)
    }

    /// Namespaces, links, routes, and the outside network's DNS.
    fn wire(spec: Spec) -> Result<Self, UpError> {
        let own = NetNs::current().map_err(setup("the lab's own network namespace"))?;
        let mut segment = Segment::new(own, &FABRIC)?;
        let api_listeners: io::Result<Vec<_>> = match spec.control {
            plan::Control::Embedded => FABRIC
                .into_iter()
                .map(|prefix| TcpListener::bind((prefix.address, API_PORT)))
                .collect(),
            plan::Control::Real(_) => Ok(Vec::new()),
        };
        let api_listeners = api_listeners.map_err(setup("the API server's addresses"))?;
        let plans = spec.node_plans();
        let to_pods = |except: &str| -> Vec<(Prefix, Via)> {
            plans
                .iter()
                .filter(|plan| plan.name != except)
                .flat_map(pod_routes)
                .collect()
        };
        let mut nodes = BTreeMap::new();
        for plan in &plans {
            let mut host = segment.add_node(&plan.name, &plan.addresses)?;
            let mut routes = to_pods(&plan.name);
            routes.extend(FABRIC.map(|fabric| {
                (
                    Prefix::everything(fabric.address),
                    Via::Gateway(fabric.address),
                )
            }));
            // A Pod that is gone is not looked for elsewhere: a default route would send the packet round in circles.
            let own = plan.pod_cidrs.iter();
            routes.extend(own.map(|prefix| (*prefix, Via::Nowhere)));
            host.add_routes(&routes)?;
            nodes.insert(
                plan.name.clone(),
                Node {
                    plan: plan.clone(),
                    host,
                },
            );
        }
        segment.fabric().add_routes(&to_pods(""))?;
        let mut outside = segment.add_host("outside", &OUTSIDE)?;
        outside.add_routes(&to_pods(""))?;
        let zone = Zone {
            names: spec.outside_names.clone(),
            addresses: OUTSIDE.map(|prefix| prefix.address).into(),
        };
        let upstream = Upstream::start(outside.ns(), &zone)
            .map_err(setup("DNS server of the outside host"))?;
        let memory = Memory::mount(&spec.state).map_err(setup("memory for the API's data"))?;
        Ok(Self {
            spec,
            segment,
            nodes,
            outside,
            api_listeners,
            control: None,
            parts: BTreeMap::new(),
            _upstream: upstream,
            _memory: memory,
        })
    }

    /// Starts one process of the cluster.
    pub(super) fn launch(&self, part: &Part) -> Result<Child, ChildError> {
        let name = part.to_string();
        let failed = |source| ChildError::Start {
            name: name.clone(),
            source,
        };
        let mut command = Command::new(&self.spec.binary);
        command
            .env_clear()
            .env("PATH", PATH)
            .current_dir(&self.spec.state);
        let isolation = match part {
            Part::Api => self.api(&mut command).map_err(failed)?,
            Part::Controller => {
                let grace = format!("{}ms", self.spec.node_grace.as_millis());
                command.args([
                    "controller",
                    "--schedule",
                    "--node-grace",
                    &grace,
                    "--kubeconfig",
                ]);
                command.arg(self.spec.part_kubeconfig(part));
                if self.control.is_some() {
                    command.arg("--load-balancer-only");
                }
                Isolation::default()
            }
            Part::Agent(node) => self.agent(self.find(node)?, &mut command).map_err(failed)?,
            Part::Kubelet(node) => self
                .kubelet(self.find(node)?, &mut command)
                .map_err(failed)?,
            Part::Outside => {
                command.args([
                    "echo", "--port", "80", "--pod", "outside", "--node", "outside",
                ]);
                Isolation {
                    network: Some(self.outside.ns().clone()),
                    ..Isolation::default()
                }
            }
        };
        isolation.apply(&mut command);
        Child::start(&name, self.spec.log(&name), &mut command)
    }

    fn find(&self, node: &str) -> Result<&Node, ChildError> {
        self.nodes.get(node).ok_or_else(|| ChildError::Unknown {
            part: format!("node {node}"),
        })
    }

    fn api(&self, command: &mut Command) -> io::Result<Isolation> {
        let [address, _] = FABRIC.map(|prefix| prefix.address);
        command.args(["api", "--advertise", &address.to_string()]);
        command.arg("--data").arg(self.spec.state.join("data"));
        command.arg("--kubeconfig").arg(self.kubeconfig());
        for (role, part) in self.roles() {
            let mut issue = OsString::from(format!("{role}="));
            issue.push(self.spec.part_kubeconfig(&part));
            command.arg("--issue").arg(issue);
        }
        let mut descriptors = Vec::new();
        for listener in self.api_listeners.iter().chain(&self.spec.api_listener) {
            let listener = listener.try_clone()?;
            // The same number in the child: no other number is known to be free there.
            let number = listener.as_raw_fd();
            command.arg("--listen-fd").arg(number.to_string());
            descriptors.push((listener.into(), number));
        }
        Ok(Isolation {
            descriptors,
            ..Isolation::default()
        })
    }

    /// The roles in the API of the cluster's parts.
    pub(super) fn roles(&self) -> Vec<(String, Part)> {
        let nodes = self.nodes.keys().flat_map(|node| {
            let agent = (format!("agent:{node}"), Part::Agent(node.clone()));
            [
                agent,
                (format!("kubelet:{node}"), Part::Kubelet(node.clone())),
            ]
        });
        nodes
            .chain([("controller".to_owned(), Part::Controller)])
            .collect()
    }

    fn agent(&self, node: &Node, command: &mut Command) -> io::Result<Isolation> {
        let part = Part::Agent(node.plan.name.clone());
        command
            .args(["node", "--node-name", &node.plan.name, "--kubeconfig"])
            .arg(self.spec.part_kubeconfig(&part));
        command
            .arg("--socket")
            .arg(self.spec.agent_socket(&node.plan.name));
        command.arg("--announce");
        if self.control.is_some() {
            command.args(["--announce-namespace", real::ANNOUNCERS]);
        }
        command.args(["--announce-renew", &as_seconds(self.spec.lease_renew)]);
        command.args(["--announce-lapse", &as_seconds(self.spec.announce_lapse())]);
        for prefix in &node.plan.addresses {
            let own = SocketAddr::new(prefix.address, DNS_PORT);
            command.args(["--dns-bind", &own.to_string()]);
        }
        for prefix in OUTSIDE {
            let upstream = SocketAddr::new(prefix.address, DNS_PORT);
            command.args(["--dns-upstream", &upstream.to_string()]);
        }
        command.args(&self.spec.agent_args);
        self.on_node(node, &part)
    }

    fn kubelet(&self, node: &Node, command: &mut Command) -> io::Result<Isolation> {
        let plan = &node.plan;
        let part = Part::Kubelet(plan.name.clone());
        command
            .args(["kubelet", "--node", &plan.name, "--kubeconfig"])
            .arg(self.spec.part_kubeconfig(&part));
        command
            .arg("--control")
            .arg(self.spec.control_socket(&plan.name));
        command
            .arg("--state")
            .arg(self.spec.folder(&part.to_string()));
        for (flag, prefixes) in [
            ("--address", &plan.addresses),
            ("--pod-cidr", &plan.pod_cidrs),
        ] {
            for prefix in prefixes {
                command.args([flag, &prefix.to_string()]);
            }
        }
        command.args(["--lease-renew", &as_seconds(self.spec.lease_renew)]);
        for address in DNS {
            command.args(["--dns", &address.to_string()]);
        }
        for (name, value) in &plan.labels {
            command.args(["--label", &format!("{name}={value}")]);
        }
        self.on_node(node, &part)
    }

    /// A node's processes find the outside network's DNS server in their resolv.conf, as a node of a cluster does.
    fn on_node(&self, node: &Node, part: &Part) -> io::Result<Isolation> {
        let folder = self.spec.folder(&part.to_string());
        std::fs::create_dir_all(&folder)?;
        Ok(Isolation {
            network: Some(node.host.ns().clone()),
            mounts: Mounts::Own(node_files(&folder, &node.plan)?),
            ..Isolation::default()
        })
    }

    /// The API server writes its kubeconfigs when it listens.
    async fn await_api(&mut self) -> Result<(), UpError> {
        let end = clock::instant() + self.spec.patience;
        let mut expected: Vec<PathBuf> = self
            .roles()
            .iter()
            .map(|(_, part)| self.spec.part_kubeconfig(part))
            .collect();
        expected.push(self.kubeconfig());
        while !expected.iter().all(|path| path.exists()) {
            self.check(end, || {
                "the API server has not written its kubeconfigs".to_owned()
            })?;
            tokio::time::sleep(STEP).await;
        }
        if let Some(port) = self.spec.api_port() {
            let server = format!("https://127.0.0.1:{port}");
            kubeconfig::derive(&self.kubeconfig(), &server, &self.spec.outer_kubeconfig())?;
        }
        Ok(())
    }

    async fn await_nodes(&mut self) -> Result<(), UpError> {
        let end = clock::instant() + self.spec.patience;
        let nodes: Api<NodeObject> = Api::all(self.client().await?);
        loop {
            let found = nodes.list(&kube::api::ListParams::default()).await;
            let ready = found
                .as_ref()
                .map_or(0, |list| list.iter().filter(|node| is_ready(node)).count());
            if ready >= usize::from(self.spec.nodes) {
                return Ok(());
            }
            let wanted = self.spec.nodes;
            self.check(end, || match &found {
                Ok(_) => format!("{ready} of {wanted} nodes are ready"),
                Err(error) => format!("the API does not answer: {error}"),
            })?;
            tokio::time::sleep(STEP).await;
        }
    }

    /// A client of the cluster's API, from inside.
    ///
    /// # Errors
    /// [`UpError::Kubeconfig`].
    pub async fn client(&self) -> Result<Client, UpError> {
        Ok(kubeconfig::client(&self.kubeconfig()).await?)
    }

    /// Fails when a process has ended or the time is over.
    pub(super) fn check(
        &mut self,
        end: tokio::time::Instant,
        missing: impl FnOnce() -> String,
    ) -> Result<(), UpError> {
        self.parts.values_mut().try_for_each(Child::check)?;
        if let Some(control) = &mut self.control {
            control.check()?;
        }
        if clock::instant() < end {
            return Ok(());
        }
        let (patience, logs) = (self.spec.patience, self.spec.state.join("logs"));
        Err(UpError::Patience {
            what: missing(),
            patience,
            logs,
        })
    }

    /// Ends every process: first those that may clean up, then all.
    pub fn down(mut self) {
        self.parts.values().for_each(Child::terminate);
        self.parts.clear();
    }
}

pub(super) fn setup(what: &str) -> impl FnOnce(io::Error) -> UpError {
    let what = what.to_owned();
    move |source| UpError::Setup { what, source }
}

/// A time as a flag's value.
fn as_seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

/// The way to a node's Pods, from anywhere on the segment.
fn pod_routes(plan: &NodePlan) -> Vec<(Prefix, Via)> {
    let gateway = |cidr: &Prefix| {
        let same = |prefix: &&Prefix| prefix.address.is_ipv4() == cidr.address.is_ipv4();
        plan.addresses
            .iter()
            .find(same)
            .map(|prefix| Via::Gateway(prefix.address))
    };
    plan.pod_cidrs
        .iter()
        .filter_map(|cidr| Some((*cidr, gateway(cidr)?)))
        .collect()
}

fn node_files(folder: &Path, plan: &NodePlan) -> io::Result<Vec<Bind>> {
    let servers = OUTSIDE
        .map(|prefix| format!("nameserver {}\n", prefix.address))
        .concat();
    let names: String = plan
        .addresses
        .iter()
        .map(|prefix| format!("{}\t{}\n", prefix.address, plan.name))
        .collect();
    let hosts = format!("{}{names}", etc::LOCAL_HOSTS);
    etc::binds(folder, &[("resolv.conf", servers), ("hosts", hosts)])
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

const DNS_PORT: u16 = 53;
pub(super) const STEP: Duration = Duration::from_millis(5);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
