//! What this node answers by itself, in user space: health checks for load balancers.
//!
//! A Service of type LoadBalancer with `externalTrafficPolicy: Local` may have a port at which each node says how many of
//! its endpoints are here (`healthCheckNodePort`). In order:
//! 1. the proxy serves the Service, it is of that type and policy, and the number is not 0;
//! 2. for each family in which it has a cluster IP, the endpoints on this node that are *ready* are counted, by distinct
//!    address, over the ports that the Service has. One that only serves while it terminates gets traffic and does not
//!    count: the load balancer is to send elsewhere while there is time;
//! 3. of two Services with one number the older has it.
//!
//! (kubernetes `pkg/proxy/healthcheck/service_health.go`; there endpoints of slice ports that the Service does not have
//! count too.)

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::address::Family;
use crate::audience;
use crate::desire::Here;
use crate::endpoints;
use crate::input::{Service, ServiceKey, ServiceType, Slice, TrafficPolicy};

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

/// A Service whose health check is not served, because an older one has the port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthCheckRefusal {
    /// The Service that lost.
    pub service: ServiceKey,
    /// The port that it asked for.
    pub at: HealthCheckKey,
    /// The Service that has it.
    pub held_by: ServiceKey,
}

/// The health checks that a Service asks for on the node `here`.
#[must_use]
pub fn health_checks(
    service: &Service,
    slices: &[&Arc<Slice>],
    here: &Here,
) -> Vec<(HealthCheckKey, Arc<HealthCheck>)> {
    let port = service.health_check_node_port.filter(|port| *port != 0);
    let asks = service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local
        && audience::proxy(service).is_ok();
    let Some(port) = port.filter(|_| asks) else {
        return Vec::new();
    };
    let families = Family::BOTH.into_iter();
    families
        .filter(|family| service.cluster_ips.of(*family).is_some())
        .map(|family| {
            let check = HealthCheck {
                service: service.key.clone(),
                endpoints: ready_here(service, slices, family, here),
            };
            (HealthCheckKey { family, port }, Arc::new(check))
        })
        .collect()
}

fn ready_here(
    service: &Service,
    slices: &[&Arc<Slice>],
    family: Family,
    here: &Here,
) -> Vec<IpAddr> {
    let ports = service.ports.iter();
    let ready: BTreeSet<IpAddr> = ports
        .flat_map(|port| endpoints::ready_on(slices.iter().copied(), port, family, &here.node))
        .collect();
    ready.into_iter().collect()
}

/// The addresses at which health checks are asked: those of the machine that serve node ports. An unspecified address
/// stands for every one of its family, loopback included: it is there where the list names all of them.
#[must_use]
pub fn health_check_addresses(here: &Here) -> BTreeSet<IpAddr> {
    let list = &here.options.node_port_addresses;
    let unnamed = here.options.unnamed_family;
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
