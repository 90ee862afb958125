//! Services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use daymark_model::address::parse_address;
use daymark_model::input::{
    Affinity, ClusterIps, Ingress, IngressMode, LoadBalancerRequest, Service, ServiceKey,
    ServicePort, ServiceType, TrafficPolicy, Uid,
};
use daymark_model::{Cidr, Family};
use serde::Deserialize;

use super::meta::{Annotations, Metadata};
use super::value::{List, Number, Part, Read, Shape, Text};
use super::{Json, Reader, Record, micros};
use crate::record::ObjectKey;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    spec: Part<Spec<'a>>,
    #[serde(borrow)]
    status: Part<Status<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, rename = "clusterIP")]
    cluster_ip: Text<'a>,
    #[serde(borrow, rename = "clusterIPs")]
    cluster_ips: List<Text<'a>>,
    #[serde(borrow)]
    ip_families: List<Text<'a>>,
    #[serde(borrow, rename = "externalIPs")]
    external_ips: List<Text<'a>>,
    #[serde(borrow)]
    ports: List<Port<'a>>,
    #[serde(borrow)]
    internal_traffic_policy: Text<'a>,
    #[serde(borrow)]
    external_traffic_policy: Text<'a>,
    #[serde(borrow)]
    session_affinity: Text<'a>,
    session_affinity_config: Part<AffinityConfig>,
    #[serde(borrow)]
    load_balancer_source_ranges: List<Text<'a>>,
    health_check_node_port: Number,
    #[serde(borrow)]
    load_balancer_class: Text<'a>,
    #[serde(borrow, rename = "loadBalancerIP")]
    load_balancer_ip: Text<'a>,
    #[serde(borrow)]
    external_name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    protocol: Text<'a>,
    port: Number,
    node_port: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Part<ClientIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    load_balancer: Part<LoadBalancer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer<'a> {
    #[serde(borrow)]
    ingress: List<IngressJson<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IngressJson<'a> {
    #[serde(borrow)]
    ip: Text<'a>,
    #[serde(borrow)]
    ip_mode: Text<'a>,
}

impl Shape for ServiceJson<'_> {}
impl Shape for Spec<'_> {}
impl Shape for AffinityConfig {}
impl Shape for ClientIp {}
impl Shape for Status<'_> {}
impl Shape for LoadBalancer<'_> {}

impl<'a> Json<'a> for ServiceJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let spec = reader.part("spec", &self.spec);
        let service = Service {
            key: ServiceKey {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(&key.name),
            },
            uid: Uid::parse(self.metadata.uid.text()),
            created: micros(&self.metadata.creation_timestamp)
                .unwrap_or(0)
                .div_euclid(1_000_000),
            kind: kind(spec, reader),
            cluster_ips: cluster_ips(spec, reader),
            families: families(spec, reader),
            external_ips: reader.addresses("spec.externalIPs", &spec.external_ips),
            ingress: ingress(&self.status.load_balancer, reader),
            ports: ports(&spec.ports, reader),
            internal_policy: policy(
                "spec.internalTrafficPolicy",
                &spec.internal_traffic_policy,
                reader,
            ),
            external_policy: policy(
                "spec.externalTrafficPolicy",
                &spec.external_traffic_policy,
                reader,
            ),
            affinity: affinity(spec, reader),
            source_ranges: source_ranges(spec, reader),
            health_check_node_port: reader.port(
                || "spec.healthCheckNodePort".to_owned(),
                &spec.health_check_node_port,
            ),
            proxy_name: proxy_name(&self.metadata, reader),
            load_balancer: load_balancer(spec, &self.metadata.annotations, reader),
        };
        Some(Record::Service(Arc::new(service)))
    }
}

fn kind(spec: &Spec<'_>, reader: &mut Reader<'_, '_>) -> ServiceType {
    match spec.kind.text() {
        "" | "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName(reader.share(spec.external_name.text())),
        other => {
            reader.refuse(
                "spec.type",
                format!("{other:?} is unknown; it is read as ClusterIP"),
            );
            ServiceType::ClusterIp
        }
    }
}

fn cluster_ips(spec: &Spec<'_>, reader: &mut Reader<'_, '_>) -> ClusterIps {
    let first = spec.cluster_ips.first().unwrap_or(&spec.cluster_ip);
    if first.text() == "None" {
        return ClusterIps::Headless;
    }
    let ips: Vec<IpAddr> = if !spec.cluster_ips.is_empty() || spec.cluster_ips.unreadable {
        reader.addresses("spec.clusterIPs", &spec.cluster_ips)
    } else if first.text().is_empty() {
        Vec::new()
    } else {
        reader
            .address("spec.clusterIP", first)
            .into_iter()
            .collect()
    };
    if ips.is_empty() {
        ClusterIps::Unset
    } else {
        ClusterIps::Allocated(ips)
    }
}

fn families(spec: &Spec<'_>, reader: &mut Reader<'_, '_>) -> Vec<Family> {
    let mut families = Vec::with_capacity(spec.ip_families.len());
    for text in spec.ip_families.iter() {
        match text.text() {
            "IPv4" => families.push(Family::V4),
            "IPv6" => families.push(Family::V6),
            other => reader.refuse(
                "spec.ipFamilies",
                format!("{other:?} is not IPv4 or IPv6; it is left out"),
            ),
        }
    }
    families
}

fn ports(list: &List<Port<'_>>, reader: &mut Reader<'_, '_>) -> Vec<ServicePort> {
    let mut ports = Vec::with_capacity(list.len());
    for (index, entry) in reader.part("spec.ports", list).iter().enumerate() {
        let field = |name: &'static str| move || format!("spec.ports[{index}].{name}");
        let Some(protocol) = reader.protocol(field("protocol"), &entry.protocol) else {
            continue;
        };
        let Some(port) = reader.port(field("port"), &entry.port) else {
            continue;
        };
        let name = reader.share(entry.name.text());
        let node_port = reader.port(field("nodePort"), &entry.node_port);
        ports.push(ServicePort {
            name,
            protocol,
            port,
            node_port,
        });
    }
    ports
}

fn policy(field: &str, text: &Text<'_>, reader: &mut Reader<'_, '_>) -> TrafficPolicy {
    match text.text() {
        "" | "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => {
            reader.refuse(
                field,
                format!("{other:?} is unknown; it is read as Cluster"),
            );
            TrafficPolicy::Cluster
        }
    }
}

fn affinity(spec: &Spec<'_>, reader: &mut Reader<'_, '_>) -> Affinity {
    match spec.session_affinity.text() {
        "" | "None" => return Affinity::None,
        "ClientIP" => {}
        other => {
            reader.refuse(
                "spec.sessionAffinity",
                format!("{other:?} is unknown; it is read as None"),
            );
            return Affinity::None;
        }
    }
    let timeout = &spec.session_affinity_config.client_ip.timeout_seconds;
    match timeout {
        Read::Absent => Affinity::ClientIp {
            timeout: DEFAULT_AFFINITY_SECONDS,
        },
        Read::Value(seconds @ 1..=86_400) => Affinity::ClientIp {
            timeout: u32::try_from(*seconds).expect("at most 86,400"),
        },
        Read::Value(_) | Read::Unreadable => {
            let why = format!("is not 1 to 86400 seconds; {DEFAULT_AFFINITY_SECONDS} is used");
            reader.refuse("spec.sessionAffinityConfig.clientIP.timeoutSeconds", why);
            Affinity::ClientIp {
                timeout: DEFAULT_AFFINITY_SECONDS,
            }
        }
    }
}

fn source_ranges(spec: &Spec<'_>, reader: &mut Reader<'_, '_>) -> Vec<Cidr> {
    let list = reader.part(
        "spec.loadBalancerSourceRanges",
        &spec.load_balancer_source_ranges,
    );
    let mut ranges = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        match Cidr::parse(text.text()) {
            Some(range) => ranges.push(range),
            None => {
                let why = format!("{:?} is not an address range; it is left out", text.text());
                reader.refuse(format!("spec.loadBalancerSourceRanges[{index}]"), why);
            }
        }
    }
    let is_there = !list.is_empty() || spec.load_balancer_source_ranges.unreadable;
    if ranges.is_empty() && is_there {
        let why =
            "has no entry that can be read: nobody may come; write prefixes such as 192.0.2.0/24";
        reader.refuse("spec.loadBalancerSourceRanges", why);
        ranges.extend(NOBODY.map(Cidr::host));
    }
    ranges
}

/// Whoever lists clients does not mean everybody: addresses from which nothing comes.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

fn ingress(status: &LoadBalancer<'_>, reader: &mut Reader<'_, '_>) -> Vec<Ingress> {
    let mut all = Vec::with_capacity(status.ingress.len());
    for (index, entry) in status.ingress.iter().enumerate() {
        if entry.ip.is_absent() || entry.ip.text().is_empty() {
            continue; // A host name alone: nothing for nodes to capture.
        }
        let field = format!("status.loadBalancer.ingress[{index}].ip");
        let Some(ip) = reader.address(&field, &entry.ip) else {
            continue;
        };
        let mode = if entry.ip_mode.text() == "Proxy" {
            IngressMode::Proxy
        } else {
            IngressMode::Vip
        };
        all.push(Ingress { ip, mode });
    }
    all
}

fn proxy_name(metadata: &Metadata<'_>, reader: &mut Reader<'_, '_>) -> Option<Arc<str>> {
    // The label's presence decides, whatever its value (kubernetes pkg/proxy/config/api, label selector).
    let label = &metadata.labels.proxy_name;
    (!label.is_absent()).then(|| reader.share(label.text()))
}

fn load_balancer(
    spec: &Spec<'_>,
    annotations: &Annotations<'_>,
    reader: &mut Reader<'_, '_>,
) -> Option<Box<LoadBalancerRequest>> {
    if spec.kind.text() != "LoadBalancer" {
        return None;
    }
    let pool = present(&annotations.address_pool, &annotations.address_pool_old);
    let (addresses, unreadable) = requested_addresses(spec, annotations, reader);
    let request = LoadBalancerRequest {
        class: reader.share_text(&spec.load_balancer_class),
        addresses,
        unreadable,
        pool: reader.share_text(pool),
        given_from: annotations
            .allocated_from
            .text()
            .split(',')
            .filter(|name| !name.is_empty())
            .take(MOST_REQUESTED)
            .map(|name| reader.share(name))
            .collect(),
    };
    (request != LoadBalancerRequest::default()).then(|| Box::new(request))
}

/// The MetalLB annotation, a list with commas, outranks the deprecated field. Also what is no address.
fn requested_addresses(
    spec: &Spec<'_>,
    annotations: &Annotations<'_>,
    reader: &mut Reader<'_, '_>,
) -> (Vec<IpAddr>, Vec<Arc<str>>) {
    let annotation = present(
        &annotations.load_balancer_ips,
        &annotations.load_balancer_ips_old,
    );
    let (field, text) = if annotation.text().is_empty() {
        ("spec.loadBalancerIP", spec.load_balancer_ip.text())
    } else {
        (
            "metadata.annotations[metallb.io/loadBalancerIPs]",
            annotation.text(),
        )
    };
    let mut addresses = Vec::new();
    let mut unreadable = Vec::new();
    let parts = || {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    if parts().nth(MOST_REQUESTED).is_some() {
        let why = format!(
            "has {} entries, of which the first {MOST_REQUESTED} are read: a Service has one address a family, name at most two",
            parts().count()
        );
        reader.refuse(field, why);
    }
    for part in parts().take(MOST_REQUESTED) {
        match parse_address(part) {
            Some(address) => addresses.push(address),
            None => {
                let why = format!("{part:?} is not an IP address; it is left out");
                reader.refuse(field, why);
                unreadable.push(Arc::from(part));
            }
        }
    }
    (addresses, unreadable)
}

/// An annotation has room for a hundred thousand entries, each of which would be an Event if it could not be given.
const MOST_REQUESTED: usize = 16;

fn present<'t, 'a>(new: &'t Text<'a>, old: &'t Text<'a>) -> &'t Text<'a> {
    if new.is_absent() { old } else { new }
}

/// What the API defaults `timeoutSeconds` to: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
