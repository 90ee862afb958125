//! What the kernel of this node should do, in words that no data plane has to interpret.
//!
//! A [`Frontend`] is an address and port that is captured. It names an [`Action`] for clients inside
//! (this node and its own Pods) and one for clients outside; an action that forwards names a
//! [`Pool`]. A data plane translates these values, one by one, and decides nothing.

mod delta;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Cidr, Family, Protocol};
use crate::input::{Affinity, ServiceKey};
use crate::interface::InterfacePattern;
use crate::listeners::{HealthCheck, HealthCheckKey, LocalListeners};
pub use delta::Delta;
pub(crate) use delta::set_changes;

/// One port of one Service: the unit that has endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// The Service.
    pub service: ServiceKey,
    /// The port's name, empty if it has none.
    pub port: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for PortName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.port.is_empty() { "" } else { ":" };
        write!(
            out,
            "{}{separator}{}/{}",
            self.service, self.port, self.protocol
        )
    }
}

/// Where packets are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKey {
    /// At one address.
    Address {
        /// The destination address.
        ip: IpAddr,
        /// The protocol; a TCP port does not catch UDP.
        protocol: Protocol,
        /// The destination port.
        port: u16,
    },
    /// At every address of this node that serves node ports ([`Desired::node_port_addresses`]).
    NodePort {
        /// The family of those addresses.
        family: Family,
        /// The protocol.
        protocol: Protocol,
        /// The destination port.
        port: u16,
    },
}

impl FrontendKey {
    /// The family of the packets it catches.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Address { ip, .. } => Family::of(*ip),
            Self::NodePort { family, .. } => *family,
        }
    }

    /// The protocol and destination port of the packets it catches.
    #[must_use]
    pub fn protocol_port(&self) -> (Protocol, u16) {
        match *self {
            Self::Address { protocol, port, .. } | Self::NodePort { protocol, port, .. } => {
                (protocol, port)
            }
        }
    }
}

impl fmt::Display for FrontendKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                ip: IpAddr::V6(ip),
                protocol,
                port,
            } => write!(out, "[{ip}]:{port}/{protocol}"),
            Self::Address { ip, protocol, port } => write!(out, "{ip}:{port}/{protocol}"),
            Self::NodePort {
                family,
                protocol,
                port,
            } => write!(out, "node-port {port}/{protocol} ({family})"),
        }
    }
}

/// Which field of the Service asked for a frontend, the best right to an address first: what the API server allocates, then what
/// a load balancer gives, then what anybody may write into a Service (CVE-2020-8554).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancerIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `spec.ports[].nodePort`.
    NodePort,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ClusterIp => "spec.clusterIPs",
            Self::LoadBalancerIp => "status.loadBalancer.ingress",
            Self::ExternalIp => "spec.externalIPs",
            Self::NodePort => "spec.ports[].nodePort",
        })
    }
}

/// An address and port that is captured, with everything that is decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// The Service port that it belongs to.
    pub port: Arc<PortName>,
    /// Which field asked for it.
    pub origin: Origin,
    /// What happens to new connections of this node and of its own Pods.
    pub inside: Action,
    /// What happens to new connections of everybody else.
    pub outside: Action,
    /// Whose source address is replaced by the node's.
    pub masquerade: Masquerade,
    /// Which clients may come at all; asked before anything else.
    pub sources: Sources,
    /// Whether a client keeps its endpoint.
    pub affinity: Affinity,
    /// What this node's own connections to loopback meet at the number of a node port.
    pub loopback: OnLoopback,
}

/// What connections to loopback meet at a number that is a node port: they are no node port's, and what serves it there is no
/// business of the kernel ([`crate::listeners`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnLoopback {
    /// Whoever listens.
    #[default]
    LetThrough,
    /// A refusal.
    Refuse,
}

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It goes to one backend of the port's pool, each as likely as the others.
    Forward(List),
    /// It is refused at once.
    Reject(Reason),
    /// It is dropped in silence.
    Drop(Reason),
}

/// Which of a port's two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// Endpoints anywhere in the cluster.
    Cluster,
    /// Endpoints on this node.
    Local,
}

/// Why a packet is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No usable endpoint exists anywhere.
    NoEndpoint,
    /// Endpoints exist, but none on this node, and the policy says Local.
    NoLocalEndpoint,
    /// The client is in none of `loadBalancerSourceRanges`.
    SourceRange,
    /// The address belongs to a Service, the port does not.
    UnknownPort,
    /// The address is of a ServiceCIDR, and no Service has it.
    Unallocated,
    /// The address is loopback, and the node port is not served there.
    Loopback,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoEndpoint => "no-endpoint",
            Self::NoLocalEndpoint => "no-local-endpoint",
            Self::SourceRange => "source-range",
            Self::UnknownPort => "unknown-port",
            Self::Unallocated => "unallocated",
            Self::Loopback => "loopback",
        })
    }
}

/// Whose source address the node replaces by its own. Apart from this, a Pod that reaches itself
/// through a Service is always masqueraded, or its own kernel would throw the answer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Masquerade {
    /// Nobody's: a cluster IP where own Pods cannot be told.
    Never,
    /// The node's own connections only: `externalTrafficPolicy: Local` keeps the client visible.
    NodeOnly,
    /// Everybody's but own Pods': a cluster IP.
    UnlessOwnPod,
    /// Everybody's.
    Always,
}

/// Which clients a frontend serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// All.
    Any,
    /// Those inside these prefixes, all of the frontend's family, sorted, none inside another. Empty means
    /// nobody: a list that names only the other family closes this one.
    Only(Arc<[Cidr]>),
}

/// A place that a connection can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// Whether it is on this node.
    pub place: Place,
}

/// Where a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On this node.
    Here,
    /// On another node, or unknown.
    Elsewhere,
}

/// The backends of one list of one Service port in one family, sorted, without doubles, never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Each is chosen as often as the others.
    pub backends: Vec<Backend>,
}

/// By what the packets of this node's own Pods are known; by nothing where they cannot be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPods {
    /// Their addresses: prefixes, sorted.
    pub prefixes: Vec<Cidr>,
    /// The interfaces that they come in at.
    pub interfaces: Option<InterfacePattern>,
}

impl fmt::Display for OwnPods {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes = self.prefixes.iter().map(ToString::to_string);
        let interfaces = self.interfaces.iter().map(ToString::to_string);
        let all: Vec<String> = prefixes.chain(interfaces).collect();
        out.write_str(&all.join(", "))
    }
}

/// Names a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// The Service port.
    pub port: Arc<PortName>,
    /// The family of the backends.
    pub family: Family,
    /// Which of the two lists.
    pub list: List,
}

/// A thing in the inputs that is not served, and why. It becomes an Event on the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The Service port that lost.
    pub port: Arc<PortName>,
    /// The address and port that it asked for.
    pub at: FrontendKey,
    /// The Service port that has it.
    pub held_by: Arc<PortName>,
    /// By which right.
    pub why: Lost,
}

/// By which right another Service has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// It has the very address, which goes before a node port.
    ToAddress,
    /// It names the address in a field that goes before the loser's.
    ToField {
        /// The holder's.
        held: Origin,
        /// The loser's.
        lost: Origin,
    },
    /// It is older.
    ToOlder,
    /// It is as old, and its name comes first.
    ToFirstName,
}

/// The right to a place, the best one least: by field, then by age (`metadata.creationTimestamp`, seconds since 1970).
pub(crate) type Right = (Origin, i64);

impl Lost {
    /// Why the right `held` goes before another to the same place.
    pub(crate) fn between(held: Right, lost: Right) -> Self {
        if held.0 != lost.0 {
            Self::ToField {
                held: held.0,
                lost: lost.0,
            }
        } else if held.1 != lost.1 {
            Self::ToOlder
        } else {
            Self::ToFirstName
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToAddress => {
                out.write_str("has this very address, which goes before a node port")
            }
            Self::ToField { held, lost } => {
                write!(out, "names it in {held}, which goes before {lost}")
            }
            Self::ToOlder => out.write_str("is older"),
            Self::ToFirstName => out.write_str("is as old, and its name comes first"),
        }
    }
}

/// Everything this node should do: its kernel, and what it answers by itself (health checks, node ports on loopback).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// What is captured.
    pub frontends: BTreeMap<FrontendKey, Arc<Frontend>>,
    /// The backends, for every list that some frontend forwards to. In no order ([`Desired::pools_in_order`]): each change looks some up, and to be
    /// led to a name by a dozen others costs more than the change.
    pub pools: HashMap<PoolKey, Arc<Pool>>,
    /// Addresses that belong to Services and to nothing else: at any port that is no frontend, new
    /// connections are refused.
    pub service_addresses: BTreeSet<IpAddr>,
    /// External IPs and load balancers' addresses: at any port that is no frontend, new connections of clients outside are
    /// refused. Clients inside may reach what else the address is: with some load balancers it is another node's.
    pub outer_addresses: BTreeSet<IpAddr>,
    /// Prefixes that cluster IPs are taken from, sorted, none inside another: new connections to an address of theirs that
    /// nobody has are dropped.
    pub service_networks: Vec<Cidr>,
    /// Addresses inside `service_networks` that somebody has all the same: this machine, or a Service that another proxy
    /// serves.
    pub spared_addresses: BTreeSet<IpAddr>,
    /// TCP ports at which endpoints answer: what comes from there and is called invalid by connection tracking is dropped.
    pub endpoint_ports: BTreeSet<u16>,
    /// Addresses of backends on this node: one that reaches itself is masqueraded.
    pub local_backends: BTreeSet<IpAddr>,
    /// How this node's own Pods are told from others.
    pub own_pods: OwnPods,
    /// Every address of this node, those of its Node object included: what comes in for one of them is delivered, not
    /// forwarded. A fact about the machine that says what becomes of a packet; no plane has to be told.
    pub own_addresses: BTreeSet<IpAddr>,
    /// Addresses of this node at which node ports answer.
    pub node_port_addresses: BTreeSet<IpAddr>,
    /// The health checks that load balancers may ask for ([`crate::listeners`]).
    pub health_checks: BTreeMap<HealthCheckKey, Arc<HealthCheck>>,
    /// The addresses at which they may; an unspecified one stands for every address of its family.
    pub health_check_addresses: BTreeSet<IpAddr>,
    /// The node ports that a listener serves on loopback.
    pub local_listeners: LocalListeners,
}

impl Desired {
    /// All pools, in the order of their keys.
    #[must_use]
    pub fn pools_in_order(&self) -> Vec<(&PoolKey, &Arc<Pool>)> {
        let mut all: Vec<_> = self.pools.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}
