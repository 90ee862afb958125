//! Case to text, in the form that the parser reads back to the same value.

mod objects;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::address::Family;
use daymark_model::decide::{Arrival, SourceSeen};
use daymark_model::input::{ClusterIps, Conditions, Detector, MasqueradeAll};
use daymark_model::node_ports::NodePortAddresses;
use daymark_model::{Change, Node, Options, Packet, ServiceKey, SliceKey, Target};

use crate::value::{Case, Check, Choice, Expect, Step};
use objects::Slices;

/// Words for the conditions that the EndpointSlice controller writes.
pub(crate) const CONDITIONS: [(&str, Conditions); 4] = [
    ("ready", conditions(true, true, false)),
    ("not-ready", conditions(false, false, false)),
    ("draining", conditions(false, true, true)),
    ("terminating", conditions(false, false, true)),
];

/// `sessionAffinityConfig.clientIP.timeoutSeconds` when none is given.
pub(crate) const DEFAULT_AFFINITY: u32 = 10_800;

const fn conditions(ready: bool, serving: bool, terminating: bool) -> Conditions {
    Conditions {
        ready: Some(ready),
        serving: Some(serving),
        terminating: Some(terminating),
    }
}

/// The slice that a Service's line implies for a family.
pub(crate) fn implied_slice(service: &ServiceKey, family: Family) -> SliceKey {
    let name = format!("{}-{}", service.name, family.to_string().to_lowercase());
    SliceKey {
        namespace: service.namespace.clone(),
        name: name.into(),
    }
}

/// `spec.ipFamilies` as the API fills it in.
pub(crate) fn families_of(ips: &ClusterIps) -> Vec<Family> {
    ips.all().iter().copied().map(Family::of).collect()
}

/// The source of the node's own packets: its first address of the family.
pub(crate) fn node_source(node: Option<&Node>, family: Family) -> Option<IpAddr> {
    let mut own = node?.addresses.iter().copied();
    own.find(|ip| Family::of(*ip) == family)
}

/// An endpoint's address and port.
pub(crate) fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Where a packet comes from and goes.
pub(crate) fn route(packet: &Packet) -> String {
    match packet.arrival {
        Arrival::Node => route_from(&format!("node={}", packet.source), packet),
        Arrival::Link => {
            let at = packet
                .interface
                .map_or(String::new(), |at| format!("@{at}"));
            route_from(&format!("{}{at}", packet.source), packet)
        }
    }
}

fn route_from(source: &str, packet: &Packet) -> String {
    let to = endpoint(packet.destination, packet.port);
    format!("{source} -> {to}/{}", packet.protocol)
}

/// The endpoints of a verdict, and the source that they see.
pub(crate) fn targets(targets: &[Target]) -> String {
    let word = |source| match source {
        SourceSeen::Kept => "source-kept",
        SourceSeen::Masqueraded => "masqueraded",
    };
    let agreed = targets.windows(2).all(|two| two[0].source == two[1].source);
    let mut words: Vec<String> = Vec::new();
    for target in targets {
        let place = endpoint(target.address, target.port);
        words.push(if agreed {
            place
        } else {
            format!("{place}={}", word(target.source))
        });
    }
    if let Some(first) = targets.first().filter(|_| agreed) {
        words.push(word(first.source).to_owned());
    }
    words.join(" ")
}

impl Display for Expect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { targets: t, choice } => {
                out.write_str(&targets(t))?;
                match choice {
                    Choice::Anew => Ok(()),
                    Choice::Sticky => out.write_str(" sticky"),
                    Choice::StickyWith(mark) => write!(out, " sticky={mark}"),
                }
            }
            Self::Refuse(reason) => write!(out, "refuse because {reason}"),
            Self::Drop(reason) => write!(out, "drop because {reason}"),
            Self::Untouched => out.write_str("untouched"),
        }
    }
}

impl Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.about {
            writeln!(out, "{}", format!("# {line}").trim_end())?;
        }
        let mut writer = Writer {
            spelling: &self.spelling,
            node: None,
        };
        writer.options(out, &self.options)?;
        for step in &self.steps {
            writer.step(out, step)?;
        }
        Ok(())
    }
}

struct Writer<'a> {
    spelling: &'a BTreeMap<String, String>,
    node: Option<Arc<Node>>,
}

/// A line's words, with the keyword padded so that the lines of a case stand in columns.
struct Words(String);

impl Words {
    fn new(keyword: &str) -> Self {
        Self(format!("{keyword:<9}"))
    }

    fn push(&mut self, word: impl Display) -> &mut Self {
        self.0.push(' ');
        self.0.push_str(&word.to_string());
        self
    }

    fn field(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.push(format!("{key}={value}"))
    }

    fn end(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.0.trim_end())
    }
}

impl Writer<'_> {
    fn options(&self, out: &mut fmt::Formatter<'_>, options: &Options) -> fmt::Result {
        if *options == Options::default() {
            return Ok(());
        }
        let mut words = Words::new("options");
        if !options.node_name.is_empty() {
            words.field("name", &options.node_name);
        }
        match &options.detector {
            Detector::NodeCidr => {}
            Detector::None => {
                words.field("detector", "none");
            }
            Detector::Cidrs(cidrs) => {
                words.field("detector", format!("cidr:{}", self.list(cidrs)));
            }
            Detector::Interface(pattern) => {
                words.field("detector", format!("interface:{pattern}"));
            }
        }
        if options.node_port_addresses != NodePortAddresses::default() {
            words.field("node-ports", self.list(&options.node_port_addresses.0));
        }
        if options.masquerade_all == MasqueradeAll::Yes {
            words.field("masquerade-all", "yes");
        }
        for (name, word) in options.rules.words() {
            words.field(name, word);
        }
        words.end(out)
    }

    fn step(&mut self, out: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
        if !step.name.is_empty() {
            writeln!(out, "\n{} {}", Words::new("step").0, step.name)?;
        }
        let mut slices = Slices::new();
        for change in &step.changes {
            if let Change::Slice(key, slice) = change {
                slices.insert(key, slice.as_ref());
            }
        }
        for change in &step.changes {
            match change {
                Change::Node(node) => self.node(out, node)?,
                Change::MachineAddresses(ips) => {
                    let mut words = Words::new("machine");
                    for ip in ips.iter() {
                        words.push(self.spell(ip));
                    }
                    words.end(out)?;
                }
                Change::ServiceCidr(name, None) => {
                    writeln!(out, "{} service-cidr {name}", Words::new("remove").0)?;
                }
                Change::ServiceCidr(name, Some(cidr)) => {
                    let mut words = Words::new("service-cidr");
                    words.push(name).push(self.list(&cidr.cidrs));
                    words.end(out)?;
                }
                Change::Service(key, None) => {
                    writeln!(out, "{} service {key}", Words::new("remove").0)?;
                }
                Change::Service(_, Some(service)) => {
                    let first = step.name.is_empty();
                    self.service(out, service, first.then_some(&mut slices))?;
                }
                Change::Slice(..) => {}
            }
        }
        for (key, slice) in slices {
            self.slice(out, key, slice)?;
        }
        for check in &step.checks {
            self.check(out, check)?;
        }
        Ok(())
    }

    fn node(&mut self, out: &mut fmt::Formatter<'_>, node: &Option<Arc<Node>>) -> fmt::Result {
        self.node.clone_from(node);
        let Some(node) = node else {
            return writeln!(out, "{} node", Words::new("remove").0);
        };
        let mut words = Words::new("node");
        words.push(&node.name);
        for ip in &node.addresses {
            words.push(self.spell(ip));
        }
        if !node.zone.is_empty() {
            words.field("zone", &node.zone);
        }
        if !node.pod_cidrs.is_empty() {
            words.field("pods", self.list(&node.pod_cidrs));
        }
        words.end(out)
    }

    fn check(&self, out: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
        let packet = &check.packet;
        let own = node_source(self.node.as_deref(), Family::of(packet.destination));
        let route = match packet.arrival {
            Arrival::Node if own == Some(packet.source) => route_from("node", packet),
            Arrival::Node | Arrival::Link => route(packet),
        };
        let verdict = match &check.expect {
            Expect::Refuse(_) => "refuse".to_owned(),
            Expect::Drop(_) => "drop".to_owned(),
            other => other.to_string(),
        };
        let mut words = Words::new("packet");
        words.push(route).push("expect").push(verdict);
        words.push("because").push(&check.because);
        words.end(out)
    }

    fn spell(&self, canonical: &impl ToString) -> String {
        let canonical = canonical.to_string();
        self.spelling.get(&canonical).cloned().unwrap_or(canonical)
    }

    fn list(&self, values: &[impl ToString]) -> String {
        let values: Vec<String> = values.iter().map(|value| self.spell(value)).collect();
        values.join(",")
    }
}

fn prefix(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!("{name}:")
    }
}

fn name(namespace: &str, name: &str) -> String {
    match namespace {
        "default" => name.to_owned(),
        _ => format!("{namespace}/{name}"),
    }
}

fn join(values: &[impl ToString]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(",")
}
