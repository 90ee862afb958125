//! Service, EndpointSlice, ServiceCIDR, IPAddress and MetalLB's kinds.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, Layout, NAME, age, column, or, wide};
use crate::json;

pub(super) const SERVICE: Layout = Layout {
    columns: &[
        NAME,
        column("Type", "How the Service is reached."),
        column("Cluster-IP", "The address inside the cluster."),
        column("External-IP", "Addresses from outside."),
        column("Port(s)", "Ports, with the node port behind a colon."),
        AGE,
        wide("Selector", "The labels of the Pods behind the Service."),
    ],
    cells: |service, now| {
        vec![
            json::name(service).into(),
            json::text(service, "/spec/type").into(),
            or(cluster_ip(service), NONE),
            external_ip(service).into(),
            service_ports(service).into(),
            age::of(service, now),
            labels(service, "/spec/selector").into(),
        ]
    },
};

pub(super) const ENDPOINT_SLICE: Layout = Layout {
    columns: &[
        NAME,
        column("AddressType", "The family of the addresses."),
        column("Ports", "The ports of every endpoint."),
        column("Endpoints", "The addresses of the endpoints."),
        AGE,
    ],
    cells: |slice, now| {
        vec![
            json::name(slice).into(),
            json::text(slice, "/addressType").into(),
            slice_ports(slice).into(),
            slice_endpoints(slice).into(),
            age::of(slice, now),
        ]
    },
};

pub(super) const SERVICE_CIDR: Layout = Layout {
    columns: &[
        NAME,
        column("CIDRs", "The networks that Service addresses come from."),
        AGE,
    ],
    cells: |cidr, now| {
        vec![
            json::name(cidr).into(),
            joined(cidr, "/spec/cidrs").into(),
            age::of(cidr, now),
        ]
    },
};

pub(super) const IP_ADDRESS: Layout = Layout {
    columns: &[
        NAME,
        column("ParentRef", "The object that has the address."),
    ],
    cells: |address, _now| vec![json::name(address).into(), parent(address).into()],
};

pub(super) const IP_ADDRESS_POOL: Layout = Layout {
    columns: &[
        NAME,
        Column {
            kind: "boolean",
            ..column(
                "Auto Assign",
                "Whether Services that name no pool get an address.",
            )
        },
        Column {
            kind: "boolean",
            ..column("Avoid Buggy IPs", "Whether .0 and .255 are left out.")
        },
        column("Addresses", "The addresses of the pool."),
    ],
    cells: |pool, _now: Timestamp| {
        let flag = |pointer| pool.pointer(pointer).cloned().unwrap_or(Value::Bool(false));
        vec![
            json::name(pool).into(),
            flag("/spec/autoAssign"),
            flag("/spec/avoidBuggyIPs"),
            quoted(pool, "/spec/addresses").into(),
        ]
    },
};

pub(super) const L2_ADVERTISEMENT: Layout = Layout {
    columns: &[
        NAME,
        column("IPAddressPools", "The pools whose addresses are announced."),
    ],
    cells: |advertisement, _now| {
        vec![
            json::name(advertisement).into(),
            quoted(advertisement, "/spec/ipAddressPools").into(),
        ]
    },
};

const NONE: &str = "<none>";

fn cluster_ip(service: &Value) -> &str {
    json::texts(service, "/spec/clusterIPs")
        .first()
        .copied()
        .unwrap_or_else(|| json::text(service, "/spec/clusterIP"))
}

fn external_ip(service: &Value) -> String {
    let external = json::texts(service, "/spec/externalIPs").join(",");
    match json::text(service, "/spec/type") {
        "ExternalName" => json::text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress: BTreeSet<&str> = json::list(service, "/status/loadBalancer/ingress")
                .iter()
                .map(ingress_point)
                .collect();
            let ingress = Vec::from_iter(ingress).join(",");
            match (ingress.is_empty(), external.is_empty()) {
                (true, true) => "<pending>".to_owned(),
                (true, false) => external,
                (false, true) => ingress,
                (false, false) => format!("{ingress},{external}"),
            }
        }
        _ if external.is_empty() => NONE.to_owned(),
        _ => external,
    }
}

fn ingress_point(ingress: &Value) -> &str {
    match json::text(ingress, "/ip") {
        "" => json::text(ingress, "/hostname"),
        ip => ip,
    }
}

fn service_ports(service: &Value) -> String {
    let ports = json::list(service, "/spec/ports").iter().map(|port| {
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        let protocol = json::text(port, "/protocol");
        match port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    });
    none_if_empty(Vec::from_iter(ports).join(","))
}

fn labels(object: &Value, pointer: &str) -> String {
    let mut labels: Vec<String> = json::map(object, pointer)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    labels.sort();
    none_if_empty(labels.join(","))
}

fn slice_ports(slice: &Value) -> String {
    let ports = json::list(slice, "/ports").iter().map(|port| {
        match port.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None => match json::text(port, "/name") {
                "" => "*".to_owned(),
                name => name.to_owned(),
            },
        }
    });
    first_three(ports.collect())
}

fn slice_endpoints(slice: &Value) -> String {
    let endpoints = json::list(slice, "/endpoints");
    let addresses = endpoints
        .iter()
        .flat_map(|endpoint| json::texts(endpoint, "/addresses"));
    first_three(addresses.map(str::to_owned).collect())
}

fn first_three(items: Vec<String>) -> String {
    match items.len() {
        0 => "<unset>".to_owned(),
        1..=3 => items.join(","),
        count => format!("{} + {} more...", items[..3].join(","), count - 3),
    }
}

fn parent(address: &Value) -> String {
    let parts = ["/group", "/resource", "/namespace", "/name"].map(|pointer| {
        address
            .pointer("/spec/parentRef")
            .map_or("", |parent| json::text(parent, pointer))
    });
    Vec::from_iter(parts.into_iter().filter(|part| !part.is_empty())).join("/")
}

fn joined(object: &Value, pointer: &str) -> String {
    json::texts(object, pointer).join(",")
}

/// A list as a custom resource's printer column shows it.
fn quoted(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .map_or_else(String::new, Value::to_string)
}

fn none_if_empty(text: String) -> String {
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text
    }
}
