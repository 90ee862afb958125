//! The places that a Service names, and which of them nodes serve.

use std::net::IpAddr;

use crate::address::{Family, is_special};
use crate::desired::{FrontendKey, Origin};
use crate::input::{Ingress, IngressMode, Service, ServicePort, ServiceType};
use crate::rules::{ExternalIps, Rules};

/// A place that a Service names, and whether nodes serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which field names it.
    pub origin: Origin,
    /// The place.
    pub at: FrontendKey,
    /// Why it is not served, if it is not.
    pub served: Result<(), NotServed>,
}

/// Why an address or port that a Service names is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotServed {
    /// The Service has no cluster IP of this family, and so does not exist there.
    NoClusterIp,
    /// The load balancer ends connections itself: `ipMode` is Proxy (KEP-1860).
    ProxyMode,
    /// A status left over: `spec.type` is not LoadBalancer.
    NotLoadBalancer,
    /// A number left over: `spec.type` is ClusterIP.
    NoNodePorts,
    /// An external IP that this node's settings do not allow ([`ExternalIps`]).
    NotAllowed,
    /// An external IP or a load balancer's that is special ([`is_special`]): the node's own connections to itself, or every Pod's to
    /// its link, would be caught.
    Special,
    /// A port behind those with which the Service has all the places that one may have ([`super::MOST_PLACES`]), all the backends
    /// ([`super::MOST_BACKENDS`]), or all the endpoints to look at ([`super::MOST_LOOKED_AT`]).
    TooMany,
}

/// Every place that a Service's port names in one family, the cluster IP first.
pub fn places(
    service: &Service,
    port: &ServicePort,
    family: Family,
    rules: &Rules,
) -> impl Iterator<Item = Named> {
    let (protocol, number) = (port.protocol, port.port);
    let at_addresses = addresses(service, family, rules).map(move |(origin, ip, served)| Named {
        origin,
        at: FrontendKey::Address {
            ip,
            protocol,
            port: number,
        },
        served,
    });
    let node_port = port.node_port.map(|port| Named {
        origin: Origin::NodePort,
        at: FrontendKey::NodePort {
            family,
            protocol,
            port,
        },
        served: exists(service, family).and(has_node_ports(service)),
    });
    at_addresses.chain(node_port)
}

/// The addresses that a Service names in one family, whatever its ports.
pub(super) fn addresses(
    service: &Service,
    family: Family,
    rules: &Rules,
) -> impl Iterator<Item = (Origin, IpAddr, Result<(), NotServed>)> {
    let exists = exists(service, family);
    let cluster = service.cluster_ips.of(family);
    let cluster = cluster.map(|ip| (Origin::ClusterIp, ip, Ok(())));
    let external = service.external_ips.iter();
    let external = external.map(move |ip| {
        let served = exists.and(is_allowed(*ip, &rules.external_ips));
        (Origin::ExternalIp, *ip, served)
    });
    let ingress = service.ingress.iter().map(move |ingress| {
        let served = exists.and(is_captured(service, ingress));
        (Origin::LoadBalancerIp, ingress.ip, served)
    });
    let others = external.chain(ingress);
    let others = others.filter(move |(_, ip, _)| Family::of(*ip) == family);
    cluster.into_iter().chain(others)
}

pub(super) fn exists(service: &Service, family: Family) -> Result<(), NotServed> {
    let cluster_ip = service.cluster_ips.of(family);
    cluster_ip.map(|_| ()).ok_or(NotServed::NoClusterIp)
}

fn has_node_ports(service: &Service) -> Result<(), NotServed> {
    if service.kind == ServiceType::ClusterIp {
        return Err(NotServed::NoNodePorts);
    }
    Ok(())
}

fn is_ordinary(ip: IpAddr) -> Result<(), NotServed> {
    if is_special(ip) {
        return Err(NotServed::Special);
    }
    Ok(())
}

fn is_allowed(ip: IpAddr, external_ips: &ExternalIps) -> Result<(), NotServed> {
    is_ordinary(ip)?;
    match external_ips {
        ExternalIps::Within(prefixes) if !prefixes.iter().any(|cidr| cidr.contains(ip)) => {
            Err(NotServed::NotAllowed)
        }
        ExternalIps::Within(_) | ExternalIps::Any => Ok(()),
    }
}

/// Nodes capture load-balancer addresses of mode VIP.
fn is_captured(service: &Service, ingress: &Ingress) -> Result<(), NotServed> {
    if service.kind != ServiceType::LoadBalancer {
        Err(NotServed::NotLoadBalancer)
    } else if ingress.mode == IngressMode::Proxy {
        Err(NotServed::ProxyMode)
    } else {
        is_ordinary(ingress.ip)
    }
}
