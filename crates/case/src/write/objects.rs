//! The lines of Services, slices and endpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::address::Family;
use daymark_model::input::{
    Affinity, ClusterIps, Conditions, IngressMode, ServicePort, ServiceType, SliceAudience,
    SlicePort, TrafficPolicy,
};
use daymark_model::{Endpoint, Service, Slice, SliceKey};

use super::{
    CONDITIONS, DEFAULT_AFFINITY, Words, Writer, families_of, implied_slice, join, name, prefix,
};

/// The slices of a step that are not written yet; `None` means gone.
pub(super) type Slices<'a> = BTreeMap<&'a SliceKey, Option<&'a Arc<Slice>>>;

impl Writer<'_> {
    /// A Service, with its endpoints below it where the short form can say them: those slices are
    /// taken out of `slices`.
    pub(super) fn service(
        &self,
        out: &mut fmt::Formatter<'_>,
        service: &Service,
        slices: Option<&mut Slices>,
    ) -> fmt::Result {
        let implied: Vec<Arc<Slice>> = slices.map_or_else(Vec::new, |slices| {
            let implied = implied_slices(service, slices);
            for slice in &implied {
                slices.remove(&slice.key);
            }
            implied
        });
        let targets = implied.first().map(|slice| slice.ports.as_slice());
        let mut words = Words::new("service");
        words.push(name(&service.key.namespace, &service.key.name));
        match &service.kind {
            ServiceType::ClusterIp => words.push("ClusterIP"),
            ServiceType::NodePort => words.push("NodePort"),
            ServiceType::LoadBalancer => words.push("LoadBalancer"),
            ServiceType::ExternalName(host) => words.field("ExternalName", host),
        };
        for (index, port) in service.ports.iter().enumerate() {
            let target = targets.map_or(port.port, |targets| targets[index].port);
            words.push(service_port(port, target));
        }
        self.addresses(&mut words, service);
        self.rules(&mut words, service);
        words.end(out)?;
        for endpoint in implied.iter().flat_map(|slice| &slice.endpoints) {
            self.endpoint(out, endpoint)?;
        }
        Ok(())
    }

    fn addresses(&self, words: &mut Words, service: &Service) {
        match &service.cluster_ips {
            ClusterIps::Unset => {}
            ClusterIps::Headless => {
                words.field("cluster", "None");
            }
            ClusterIps::Allocated(ips) => {
                words.field("cluster", self.list(ips));
            }
        }
        if service.families != families_of(&service.cluster_ips) {
            words.field("families", join(&service.families));
        }
        if !service.external_ips.is_empty() {
            words.field("external", self.list(&service.external_ips));
        }
        let ingress = service.ingress.iter().map(|ingress| {
            let ip = self.spell(&ingress.ip);
            match ingress.mode {
                IngressMode::Vip => ip,
                IngressMode::Proxy => format!("{ip}:proxy"),
            }
        });
        let ingress: Vec<String> = ingress.collect();
        if !ingress.is_empty() {
            words.field("lb", ingress.join(","));
        }
    }

    fn rules(&self, words: &mut Words, service: &Service) {
        for (key, policy) in [
            ("internal-policy", service.internal_policy),
            ("external-policy", service.external_policy),
        ] {
            if policy == TrafficPolicy::Local {
                words.field(key, "Local");
            }
        }
        match service.affinity {
            Affinity::None => {}
            Affinity::ClientIp {
                timeout: DEFAULT_AFFINITY,
            } => {
                words.field("affinity", "ClientIP");
            }
            Affinity::ClientIp { timeout } => {
                words.field("affinity", format!("ClientIP:{timeout}"));
            }
        }
        if !service.source_ranges.is_empty() {
            words.field("ranges", self.list(&service.source_ranges));
        }
        if let Some(port) = service.health_check_node_port {
            words.field("health", port);
        }
        if let Some(proxy) = &service.proxy_name {
            words.field("proxy-name", proxy);
        }
        if service.created != 0 {
            words.field("created", service.created);
        }
        let Some(request) = &service.load_balancer else {
            return;
        };
        if let Some(class) = &request.class {
            words.field("lb-class", class);
        }
        if !request.addresses.is_empty() {
            words.field("lb-addresses", self.list(&request.addresses));
        }
        if let Some(pool) = &request.pool {
            words.field("lb-pool", pool);
        }
    }

    pub(super) fn slice(
        &self,
        out: &mut fmt::Formatter<'_>,
        key: &SliceKey,
        slice: Option<&Arc<Slice>>,
    ) -> fmt::Result {
        let shown = name(&key.namespace, &key.name);
        let Some(slice) = slice else {
            return writeln!(out, "{} slice {shown}", Words::new("remove").0);
        };
        let mut words = Words::new("slice");
        words.push(shown).push("of").push(&slice.service);
        words.push(slice.family);
        for port in &slice.ports {
            let SlicePort { name, protocol, .. } = port;
            words.push(format!("{}{}/{protocol}", prefix(name), port.port));
        }
        if slice.audience == SliceAudience::DnsOnly {
            words.push("dns-only");
        }
        words.end(out)?;
        for endpoint in &slice.endpoints {
            self.endpoint(out, endpoint)?;
        }
        Ok(())
    }

    fn endpoint(&self, out: &mut fmt::Formatter<'_>, endpoint: &Endpoint) -> fmt::Result {
        let mut words = Words::new("endpoint");
        words.push(self.spell(&endpoint.address));
        let known = CONDITIONS.iter().find(|(_, c)| *c == endpoint.conditions);
        if let Some((word, _)) = known {
            words.push(word);
        } else {
            let Conditions {
                ready,
                serving,
                terminating,
            } = endpoint.conditions;
            for (key, value) in [
                ("ready", ready),
                ("serving", serving),
                ("terminating", terminating),
            ] {
                if let Some(value) = value {
                    words.field(key, if value { "yes" } else { "no" });
                }
            }
        }
        if let Some(node) = &endpoint.node {
            words.push("on").push(node);
        }
        if let Some(hints) = &endpoint.hints {
            if !hints.zones.is_empty() || hints.nodes.is_empty() {
                words.field("zones", join(&hints.zones));
            }
            if !hints.nodes.is_empty() {
                words.field("nodes", join(&hints.nodes));
            }
        }
        if let Some(hostname) = &endpoint.hostname {
            words.field("hostname", hostname);
        }
        words.end(out)
    }
}

/// The slices of a Service that its line and `endpoint` lines below it say, in the order in which
/// they say them: one a family, with the Service's ports under the same numbers, no address twice.
fn implied_slices(service: &Service, slices: &Slices) -> Vec<Arc<Slice>> {
    let mut implied: Vec<Arc<Slice>> = Vec::new();
    for family in Family::BOTH {
        let slice = slices.get(&implied_slice(&service.key, family));
        let Some(slice) = slice.copied().flatten() else {
            continue;
        };
        let same_ports = implied.first().is_none_or(|s| s.ports == slice.ports);
        if same_ports && is_implied(service, family, slice) {
            implied.push(slice.clone());
        }
    }
    implied
}

fn is_implied(service: &Service, family: Family, slice: &Slice) -> bool {
    let mut addresses: Vec<IpAddr> = slice.endpoints.iter().map(|e| e.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let port_pairs = service.ports.iter().zip(&slice.ports);
    slice.service == service.key.name
        && slice.family == family
        && slice.audience == SliceAudience::Everyone
        && slice.ports.len() == service.ports.len()
        && port_pairs.into_iter().all(|(service, slice)| {
            service.name == slice.name && service.protocol == slice.protocol
        })
        && !addresses.is_empty()
        && addresses.len() == slice.endpoints.len()
        && addresses.iter().all(|ip| Family::of(*ip) == family)
}

fn service_port(port: &ServicePort, target: u16) -> String {
    let arrow = if target == port.port {
        String::new()
    } else {
        format!("->{target}")
    };
    let node_port = port.node_port.map_or_else(String::new, |n| format!("@{n}"));
    let (name, number) = (prefix(&port.name), port.port);
    format!("{name}{number}{arrow}/{}{node_port}", port.protocol)
}
