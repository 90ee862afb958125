//! The values that texts may have, which kubectl explain shows and the generated schemas lack.
//!
//! Source: the `+enum` types of `k8s.io/api`, as kube-apiserver 1.37 publishes them. What a field may have is checked by
//! the kind's own rules.

use serde_json::{Value, json};

/// Adds the values to a struct's published schema.
pub(super) fn annotate(name: &str, schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (_, field, values) in VALUES.iter().filter(|(of, ..)| *of == name) {
        if let Some(property) = properties.get_mut(*field) {
            property["enum"] = json!(values);
        }
    }
}

/// Struct, field, and the values in alphabetical order.
const VALUES: &[(&str, &str, &[&str])] = &[
    ("ContainerPort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "Container",
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
    ),
    (
        "Container",
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
    ),
    ("EndpointPort", "protocol", &["SCTP", "TCP", "UDP"]),
    ("EndpointSlice", "addressType", &["FQDN", "IPv4", "IPv6"]),
    ("HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    ("NamespaceStatus", "phase", &["Active", "Terminating"]),
    ("NodeStatus", "phase", &["Pending", "Running", "Terminated"]),
    (
        "PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    (
        "PodSpec",
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
    ),
    (
        "PodSpec",
        "restartPolicy",
        &["Always", "Never", "OnFailure"],
    ),
    (
        "PodStatus",
        "phase",
        &["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    ),
    (
        "PodStatus",
        "qosClass",
        &["BestEffort", "Burstable", "Guaranteed"],
    ),
    ("PortStatus", "protocol", &["SCTP", "TCP", "UDP"]),
    ("ServicePort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "ServiceSpec",
        "externalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "ServiceSpec",
        "internalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    ("ServiceSpec", "sessionAffinity", &["ClientIP", "None"]),
    (
        "ServiceSpec",
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    ),
    (
        "Taint",
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
    ),
    (
        "Toleration",
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
    ),
    ("Toleration", "operator", &["Equal", "Exists", "Gt", "Lt"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_its_values() {
        let mut schema = json!({"properties": {"protocol": {"type": "string"}, "port": {}}});
        annotate("ServicePort", &mut schema);
        let values = json!(["SCTP", "TCP", "UDP"]);
        assert_eq!(schema["properties"]["protocol"]["enum"], values);
        assert_eq!(schema["properties"]["port"], json!({}));
    }

    #[test]
    fn every_row_names_a_field_that_there_is() {
        let schemas = crate::schema::definitions();
        for (name, field, _) in VALUES {
            let of = |full: &String| full.rsplit('.').next() == Some(name);
            let there = schemas
                .iter()
                .any(|(full, schema)| of(full) && schema["properties"].get(field).is_some());
            assert!(there, "{name}.{field}");
        }
    }
}
