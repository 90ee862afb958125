//! What a Service says, read from its JSON, and small edits to it.

use serde_json::{Map, Value};

use crate::registry::validate::ip::Family;
use crate::registry::validate::read::{at, int, list, map, some_text, text, texts};

/// The headless marker in `clusterIP`.
pub(super) const NONE: &str = "None";

/// `spec.type`; an unknown one is kept for the message that refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type<'a> {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
    Other(&'a str),
}

/// One Service, read-only.
#[derive(Clone, Copy)]
pub(super) struct Service<'a> {
    pub(super) object: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Service<'a> {
    pub(super) fn new(object: &'a Value) -> Self {
        Self {
            object,
            spec: &object["spec"],
        }
    }

    pub(super) fn name(self) -> &'a str {
        text(&self.object["metadata"], "name")
    }

    pub(super) fn kind(self) -> Type<'a> {
        match text(self.spec, "type") {
            "ClusterIP" => Type::ClusterIp,
            "NodePort" => Type::NodePort,
            "LoadBalancer" => Type::LoadBalancer,
            "ExternalName" => Type::ExternalName,
            other => Type::Other(other),
        }
    }

    pub(super) fn ports(self) -> &'a [Value] {
        list(self.spec, "ports")
    }

    pub(super) fn cluster_ip(self) -> &'a str {
        text(self.spec, "clusterIP")
    }

    pub(super) fn cluster_ips(self) -> Vec<&'a str> {
        texts(self.spec, "clusterIPs")
    }

    pub(super) fn families(self) -> Vec<&'a str> {
        texts(self.spec, "ipFamilies")
    }

    pub(super) fn policy(self) -> Option<&'a str> {
        some_text(self.spec, "ipFamilyPolicy")
    }

    pub(super) fn is_headless(self) -> bool {
        self.cluster_ips().first() == Some(&NONE)
    }

    pub(super) fn has_selector(self) -> bool {
        map(self.spec, "selector").is_some_and(|selector| !selector.is_empty())
    }

    pub(super) fn has_external_ips(self) -> bool {
        !list(self.spec, "externalIPs").is_empty()
    }

    pub(super) fn health_port(self) -> i64 {
        int(self.spec, "healthCheckNodePort")
    }

    pub(super) fn is(self, kind: Type<'_>) -> bool {
        self.kind() == kind
    }

    /// Whether the type has cluster addresses (headless ones included).
    pub(super) fn needs_cluster_ip(self) -> bool {
        matches!(
            self.kind(),
            Type::ClusterIp | Type::NodePort | Type::LoadBalancer
        )
    }

    /// Whether the type may carry node ports at all.
    pub(super) fn may_have_node_ports(self) -> bool {
        matches!(self.kind(), Type::NodePort | Type::LoadBalancer)
    }

    /// Whether a port without a node port gets one.
    pub(super) fn allocates_node_ports(self) -> bool {
        match self.kind() {
            Type::NodePort => true,
            Type::LoadBalancer => at(self.spec, "allocateLoadBalancerNodePorts")
                .and_then(Value::as_bool)
                .unwrap_or(true),
            _ => false,
        }
    }

    /// Whether clients outside of the cluster can reach it.
    pub(super) fn is_external(self) -> bool {
        self.may_have_node_ports() || (self.is(Type::ClusterIp) && self.has_external_ips())
    }

    /// Whether a load balancer asks each node for local endpoints.
    pub(super) fn needs_health_port(self) -> bool {
        self.is(Type::LoadBalancer) && text(self.spec, "externalTrafficPolicy") == "Local"
    }

    /// Whether `clusterIP` and `clusterIPs` are those of `other`.
    pub(super) fn same_cluster_ips(self, other: Service<'_>) -> bool {
        self.cluster_ips() == other.cluster_ips()
    }

    pub(super) fn same_families(self, other: Service<'_>) -> bool {
        self.families() == other.families()
    }

    /// All node ports that are set, in order.
    pub(super) fn node_ports(self) -> Vec<i64> {
        self.ports()
            .iter()
            .map(|port| int(port, "nodePort"))
            .filter(|number| *number != 0)
            .collect()
    }
}

/// The family of a text in `ipFamilies`; what is none was refused before.
pub(super) fn family_of(ip: &str) -> Family {
    if ip.contains(':') {
        Family::V6
    } else {
        Family::V4
    }
}

/// The spec to edit; made if it is not there.
pub(super) fn spec_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object["spec"].is_object() {
        object["spec"] = Value::Object(Map::new());
    }
    object["spec"].as_object_mut().expect("made above")
}

/// Sets a field of the spec.
pub(super) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    spec_mut(object).insert(key.to_owned(), value.into());
}

/// Removes a field of the spec and keeps the order of the others.
pub(super) fn clear(object: &mut Value, key: &str) {
    spec_mut(object).shift_remove(key);
}

/// Sets `clusterIPs`, or removes it if there are none.
pub(super) fn set_cluster_ips(object: &mut Value, ips: &[&str]) {
    match ips {
        [] => clear(object, "clusterIPs"),
        ips => set(object, "clusterIPs", ips.to_vec()),
    }
}

/// The entries of `spec.ports` to edit.
pub(super) fn ports_mut(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec_mut(object)
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
