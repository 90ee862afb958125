//! How lists merge: the one thing upstream's API says that the generated schemas lack.
//!
//! Source: the `patchStrategy`, `patchMergeKey`, `listType` and `listMapKey` tags of `k8s.io/api`. A list that is not
//! here is atomic. A strategic merge patch goes by the patch key (ports of a Service by `port` alone), server-side
//! apply by the list-map keys (`port` and `protocol`); both are published, only the first is used here.

use serde_json::{Value, json};

/// How a strategic merge patch merges a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Lists are replaced; objects merge by field.
    Replace,
    /// A list of objects with this key.
    ByKey(&'static str),
    /// A list of texts that is a set.
    Set,
}

/// A row of the table.
struct Row {
    /// Struct and field.
    at: (&'static str, &'static str),
    merge: Merge,
    /// The keys of server-side apply; empty when it takes the list as atomic or a set.
    keys: &'static [&'static str],
}

/// How `field` of the struct `name` merges.
pub(crate) fn merge(name: &str, field: &str) -> Merge {
    row(name, field).map_or(Merge::Replace, |row| row.merge)
}

/// Adds the list extensions to a struct's published schema.
pub(crate) fn annotate(name: &str, schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, property) in properties {
        if let Some(row) = row(name, field) {
            annotate_field(row, property);
        } else if property.get("type").is_some_and(|kind| kind == "array") {
            property["x-kubernetes-list-type"] = json!("atomic");
        }
    }
}

fn annotate_field(row: &Row, property: &mut Value) {
    property["x-kubernetes-patch-strategy"] = json!("merge");
    if let Merge::ByKey(key) = row.merge {
        property["x-kubernetes-patch-merge-key"] = json!(key);
    }
    if row.keys.is_empty() {
        property["x-kubernetes-list-type"] = json!("set");
    } else {
        property["x-kubernetes-list-type"] = json!("map");
        property["x-kubernetes-list-map-keys"] = json!(row.keys);
    }
}

fn row(name: &str, field: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.at == (name, field))
}

const fn keyed(
    name: &'static str,
    field: &'static str,
    key: &'static str,
    keys: &'static [&'static str],
) -> Row {
    Row {
        at: (name, field),
        merge: Merge::ByKey(key),
        keys,
    }
}

const fn set(name: &'static str, field: &'static str) -> Row {
    Row {
        at: (name, field),
        merge: Merge::Set,
        keys: &[],
    }
}

const TABLE: &[Row] = &[
    set("ObjectMeta", "finalizers"),
    keyed("ObjectMeta", "ownerReferences", "uid", &["uid"]),
    keyed("NamespaceStatus", "conditions", "type", &["type"]),
    keyed("ServiceSpec", "ports", "port", &["port", "protocol"]),
    keyed("ServiceStatus", "conditions", "type", &["type"]),
    keyed("ServiceCIDRStatus", "conditions", "type", &["type"]),
    set("NodeSpec", "podCIDRs"),
    keyed("NodeStatus", "addresses", "type", &["type"]),
    keyed("NodeStatus", "conditions", "type", &["type"]),
    keyed("PodStatus", "conditions", "type", &["type"]),
    keyed("PodStatus", "podIPs", "ip", &["ip"]),
    keyed("PodStatus", "hostIPs", "ip", &["ip"]),
    keyed("PodStatus", "resourceClaimStatuses", "name", &["name"]),
    keyed("PodSpec", "containers", "name", &["name"]),
    keyed("PodSpec", "initContainers", "name", &["name"]),
    keyed("PodSpec", "ephemeralContainers", "name", &["name"]),
    keyed("PodSpec", "volumes", "name", &["name"]),
    keyed("PodSpec", "imagePullSecrets", "name", &["name"]),
    keyed("PodSpec", "hostAliases", "ip", &["ip"]),
    keyed("PodSpec", "resourceClaims", "name", &["name"]),
    keyed("PodSpec", "schedulingGates", "name", &["name"]),
    keyed(
        "PodSpec",
        "topologySpreadConstraints",
        "topologyKey",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    keyed(
        "Container",
        "ports",
        "containerPort",
        &["containerPort", "protocol"],
    ),
    keyed("Container", "env", "name", &["name"]),
    keyed("Container", "volumeMounts", "mountPath", &["mountPath"]),
    keyed("Container", "volumeDevices", "devicePath", &["devicePath"]),
    keyed(
        "EphemeralContainer",
        "ports",
        "containerPort",
        &["containerPort", "protocol"],
    ),
    keyed("EphemeralContainer", "env", "name", &["name"]),
    keyed(
        "EphemeralContainer",
        "volumeMounts",
        "mountPath",
        &["mountPath"],
    ),
    keyed(
        "EphemeralContainer",
        "volumeDevices",
        "devicePath",
        &["devicePath"],
    ),
];
