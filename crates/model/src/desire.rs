//! What one Service asks of this node.
//!
//! For each family in which the Service has a cluster IP (without one it does not exist there), and
//! for each of its ports:
//! 1. the endpoints are sorted into the Cluster and the Local list ([`crate::endpoints`]);
//! 2. the cluster IP follows `internalTrafficPolicy`, for inside and outside alike;
//! 3. external addresses (externalIPs, load-balancer IPs, node ports) follow `externalTrafficPolicy`
//!    for clients outside; clients inside always get the Cluster list (the short circuit);
//! 4. a list without endpoints refuses, or, if the policy is Local and endpoints exist elsewhere, drops;
//! 5. `loadBalancerSourceRanges` bind the load-balancer IPs alone.
//!
//! The rules are kube-proxy's; where its modes differ there is a choice ([`crate::rules`]).

mod places;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Cidr, Family, Protocol};
use crate::audience::{self, NotProxied};
use crate::decide::Client;
use crate::desired::{
    Action, Frontend, FrontendKey, List, Masquerade, OnLoopback, Origin, OwnPods, Place, Pool,
    PoolKey, PortName, Reason, Sources,
};
use crate::endpoints::{Lists, Looks, Presence};
use crate::input::{
    Detector, MasqueradeAll, Node, Options, Service, ServiceCidr, ServicePort, Slice, TrafficPolicy,
};
use crate::listeners::{self, HealthCheck, HealthCheckKey, health_check};
use crate::rules::{Gap, Rules, Unallocated, UnknownPorts, UnservedLoopback, WithoutLocal};
pub use places::{Named, NotServed, places};
use places::{addresses, exists};

/// What the rules need to know about the place where they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The node.
    pub node: Node,
    /// The addresses of the machine's interfaces, loopback excepted.
    pub machine_addresses: Arc<[IpAddr]>,
    /// The proxy's settings.
    pub options: Options,
}

impl Here {
    /// This node before it has a Node object: its name, by which endpoints are known to be here.
    #[must_use]
    pub fn unregistered(&self) -> Node {
        Node {
            name: self.options.node_name.clone(),
            ..Node::default()
        }
    }

    /// How this node's own Pods are told.
    #[must_use]
    pub fn own_pods(&self) -> OwnPods {
        let (mut prefixes, interfaces) = match &self.options.detector {
            Detector::NodeCidr => (self.node.pod_cidrs.clone(), None),
            Detector::Cidrs(cidrs) => (cidrs.clone(), None),
            Detector::Interface(pattern) => (Vec::new(), Some(*pattern)),
            Detector::None => (Vec::new(), None),
        };
        prefixes.sort_unstable();
        prefixes.dedup();
        OwnPods {
            prefixes,
            interfaces,
        }
    }

    /// Addresses at which the kernel answers node ports ([`crate::node_ports`]).
    #[must_use]
    pub fn node_port_addresses(&self) -> Vec<IpAddr> {
        self.options.node_port_addresses.serving(
            &self.node.addresses,
            &self.machine_addresses,
            self.options.rules.unnamed_family,
        )
    }

    /// Every address of this node: those that its interfaces have, and those that its Node object names.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let all = self.machine_addresses.iter().chain(&self.node.addresses);
        all.copied()
    }

    fn is_own_address(&self, ip: IpAddr) -> bool {
        self.own_addresses().any(|own| own == ip)
    }

    /// Prefixes in which an address that nobody has is refused to everybody.
    #[must_use]
    pub fn service_networks<'a>(
        &self,
        service_cidrs: impl IntoIterator<Item = &'a Arc<ServiceCidr>>,
    ) -> Vec<Cidr> {
        match self.options.rules.unallocated {
            Unallocated::LetThrough => Vec::new(),
            Unallocated::Drop => {
                let all = service_cidrs.into_iter().flat_map(|all| &all.cidrs);
                without_nested(all.copied().collect())
            }
        }
    }

    /// The machine's own addresses inside these prefixes, sorted.
    #[must_use]
    pub fn own_addresses_in(&self, networks: &[Cidr]) -> BTreeSet<IpAddr> {
        let inside = |ip: &IpAddr| networks.iter().any(|network| network.contains(*ip));
        self.own_addresses().filter(inside).collect()
    }
}

/// What one Service asks for, before it is weighed against the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// When the Service was created, seconds since 1970: of two claims by the same field the older wins.
    pub created: i64,
    /// Addresses and ports to capture.
    pub frontends: Vec<(FrontendKey, Arc<Frontend>)>,
    /// The pools they forward to.
    pub pools: Vec<(PoolKey, Arc<Pool>)>,
    /// Addresses that are the Service's alone.
    pub addresses: Vec<IpAddr>,
    /// Addresses that are the Service's for clients outside.
    pub outer_addresses: Vec<IpAddr>,
    /// Cluster IPs that are no business of this proxy, and not free either.
    pub spared: Vec<IpAddr>,
    /// Health checks to answer.
    pub health_checks: Vec<(HealthCheckKey, Arc<HealthCheck>)>,
    /// How many ports, counted once a family, ask for nothing because the Service has as many places as one may have
    /// ([`MOST_PLACES`]), as many backends behind them ([`MOST_BACKENDS`]), or as many endpoints to look at ([`MOST_LOOKED_AT`]).
    pub beyond: usize,
}

/// How many places one Service may have on a node: those of the port that passes this number are its last. Ten thousand ports at a
/// cluster IP, a node port and a load balancer's address in both families are fewer; the API's own limit is the size of an object, and
/// ports times external IPs inside of it are some hundred million.
pub const MOST_PLACES: usize = 1 << 16;

/// How many backends the lists of one Service may have on a node, all ports together: the lists of the port that passes this number are its
/// last. A hundred thousand endpoints in both families, of which all are on this node, are fewer; a slice of a hundred ports
/// and a thousand endpoints is an object of a few hundred kilobytes, and a hundred thousand backends.
pub const MOST_BACKENDS: usize = 1 << 19;

/// How many endpoints of one Service are looked at on a node, ready or not, each once for each set of slices that name a port alike, and for
/// each number that they give it. A hundred thousand endpoints in both families, with five ports that each have slices of their own, are as many.
pub const MOST_LOOKED_AT: usize = 1 << 20;

impl Wishes {
    /// Whether the Service asks for nothing here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let addresses = [&self.addresses, &self.outer_addresses, &self.spared];
        self.frontends.is_empty()
            && self.health_checks.is_empty()
            && addresses.into_iter().all(Vec::is_empty)
    }

    /// TCP ports at which backends answer.
    pub fn endpoint_ports(&self) -> impl Iterator<Item = u16> + Clone + '_ {
        let tcp = self.pools.iter();
        let tcp = tcp.filter(|(key, _)| key.port.protocol == Protocol::Tcp);
        tcp.flat_map(|(_, pool)| distinct_ports(pool))
    }

    /// Gives back the room for more: they are kept, and most Services have one of each.
    fn fit(&mut self) {
        self.frontends.shrink_to_fit();
        self.pools.shrink_to_fit();
        self.addresses.shrink_to_fit();
        self.outer_addresses.shrink_to_fit();
    }

    /// Addresses of backends on this node.
    pub fn local_backends(&self) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let backends = self.pools.iter().flat_map(|(_, pool)| &pool.backends);
        backends
            .filter(|backend| backend.place == Place::Here)
            .map(|backend| backend.address)
    }
}

/// Most pools have one.
fn distinct_ports(pool: &Pool) -> Vec<u16> {
    let mut ports: Vec<u16> = pool.backends.iter().map(|backend| backend.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What `service` asks of the node `here`, given the slices that carry its name.
#[must_use]
pub fn desire(service: &Service, slices: &[&Arc<Slice>], here: &Here) -> Wishes {
    let slices = slices.iter().copied();
    desire_and_count(service, slices, here, &Wishes::default()).0
}

/// And how many endpoints were looked at for it. The names of its ports are taken from what it asked for before, where they are the same.
pub(crate) fn desire_and_count<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Arc<Slice>> + Clone,
    here: &'a Here,
    before: &Wishes,
) -> (Wishes, usize) {
    let mut wishes = Wishes {
        created: service.created,
        ..Wishes::default()
    };
    if let Err(why) = audience::proxy(service) {
        if why == NotProxied::OtherProxy {
            wishes.spared = service.cluster_ips.all().to_vec();
        }
        return (wishes, 0);
    }
    let (mut backends, mut left) = (0, MOST_LOOKED_AT);
    let mut names = Names {
        known: &before.frontends,
        last: None,
    };
    for family in Family::BOTH {
        if exists(service, family).is_err() {
            continue;
        }
        claim_addresses(service, family, here, &mut wishes);
        let mut looks = Looks::of(slices.clone(), family, &here.node);
        let check = health_check(service, family, &mut looks, &mut left);
        wishes.health_checks.extend(check);
        for port in &service.ports {
            if wishes.frontends.len() >= MOST_PLACES || backends >= MOST_BACKENDS {
                wishes.beyond += 1;
                continue;
            }
            let Ok(lists) = looks.lists(port, &mut left) else {
                wishes.beyond += 1;
                continue;
            };
            let first = wishes.pools.len();
            let name = names.of(service, port);
            desire_port(service, (port, &name), family, lists, here, &mut wishes);
            let pools = wishes.pools[first..].iter();
            backends += pools.map(|(_, pool)| pool.backends.len()).sum::<usize>();
        }
    }
    wishes.fit();
    (wishes, MOST_LOOKED_AT - left)
}

fn desire_port(
    service: &Service,
    (port, name): (&ServicePort, &Arc<PortName>),
    family: Family,
    lists: Lists,
    here: &Here,
    wishes: &mut Wishes,
) {
    let mut used = Vec::new();
    let served = places(service, port, family, &here.options.rules);
    for named in served.filter(|named| named.served.is_ok()) {
        let frontend = frontend(service, name, &named, &lists, here);
        used.extend([frontend.inside, frontend.outside]);
        wishes.frontends.push((named.at, Arc::new(frontend)));
    }
    for (list, backends) in [(List::Cluster, lists.cluster), (List::Local, lists.local)] {
        if used.contains(&Action::Forward(list)) {
            let key = PoolKey {
                port: name.clone(),
                family,
                list,
            };
            wishes.pools.push((key, Arc::new(Pool { backends })));
        }
    }
}

/// The names of a Service's ports as frontends have them, in their order.
struct Names<'a> {
    known: &'a [(FrontendKey, Arc<Frontend>)],
    last: Option<Arc<PortName>>,
}

impl Names<'_> {
    /// The name of the next port: the known one where it is the same, so that whoever keeps it finds the very same. A single port has one
    /// in both families.
    fn of(&mut self, service: &Service, port: &ServicePort) -> Arc<PortName> {
        let is_same = |name: &&Arc<PortName>| {
            (&name.service, &name.port, name.protocol) == (&service.key, &port.name, port.protocol)
        };
        let next = self.known.first().map(|(_, first)| &first.port);
        let found = self.last.iter().chain(next).find(is_same).cloned();
        let name = found.unwrap_or_else(|| {
            Arc::new(PortName {
                service: service.key.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            })
        });
        let is_other = |(_, frontend): &(_, Arc<Frontend>)| frontend.port != name;
        let next = self.known.iter().position(is_other);
        self.known = &self.known[next.unwrap_or(self.known.len())..];
        self.last = Some(Arc::clone(&name));
        name
    }
}

/// Which policy new connections follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `internalTrafficPolicy`: everybody at a cluster IP.
    Internal(TrafficPolicy),
    /// `externalTrafficPolicy`: clients outside, at all other places.
    External(TrafficPolicy),
    /// None: clients inside get any endpoint of the cluster there.
    ShortCircuit,
}

impl Policy {
    /// That of a place that `origin` names, for such a client.
    #[must_use]
    pub fn of(service: &Service, origin: Origin, client: Client) -> Self {
        match (origin, client) {
            (Origin::ClusterIp, _) => Self::Internal(service.internal_policy),
            (_, Client::Outside) => Self::External(service.external_policy),
            (_, Client::Node | Client::OwnPod) => Self::ShortCircuit,
        }
    }

    /// The list that it chooses.
    #[must_use]
    pub fn list(self) -> List {
        match self {
            Self::Internal(TrafficPolicy::Local) | Self::External(TrafficPolicy::Local) => {
                List::Local
            }
            _ => List::Cluster,
        }
    }

    fn action(self, service: &Service, lists: &Lists, rules: &Rules) -> Action {
        if self.list() == List::Cluster {
            return cluster_action(lists);
        }
        let elsewhere = match (rules.without_local, self) {
            (WithoutLocal::Drop, _) => Action::Drop(Reason::NoLocalEndpoint),
            (WithoutLocal::Cluster, Self::Internal(_)) if !is_reachable(service, rules) => {
                Action::Reject(Reason::NoLocalEndpoint)
            }
            (WithoutLocal::Cluster, _) => cluster_action(lists),
        };
        local_action(lists, elsewhere)
    }
}

/// The frontend at a place that a Service names.
fn frontend(
    service: &Service,
    name: &Arc<PortName>,
    named: &Named,
    lists: &Lists,
    here: &Here,
) -> Frontend {
    let rules = &here.options.rules;
    let action = |client| Policy::of(service, named.origin, client).action(service, lists, rules);
    let sources = match (named.origin, named.at) {
        (Origin::LoadBalancerIp, FrontendKey::Address { ip, .. }) => sources(service, ip, here),
        _ => Sources::Any,
    };
    Frontend {
        port: name.clone(),
        origin: named.origin,
        inside: action(Client::Node),
        outside: action(Client::Outside),
        masquerade: masquerade(service, named.origin, here),
        sources,
        affinity: service.affinity,
        loopback: on_loopback(named.at, here),
    }
}

fn on_loopback(at: FrontendKey, here: &Here) -> OnLoopback {
    let refuses = here.options.rules.unserved_loopback == UnservedLoopback::Refuse;
    match at {
        FrontendKey::NodePort {
            family, protocol, ..
        } if refuses && !listeners::serves(here, family, protocol) => OnLoopback::Refuse,
        _ => OnLoopback::LetThrough,
    }
}

fn masquerade(service: &Service, origin: Origin, here: &Here) -> Masquerade {
    if origin != Origin::ClusterIp {
        return match service.external_policy {
            TrafficPolicy::Cluster => Masquerade::Always,
            TrafficPolicy::Local => Masquerade::NodeOnly,
        };
    }
    match (here.options.masquerade_all, &here.options.detector) {
        (MasqueradeAll::Yes, _) => Masquerade::Always,
        (MasqueradeAll::No, Detector::None) => Masquerade::Never,
        (MasqueradeAll::No, _) => Masquerade::UnlessOwnPod,
    }
}

fn cluster_action(lists: &Lists) -> Action {
    if lists.cluster.is_empty() {
        Action::Reject(Reason::NoEndpoint)
    } else {
        Action::Forward(List::Cluster)
    }
}

/// `elsewhere` is what happens if endpoints exist, but none on this node.
fn local_action(lists: &Lists, elsewhere: Action) -> Action {
    match (lists.local.is_empty(), lists.anywhere) {
        (false, _) => Action::Forward(List::Local),
        (true, Presence::Present) => elsewhere,
        (true, Presence::Absent) => Action::Reject(Reason::NoEndpoint),
    }
}

/// Whether anything but a cluster IP leads to the Service.
fn is_reachable(service: &Service, rules: &Rules) -> bool {
    let outer = |port: &ServicePort| {
        let places = |family| places(service, port, family, rules);
        let served = Family::BOTH.into_iter().flat_map(places);
        let mut served = served.filter(|named| named.served.is_ok());
        served.any(|named| named.origin != Origin::ClusterIp)
    };
    service.ports.iter().any(outer)
}

/// What happens at the addresses of a Service to ports that it does not name. An address that is also one of this machine
/// is left alone: other programs listen there (ServiceLB hands out node addresses, for instance).
fn claim_addresses(service: &Service, family: Family, here: &Here, wishes: &mut Wishes) {
    let rules = &here.options.rules;
    for (origin, ip, served) in addresses(service, family, rules) {
        if served.is_err() || here.is_own_address(ip) {
            continue;
        }
        match (origin, rules.unknown_ports) {
            (Origin::ClusterIp, UnknownPorts::LetThrough) => wishes.spared.push(ip),
            (Origin::ClusterIp, _) => wishes.addresses.push(ip),
            (_, UnknownPorts::Refuse) => wishes.outer_addresses.push(ip),
            (_, UnknownPorts::RefuseAtClusterIps | UnknownPorts::LetThrough) => {}
        }
    }
}

/// Who may come to a load-balancer address.
///
/// A prefix of length 0 lets everybody of its family in. A list that names only the other family
/// lets nobody in, or everybody ([`Gap`]). When the node itself is inside a range, the
/// address may also reach itself: the node answers for it (kubernetes `pkg/proxy/nftables`).
fn sources(service: &Service, ip: IpAddr, here: &Here) -> Sources {
    if service.source_ranges.is_empty() {
        return Sources::Any;
    }
    let family = Family::of(ip);
    let mut allowed: Vec<Cidr> = service
        .source_ranges
        .iter()
        .copied()
        .filter(|range| range.family() == family)
        .collect();
    if allowed.iter().any(|range| range.length() == 0) {
        return Sources::Any;
    }
    let open = here.options.rules.ranges_of_one_family == Gap::Open;
    if open && names_other_family_alone(service, family) {
        return Sources::Any;
    }
    if here
        .node
        .addresses
        .iter()
        .any(|own| allowed.iter().any(|range| range.contains(*own)))
    {
        allowed.push(Cidr::host(ip));
    }
    Sources::Only(without_nested(allowed).into())
}

/// Whether the source ranges say nothing about a family, but something about the other.
pub(crate) fn names_other_family_alone(service: &Service, family: Family) -> bool {
    let ranges = &service.source_ranges;
    !ranges.is_empty() && ranges.iter().all(|range| range.family() != family)
}

/// The prefixes in order, without those that lie inside another.
fn without_nested(mut prefixes: Vec<Cidr>) -> Vec<Cidr> {
    // Of two that begin alike the wider one comes first, so that what holds a prefix is the last that was kept.
    prefixes.sort_unstable();
    let mut kept: Vec<Cidr> = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        if !kept
            .last()
            .is_some_and(|wider| wider.contains(prefix.first()))
        {
            kept.push(prefix);
        }
    }
    kept
}
