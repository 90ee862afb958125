//! Made-up clusters: Services with one port and as many endpoints each, IPv4.
//!
//! One Service and its endpoints are the same as records of the model, as stored objects and as requests.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use daymark_model::input::{
    Affinity, ClusterIps, Conditions, Endpoint, Service, ServiceKey, ServicePort, ServiceType,
    Slice, SliceAudience, SliceKey, SlicePort, TrafficPolicy,
};
use daymark_model::{Change, Family, Node, Protocol};
use serde_json::{Value, json};

/// Namespaces that the Services are spread over.
const NAMESPACES: usize = 20;
/// Nodes that the endpoints are spread over: one of a hundred is on `node-1`.
const NODES: usize = 100;

/// The namespace of a Service.
pub(crate) fn namespace(service: usize) -> String {
    format!("bench-{}", service % NAMESPACES)
}

/// The name of a Service.
pub(crate) fn name(service: usize) -> String {
    format!("service-{service}")
}

/// The name of its EndpointSlice.
pub(crate) fn slice_name(service: usize) -> String {
    format!("service-{service}-x1")
}

fn cluster_ip(service: usize) -> Ipv4Addr {
    nth(Ipv4Addr::new(10, 96, 1, 0), service)
}

/// The addresses behind a Service. `replaced` counts changes: from 1 on, the first endpoint is a new one.
fn addresses(
    service: usize,
    endpoints: usize,
    replaced: usize,
) -> impl Iterator<Item = (usize, Ipv4Addr)> {
    (0..endpoints).map(move |number| {
        let index = service * endpoints + number;
        let address = if number == 0 && replaced > 0 {
            nth(Ipv4Addr::new(172, 16, 0, 0), replaced)
        } else {
            nth(Ipv4Addr::new(10, 128, 0, 0), index)
        };
        (index % NODES + 1, address)
    })
}

fn nth(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).expect("clusters of the benchmark are small");
    Ipv4Addr::from_bits(first.to_bits() + number)
}

/// The whole cluster as changes of the model.
pub(crate) fn records(services: usize, endpoints: usize) -> Vec<Change> {
    let node = Node {
        name: "node-1".into(),
        ..Node::default()
    };
    let mut changes = vec![Change::Node(Some(Arc::new(node)))];
    for service in 0..services {
        let record = service_record(service);
        changes.push(Change::Service(record.key.clone(), Some(Arc::new(record))));
        changes.push(slice_change(service, endpoints, 0));
    }
    changes
}

fn service_record(service: usize) -> Service {
    Service {
        key: ServiceKey::new(&namespace(service), &name(service)),
        uid: None,
        created: 1_700_000_000,
        kind: ServiceType::ClusterIp,
        cluster_ips: ClusterIps::Allocated(vec![cluster_ip(service).into()]),
        families: vec![Family::V4],
        external_ips: Vec::new(),
        ingress: Vec::new(),
        ports: vec![ServicePort {
            name: "http".into(),
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

/// The endpoints of a Service as a change of the model.
pub(crate) fn slice_change(service: usize, endpoints: usize, replaced: usize) -> Change {
    let key = SliceKey {
        namespace: namespace(service).into(),
        name: slice_name(service).into(),
    };
    let endpoint = |(node, address)| Endpoint {
        address: IpAddr::V4(address),
        conditions: Conditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        },
        node: Some(format!("node-{node}").into()),
        hints: None,
        hostname: None,
    };
    let slice = Slice {
        key: key.clone(),
        service: name(service).into(),
        family: Family::V4,
        audience: SliceAudience::Everyone,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: addresses(service, endpoints, replaced)
            .map(endpoint)
            .collect(),
    };
    Change::Slice(key, Some(Arc::new(slice)))
}

/// The `endpoints` of an EndpointSlice, as a Pod-per-endpoint controller writes them.
pub(crate) fn endpoints_json(service: usize, endpoints: usize, replaced: usize) -> Value {
    let endpoint = |(number, (node, address)): (usize, (usize, Ipv4Addr))| {
        json!({
            "addresses": [address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": format!("node-{node}"),
            "targetRef": {
                "kind": "Pod",
                "namespace": namespace(service),
                "name": format!("service-{service}-{number}"),
                "uid": uid(3, service * endpoints + number),
            },
            "zone": "zone-a",
        })
    };
    let all = addresses(service, endpoints, replaced).enumerate();
    Value::Array(all.map(endpoint).collect())
}

/// Which objects a store is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Namespaces and Services.
    Services,
    /// And an EndpointSlice each, with so many endpoints, and the Node `node-1`.
    WithEndpoints(usize),
}

/// The lines that `daymark store import` reads.
pub(crate) fn lines(services: usize, stored: Stored) -> impl Iterator<Item = Value> {
    let namespaces = (0..NAMESPACES).map(|number| {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": namespace(number), "uid": uid(0, number), "creationTimestamp": CREATED },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        });
        line("namespaces", namespace)
    });
    let all = (0..services).map(|service| line("services", service_json(service)));
    let (slices, endpoints, nodes) = match stored {
        Stored::Services => (0..0, 0, None),
        Stored::WithEndpoints(endpoints) => (0..services, endpoints, Some(node_json())),
    };
    let slices = slices.map(move |service| {
        line(
            "discovery.k8s.io/endpointslices",
            slice_json(service, endpoints),
        )
    });
    let nodes = nodes.into_iter().map(|node| line("nodes", node));
    namespaces.chain(nodes).chain(all).chain(slices)
}

fn line(kind: &str, value: Value) -> Value {
    let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
    json!({ "kind": kind, "namespace": namespace, "name": value["metadata"]["name"], "value": value })
}

fn node_json() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "node-1", "uid": uid(4, 1), "creationTimestamp": CREATED },
        "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }] },
    })
}

fn service_json(service: usize) -> Value {
    let ip = cluster_ip(service);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name(service),
            "namespace": namespace(service),
            "uid": uid(1, service),
            "creationTimestamp": CREATED,
            "labels": { "app": name(service) },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": { "app": name(service) },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }],
        },
        "status": { "loadBalancer": {} },
    })
}

fn slice_json(service: usize, endpoints: usize) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(service),
            "generateName": format!("service-{service}-"),
            "namespace": namespace(service),
            "uid": uid(2, service),
            "creationTimestamp": CREATED,
            "generation": 1,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name(service),
            },
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Service",
                "name": name(service),
                "uid": uid(1, service),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "addressType": "IPv4",
        "endpoints": endpoints_json(service, endpoints, 0),
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
    })
}

/// A Service as a client asks for one: the server fills in the rest.
pub(crate) fn new_service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    })
}

fn uid(kind: usize, number: usize) -> String {
    format!("0f8fad5b-d9cb-469f-a{kind:03x}-{number:012x}")
}

const CREATED: &str = "2026-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use daymark_model::{Options, World};

    use super::{Stored, addresses, lines, records, slice_change};

    #[test]
    fn every_service_gets_a_frontend_and_a_pool() {
        let mut world = World::new(Options::default());
        let _delta = world.apply(records(300, 10));
        assert_eq!(world.desired().frontends.len(), 300);
        assert_eq!(world.desired().pools.len(), 300);
        let delta = world.apply([slice_change(7, 10, 1)]);
        assert_eq!((delta.frontends.len(), delta.pools.len()), (0, 1));
    }

    #[test]
    fn no_two_endpoints_share_an_address() {
        let all: BTreeSet<_> = (0..300)
            .flat_map(|service| addresses(service, 10, service))
            .map(|(_, address)| address)
            .collect();
        assert_eq!(all.len(), 3000);
    }

    #[test]
    fn a_line_names_its_object() {
        let kinds: Vec<_> = lines(2, Stored::WithEndpoints(3))
            .skip(20)
            .map(|line| {
                let named = line["name"] == line["value"]["metadata"]["name"];
                (line["kind"].as_str().unwrap_or_default().to_owned(), named)
            })
            .collect();
        let expected = [
            "nodes",
            "services",
            "services",
            "discovery.k8s.io/endpointslices",
        ];
        for (kind, row) in expected.iter().zip(&kinds) {
            assert_eq!(row, &((*kind).to_owned(), true));
        }
    }
}
