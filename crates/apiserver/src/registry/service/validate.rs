//! What is wrong with a Service, in upstream's order.
//!
//! Source: `pkg/apis/core/validation/validation.go` (`ValidateService`) of Kubernetes.

use serde_json::{Value, json};

use super::change;
use super::view::{NONE, Service, Type};
use crate::registry::validate::ip::{
    Family, parse_sloppy, validate_cidr, validate_ip, validate_reachable,
};
use crate::registry::validate::meta::{validate_labels, validate_object_name};
use crate::registry::validate::names::{
    self, dns1123_label, dns1123_subdomain, port_name, port_number, qualified_name,
};
use crate::registry::validate::read::{annotation, at, deep, int, list, some_text, text, texts};
use crate::registry::validate::{FieldError, Path};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const AFFINITY_MAX_SECONDS: i64 = 86_400;
const KUBELET_PORT: i64 = 10_250;
const ONLY_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

/// The annotation that came before `trafficDistribution`.
pub(super) const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// Its older name.
pub(super) const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
/// The annotation that came before `loadBalancerSourceRanges`.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

fn spec_path(key: &str) -> Path {
    Path::new("spec").child(key)
}

/// A Service after allocation; on update with the stored one.
pub(super) fn validate(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (service, before) = (Service::new(object), old.map(Service::new));
    let mut wrong = Vec::new();
    wrong.extend(
        before
            .into_iter()
            .flat_map(|before| change::validate(service, before)),
    );
    wrong.extend(validate_object_name(object, dns1123_label));
    wrong.extend(validate_topology(object));
    wrong.extend(validate_type_rules(service));
    wrong.extend(validate_ports(service));
    wrong.extend(validate_labels(
        &spec_path("selector"),
        at(service.spec, "selector"),
    ));
    wrong.extend(validate_affinity(service));
    wrong.extend(validate_cluster_ips(service, before));
    wrong.extend(validate_external_ips(service, before));
    wrong.extend(validate_type(service));
    wrong.extend(validate_repeated_ports(service));
    wrong.extend(validate_source_ranges(service, before));
    wrong.extend(validate_balancer(service));
    wrong.extend(validate_policies(service));
    wrong
}

fn validate_topology(object: &Value) -> Option<FieldError> {
    let (mode, hints) = (
        annotation(object, TOPOLOGY_MODE)?,
        annotation(object, TOPOLOGY_HINTS)?,
    );
    let path = Path::new("metadata")
        .child("annotations")
        .key(TOPOLOGY_MODE);
    let why = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
    (mode != hints).then(|| FieldError::invalid(&path, mode, why))
}

fn validate_type_rules(service: Service<'_>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if service.ports().is_empty() && !service.is_headless() && !service.is(Type::ExternalName) {
        wrong.push(FieldError::required(&spec_path("ports"), ""));
    }
    if service.is(Type::LoadBalancer) {
        let kubelet = service
            .ports()
            .iter()
            .enumerate()
            .filter(|(_, port)| int(port, "port") == KUBELET_PORT);
        let why =
            format!("may not expose port {KUBELET_PORT} externally since it is used by kubelet");
        wrong.extend(kubelet.map(|(i, _)| {
            FieldError::invalid(&spec_path("ports").index(i), KUBELET_PORT, why.as_str())
        }));
    }
    match service.kind() {
        Type::LoadBalancer | Type::NodePort if service.is_headless() => {
            let why = format!(
                "may not be set to 'None' for {} services",
                text(service.spec, "type")
            );
            wrong.push(FieldError::invalid(
                &spec_path("clusterIPs").index(0),
                NONE,
                why,
            ));
        }
        Type::ExternalName => wrong.extend(validate_external_name(service)),
        _ => {}
    }
    wrong
}

fn validate_external_name(service: Service<'_>) -> Vec<FieldError> {
    let set = [
        ("clusterIPs", !service.cluster_ips().is_empty()),
        ("ipFamilies", !service.families().is_empty()),
        ("ipFamilyPolicy", service.policy().is_some()),
    ];
    let why = "may not be set for ExternalName services";
    let mut wrong: Vec<FieldError> = set
        .iter()
        .filter(|(_, set)| *set)
        .map(|(key, _)| FieldError::forbidden(&spec_path(key), why))
        .collect();
    let name = text(service.spec, "externalName");
    // The name may be written as fully qualified.
    match name.strip_suffix('.').unwrap_or(name) {
        "" => wrong.push(FieldError::required(&spec_path("externalName"), "")),
        name => wrong.extend(names::invalid(
            &spec_path("externalName"),
            name,
            dns1123_subdomain,
        )),
    }
    wrong
}

fn validate_ports(service: Service<'_>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let several = service.ports().len() > 1;
    for (i, port) in service.ports().iter().enumerate() {
        let path = spec_path("ports").index(i);
        match text(port, "name") {
            "" if several => wrong.push(FieldError::required(&path.child("name"), "")),
            "" => {}
            name => {
                wrong.extend(names::invalid(&path.child("name"), name, dns1123_label));
                if seen.contains(&name) {
                    wrong.push(FieldError::duplicate(&path.child("name"), name));
                }
                seen.push(name);
            }
        }
        wrong.extend(validate_port(&path, port));
    }
    wrong
}

fn validate_port(path: &Path, port: &Value) -> Vec<FieldError> {
    let number = |key: &str, value: i64| -> Vec<FieldError> {
        port_number(value)
            .into_iter()
            .map(|why| FieldError::invalid(&path.child(key), value, why))
            .collect()
    };
    let mut wrong = number("port", int(port, "port"));
    match text(port, "protocol") {
        "" => wrong.push(FieldError::required(&path.child("protocol"), "")),
        protocol if !PROTOCOLS.contains(&protocol) => {
            wrong.push(FieldError::not_supported(
                &path.child("protocol"),
                protocol,
                &PROTOCOLS,
            ));
        }
        _ => {}
    }
    match some_text(port, "targetPort") {
        Some(name) => wrong.extend(names::invalid(&path.child("targetPort"), name, port_name)),
        None => wrong.extend(number("targetPort", int(port, "targetPort"))),
    }
    if let Some(protocol) = some_text(port, "appProtocol") {
        wrong.extend(names::invalid(
            &path.child("appProtocol"),
            protocol,
            qualified_name,
        ));
    }
    wrong
}

fn validate_affinity(service: Service<'_>) -> Vec<FieldError> {
    let config = at(service.spec, "sessionAffinityConfig");
    match text(service.spec, "sessionAffinity") {
        "" => vec![FieldError::required(&spec_path("sessionAffinity"), "")],
        "None" if config.is_some() => {
            let why = "must not be set when session affinity is None";
            vec![FieldError::forbidden(
                &spec_path("sessionAffinityConfig"),
                why,
            )]
        }
        "None" => Vec::new(),
        "ClientIP" => {
            let path = spec_path("sessionAffinityConfig")
                .child("clientIP")
                .child("timeoutSeconds");
            let seconds = config
                .and_then(|config| deep(config, &["clientIP"]))
                .map(|client| int(client, "timeoutSeconds"));
            match seconds {
                None => vec![FieldError::required(
                    &path,
                    "when session affinity type is ClientIP",
                )],
                Some(1..=AFFINITY_MAX_SECONDS) => Vec::new(),
                Some(seconds) => {
                    let why =
                        format!("must be greater than 0 and less than {AFFINITY_MAX_SECONDS}");
                    vec![FieldError::invalid(&path, seconds, why)]
                }
            }
        }
        other => vec![FieldError::not_supported(
            &spec_path("sessionAffinity"),
            other,
            &AFFINITIES,
        )],
    }
}

/// Cluster addresses, families and their policy, as far as they can be judged without the cluster.
pub(super) fn validate_cluster_ips(
    service: Service<'_>,
    before: Option<Service<'_>>,
) -> Vec<FieldError> {
    if service.is(Type::ExternalName) {
        return Vec::new();
    }
    let mut wrong: Vec<FieldError> = validate_first_ip(service).into_iter().collect();
    wrong.extend(validate_families(service));
    let old = before.map(Service::cluster_ips).unwrap_or_default();
    let malformed = validate_ip_forms(service, &old);
    let stop = !malformed.is_empty();
    wrong.extend(malformed);
    let ips = service.cluster_ips();
    let (path, shown) = (spec_path("clusterIPs"), || {
        service.spec["clusterIPs"].clone()
    });
    if ips.len() > 2 {
        wrong.push(FieldError::invalid(
            &path,
            shown(),
            "may only hold up to 2 values",
        ));
    }
    if stop {
        return wrong;
    }
    let families: Vec<Family> = ips
        .iter()
        .filter_map(|ip| parse_sloppy(ip))
        .map(Family::of)
        .collect();
    if ips.len() > 1
        && !(families.contains(&Family::V4)
            && families.contains(&Family::V6)
            && families.len() == 2)
    {
        wrong.push(FieldError::invalid(
            &path,
            shown(),
            "may specify no more than one IP for each IP family",
        ));
    }
    if !service.is_headless() {
        wrong.extend(validate_ip_families(service, &ips, &families));
    }
    wrong
}

fn validate_first_ip(service: Service<'_>) -> Option<FieldError> {
    let path = spec_path("clusterIPs");
    let ips = service.cluster_ips();
    let shown = || service.spec["clusterIPs"].clone();
    match (service.cluster_ip(), ips.first()) {
        ("", None) => None,
        ("", Some(_)) => Some(FieldError::invalid(
            &path,
            shown(),
            "must be empty when `clusterIP` is not specified",
        )),
        (_, None) => Some(FieldError::required(&path, "")),
        (ip, Some(first)) if ip == *first => None,
        _ => Some(FieldError::invalid(
            &path,
            shown(),
            "first value must match `clusterIP`",
        )),
    }
}

fn validate_families(service: Service<'_>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let families = service.families();
    for (i, family) in families.iter().enumerate() {
        let path = spec_path("ipFamilies").index(i);
        if Family::parse(family).is_none() {
            wrong.push(FieldError::not_supported(&path, *family, &["IPv4", "IPv6"]));
        }
        if families[..i].contains(family) {
            wrong.push(FieldError::duplicate(&path, *family));
        }
    }
    if let Some(policy) = service
        .policy()
        .filter(|policy| !FAMILY_POLICIES.contains(policy))
    {
        wrong.push(FieldError::not_supported(
            &spec_path("ipFamilyPolicy"),
            policy,
            &FAMILY_POLICIES,
        ));
    }
    wrong
}

fn validate_ip_forms(service: Service<'_>, old: &[&str]) -> Vec<FieldError> {
    let path = spec_path("clusterIPs");
    let ips = service.cluster_ips();
    let mut wrong = Vec::new();
    for (i, ip) in ips.iter().enumerate() {
        match (i, *ip) {
            (0, NONE) if ips.len() == 1 => {}
            (0, NONE) => {
                let shown = service.spec["clusterIPs"].clone();
                wrong.push(FieldError::invalid(
                    &path,
                    shown,
                    "'None' must be the first and only value",
                ));
            }
            (_, ip) => wrong.extend(validate_ip(&path.index(i), ip, old)),
        }
    }
    wrong
}

fn validate_ip_families(service: Service<'_>, ips: &[&str], found: &[Family]) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    for (i, expected) in service
        .families()
        .into_iter()
        .filter_map(Family::parse)
        .enumerate()
    {
        if let (Some(ip), Some(family)) = (ips.get(i), found.get(i))
            && *family != expected
        {
            let why = format!(
                "expected an {} value as indicated by `ipFamilies[{i}]`",
                expected.as_str()
            );
            wrong.push(FieldError::invalid(
                &spec_path("clusterIPs").index(i),
                *ip,
                why,
            ));
        }
    }
    wrong
}

fn validate_external_ips(service: Service<'_>, before: Option<Service<'_>>) -> Vec<FieldError> {
    let old = before
        .map(|before| texts(before.spec, "externalIPs"))
        .unwrap_or_default();
    let mut wrong = Vec::new();
    for (i, ip) in texts(service.spec, "externalIPs").into_iter().enumerate() {
        let path = spec_path("externalIPs").index(i);
        match validate_ip(&path, ip, &old) {
            Some(error) => wrong.push(error),
            None => wrong.extend(validate_reachable(&path, ip)),
        }
    }
    wrong
}

fn validate_type(service: Service<'_>) -> Vec<FieldError> {
    match service.kind() {
        Type::Other("") => vec![FieldError::required(&spec_path("type"), "")],
        Type::Other(other) => vec![FieldError::not_supported(&spec_path("type"), other, &TYPES)],
        Type::ClusterIp => {
            let set = service
                .ports()
                .iter()
                .enumerate()
                .filter(|(_, port)| int(port, "nodePort") != 0);
            let why = "may not be used when `type` is 'ClusterIP'";
            set.map(|(i, _)| {
                FieldError::forbidden(&spec_path("ports").index(i).child("nodePort"), why)
            })
            .collect()
        }
        _ => Vec::new(),
    }
}

fn validate_repeated_ports(service: Service<'_>) -> Vec<FieldError> {
    let path = spec_path("ports");
    let ports = service.ports();
    let key = |port: &Value, field: &str| (text(port, "protocol").to_owned(), int(port, field));
    let repeated = |field: &'static str| {
        ports.iter().enumerate().filter(move |(i, port)| {
            int(port, field) != 0
                && ports[..*i]
                    .iter()
                    .any(|other| key(other, field) == key(port, field))
        })
    };
    let nodes = repeated("nodePort").map(|(i, port)| {
        FieldError::duplicate(&path.index(i).child("nodePort"), int(port, "nodePort"))
    });
    // Upstream shows its internal form of a port here.
    let shown = |port: &Value| {
        json!({
            "Name": "", "Protocol": text(port, "protocol"), "AppProtocol": null, "Port": int(port, "port"),
            "TargetPort": 0, "NodePort": 0,
        })
    };
    let numbers =
        repeated("port").map(|(i, port)| FieldError::duplicate(&path.index(i), shown(port)));
    nodes.chain(numbers).collect()
}

fn validate_source_ranges(service: Service<'_>, before: Option<Service<'_>>) -> Vec<FieldError> {
    let balancer = service.is(Type::LoadBalancer);
    let mut wrong = Vec::new();
    let ranges = texts(service.spec, "loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let path = spec_path("LoadBalancerSourceRanges");
        wrong.extend((!balancer).then(|| FieldError::forbidden(&path, ONLY_BALANCER)));
        let old = before
            .map(|before| texts(before.spec, "loadBalancerSourceRanges"))
            .unwrap_or_default();
        let old: Vec<&str> = old.into_iter().map(str::trim).collect();
        let cidrs = ranges.iter().enumerate();
        wrong.extend(
            cidrs.filter_map(|(i, range)| validate_cidr(&path.index(i), range.trim(), &old)),
        );
    } else if let Some(ranges) = annotation(service.object, SOURCE_RANGES) {
        let path = Path::new("metadata")
            .child("annotations")
            .key(SOURCE_RANGES);
        wrong.extend((!balancer).then(|| FieldError::forbidden(&path, ONLY_BALANCER)));
        let old = before
            .and_then(|before| annotation(before.object, SOURCE_RANGES))
            .unwrap_or_default();
        let old: Vec<&str> = old.split(',').map(str::trim).collect();
        let cidrs = ranges
            .split(',')
            .map(str::trim)
            .filter(|_| !ranges.trim().is_empty());
        wrong.extend(cidrs.filter_map(|range| validate_cidr(&path, range, &old)));
    }
    wrong
}

fn validate_balancer(service: Service<'_>) -> Vec<FieldError> {
    let balancer = service.is(Type::LoadBalancer);
    let mut wrong = Vec::new();
    let allocate = at(service.spec, "allocateLoadBalancerNodePorts");
    if !balancer && allocate.is_some() {
        wrong.push(FieldError::forbidden(
            &spec_path("allocateLoadBalancerNodePorts"),
            ONLY_BALANCER,
        ));
    }
    if balancer && allocate.is_none() {
        wrong.push(FieldError::required(
            &spec_path("allocateLoadBalancerNodePorts"),
            "",
        ));
    }
    let path = spec_path("loadBalancerClass");
    match some_text(service.spec, "loadBalancerClass") {
        Some(class) if balancer => wrong.extend(names::invalid(&path, class, qualified_name)),
        Some(_) => wrong.push(FieldError::forbidden(&path, ONLY_BALANCER)),
        None => {}
    }
    wrong
}

fn validate_policies(service: Service<'_>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let path = spec_path("externalTrafficPolicy");
    match (
        service.is_external(),
        text(service.spec, "externalTrafficPolicy"),
    ) {
        (true, "") => wrong.push(FieldError::required(&path, "")),
        (true, policy) if !POLICIES.contains(&policy) => {
            wrong.push(FieldError::not_supported(&path, policy, &POLICIES));
        }
        (true, _) | (false, "") => {}
        (false, policy) => {
            wrong.push(FieldError::invalid(
                &path,
                policy,
                "may only be set for externally-accessible services",
            ));
        }
    }
    wrong.extend(validate_health_port(service));
    let path = spec_path("internalTrafficPolicy");
    match some_text(service.spec, "internalTrafficPolicy") {
        None if service.needs_cluster_ip() => wrong.push(FieldError::required(&path, "")),
        Some(policy) if !POLICIES.contains(&policy) => {
            wrong.push(FieldError::not_supported(&path, policy, &POLICIES));
        }
        _ => {}
    }
    let distribution = some_text(service.spec, "trafficDistribution");
    if let Some(other) = distribution.filter(|distribution| !DISTRIBUTIONS.contains(distribution)) {
        wrong.push(FieldError::not_supported(
            &spec_path("trafficDistribution"),
            other,
            &DISTRIBUTIONS,
        ));
    }
    wrong
}

fn validate_health_port(service: Service<'_>) -> Vec<FieldError> {
    let path = spec_path("healthCheckNodePort");
    match (service.needs_health_port(), service.health_port()) {
        (false, 0) => Vec::new(),
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            vec![FieldError::invalid(&path, port, why)]
        }
        (true, 0) => vec![FieldError::required(&path, "")],
        (true, port) => port_number(port)
            .into_iter()
            .map(|why| FieldError::invalid(&path, port, why))
            .collect(),
    }
}

/// The load-balancer status, as a controller writes it.
pub(super) fn validate_status(object: &Value, old: &Value) -> Vec<FieldError> {
    let service = Service::new(object);
    let ingress = |object| {
        list(
            deep(object, &["status", "loadBalancer"]).unwrap_or(&Value::Null),
            "ingress",
        )
    };
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let entries = ingress(object);
    if !service.is(Type::LoadBalancer) && !entries.is_empty() {
        return vec![FieldError::forbidden(
            &path,
            "may only be used when `spec.type` is 'LoadBalancer'",
        )];
    }
    let before: Vec<&str> = ingress(old).iter().map(|entry| text(entry, "ip")).collect();
    let checked = entries.iter().enumerate();
    checked
        .flat_map(|(i, entry)| super::status::validate_ingress(&path.index(i), entry, &before))
        .collect()
}
