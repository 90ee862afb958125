//! A whole cluster in namespaces: the API server, the controllers, an agent and a kubelet per node, an outside host.
//!
//! [`Cluster::up`] builds it inside the caller's own namespaces ([`daymark_sys::ns::enter`]) out of processes of one
//! binary, and returns when every node is ready. The caller then works on it directly: runs code or commands in any
//! place, cuts cables, kills agents. Another process of the same user gets in by way of the state folder
//! ([`Running`]).

mod basics;
mod kubeconfig;
mod memory;
mod outside;
mod overview;
mod parts;
mod place;
mod plan;
mod private;
mod real;
mod running;
mod state;
mod up;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use daymark_sys::ns::NetNs;
use daymark_sys::process::{Isolation, Mounts};
use thiserror::Error;

pub use crate::child::{Child, ChildError};
pub use basics::{CreateError, create_all, create_all_in, grant};
pub use kubeconfig::KubeconfigError;
pub(crate) use kubeconfig::{client, write_private};
pub use memory::remove_files;
pub use overview::{Line, Overview};
pub use parts::PartState;
pub use place::{ParsePlaceError, Where};
pub use plan::{Control, NodePlan, Spec, node_plan, outside_addresses, whole_seconds};
pub use private::FolderError;
pub use running::{Lock, LockError, Running, RunningError};
pub use state::{NodeRecord, Record};
pub use up::{Stage, UpError};

use crate::kubelet::{WhereError, where_is};
use crate::net::{Cable, Host, NetError, Segment};

/// A running cluster, owned by the process that built it. Dropping it ends its processes.
pub struct Cluster {
    spec: Spec,
    segment: Segment,
    nodes: BTreeMap<String, Node>,
    outside: Host,
    /// Opened once: a client that comes while the API server is away waits instead of being refused.
    api_listeners: Vec<TcpListener>,
    /// The control plane of Kubernetes, where it is not daymark's.
    control: Option<real::Control>,
    /// The processes.
    parts: BTreeMap<Part, Child>,
    _upstream: outside::Upstream,
    _memory: memory::Memory,
}

/// A node and its namespace.
struct Node {
    plan: NodePlan,
    host: Host,
}

/// A process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `daymark api`, in the fabric.
    Api,
    /// `daymark controller`, in the fabric.
    Controller,
    /// `daymark node`, on the node of this name.
    Agent(String),
    /// `daymark kubelet`, on the node of this name; its Pods end with it.
    Kubelet(String),
    /// The web server of the outside host.
    Outside,
}

/// Why something could not be done in or to a place of the cluster.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// There is no such node.
    #[error("there is no node {name}; there are {known}")]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// No node runs the Pod.
    #[error(
        "no node runs Pod {namespace}/{name}: kubectl get pods -A -o wide shows those there are"
    )]
    UnknownPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A kubelet did not answer.
    #[error(transparent)]
    Kubelet(#[from] WhereError),
    /// A link could not be changed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A namespace could not be entered, or a command not be started.
    #[error("{place}: {source}")]
    Enter {
        /// Where.
        place: Where,
        /// Why.
        source: io::Error,
    },
}

impl Cluster {
    /// What it was built from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The kubeconfig that works inside the cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.spec.inner_kubeconfig()
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodePlan> {
        self.nodes.values().map(|node| &node.plan)
    }

    /// The network namespace of a place, and for a Pod its mount namespace.
    ///
    /// # Errors
    /// [`PlaceError`] when there is no such place.
    pub fn spaces(&self, place: &Where) -> Result<Spaces, PlaceError> {
        let network = match place {
            Where::Fabric => return Ok(Spaces::network_only(self.fabric(place)?)),
            Where::Outside => self.outside.ns().clone(),
            Where::Node(name) => self.node(name)?.host.ns().clone(),
            Where::Pod { namespace, name } => {
                let sockets = self
                    .nodes
                    .values()
                    .map(|node| self.spec.control_socket(&node.plan.name));
                return pod_spaces(sockets, namespace, name);
            }
        };
        Ok(Spaces::network_only(network))
    }

    /// Runs `f` in the network namespace of a place, on a thread of its own.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn in_ns<R: Send>(
        &self,
        place: &Where,
        f: impl FnOnce() -> R + Send,
    ) -> Result<R, PlaceError> {
        let enter = |source| PlaceError::Enter {
            place: place.clone(),
            source,
        };
        self.spaces(place)?.network.run(f).map_err(enter)
    }

    /// A command that will run in a place: of a Pod, also with its files.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn command(&self, place: &Where, program: &str) -> Result<Command, PlaceError> {
        let mut command = Command::new(program);
        self.spaces(place)?.apply(place, &mut command)?;
        Ok(command)
    }

    /// Runs a command in a place and waits for its output.
    ///
    /// # Errors
    /// [`PlaceError`]; that the command itself failed is in the output.
    pub fn exec(&self, place: &Where, command: &[&str]) -> Result<Output, PlaceError> {
        let enter = |source| PlaceError::Enter {
            place: place.clone(),
            source,
        };
        let [program, args @ ..] = command else {
            return Err(enter(io::ErrorKind::InvalidInput.into()));
        };
        self.command(place, program)?
            .args(args)
            .output()
            .map_err(enter)
    }

    /// Plugs a node's cable in or out: everything on it falls silent, kubelet and agent included.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn set_cable(&mut self, node: &str, cable: Cable) -> Result<(), PlaceError> {
        self.node(node)?;
        Ok(self.segment.set_cable(node, cable)?)
    }

    /// Ends a process with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// [`ChildError::Unknown`] for a node that is not there, [`ChildError::NotRunning`].
    pub fn kill(&mut self, part: &Part) -> Result<(), ChildError> {
        if let (Part::Api, Some(control)) = (part, &mut self.control) {
            return control.kill_api();
        }
        self.parts
            .get_mut(part)
            .ok_or_else(|| ChildError::Unknown {
                part: part.to_string(),
            })?
            .kill()
    }

    /// Starts a process again that was killed or has ended.
    ///
    /// # Errors
    /// [`ChildError`].
    pub fn start(&mut self, part: &Part) -> Result<(), ChildError> {
        if let (Part::Api, Some(control)) = (part, &mut self.control) {
            return control.start_api();
        }
        let child = self.launch(part)?;
        self.parts.insert(part.clone(), child);
        Ok(())
    }

    /// The process id, inside the lab, of a process.
    pub fn pid(&self, part: &Part) -> Option<u32> {
        self.parts.get(part).map(Child::pid)
    }

    /// What another process needs to know to get in.
    pub fn record(&self) -> Record {
        let space = |ns: &NetNs| state::descriptor_path(ns);
        let nodes = self.nodes.values().map(|node| NodeRecord {
            name: node.plan.name.clone(),
            network: space(node.host.ns()),
            control: self.spec.control_socket(&node.plan.name),
            agent: self.spec.agent_socket(&node.plan.name),
        });
        Record {
            outer_pid: self.spec.outer_pid,
            nodes: nodes.collect(),
            outside: space(self.outside.ns()),
            api_port: self.spec.api_port(),
        }
    }

    fn fabric(&self, place: &Where) -> Result<NetNs, PlaceError> {
        NetNs::current().map_err(|source| PlaceError::Enter {
            place: place.clone(),
            source,
        })
    }

    fn node(&self, name: &str) -> Result<&Node, PlaceError> {
        self.nodes.get(name).ok_or_else(|| PlaceError::UnknownNode {
            name: name.to_owned(),
            known: self.nodes.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

/// The namespaces of a place.
#[derive(Debug)]
pub struct Spaces {
    /// The network namespace.
    pub network: NetNs,
    /// The mount namespace, where it is the place's own.
    pub mounts: Option<PathBuf>,
}

impl Spaces {
    fn network_only(network: NetNs) -> Self {
        Self {
            network,
            mounts: None,
        }
    }

    /// Makes a command run there.
    fn apply(&self, place: &Where, command: &mut Command) -> Result<(), PlaceError> {
        let enter = |source| PlaceError::Enter {
            place: place.clone(),
            source,
        };
        let mounts = match &self.mounts {
            Some(path) => Mounts::Join(std::fs::File::open(path).map_err(enter)?.into()),
            None => Mounts::Shared,
        };
        Isolation {
            network: Some(self.network.clone()),
            mounts,
            ..Isolation::default()
        }
        .apply(command);
        Ok(())
    }
}

/// Asks one kubelet after the other.
fn pod_spaces(
    sockets: impl IntoIterator<Item = PathBuf>,
    namespace: &str,
    name: &str,
) -> Result<Spaces, PlaceError> {
    for socket in sockets {
        match where_is(&socket, namespace, name) {
            Ok(found) => {
                let place = || Where::Pod {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                };
                let network = NetNs::open(&found.network).map_err(|source| PlaceError::Enter {
                    place: place(),
                    source,
                })?;
                return Ok(Spaces {
                    network,
                    mounts: found.mounts,
                });
            }
            // A kubelet that was killed runs no Pods.
            Err(WhereError::Unknown { .. } | WhereError::Silent { .. }) => {}
        }
    }
    Err(PlaceError::UnknownPod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Api => f.write_str("api"),
            Self::Controller => f.write_str("controller"),
            Self::Agent(node) => write!(f, "agent-{node}"),
            Self::Kubelet(node) => write!(f, "kubelet-{node}"),
            Self::Outside => f.write_str("outside"),
        }
    }
}
