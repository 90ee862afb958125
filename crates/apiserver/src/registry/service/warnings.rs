//! What a client should hear although its Service is stored.
//!
//! Source: `pkg/api/service/warnings.go` of Kubernetes.

use serde_json::Value;

use super::validate::{TOPOLOGY_HINTS, TOPOLOGY_MODE};
use super::view::{NONE, Service, Type};
use crate::registry::validate::Path;
use crate::registry::validate::ip::{warn_cidr, warn_ip};
use crate::registry::validate::read::{annotation, text, texts};

/// All warnings about a Service.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    let service = Service::new(object);
    let mut out = Vec::new();
    if annotation(object, TOPOLOGY_HINTS).is_some() {
        out.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    out.extend(unusual_forms(service));
    if service.is_headless() {
        out.extend(ignored_when_headless(service));
    }
    if service.has_external_ips() {
        out.push(
            "spec.externalIPs is deprecated and open to abuse by anyone who may create Services: use a LoadBalancer instead"
                .to_owned(),
        );
    }
    if service.is(Type::ExternalName) && service.has_external_ips() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !service.is(Type::ExternalName) && !text(service.spec, "externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(service.spec, "trafficDistribution") == "PreferClose" {
        out.push(
            "spec.trafficDistribution: PreferClose is deprecated, use PreferSameZone instead"
                .to_owned(),
        );
    }
    out
}

fn unusual_forms(service: Service<'_>) -> Vec<String> {
    let spec = Path::new("spec");
    let mut out = Vec::new();
    for key in ["clusterIPs", "externalIPs"] {
        let ips = texts(service.spec, key)
            .into_iter()
            .enumerate()
            .filter(|(_, ip)| *ip != NONE);
        out.extend(ips.filter_map(|(i, ip)| warn_ip(&spec.child(key).index(i), ip)));
    }
    out.extend(warn_ip(
        &spec.child("loadBalancerIP"),
        text(service.spec, "loadBalancerIP"),
    ));
    let ranges = texts(service.spec, "loadBalancerSourceRanges")
        .into_iter()
        .enumerate();
    let path = spec.child("loadBalancerSourceRanges");
    out.extend(ranges.filter_map(|(i, range)| warn_cidr(&path.index(i), range.trim())));
    out
}

fn ignored_when_headless(service: Service<'_>) -> impl Iterator<Item = String> {
    let fields = [
        (
            "spec.loadBalancerIP",
            !text(service.spec, "loadBalancerIP").is_empty(),
        ),
        ("spec.externalIPs", service.has_external_ips()),
        (
            "spec.SessionAffinity",
            text(service.spec, "sessionAffinity") != "None",
        ),
    ];
    let set = fields.into_iter().filter(|(_, set)| *set);
    set.map(|(field, _)| format!("{field} is ignored when spec.clusterIP is set to \"None\""))
}
