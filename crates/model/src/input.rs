//! The records that API objects are reduced to before anything is decided.
//!
//! A record keeps what some part of daymark needs and nothing else; `feed` makes them from watch
//! events, `case` from text. Names are shared (`Arc<str>`), so that an endpoint costs some dozens of bytes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Cidr, Family, Protocol};
use crate::interface::InterfacePattern;
use crate::node_ports::{NodePortAddress, NodePortAddresses};
use crate::rules::{Mode, Rules};
pub use crate::uid::Uid;

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name inside the namespace.
    pub name: Arc<str>,
}

impl ServiceKey {
    /// The key of `namespace/name`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// `spec.type`, with what only that type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// A virtual address inside the cluster.
    ClusterIp,
    /// And a port on every node.
    NodePort,
    /// And addresses that a load balancer brings in.
    LoadBalancer,
    /// An alias in DNS; no address, no packets.
    ExternalName(Arc<str>),
}

/// `spec.clusterIP` and `spec.clusterIPs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterIps {
    /// Nothing allocated (yet), or an ExternalName.
    Unset,
    /// `None`: discovery by DNS alone.
    Headless,
    /// One address a family, the first family first.
    Allocated(Vec<IpAddr>),
}

impl ClusterIps {
    /// The address of a family.
    #[must_use]
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        self.all()
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family)
    }

    /// All allocated addresses, in order.
    #[must_use]
    pub fn all(&self) -> &[IpAddr] {
        match self {
            Self::Allocated(ips) => ips,
            Self::Unset | Self::Headless => &[],
        }
    }
}

/// `internalTrafficPolicy` or `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Endpoints on this node alone.
    Local,
}

/// `sessionAffinity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Each connection chooses anew.
    #[default]
    None,
    /// A client address stays with its endpoint until idle for so many seconds (1 to 86,400).
    ClientIp {
        /// `sessionAffinityConfig.clientIP.timeoutSeconds`.
        timeout: u32,
    },
}

/// `status.loadBalancer.ingress[].ipMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressMode {
    /// Packets arrive with the address as destination: nodes capture it.
    Vip,
    /// The load balancer ends the connection itself: nodes leave the address alone (KEP-1860).
    Proxy,
}

/// One entry of `status.loadBalancer.ingress` that has an IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The address.
    pub ip: IpAddr,
    /// Who translates it.
    pub mode: IngressMode,
}

/// One entry of `spec.ports`. The target port is the endpoint slices' business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The name, empty if the only port has none.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at the Service's addresses, 1 to 65,535.
    pub port: u16,
    /// The port at every node.
    pub node_port: Option<u16>,
}

/// Whom a Service asks to bring in its load-balancer traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancerRequest {
    /// `spec.loadBalancerClass`.
    pub class: Option<Arc<str>>,
    /// Addresses asked for: `spec.loadBalancerIP`, or the MetalLB annotation `loadBalancerIPs`.
    pub addresses: Vec<IpAddr>,
    /// What stands among those addresses and is none, as written.
    pub unreadable: Vec<Arc<str>>,
    /// The pool asked for by the MetalLB annotation `address-pool`.
    pub pool: Option<Arc<str>>,
    /// The pools that its addresses came from: the MetalLB annotation `ip-allocated-from-pool`.
    pub given_from: Vec<Arc<str>>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// `metadata.uid`, for Events about it; none in a case.
    pub uid: Option<Uid>,
    /// Creation time, seconds since 1970: of two Services that claim one address and port by the same field the older wins.
    pub created: i64,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.clusterIPs`.
    pub cluster_ips: ClusterIps,
    /// `spec.ipFamilies`.
    pub families: Vec<Family>,
    /// `spec.externalIPs` that could be read.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress` entries with an IP.
    pub ingress: Vec<Ingress>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.sessionAffinity`.
    pub affinity: Affinity,
    /// `spec.loadBalancerSourceRanges` that could be read, both families.
    pub source_ranges: Vec<Cidr>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// The label `service.kubernetes.io/service-proxy-name`: some other proxy serves it.
    pub proxy_name: Option<Arc<str>>,
    /// What the load balancer needs to know; none for most Services.
    pub load_balancer: Option<Box<LoadBalancerRequest>>,
}

/// Namespace and name of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name inside the namespace.
    pub name: Arc<str>,
}

/// An EndpointSlice of address type IPv4 or IPv6. FQDN slices never become records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name.
    pub key: SliceKey,
    /// The Service it belongs to: label `kubernetes.io/service-name`, same namespace.
    pub service: Arc<str>,
    /// `addressType`.
    pub family: Family,
    /// Whether the label `service.kubernetes.io/headless` hides it from proxies.
    pub audience: SliceAudience,
    /// `ports` that have a number; a port without one is none.
    pub ports: Vec<SlicePort>,
    /// `endpoints` whose first address could be read.
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    /// The Service that it belongs to.
    #[must_use]
    pub fn owner(&self) -> ServiceKey {
        ServiceKey {
            namespace: self.key.namespace.clone(),
            name: self.service.clone(),
        }
    }
}

/// Who reads a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SliceAudience {
    /// Proxies and DNS.
    #[default]
    Everyone,
    /// DNS alone: the slice carries `service.kubernetes.io/headless`.
    DnsOnly,
}

/// One entry of a slice's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service port's name.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number at the endpoint.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`; the others are not read, as in kube-proxy.
    pub address: IpAddr,
    /// `conditions`.
    pub conditions: Conditions,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `hints`, when there are any.
    pub hints: Option<Box<Hints>>,
    /// `hostname`, for DNS.
    pub hostname: Option<Arc<str>>,
}

/// `conditions` of an endpoint, absent values kept apart from set ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `ready`.
    pub ready: Option<bool>,
    /// `serving`.
    pub serving: Option<bool>,
    /// `terminating`.
    pub terminating: Option<bool>,
}

impl Conditions {
    /// Takes new connections: an absent `ready` means yes.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// Answers, though it may be going away: an absent `serving` means yes.
    #[must_use]
    pub fn is_serving(self) -> bool {
        self.serving.unwrap_or(true)
    }

    /// Is going away: an absent `terminating` means no.
    #[must_use]
    pub fn is_terminating(self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

/// `hints` of an endpoint: whom it should serve first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hints {
    /// `forZones[].name`.
    pub zones: Vec<Arc<str>>,
    /// `forNodes[].name`.
    pub nodes: Vec<Arc<str>>,
}

/// The node that this proxy runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The label `topology.kubernetes.io/zone`, empty if absent.
    pub zone: Arc<str>,
    /// `status.addresses` of type InternalIP, then those of type ExternalIP, each in order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<Cidr>,
}

/// A ServiceCIDR: prefixes that cluster IPs are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `spec.cidrs` that could be read.
    pub cidrs: Vec<Cidr>,
}

/// How packets of this node's own Pods are told from others (`detectLocalMode`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Detector {
    /// By source address, in the Node's `spec.podCIDRs`.
    #[default]
    NodeCidr,
    /// By source address, in these prefixes: `ClusterCIDR`. kube-proxy takes the first of each family alone.
    Cidrs(Vec<Cidr>),
    /// By the interface that their packets come in at: `BridgeInterface` and `InterfaceNamePrefix`.
    Interface(InterfacePattern),
    /// Not at all: every Pod counts as outside, and nothing is masqueraded for a cluster IP.
    None,
}

/// Settings of the proxy that change what a Service means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The name of this node: endpoints on it are known before its Node object is. A Node object's own name
    /// goes before it.
    pub node_name: Arc<str>,
    /// How own Pods are known.
    pub detector: Detector,
    /// Where node ports answer (`nodePortAddresses`).
    pub node_port_addresses: NodePortAddresses,
    /// `masqueradeAll`: cluster-IP traffic of own Pods is masqueraded too.
    pub masquerade_all: MasqueradeAll,
    /// What the rules leave open.
    pub rules: Rules,
}

impl Options {
    /// The settings of kube-proxy in a mode, where its configuration says nothing: node ports answer at the node's first
    /// addresses with nftables, at all with the others; own Pods are not known before `clusterCIDR` names them.
    ///
    /// ```
    /// use daymark_model::node_ports::NodePortAddresses;
    /// use daymark_model::{Mode, Options};
    /// let primary = NodePortAddresses::default();
    /// assert_eq!(Options::of_mode(Mode::Nftables).node_port_addresses, primary);
    /// assert_ne!(Options::of_mode(Mode::Iptables).node_port_addresses, primary);
    /// ```
    #[must_use]
    pub fn of_mode(mode: Mode) -> Self {
        Self {
            node_name: Arc::default(),
            detector: Detector::None,
            node_port_addresses: match mode {
                Mode::Nftables => NodePortAddresses::default(),
                Mode::Iptables | Mode::Ipvs => NodePortAddresses(vec![NodePortAddress::All]),
            },
            masquerade_all: MasqueradeAll::No,
            rules: Rules::of_mode(mode),
        }
    }
}

/// Whether own Pods' traffic to a cluster IP keeps its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MasqueradeAll {
    /// It does.
    #[default]
    No,
    /// It never does.
    Yes,
}

/// One change of the inputs; `None` means gone. An update carries the whole new record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A Service came, changed or went.
    Service(ServiceKey, Option<Arc<Service>>),
    /// A slice came, changed or went.
    Slice(SliceKey, Option<Arc<Slice>>),
    /// The Node object of this node.
    Node(Option<Arc<Node>>),
    /// The addresses that the machine's interfaces hold now, loopback excepted.
    MachineAddresses(Arc<[IpAddr]>),
    /// A ServiceCIDR came, changed or went, by name.
    ServiceCidr(Arc<str>, Option<Arc<ServiceCidr>>),
}

/// All inputs at one moment: what `decide` and a cold start read.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Services by key.
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    /// Slices by key. In no order ([`Inputs::slices_in_order`]): each change looks one up, and names that are far apart in memory are dear to compare.
    pub slices: HashMap<SliceKey, Arc<Slice>>,
    /// The Node object, once known.
    pub node: Option<Arc<Node>>,
    /// Addresses of the machine's interfaces.
    pub machine_addresses: Arc<[IpAddr]>,
    /// ServiceCIDRs by name.
    pub service_cidrs: BTreeMap<Arc<str>, Arc<ServiceCidr>>,
}

impl Inputs {
    /// All slices, in the order of their keys.
    #[must_use]
    pub fn slices_in_order(&self) -> Vec<Arc<Slice>> {
        let mut all: Vec<_> = self.slices.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }
}
