//! Fields that belong together, brought into line before anything is allocated.
//!
//! None of this judges: it only finds out what the client meant with linked fields. Validation comes later.
//! Source: `pkg/registry/core/service/{strategy.go,storage/storage.go}` of Kubernetes.

use std::collections::HashMap;

use serde_json::Value;

use super::view::{Service, Type, clear, ports_mut, set, set_cluster_ips};
use crate::registry::validate::read::{at, int, text};

/// `clusterIPs` of a new Service follow `clusterIP`; never the other way round.
pub(super) fn sync_created(object: &mut Value) {
    let service = Service::new(object);
    let ip = service.cluster_ip().to_owned();
    if !ip.is_empty() && service.cluster_ips().is_empty() {
        set_cluster_ips(object, &[&ip]);
    }
}

/// On update the field that the client changed wins: clients that know only `clusterIP` change only that.
pub(super) fn sync_updated(object: &mut Value, old: &Value) {
    let (new, before) = (Service::new(object), Service::new(old));
    let ip = new.cluster_ip().to_owned();
    let (had, has) = (!before.cluster_ip().is_empty(), !ip.is_empty());
    let same_list = new.same_cluster_ips(before);
    match (had, has) {
        _ if before.cluster_ip() == ip => {}
        (true, false) if same_list => clear(object, "clusterIPs"),
        (false, true) if new.cluster_ips().is_empty() => set_cluster_ips(object, &[&ip]),
        (true, true) if same_list => set_cluster_ips(object, &[&ip]),
        _ => {}
    }
}

/// Allocated values that the client left out are those of the old object.
pub(super) fn keep_allocated(object: &mut Value, old: &Value) {
    let before = Service::new(old);
    let (was, is) = (before, Service::new(object));
    let (cluster, nodes) = (
        was.needs_cluster_ip() && is.needs_cluster_ip(),
        was.may_have_node_ports() && is.may_have_node_ports(),
    );
    let health = was.needs_health_port() && is.needs_health_port() && is.health_port() == 0;
    if cluster {
        if is.cluster_ip().is_empty() && !before.cluster_ip().is_empty() {
            set(object, "clusterIP", before.cluster_ip());
        }
        let is = Service::new(object);
        if is.cluster_ips().is_empty() && is.cluster_ip() == before.cluster_ip() {
            set_cluster_ips(object, &before.cluster_ips());
        }
    }
    if nodes {
        keep_node_ports(object, before);
    }
    if health && before.health_port() != 0 {
        set(object, "healthCheckNodePort", before.health_port());
    }
}

/// A port without a node port keeps the one its name had, unless another port took it.
fn keep_node_ports(object: &mut Value, before: Service<'_>) {
    let by_name: HashMap<&str, i64> = before
        .ports()
        .iter()
        .map(|port| (text(port, "name"), int(port, "nodePort")))
        .collect();
    let new = Service::new(object).node_ports();
    let mut used: Vec<i64> = before
        .node_ports()
        .into_iter()
        .filter(|port| new.contains(port))
        .collect();
    for port in ports_mut(object).filter(|port| int(port, "nodePort") == 0) {
        let kept = by_name.get(text(port, "name")).copied().unwrap_or_default();
        if kept != 0 && !used.contains(&kept) {
            port["nodePort"] = kept.into();
            used.push(kept);
        }
    }
}

/// Whether a Service has a use for a field.
type Uses = fn(Service<'_>) -> bool;

/// Drops what the new type has no use for, as far as the client did not touch it: whoever only changes the type should
/// not have to know which fields went with the old one.
pub(super) fn drop_unused(object: &mut Value, old: &Value) {
    let (was, is) = (Service::new(old), Service::new(object));
    let mut gone: Vec<&str> = Vec::new();
    if was.needs_cluster_ip() && !is.needs_cluster_ip() {
        if is.cluster_ip() == was.cluster_ip() && is.same_cluster_ips(was) {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        gone.extend(is.same_families(was).then_some("ipFamilies"));
        gone.extend((is.policy() == was.policy()).then_some("ipFamilyPolicy"));
    }
    let sorted = |service: Service<'_>| {
        let mut ports = service.node_ports();
        ports.sort_unstable();
        ports
    };
    let drop_ports =
        was.may_have_node_ports() && !is.may_have_node_ports() && sorted(was) == sorted(is);
    let unchanged = |key: &str| at(is.spec, key) == at(was.spec, key);
    let rules: [(&str, Uses); 4] = [
        ("healthCheckNodePort", |service| service.needs_health_port()),
        ("allocateLoadBalancerNodePorts", |service| {
            service.is(Type::LoadBalancer)
        }),
        ("loadBalancerClass", |service| {
            service.is(Type::LoadBalancer)
        }),
        ("externalTrafficPolicy", |service| service.is_external()),
    ];
    gone.extend(
        rules
            .iter()
            .filter(|(key, used)| used(was) && !used(is) && unchanged(key))
            .map(|(key, _)| *key),
    );
    for key in gone {
        clear(object, key);
    }
    if drop_ports {
        for port in ports_mut(object).filter_map(Value::as_object_mut) {
            port.shift_remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_address_field_that_was_changed_wins() {
        let (a, b) = ("10.96.0.1", "10.96.0.2");
        let pair =
            |ip: &str, ips: &[&str]| json!({ "spec": { "clusterIP": ip, "clusterIPs": ips } });
        let rows = [
            (pair(a, &[a]), pair(b, &[a]), json!([b])),
            (pair(a, &[a]), pair("", &[a]), json!(null)),
            (pair("", &[]), pair(b, &[]), json!([b])),
            (
                pair(a, &[a]),
                pair(a, &[a, "fd00::1"]),
                json!([a, "fd00::1"]),
            ),
            (pair(a, &[a]), pair(b, &["10.96.0.3"]), json!(["10.96.0.3"])),
        ];
        for (old, mut new, expected) in rows {
            let shown = new.to_string();
            sync_updated(&mut new, &old);
            assert_eq!(
                new["spec"].get("clusterIPs").cloned().unwrap_or_default(),
                expected,
                "{old} -> {shown}"
            );
        }
    }

    #[test]
    fn node_ports_follow_the_name_of_their_port() {
        let old = json!({ "spec": { "type": "NodePort", "ports": [
            { "name": "a", "port": 1, "nodePort": 30001 }, { "name": "b", "port": 2, "nodePort": 30002 },
        ] } });
        let mut new = json!({ "spec": { "type": "NodePort", "ports": [
            { "name": "b", "port": 9 }, { "name": "c", "port": 3, "nodePort": 30001 }, { "name": "a", "port": 1 },
        ] } });
        keep_allocated(&mut new, &old);
        let ports: Vec<i64> = new["spec"]["ports"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|p| int(p, "nodePort"))
            .collect();
        assert_eq!(ports, [30002, 30001, 0]);
    }

    #[test]
    fn a_change_of_type_drops_what_the_client_did_not_touch() {
        let old = json!({ "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "allocateLoadBalancerNodePorts": true, "loadBalancerClass": "a/b",
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100, "ports": [{ "port": 80, "nodePort": 30080 }],
        } });
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        drop_unused(&mut new, &old);
        assert_eq!(
            new["spec"],
            json!({
                "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "ports": [{ "port": 80 }],
            })
        );
        let mut new = old.clone();
        new["spec"]["type"] = json!("ExternalName");
        new["spec"]["ports"][0]["nodePort"] = json!(30081);
        drop_unused(&mut new, &old);
        assert_eq!(
            new["spec"],
            json!({ "type": "ExternalName", "ports": [{ "port": 80, "nodePort": 30081 }] })
        );
    }
}
