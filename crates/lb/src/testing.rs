//! Short ways to write records in tests.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::{
    AddressRange, Assignment, Balancing, BuggyIps, ClusterNode, L2Advertisement, Network,
    ObjectKey, Pool, Readiness,
};
use daymark_model::input::{
    Affinity, ClusterIps, Conditions, Endpoint, Ingress, IngressMode, LoadBalancerRequest, Service,
    ServiceKey, ServicePort, ServiceType, Slice, SliceAudience, SliceKey, SlicePort, TrafficPolicy,
};
use daymark_model::{Cidr, Family, Protocol};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: "metallb-system".into(),
        name: name.into(),
    }
}

pub(crate) fn pool(name: &str, ranges: &[&str]) -> Pool {
    Pool {
        key: key(name),
        uid: format!("uid-of-{name}").into(),
        created: 0,
        generation: 1,
        ranges: ranges.iter().map(|text| range(text)).collect(),
        unreadable: Vec::new(),
        assignment: Assignment::Automatic,
        buggy_ips: BuggyIps::Give,
        other_fields: Vec::new(),
    }
}

fn range(text: &str) -> AddressRange {
    match text.split_once('-') {
        Some((first, last)) => AddressRange {
            first: ip(first),
            last: ip(last),
        },
        None => {
            let cidr = Cidr::parse(text).unwrap();
            AddressRange {
                first: cidr.first(),
                last: cidr.last(),
            }
        }
    }
}

pub(crate) fn advertisement(name: &str, pools: &[&str]) -> L2Advertisement {
    L2Advertisement {
        key: key(name),
        uid: format!("uid-of-{name}").into(),
        generation: 1,
        pools: pools.iter().map(|name| Arc::from(*name)).collect(),
        other_fields: Vec::new(),
    }
}

pub(crate) fn node(name: &str) -> ClusterNode {
    ClusterNode {
        name: name.into(),
        ready: Readiness::Ready,
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        balancing: Balancing::Included,
        network: Network::Available,
    }
}

/// A LoadBalancer Service `default/NAME` of port 80, IPv4, with these addresses in its status.
pub(crate) fn service(name: &str, ingress: &[&str]) -> Service {
    Service {
        key: ServiceKey::new("default", name),
        uid: None,
        created: 0,
        kind: ServiceType::LoadBalancer,
        cluster_ips: ClusterIps::Unset,
        families: vec![Family::V4],
        external_ips: Vec::new(),
        ingress: ingress
            .iter()
            .map(|text| Ingress {
                ip: ip(text),
                mode: IngressMode::Vip,
            })
            .collect(),
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: Affinity::None,
        source_ranges: Vec::new(),
        health_check_node_port: None,
        proxy_name: None,
        load_balancer: None,
    }
}

pub(crate) fn asks(mut service: Service, addresses: &[&str], pool: Option<&str>) -> Service {
    service.load_balancer = Some(Box::new(LoadBalancerRequest {
        class: None,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        unreadable: Vec::new(),
        given_from: Vec::new(),
        pool: pool.map(Arc::from),
    }));
    service
}

/// A slice of `default/SERVICE` with `(address, node, condition)` endpoints.
pub(crate) fn slice(service: &str, endpoints: &[(&str, &str, &str)]) -> Slice {
    let family = endpoints
        .first()
        .map_or(Family::V4, |(address, ..)| Family::of(ip(address)));
    Slice {
        key: SliceKey {
            namespace: "default".into(),
            name: format!("{service}-{family}").into(),
        },
        service: service.into(),
        family,
        audience: SliceAudience::Everyone,
        ports: vec![SlicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: endpoints
            .iter()
            .map(|(address, node, state)| Endpoint {
                address: ip(address),
                conditions: conditions(state),
                node: Some((*node).into()),
                hints: None,
                hostname: None,
            })
            .collect(),
    }
}

fn conditions(state: &str) -> Conditions {
    let (ready, serving, terminating) = match state {
        "ready" => (true, true, false),
        "serving" => (false, true, true),
        "unready" => (false, false, false),
        other => panic!("no such state: {other}"),
    };
    Conditions {
        ready: Some(ready),
        serving: Some(serving),
        terminating: Some(terminating),
    }
}
