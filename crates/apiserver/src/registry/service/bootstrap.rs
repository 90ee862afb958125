//! The objects that the server makes for itself: its ServiceCIDR and the Service `default/kubernetes`.
//!
//! Source: `pkg/controlplane/controller/{defaultservicecidr,kubernetesservice}` of Kubernetes.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::alloc::Owner;
use crate::registry::alloc::address::{DEFAULT_CIDR, ip_address, usable};
use crate::registry::validate::ip::{Cidr, Family, parse_canonical_cidr};

/// The name of the Service that stands for the API server.
pub const KUBERNETES: Owner<'static> = Owner {
    namespace: "default",
    name: "kubernetes",
};

/// The finalizer that keeps a ServiceCIDR until no address depends on it.
pub const SERVICE_CIDR_FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The ServiceCIDR `kubernetes`, ready: one or two networks, the first one of the default family.
pub fn service_cidr(cidrs: &[&str], now: Timestamp) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": DEFAULT_CIDR, "finalizers": [SERVICE_CIDR_FINALIZER] },
        "spec": { "cidrs": cidrs },
        "status": {
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "reason": "",
                "message": "Kubernetes Service CIDR is ready",
            }],
        },
    })
}

/// The address of `default/kubernetes`: the first usable one of the first network, or `None` if that is no network.
pub fn kubernetes_address(cidrs: &[&str]) -> Option<IpAddr> {
    let cidr: Cidr = parse_canonical_cidr(cidrs.first()?).ok()?;
    let range = usable(&cidr);
    (!range.is_empty()).then(|| cidr.address(*range.start()))
}

/// The Service `default/kubernetes` and the IPAddress that belongs to it. `target_port` is the port that the API
/// server listens on.
pub fn kubernetes_service(address: IpAddr, target_port: u16) -> (Value, Value) {
    let (family, ip) = (Family::of(address).as_str(), address.to_string());
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": KUBERNETES.name,
            "namespace": KUBERNETES.namespace,
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": target_port }],
            "clusterIP": ip,
            "clusterIPs": [ip],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": { "loadBalancer": {} },
    });
    (service, ip_address(address, KUBERNETES))
}

/// The EndpointSlice of `default/kubernetes`: the advertised addresses of the Service's family. Loopback addresses are
/// left out, because no Pod could reach them.
pub fn kubernetes_slice(family: IpAddr, advertised: &[IpAddr], port: u16) -> Value {
    let family = Family::of(family);
    let reachable = advertised
        .iter()
        .filter(|ip| Family::of(**ip) == family && !ip.is_loopback());
    let endpoints: Vec<Value> = reachable
        .map(|ip| json!({ "addresses": [ip.to_string()], "conditions": { "ready": true } }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": KUBERNETES.name,
            "namespace": KUBERNETES.namespace,
            "labels": { "kubernetes.io/service-name": KUBERNETES.name },
        },
        "addressType": family.as_str(),
        "endpoints": endpoints,
        "ports": [{ "name": "https", "protocol": "TCP", "port": port }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_address_is_the_first_usable_one() {
        let rows = [
            (vec!["10.96.0.0/16", "fd00:10:96::/112"], Some("10.96.0.1")),
            (vec!["fd00:10:96::/112"], Some("fd00:10:96::1")),
            (vec!["10.96.0.1/16"], None),
            (vec![], None),
        ];
        for (cidrs, expected) in rows {
            assert_eq!(
                kubernetes_address(&cidrs)
                    .map(|ip| ip.to_string())
                    .as_deref(),
                expected,
                "{cidrs:?}"
            );
        }
    }

    #[test]
    fn loopback_and_the_other_family_make_no_endpoint() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let advertised = [ip("127.0.0.1"), ip("172.30.0.1"), ip("fd00:30::1")];
        let addresses = |family: &str| {
            let slice = kubernetes_slice(ip(family), &advertised, 6443);
            slice["endpoints"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|e| e["addresses"][0].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(addresses("10.96.0.1"), ["172.30.0.1"]);
        assert_eq!(addresses("fd00:10:96::1"), ["fd00:30::1"]);
        assert!(
            kubernetes_slice(ip("10.96.0.1"), &advertised[..1], 6443)["endpoints"]
                .as_array()
                .is_some_and(Vec::is_empty)
        );
    }
}
