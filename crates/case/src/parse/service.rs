//! The line of a Service.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::input::{
    Affinity, ClusterIps, Ingress, IngressMode, LoadBalancerRequest, ServicePort, ServiceType,
    SlicePort,
};
use daymark_model::{Service, ServiceKey};

use super::line::{Fields, Line};
use super::{Open, Parser};
use crate::error::ParseError;
use crate::write::{DEFAULT_AFFINITY, families_of};

type Result<T> = std::result::Result<T, ParseError>;

const KEYS: [&str; 14] = [
    "cluster",
    "families",
    "external",
    "lb",
    "internal-policy",
    "external-policy",
    "affinity",
    "ranges",
    "proxy-name",
    "created",
    "health",
    "lb-class",
    "lb-addresses",
    "lb-pool",
];

impl Parser<'_> {
    /// `service [NAMESPACE/]NAME TYPE [PORT...] [KEY=VALUE...]`, where a PORT is
    /// `[NAME:]PORT[->TARGET]/PROTOCOL[@NODEPORT]`.
    pub(super) fn service(&mut self, line: &mut Line) -> Result<()> {
        let word = line.word("the Service's name")?;
        let key = line.key(word)?;
        let kind = kind(line)?;
        let fields = line.fields(&KEYS)?;
        let ports = fields.plain.iter().map(|text| port(line, text));
        let (ports, targets) = ports.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let service = build(line, &key, kind, ports, &fields)?;
        self.state.targets.insert(key.clone(), targets);
        self.open = Open::Service(key.clone());
        self.draft.services.insert(key, Some(Arc::new(service)));
        Ok(())
    }
}

fn build(
    line: &mut Line,
    key: &ServiceKey,
    kind: ServiceType,
    ports: Vec<ServicePort>,
    fields: &Fields,
) -> Result<Service> {
    let address = |line: &mut Line, text: &str| line.address(text);
    let cluster_ips = cluster_ips(line, fields)?;
    let families = match fields.get("families") {
        None => families_of(&cluster_ips),
        Some(text) => line.list(text, |line, text| line.family(text))?,
    };
    let policy = |key| fields.get(key).map(|text| line.policy(text)).transpose();
    Ok(Service {
        key: key.clone(),
        kind,
        families,
        ports,
        internal_policy: policy("internal-policy")?.unwrap_or_default(),
        external_policy: policy("external-policy")?.unwrap_or_default(),
        cluster_ips,
        uid: None,
        created: match fields.get("created") {
            None => 0,
            Some(text) => line.number_of("seconds since 1970", text)?,
        },
        external_ips: fields.list(line, "external", address)?,
        ingress: fields.list(line, "lb", ingress)?,
        affinity: affinity(line, fields.get("affinity"))?,
        source_ranges: fields.list(line, "ranges", |line, text| line.cidr(text))?,
        health_check_node_port: match fields.get("health") {
            None => None,
            Some(text) => Some(line.port(text)?),
        },
        proxy_name: fields.get("proxy-name").map(Into::into),
        load_balancer: load_balancer(line, fields)?,
    })
}

fn kind(line: &mut Line) -> Result<ServiceType> {
    const EXPECTED: &str = "a type: ClusterIP, NodePort, LoadBalancer or ExternalName=HOST";
    match line.word(EXPECTED)? {
        "ClusterIP" => Ok(ServiceType::ClusterIp),
        "NodePort" => Ok(ServiceType::NodePort),
        "LoadBalancer" => Ok(ServiceType::LoadBalancer),
        word => match word.split_once('=') {
            Some(("ExternalName", host)) => Ok(ServiceType::ExternalName(host.into())),
            _ => Err(line.error(EXPECTED, word)),
        },
    }
}

/// `[NAME:]PORT[->TARGET]/PROTOCOL[@NODEPORT]`; without a target the endpoints have the same number.
fn port(line: &Line, text: &str) -> Result<(ServicePort, SlicePort)> {
    let expected = "a port such as 80/TCP, 80->8080/TCP or http:80->8080/TCP@30080";
    let (name, rest) = text.split_once(':').unwrap_or(("", text));
    let (numbers, rest) = rest
        .split_once('/')
        .ok_or_else(|| line.error(expected, text))?;
    let (number, target) = numbers.split_once("->").unwrap_or((numbers, numbers));
    let (protocol, node_port) = match rest.split_once('@') {
        None => (rest, None),
        Some((protocol, node_port)) => (protocol, Some(line.port(node_port)?)),
    };
    let name: Arc<str> = name.into();
    let protocol = line.protocol(protocol)?;
    let service = ServicePort {
        name: name.clone(),
        protocol,
        port: line.port(number)?,
        node_port,
    };
    let target = SlicePort {
        name,
        protocol,
        port: line.port(target)?,
    };
    Ok((service, target))
}

fn cluster_ips(line: &mut Line, fields: &Fields) -> Result<ClusterIps> {
    match fields.get("cluster") {
        None => Ok(ClusterIps::Unset),
        Some("None") => Ok(ClusterIps::Headless),
        Some(text) => {
            let ips: Vec<IpAddr> = line.list(text, |line, text| line.address(text))?;
            Ok(ClusterIps::Allocated(ips))
        }
    }
}

/// `ADDRESS` or `ADDRESS:proxy`
fn ingress(line: &mut Line, text: &str) -> Result<Ingress> {
    let (ip, mode) = match text.strip_suffix(":proxy") {
        Some(ip) => (ip, IngressMode::Proxy),
        None => (text, IngressMode::Vip),
    };
    let ip = line.address(ip)?;
    Ok(Ingress { ip, mode })
}

/// `ClientIP` or `ClientIP:SECONDS`
fn affinity(line: &Line, text: Option<&str>) -> Result<Affinity> {
    let expected = "an affinity: ClientIP or ClientIP:SECONDS";
    let Some(text) = text else {
        return Ok(Affinity::None);
    };
    let timeout = match text.split_once(':').unwrap_or((text, "")) {
        ("ClientIP", "") => DEFAULT_AFFINITY,
        ("ClientIP", seconds) => line.number_of(expected, seconds)?,
        _ => return Err(line.error(expected, text)),
    };
    Ok(Affinity::ClientIp { timeout })
}

fn load_balancer(line: &mut Line, fields: &Fields) -> Result<Option<Box<LoadBalancerRequest>>> {
    let request = LoadBalancerRequest {
        class: fields.get("lb-class").map(Into::into),
        addresses: fields.list(line, "lb-addresses", |line, text| line.address(text))?,
        unreadable: Vec::new(),
        given_from: Vec::new(),
        pool: fields.get("lb-pool").map(Into::into),
    };
    Ok((request != LoadBalancerRequest::default()).then(|| Box::new(request)))
}
