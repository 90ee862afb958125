//! A Pod as an endpoint of a Service.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::topology;

/// The zone of a Node.
pub(super) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// An address family, in the words of `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// `IPv4` or `IPv6`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn has(self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }
}

/// Whether this controller keeps slices for a Service: it has a selector (an empty one matches every Pod) and
/// addresses.
pub(crate) fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.selector.is_some() && spec.type_.as_deref() != Some("ExternalName")
    })
}

/// Whether the selector of the Service matches the labels.
pub(crate) fn matches(service: &Service, meta: &ObjectMeta) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        selector.iter().all(|(key, value)| {
            meta.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value)
        })
    })
}

/// The families of a Service; one that says nothing (stored by an old server) has that of its address, else IPv4.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named: Vec<Family> = spec
        .and_then(|spec| spec.ip_families.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|name| {
            [Family::V4, Family::V6]
                .into_iter()
                .find(|family| family.as_str() == name)
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let ip = spec
        .and_then(|spec| spec.cluster_ip.as_deref())
        .unwrap_or_default();
    vec![if ip.contains(':') {
        Family::V6
    } else {
        Family::V4
    }]
}

/// Whether a Pod is an endpoint at all: it runs or may run again, and has an address.
pub(crate) fn is_included(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && !ips(pod).is_empty()
}

fn ips(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let listed: Vec<&str> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .collect();
    let all = if listed.is_empty() {
        status.pod_ip.as_deref().into_iter().collect()
    } else {
        listed
    };
    all.into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or_default()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The Pod as an endpoint, if it has an address of the family.
pub(super) fn endpoint(
    pod: &Pod,
    node: Option<&Node>,
    service: &Service,
    family: Family,
) -> Option<Endpoint> {
    let address = ips(pod).into_iter().find(|ip| family.has(ip))?;
    let (serving, terminating) = (is_ready(pod), pod.metadata.deletion_timestamp.is_some());
    let ready = publishes_not_ready(service) || (serving && !terminating);
    let zone = node
        .and_then(|node| node.metadata.labels.as_ref())
        .and_then(|labels| labels.get(ZONE_LABEL))
        .cloned();
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let hints = if ready {
        hints(service, zone.as_deref(), node_name.as_deref())
    } else {
        None
    };
    Some(Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints,
        hostname: hostname(pod, service),
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    })
}

fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec
        .hostname
        .clone()
        .filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.is_some() && spec.subdomain == service.metadata.name).then_some(hostname)
}

/// Hints of `trafficDistribution`. Those by the CPU of zones take precedence, and need all endpoints ([`topology`]).
fn hints(service: &Service, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let distribution = service
        .spec
        .as_ref()
        .and_then(|spec| spec.traffic_distribution.as_deref());
    let zones = || {
        zone.map(|zone| {
            vec![ForZone {
                name: zone.to_owned(),
            }]
        })
    };
    let hints = match distribution {
        _ if topology::is_asked_by(service) => return None,
        Some("PreferClose" | "PreferSameZone") => EndpointHints {
            for_zones: zones(),
            for_nodes: None,
        },
        Some("PreferSameNode") => EndpointHints {
            for_zones: zones(),
            for_nodes: node.map(|node| {
                vec![ForNode {
                    name: node.to_owned(),
                }]
            }),
        },
        _ => return None,
    };
    (hints.for_zones.is_some() || hints.for_nodes.is_some()).then_some(hints)
}

/// The ports of the Service as this Pod has them; a name that the Pod does not know is left out.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, &protocol, pod)?),
                protocol: Some(protocol),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// The number of a Service port's target in a Pod.
pub(crate) fn number(port: &ServicePort, protocol: &str, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named_port(name, protocol, pod),
    }
}

/// Containers come before init containers, and of those only the ones that keep running (sidecars, KEP-753) count.
fn named_port(name: &str, protocol: &str, pod: &Pod) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut containers = spec.containers.iter().chain(sidecars);
    containers.find_map(|container| port_of(container, name, protocol))
}

fn port_of(container: &Container, name: &str, protocol: &str) -> Option<i32> {
    let matches = |port_name: Option<&str>, port_protocol: Option<&str>| {
        port_name == Some(name) && port_protocol.unwrap_or("TCP") == protocol
    };
    let ports = container.ports.iter().flatten();
    ports
        .into_iter()
        .find(|p| matches(p.name.as_deref(), p.protocol.as_deref()))
        .map(|p| p.container_port)
}
