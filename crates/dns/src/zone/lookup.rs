//! A name under the cluster's zone, by its shape (kubernetes/dns, docs/specification.md):
//!
//! ```text
//! ZONE  dns-version  dns  ns.dns  svc  pod  N.svc  N.pod  ADDRESS.N.pod
//! S.N.svc   HOST.S.N.svc   _PROTOCOL.S.N.svc   _PORT._PROTOCOL.S.N.svc
//! ```
//!
//! Whatever has a name below it exists (RFC 8020); whatever has another shape does not.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::address::parse_address;
use daymark_model::input::{ClusterIps, ServiceType};
use daymark_model::{Protocol, Service, ServiceKey};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};

use super::Zone;
use super::answer::{Answer, Maker, Outcome, prefixed};
use super::endpoints::{self, Ready};
use crate::config::PodNames;

/// What a name stands for.
enum Meaning<'z> {
    /// Nothing: NXDOMAIN.
    Nothing,
    /// Something without records of its own.
    Empty,
    Apex,
    Version,
    NameServer,
    Pod(IpAddr),
    Service(&'z Arc<Service>),
    /// An alias; the text may end in a dot.
    ExternalName(&'z str),
    /// Ports of a Service with a cluster IP.
    Ports(&'z Arc<Service>, Wanted),
    /// Endpoints, with the ports asked for: of a headless Service, or one of any Service by name.
    Endpoints(&'z Arc<Service>, Vec<Ready<'z>>, Wanted),
}

/// Which ports of a Service a name asks for; empty text is any.
#[derive(Clone, Debug, Default)]
struct Wanted {
    port: String,
    protocol: Option<Protocol>,
}

impl Wanted {
    fn takes(&self, name: &str, protocol: Protocol) -> bool {
        (self.port.is_empty() || self.port.eq_ignore_ascii_case(name))
            && self.protocol.is_none_or(|wanted| wanted == protocol)
    }
}

/// One question: its name, the zone in the question's case, its type.
struct Question<'q> {
    name: &'q Name,
    origin: Name,
    kind: RecordType,
    maker: Maker,
}

impl Zone {
    /// The answer to a question under the zone; aliases are followed inside of it.
    pub(super) fn answer_forward(&self, name: &Name, kind: RecordType) -> Outcome {
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            let refused = Answer {
                code: ResponseCode::Refused,
                answers: vec![],
                soa: None,
                additionals: vec![],
            };
            return Outcome::Answer(refused);
        }
        let maker = Maker {
            ttl: self.ttl,
            serial: self.serial,
        };
        let origin = name.trim_to(self.suffix.len());
        let soa = || maker.soa(&origin, self.name_server(&origin));
        let mut chain: Vec<Record> = Vec::new();
        let mut at = name.clone();
        loop {
            let question = Question {
                name: &at,
                origin: at.trim_to(self.suffix.len()),
                kind,
                maker,
            };
            let meaning = self.meaning(&at);
            let Meaning::ExternalName(text) = meaning else {
                return Outcome::Answer(self.conclude(chain, &question, meaning, soa()));
            };
            // An address is no name: nothing could be found under it (CoreDNS agrees).
            let Some(target) = alias_target(text) else {
                return Outcome::Answer(Answer::no_name(soa()));
            };
            chain.push(maker.cname(&at, target.clone()));
            if matches!(kind, RecordType::CNAME) {
                return Outcome::Answer(Answer::records(chain, Vec::new()));
            }
            if !self.origin.zone_of(&target) {
                return Outcome::Alias {
                    chain,
                    target,
                    soa: Box::new(soa()),
                };
            }
            if chain.len() > LONGEST_CHAIN || chain.iter().any(|link| link.name == target) {
                return Outcome::Answer(Answer::no_data(soa()));
            }
            at = target;
        }
    }

    /// The answer at the end of a chain of aliases, nearly always an empty one. A target that is
    /// missing inside the zone is no data, without the alias.
    fn conclude(
        &self,
        chain: Vec<Record>,
        question: &Question<'_>,
        meaning: Meaning<'_>,
        soa: Record,
    ) -> Answer {
        let missing = matches!(meaning, Meaning::Nothing);
        let (records, additionals) = self.records(question, meaning);
        match (records.is_empty(), missing, chain.is_empty()) {
            (false, ..) => Answer::records(chain.into_iter().chain(records).collect(), additionals),
            (true, true, true) => Answer::no_name(soa),
            (true, true, false) | (true, false, true) => Answer::no_data(soa),
            (true, false, false) => Answer {
                answers: chain,
                ..Answer::no_data(soa)
            },
        }
    }

    /// `ns.dns.ZONE`.
    pub(super) fn name_server(&self, origin: &Name) -> Name {
        prefixed("dns", origin)
            .and_then(|dns| prefixed("ns", &dns))
            .unwrap_or_else(|| origin.clone())
    }

    fn meaning(&self, name: &Name) -> Meaning<'_> {
        let Some(labels) = labels(name) else {
            return Meaning::Nothing;
        };
        let Some(count) = labels.len().checked_sub(self.suffix.len()) else {
            return Meaning::Nothing;
        };
        let mut path: Vec<&str> = labels[..count].iter().map(String::as_str).collect();
        path.reverse();
        match path[..] {
            [] => Meaning::Apex,
            ["dns-version"] => Meaning::Version,
            ["svc" | "pod" | "dns"] => Meaning::Empty,
            ["dns", "ns"] => Meaning::NameServer,
            ["svc" | "pod", namespace] if self.store.namespace_exists(namespace) => Meaning::Empty,
            ["svc", namespace, service, ref below @ ..] => {
                self.below_service(namespace, service, below)
            }
            ["pod", namespace, address] => self.pod(namespace, address),
            _ => Meaning::Nothing,
        }
    }

    fn pod(&self, namespace: &str, label: &str) -> Meaning<'_> {
        if self.pods == PodNames::Disabled || !self.store.namespace_exists(namespace) {
            return Meaning::Nothing;
        }
        endpoints::undashed(label).map_or(Meaning::Nothing, Meaning::Pod)
    }

    fn below_service(&self, namespace: &str, name: &str, below: &[&str]) -> Meaning<'_> {
        let Some(service) = self.store.service(namespace, name) else {
            return Meaning::Nothing;
        };
        if let ServiceType::ExternalName(target) = &service.kind {
            return if below.is_empty() {
                Meaning::ExternalName(target)
            } else {
                Meaning::Nothing
            };
        }
        let ready = || endpoints::ready(&self.store, &service.key);
        match (below, &service.cluster_ips) {
            ([], ClusterIps::Headless) => found(service, ready(), Wanted::default()),
            ([], _) => Meaning::Service(service),
            ([label], _) => below_one(service, ready(), label),
            ([protocol, port], cluster_ips) => {
                let Some(wanted) = wanted(port, protocol) else {
                    return Meaning::Nothing;
                };
                if *cluster_ips == ClusterIps::Headless {
                    let mut ready = ready();
                    ready.retain(|ready| {
                        ready
                            .ports
                            .iter()
                            .any(|p| wanted.takes(&p.name, p.protocol))
                    });
                    return found(service, ready, wanted);
                }
                if service
                    .ports
                    .iter()
                    .any(|p| wanted.takes(&p.name, p.protocol))
                {
                    Meaning::Ports(service, wanted)
                } else {
                    Meaning::Nothing
                }
            }
            _ => Meaning::Nothing,
        }
    }

    /// The records of a meaning that have the type asked for, and the addresses of their targets.
    fn records(&self, question: &Question<'_>, meaning: Meaning<'_>) -> (Vec<Record>, Vec<Record>) {
        let name = question.name;
        match meaning {
            Meaning::Nothing | Meaning::Empty | Meaning::ExternalName(_) => Default::default(),
            Meaning::Apex => self.apex(question),
            Meaning::Version if question.kind == RecordType::TXT => {
                (vec![question.maker.version(name)], Vec::new())
            }
            Meaning::Version => Default::default(),
            Meaning::NameServer => {
                let service = self
                    .store
                    .service(&self.service.namespace, &self.service.name);
                let ips = service.map_or(&[][..], |service| service.cluster_ips.all());
                (question.addresses(name, ips.iter().copied()), Vec::new())
            }
            Meaning::Pod(address) => (question.addresses(name, [address]), Vec::new()),
            Meaning::Service(service) => question.cluster_ip(service, &Wanted::default()),
            Meaning::Ports(service, wanted) => question.cluster_ip(service, &wanted),
            Meaning::Endpoints(service, ready, wanted) => {
                question.endpoints(service, &ready, &wanted)
            }
        }
    }

    fn apex(&self, question: &Question<'_>) -> (Vec<Record>, Vec<Record>) {
        let (name, maker) = (question.name, question.maker);
        match question.kind {
            RecordType::SOA => (vec![maker.soa(name, self.name_server(name))], Vec::new()),
            RecordType::NS => {
                let service = self
                    .store
                    .service(&self.service.namespace, &self.service.name);
                let named = service.and_then(|service| service_name(&service.key, name));
                let target = named.unwrap_or_else(|| self.name_server(name));
                let ips = service.map_or(&[][..], |service| service.cluster_ips.all());
                let glue = ips.iter().map(|ip| maker.address(&target, *ip)).collect();
                (vec![maker.ns(name, target)], glue)
            }
            _ => Default::default(),
        }
    }
}

impl Question<'_> {
    /// The addresses of the type asked for.
    fn addresses(&self, owner: &Name, all: impl IntoIterator<Item = IpAddr>) -> Vec<Record> {
        let wanted = all.into_iter().filter(|address| match self.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        });
        wanted
            .map(|address| self.maker.address(owner, address))
            .collect()
    }

    fn cluster_ip(&self, service: &Service, wanted: &Wanted) -> (Vec<Record>, Vec<Record>) {
        let ips = service.cluster_ips.all().iter().copied();
        if self.kind != RecordType::SRV {
            return (self.addresses(self.name, ips), Vec::new());
        }
        let Some(target) = service_name(&service.key, &self.origin) else {
            return Default::default();
        };
        let ports = service
            .ports
            .iter()
            .filter(|port| wanted.takes(&port.name, port.protocol));
        let mut numbers: Vec<u16> = ports.map(|port| port.port).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let weight = weight(numbers.len());
        let records = numbers
            .iter()
            .map(|port| self.maker.srv(self.name, weight, *port, target.clone()));
        (
            records.collect(),
            ips.map(|ip| self.maker.address(&target, ip)).collect(),
        )
    }

    fn endpoints(
        &self,
        service: &Service,
        ready: &[Ready<'_>],
        wanted: &Wanted,
    ) -> (Vec<Record>, Vec<Record>) {
        let addresses = ready.iter().map(|ready| ready.endpoint.address);
        if self.kind != RecordType::SRV {
            return (self.addresses(self.name, addresses), Vec::new());
        }
        let Some(parent) = service_name(&service.key, &self.origin) else {
            return Default::default();
        };
        let mut targets: Vec<(u16, Name)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut glue = Vec::new();
        for ready in ready {
            let Some(target) = prefixed(&endpoints::label(ready.endpoint), &parent) else {
                continue;
            };
            let ports = ready
                .ports
                .iter()
                .filter(|port| wanted.takes(&port.name, port.protocol));
            for port in ports {
                if seen.insert((port.port, target.clone())) {
                    targets.push((port.port, target.clone()));
                }
            }
            glue.push(self.maker.address(&target, ready.endpoint.address));
        }
        let weight = weight(targets.len());
        let records = targets
            .into_iter()
            .map(|(port, target)| self.maker.srv(self.name, weight, port, target));
        (records.collect(), glue)
    }
}

/// The labels of a name, lower case; `None` if one is not text.
pub(super) fn labels(name: &Name) -> Option<Vec<String>> {
    name.iter()
        .map(|label| std::str::from_utf8(label).ok().map(str::to_ascii_lowercase))
        .collect()
}

/// `S.N.svc.ZONE`.
pub(super) fn service_name(key: &ServiceKey, origin: &Name) -> Option<Name> {
    prefixed("svc", origin)
        .and_then(|name| prefixed(&key.namespace, &name))
        .and_then(|name| prefixed(&key.name, &name))
}

/// The target of an ExternalName; `None` if it is an address or no name at all.
fn alias_target(text: &str) -> Option<Name> {
    if text.is_empty() || parse_address(text).is_some() {
        return None;
    }
    let mut target = Name::from_ascii(text).ok()?;
    target.set_fqdn(true);
    Some(target)
}

/// A headless Service, or one of its ports, exists if an endpoint is ready.
fn found<'z>(service: &'z Arc<Service>, ready: Vec<Ready<'z>>, wanted: Wanted) -> Meaning<'z> {
    if ready.is_empty() {
        Meaning::Nothing
    } else {
        Meaning::Endpoints(service, ready, wanted)
    }
}

/// One label below a Service: an endpoint's, or `_tcp` with named ports below it.
fn below_one<'z>(service: &'z Arc<Service>, mut ready: Vec<Ready<'z>>, label: &str) -> Meaning<'z> {
    if let Some(protocol) = label.strip_prefix('_').and_then(protocol) {
        let of_service = service
            .ports
            .iter()
            .any(|port| port.protocol == protocol && !port.name.is_empty());
        let headless = service.cluster_ips == ClusterIps::Headless;
        let exists = if headless {
            let mut ports = ready.iter().flat_map(|ready| ready.ports);
            ports.any(|port| port.protocol == protocol && !port.name.is_empty())
        } else {
            of_service
        };
        return if exists {
            Meaning::Empty
        } else {
            Meaning::Nothing
        };
    }
    ready.retain(|ready| endpoints::label(ready.endpoint).eq_ignore_ascii_case(label));
    found(service, ready, Wanted::default())
}

/// `_http` and `_tcp`; the underscores may be missing, and alone they mean any.
fn wanted(port: &str, protocol_label: &str) -> Option<Wanted> {
    let bare = |label: &str| label.strip_prefix('_').unwrap_or(label).to_owned();
    let text = bare(protocol_label);
    let protocol = if text.is_empty() {
        None
    } else {
        Some(protocol(&text)?)
    };
    Some(Wanted {
        port: bare(port),
        protocol,
    })
}

fn protocol(label: &str) -> Option<Protocol> {
    Protocol::parse(&label.to_ascii_uppercase())
}

/// All targets of a name share the weight 100 evenly.
fn weight(targets: usize) -> u16 {
    let share = 100 / targets.max(1);
    u16::try_from(share.max(1)).expect("at most 100")
}

/// Aliases that are followed.
const LONGEST_CHAIN: usize = 10;
