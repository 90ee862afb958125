//! What a Service gets where the client said nothing.
//!
//! Source: `pkg/apis/core/v1/defaults.go` (`SetDefaults_Service`) of Kubernetes.

use serde_json::{Value, json};

use super::view::{Service, Type, clear, ports_mut, set, spec_mut};
use crate::registry::validate::read::{at, int, list, text};

/// How long a client stays with its endpoint when nothing else is said, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;

/// Fields whose zero value means "not set": they are stored as absent, so that a write of what was read changes nothing.
const ZERO_IS_ABSENT: [&str; 9] = [
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "externalIPs",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
];

/// Fills in the defaults; doing it twice changes nothing.
pub(super) fn apply(object: &mut Value) {
    drop_zeros(object);
    default_text(object, "type", "ClusterIP");
    default_ports(object);
    default_affinity(object);
    default_policies(object);
    default_ip_mode(object);
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

fn drop_zeros(object: &mut Value) {
    let spec = spec_mut(object);
    for key in ZERO_IS_ABSENT {
        if spec.get(key).is_some_and(is_zero) {
            spec.shift_remove(key);
        }
    }
    for port in ports_mut(object).filter_map(Value::as_object_mut) {
        for key in ["name", "nodePort"] {
            if port.get(key).is_some_and(is_zero) {
                port.shift_remove(key);
            }
        }
    }
}

fn default_text(object: &mut Value, key: &str, value: &str) {
    if text(&object["spec"], key).is_empty() {
        set(object, key, value);
    }
}

fn default_ports(object: &mut Value) {
    for port in ports_mut(object) {
        if text(port, "protocol").is_empty() {
            port["protocol"] = "TCP".into();
        }
        if port.get("targetPort").is_none_or(is_zero) {
            port["targetPort"] = int(port, "port").into();
        }
    }
}

fn default_affinity(object: &mut Value) {
    default_text(object, "sessionAffinity", "None");
    match text(&object["spec"], "sessionAffinity") {
        "None" => clear(object, "sessionAffinityConfig"),
        "ClientIP" => {
            let config = at(&object["spec"], "sessionAffinityConfig")
                .and_then(|config| at(config, "clientIP"));
            if config
                .and_then(|client| at(client, "timeoutSeconds"))
                .is_none()
            {
                set(
                    object,
                    "sessionAffinityConfig",
                    json!({ "clientIP": { "timeoutSeconds": AFFINITY_SECONDS } }),
                );
            }
        }
        _ => {}
    }
}

fn default_policies(object: &mut Value) {
    let service = Service::new(object);
    let (external, kind) = (service.is_external(), service.kind());
    let cluster = matches!(kind, Type::ClusterIp | Type::NodePort | Type::LoadBalancer);
    let (balancer, nameless) = (kind == Type::LoadBalancer, kind == Type::ExternalName);
    if external {
        default_text(object, "externalTrafficPolicy", "Cluster");
    }
    if cluster {
        default_text(object, "internalTrafficPolicy", "Cluster");
    }
    if nameless {
        clear(object, "internalTrafficPolicy");
    }
    if balancer && at(&object["spec"], "allocateLoadBalancerNodePorts").is_none() {
        set(object, "allocateLoadBalancerNodePorts", true);
    }
}

fn default_ip_mode(object: &mut Value) {
    if !Service::new(object).is(Type::LoadBalancer)
        || list(&object["status"]["loadBalancer"], "ingress").is_empty()
    {
        return;
    }
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array_mut();
    for entry in ingress.into_iter().flatten() {
        if !text(entry, "ip").is_empty() && text(entry, "ipMode").is_empty() {
            entry["ipMode"] = "VIP".into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let rows = [
            (
                json!({ "ports": [{ "port": 80 }] }),
                json!({
                    "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }], "type": "ClusterIP",
                    "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                }),
            ),
            (
                json!({ "ports": [{ "port": 80, "targetPort": 0, "nodePort": 0, "name": "" }, { "port": 81, "targetPort": "" }] }),
                json!({
                    "ports": [
                        { "port": 80, "targetPort": 80, "protocol": "TCP" },
                        { "port": 81, "targetPort": 81, "protocol": "TCP" },
                    ],
                    "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                }),
            ),
            (
                json!({ "type": "LoadBalancer", "sessionAffinity": "ClientIP" }),
                json!({
                    "type": "LoadBalancer", "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10800 } },
                    "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
                    "allocateLoadBalancerNodePorts": true,
                }),
            ),
            (
                json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local" }),
                json!({
                    "type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
                    "sessionAffinity": "None",
                }),
            ),
            (
                json!({ "externalIPs": ["192.0.2.1"], "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 5 } } }),
                json!({
                    "externalIPs": ["192.0.2.1"], "type": "ClusterIP", "sessionAffinity": "None",
                    "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
                }),
            ),
            (
                json!({ "type": "ExternalName", "externalName": "a.b", "internalTrafficPolicy": "Cluster", "clusterIP": "" }),
                json!({ "type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None" }),
            ),
        ];
        for (spec, expected) in rows {
            let mut object = json!({ "spec": spec });
            apply(&mut object);
            assert_eq!(object["spec"], expected);
            let once = object.clone();
            apply(&mut object);
            assert_eq!(object, once, "the second time changes nothing");
        }
    }

    #[test]
    fn an_ingress_address_gets_its_mode() {
        let mut object = json!({
            "spec": { "type": "LoadBalancer" },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "a" }] } },
        });
        apply(&mut object);
        assert_eq!(
            object["status"]["loadBalancer"]["ingress"],
            json!([{ "ip": "192.0.2.1", "ipMode": "VIP" }, { "hostname": "a" }])
        );
    }
}
