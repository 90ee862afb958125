//! Records of the model as objects of the API: the way back of what `feed` does.

use std::net::IpAddr;

use daymark_model::input::{
    Affinity, ClusterIps, Conditions, Hints, IngressMode, ServicePort, ServiceType, SliceAudience,
    TrafficPolicy,
};
use daymark_model::{Endpoint, Family, Node, Service, Slice};
use serde_json::{Map, Value, json};

/// A Service without its status.
pub(crate) fn service(service: &Service) -> Value {
    let mut spec = Map::new();
    let mut put = |key: &str, value: Value| drop(spec.insert(key.to_owned(), value));
    put("type", json!(kind(&service.kind)));
    put(
        "ports",
        service
            .ports
            .iter()
            .map(|p| port(p, service.ports.len()))
            .collect(),
    );
    match &service.cluster_ips {
        ClusterIps::Allocated(ips) => {
            put("clusterIP", json!(ips.first()));
            put("clusterIPs", json!(ips));
        }
        ClusterIps::Headless => {
            put("clusterIP", json!("None"));
            put("clusterIPs", json!(["None"]));
        }
        ClusterIps::Unset => {}
    }
    if !service.families.is_empty() {
        let both = service.families.len() > 1;
        put("ipFamilies", service.families.iter().map(family).collect());
        put(
            "ipFamilyPolicy",
            json!(if both {
                "RequireDualStack"
            } else {
                "SingleStack"
            }),
        );
    }
    put("internalTrafficPolicy", policy(service.internal_policy));
    let balanced = service.kind == ServiceType::LoadBalancer;
    let outer = balanced || service.kind == ServiceType::NodePort;
    if outer || !service.external_ips.is_empty() {
        put("externalTrafficPolicy", policy(service.external_policy));
    }
    if !service.external_ips.is_empty() {
        put("externalIPs", json!(service.external_ips));
    }
    if balanced {
        put("allocateLoadBalancerNodePorts", json!(false));
        // Nobody but the writer of the object gives it addresses.
        put("loadBalancerClass", json!("daymark.example/conformance"));
        if !service.source_ranges.is_empty() {
            let ranges = service.source_ranges.iter().map(ToString::to_string);
            put("loadBalancerSourceRanges", ranges.collect());
        }
    }
    if let Affinity::ClientIp { timeout } = service.affinity {
        put("sessionAffinity", json!("ClientIP"));
        put(
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": timeout}}),
        );
    }
    let mut labels = Map::new();
    if let Some(name) = &service.proxy_name {
        labels.insert(
            "service.kubernetes.io/service-proxy-name".into(),
            json!(&**name),
        );
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": &*service.key.namespace, "name": &*service.key.name, "labels": labels},
        "spec": spec,
    })
}

/// `status.loadBalancer` of a Service.
pub(crate) fn load_balancer(service: &Service) -> Value {
    let ingress = service.ingress.iter().map(|ingress| {
        let mode = match ingress.mode {
            IngressMode::Vip => "VIP",
            IngressMode::Proxy => "Proxy",
        };
        json!({"ip": ingress.ip, "ipMode": mode})
    });
    json!({"status": {"loadBalancer": {"ingress": ingress.collect::<Value>()}}})
}

/// An EndpointSlice.
pub(crate) fn slice(slice: &Slice) -> Value {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/service-name".into(), json!(&*slice.service));
    labels.insert(
        "endpointslice.kubernetes.io/managed-by".into(),
        json!("conformance.daymark.example"),
    );
    if slice.audience == SliceAudience::DnsOnly {
        labels.insert("service.kubernetes.io/headless".into(), json!(""));
    }
    let ports = slice.ports.iter().map(
        |port| json!({"name": &*port.name, "protocol": port.protocol.to_string(), "port": port.port}),
    );
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": &*slice.key.namespace, "name": &*slice.key.name, "labels": labels},
        "addressType": family(&slice.family),
        "ports": ports.collect::<Value>(),
        "endpoints": slice.endpoints.iter().map(endpoint).collect::<Value>(),
    })
}

/// A Node without its status.
pub(crate) fn node(node: &Node) -> Value {
    let cidrs: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": &*node.name, "labels": {"topology.kubernetes.io/zone": &*node.zone}},
        "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
    })
}

/// `status.addresses` of a Node.
pub(crate) fn node_addresses(node: &Node) -> Value {
    let one = |ip: &IpAddr| json!({"type": "InternalIP", "address": ip});
    json!({"status": {"addresses": node.addresses.iter().map(one).collect::<Value>()}})
}

fn port(port: &ServicePort, of: usize) -> Value {
    let mut value = json!({"protocol": port.protocol.to_string(), "port": port.port});
    if of > 1 || !port.name.is_empty() {
        value["name"] = json!(&*port.name);
    }
    if let Some(number) = port.node_port {
        value["nodePort"] = json!(number);
    }
    value
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let mut value = json!({
        "addresses": [endpoint.address],
        "conditions": conditions(endpoint.conditions),
    });
    if let Some(node) = &endpoint.node {
        value["nodeName"] = json!(&**node);
    }
    if let Some(hostname) = &endpoint.hostname {
        value["hostname"] = json!(&**hostname);
    }
    if let Some(given) = endpoint.hints.as_deref().and_then(hints) {
        value["hints"] = given;
    }
    value
}

fn conditions(conditions: Conditions) -> Value {
    let all = [
        ("ready", conditions.ready),
        ("serving", conditions.serving),
        ("terminating", conditions.terminating),
    ];
    let set = all
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
    Value::Object(set.collect())
}

/// Each name once: the API refuses doubles.
fn hints(hints: &Hints) -> Option<Value> {
    let names = |names: &[std::sync::Arc<str>]| -> Vec<Value> {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        names.iter().map(|name| json!({"name": &**name})).collect()
    };
    let (zones, nodes) = (names(&hints.zones), names(&hints.nodes));
    let mut value = Map::new();
    if !zones.is_empty() {
        value.insert("forZones".into(), json!(zones));
    }
    if !nodes.is_empty() {
        value.insert("forNodes".into(), json!(nodes));
    }
    (!value.is_empty()).then_some(Value::Object(value))
}

fn kind(kind: &ServiceType) -> &'static str {
    match kind {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName(_) => "ExternalName",
    }
}

fn policy(policy: TrafficPolicy) -> Value {
    json!(match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    })
}

fn family(family: &Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
