//! What this node answers by itself, in user space: health checks for load balancers, and node ports on loopback.
//!
//! **Health checks.** A Service of type LoadBalancer with `externalTrafficPolicy: Local` may have a port at which each node says how many of
//! its endpoints are here (`healthCheckNodePort`). In order:
//! 1. the proxy serves the Service, it is of that type and policy, and the number is not 0;
//! 2. for each family in which it has a cluster IP, the endpoints on this node that are *ready* are counted, by distinct
//!    address, over the ports that the Service has. One that only serves while it terminates gets traffic and does not
//!    count: the load balancer is to send elsewhere while there is time;
//! 3. of two Services with one number the older has it.
//!
//! (kubernetes `pkg/proxy/healthcheck/service_health.go`; there endpoints of slice ports that the Service does not have
//! count too.)
//!
//! **Node ports on loopback.** The kernel cannot translate them (see [`crate::node_ports`]), so a listener passes the bytes on:
//! 1. TCP alone, at 127.0.0.1 or ::1, of each family whose loopback `nodePortAddresses` names;
//! 2. for the Service that has the node port (the older one);
//! 3. to the endpoints that clients outside would get: the Local list if the external policy says so, without the short
//!    circuit of other clients inside; `loadBalancerSourceRanges` play no part;
//! 4. without an endpoint there is no listener, so that the kernel refuses;
//! 5. what is not served there is let through to whoever listens, or refused ([`crate::rules::UnservedLoopback`]).
//!
//! (KEP-6032, kubernetes `pkg/proxy/localnodeportproxy`.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::address::{Family, Protocol};
use crate::desire::Here;
use crate::desired::{Action, Desired, FrontendKey, Lost, Pool, PoolKey, PortName};
use crate::endpoints::Looks;
use crate::input::{Affinity, Service, ServiceKey, ServiceType, TrafficPolicy};

/// Names a health check: a port of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HealthCheckKey {
    /// The family of the addresses at which it is asked; each has a count of its own.
    pub family: Family,
    /// The TCP port.
    pub port: u16,
}

/// What a health check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service that it is about.
    pub service: ServiceKey,
    /// The distinct addresses of its ready endpoints on this node, sorted.
    pub endpoints: Vec<IpAddr>,
}

/// A Service whose health check is not served, because another one has the port: the older, then the first by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthCheckRefusal {
    /// The Service that lost.
    pub service: ServiceKey,
    /// The port that it asked for.
    pub at: HealthCheckKey,
    /// The Service that has it.
    pub held_by: ServiceKey,
    /// By which right.
    pub why: Lost,
}

/// The health check that a Service, which this proxy serves and which has a cluster IP of the family, asks for. `left` is how many
/// endpoints may be looked at yet; beyond that none counts.
pub(crate) fn health_check(
    service: &Service,
    family: Family,
    looks: &mut Looks<'_>,
    left: &mut usize,
) -> Option<(HealthCheckKey, Arc<HealthCheck>)> {
    let port = service.health_check_node_port.filter(|port| *port != 0);
    let asks = service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local;
    let port = port.filter(|_| asks)?;
    let ready = looks.ready_here(&service.ports, left);
    let check = HealthCheck {
        service: service.key.clone(),
        endpoints: ready.into_iter().collect(),
    };
    Some((HealthCheckKey { family, port }, Arc::new(check)))
}

/// The addresses at which health checks are asked: those of the machine that serve node ports. An unspecified address
/// stands for every one of its family, loopback included: it is there where the list names all of them.
#[must_use]
pub fn health_check_addresses(here: &Here) -> BTreeSet<IpAddr> {
    let list = &here.options.node_port_addresses;
    let unnamed = here.options.rules.unnamed_family;
    let primary = &here.node.addresses;
    let serving = list.serving(primary, &here.machine_addresses, unnamed);
    let mut found = BTreeSet::new();
    for (family, every, loopback) in FAMILIES {
        if list.covers_all(family, primary, unnamed) {
            found.insert(every);
            continue;
        }
        let held = |ip: &IpAddr| here.machine_addresses.contains(ip) && Family::of(*ip) == family;
        found.extend(serving.iter().copied().filter(held));
        found.extend(Some(loopback).filter(|ip| list.name(*ip)));
    }
    found
}

const FAMILIES: [(Family, IpAddr, IpAddr); 2] = [
    (
        Family::V4,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    ),
    (
        Family::V6,
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ),
];

/// Names a listener on loopback: 127.0.0.1 or ::1, and a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalListenerKey {
    /// The family of the address.
    pub family: Family,
    /// The port: a node port.
    pub port: u16,
}

impl LocalListenerKey {
    /// The address to listen at; not the rest of 127.0.0.0/8.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// Where a listener on loopback passes its connections on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalListener {
    /// The Service port.
    pub port: Arc<PortName>,
    /// Its endpoints; each connection goes to one of them.
    pub pool: Arc<Pool>,
    /// Whether the connections, all of one client, keep to one.
    pub affinity: Affinity,
}

/// The listener for a place, if it is a node port that wants one on loopback of `families`.
pub(crate) fn local_listener(
    desired: &Desired,
    at: FrontendKey,
    families: &[Family],
) -> Option<(LocalListenerKey, Option<Arc<LocalListener>>)> {
    let FrontendKey::NodePort {
        family,
        protocol: Protocol::Tcp,
        port,
    } = at
    else {
        return None;
    };
    let key = LocalListenerKey { family, port };
    families
        .contains(&family)
        .then(|| (key, passed_on(desired, at)))
}

fn passed_on(desired: &Desired, at: FrontendKey) -> Option<Arc<LocalListener>> {
    let frontend = desired.frontends.get(&at)?;
    let Action::Forward(list) = frontend.outside else {
        return None;
    };
    let pool = desired.pools.get(&PoolKey {
        port: frontend.port.clone(),
        family: at.family(),
        list,
    })?;
    Some(Arc::new(LocalListener {
        port: frontend.port.clone(),
        pool: pool.clone(),
        affinity: frontend.affinity,
    }))
}

/// Whether node ports of a protocol are served on loopback of a family.
#[must_use]
pub fn serves(here: &Here, family: Family, protocol: Protocol) -> bool {
    protocol == Protocol::Tcp && here.options.node_port_addresses.name_loopback(family)
}

/// The families of which node ports answer on loopback.
pub(crate) fn loopback_families(here: &Here) -> Vec<Family> {
    let served = |family: &Family| serves(here, *family, Protocol::Tcp);
    Family::BOTH.into_iter().filter(served).collect()
}

/// Listeners on loopback by place.
pub type LocalListeners = BTreeMap<LocalListenerKey, Arc<LocalListener>>;
