//! The lines of objects other than Services: options, the node, slices and endpoints, removals.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::address::Family;
use daymark_model::input::{Conditions, Detector, Hints, MasqueradeAll, SliceAudience, SlicePort};
use daymark_model::node_ports::{NodePortAddress, NodePortAddresses};
use daymark_model::rules;
use daymark_model::{Endpoint, InterfacePattern, Node, ServiceCidr, ServiceKey, Slice, SliceKey};

use super::line::{Fields, Line};
use super::{Open, Parser};
use crate::error::ParseError;
use crate::write::{CONDITIONS, implied_slice};

type Result<T> = std::result::Result<T, ParseError>;

impl Parser<'_> {
    /// `options [name=NODE] [detector=D] [node-ports=primary|localhost|all|PREFIX,...] [masquerade-all=yes|no]
    /// [CHOICE=WORD...]`
    pub(super) fn options(&mut self, line: &mut Line) -> Result<()> {
        if !self.is_blank() {
            return Err(line.error("options before everything else", "options"));
        }
        let own = ["name", "detector", "node-ports", "masquerade-all"];
        let choices = rules::NAMES.into_iter();
        let keys: Vec<&str> = own
            .into_iter()
            .chain(choices.map(|(name, _)| name))
            .collect();
        let fields = line.fields(&keys)?;
        no_plain(line, &fields)?;
        let options = &mut self.case.options;
        options.node_name = fields.get("name").unwrap_or_default().into();
        match fields.get("detector") {
            None => {}
            Some("node") => options.detector = Detector::NodeCidr,
            Some("none") => options.detector = Detector::None,
            Some(text) if text.starts_with("interface:") => {
                let pattern = InterfacePattern::parse(&text["interface:".len()..]);
                let expected = "an interface of at most 15 bytes, or the beginning of some and a *";
                let pattern = pattern.ok_or_else(|| line.error(expected, text))?;
                options.detector = Detector::Interface(pattern);
            }
            Some(text) => {
                let cidrs = prefixes(
                    line,
                    "node, none, interface:NAME, interface:BEGINNING*",
                    text,
                )?;
                options.detector = Detector::Cidrs(cidrs);
            }
        }
        if let Some(text) = fields.get("node-ports") {
            options.node_port_addresses = NodePortAddresses(line.list(text, node_port_address)?);
        }
        if let Some(text) = fields.get("masquerade-all") {
            options.masquerade_all = if line.yes(text)? {
                MasqueradeAll::Yes
            } else {
                MasqueradeAll::No
            };
        }
        for (name, words) in rules::NAMES {
            if let Some(word) = fields.get(name) {
                let known = options.rules.set(name, word);
                known.ok_or_else(|| line.error(format!("one of {words}"), word))?;
            }
        }
        Ok(())
    }

    /// `node NAME [ADDRESS...] [zone=ZONE] [pods=PREFIX,...]`
    pub(super) fn node(&mut self, line: &mut Line) -> Result<()> {
        let name = line.word("the name of this node")?;
        let fields = line.fields(&["zone", "pods"])?;
        let addresses = fields.plain.iter().map(|text| line.address(text));
        let node = Node {
            name: name.into(),
            addresses: addresses.collect::<Result<_>>()?,
            zone: fields.get("zone").unwrap_or_default().into(),
            pod_cidrs: fields.list(line, "pods", |line, text| line.cidr(text))?,
        };
        let node = Some(Arc::new(node));
        self.state.node.clone_from(&node);
        self.draft.node = Some(node);
        Ok(())
    }

    /// `machine [ADDRESS...]`
    pub(super) fn machine(&mut self, line: &mut Line) -> Result<()> {
        let words = line.rest();
        let addresses = words.iter().map(|text| line.address(text));
        self.draft.machine = Some(addresses.collect::<Result<Vec<IpAddr>>>()?.into());
        Ok(())
    }

    /// `service-cidr NAME PREFIX,...`
    pub(super) fn service_cidr(&mut self, line: &mut Line) -> Result<()> {
        let name: Arc<str> = line.word("the ServiceCIDR's name")?.into();
        let list = line.word("its prefixes")?;
        let cidrs = line.list(list, |line, text| line.cidr(text))?;
        let cidr = ServiceCidr {
            name: name.clone(),
            cidrs,
        };
        self.state.service_cidrs.insert(name.clone());
        self.draft.service_cidrs.insert(name, Some(Arc::new(cidr)));
        line.end()
    }

    /// `slice [NAMESPACE/]NAME of SERVICE IPv4|IPv6 [[NAME:]PORT/PROTOCOL...] [dns-only]`
    pub(super) fn slice(&mut self, line: &mut Line) -> Result<()> {
        let word = line.word("the slice's name")?;
        let ServiceKey { namespace, name } = line.key(word)?;
        line.exactly("of")?;
        let service = line.word("the name of the slice's Service")?;
        let word = line.word("a family: IPv4 or IPv6")?;
        let family = line.family(word)?;
        let mut slice = Slice {
            key: SliceKey { namespace, name },
            service: service.into(),
            family,
            audience: SliceAudience::Everyone,
            ports: Vec::new(),
            endpoints: Vec::new(),
        };
        for word in line.rest() {
            match *word {
                "dns-only" => slice.audience = SliceAudience::DnsOnly,
                port => slice.ports.push(slice_port(line, port)?),
            }
        }
        self.open = Open::Slice(slice.key.clone());
        self.put_slice(slice);
        Ok(())
    }

    /// `endpoint ADDRESS [CONDITIONS] [on NODE] [of SERVICE] [zones=...] [nodes=...] [hostname=NAME]`
    pub(super) fn endpoint(&mut self, line: &mut Line) -> Result<()> {
        let (endpoint, of) = endpoint(line)?;
        match (of, &self.open) {
            (Some(service), _) => {
                let service = line.key(service)?;
                self.upsert(line, &service, endpoint)
            }
            (None, Open::Service(service)) => {
                let service = service.clone();
                self.upsert(line, &service, endpoint)
            }
            (None, Open::Slice(key)) => {
                let mut slice = self.state.slices[key].clone();
                slice.endpoints.push(endpoint);
                self.put_slice(slice);
                Ok(())
            }
            (None, Open::Nothing) => Err(line.error(
                "`of SERVICE`, since no service or slice line stands above in this step",
                "",
            )),
        }
    }

    /// Puts an endpoint into the slice that a Service's line implies for its family, in place of the
    /// one of the same address.
    fn upsert(&mut self, line: &Line, service: &ServiceKey, endpoint: Endpoint) -> Result<()> {
        let Some(ports) = self.state.targets.get(service) else {
            return Err(line.error("a Service that a line above names", &service.to_string()));
        };
        let family = Family::of(endpoint.address);
        let key = implied_slice(service, family);
        let known = self.state.slices.get(&key).cloned();
        let mut slice = known.unwrap_or_else(|| Slice {
            key,
            service: service.name.clone(),
            family,
            audience: SliceAudience::Everyone,
            ports: Vec::new(),
            endpoints: Vec::new(),
        });
        slice.ports.clone_from(ports);
        let same = |known: &&mut Endpoint| known.address == endpoint.address;
        match slice.endpoints.iter_mut().find(same) {
            Some(known) => *known = endpoint,
            None => slice.endpoints.push(endpoint),
        }
        self.put_slice(slice);
        Ok(())
    }

    /// `remove node`, `remove service-cidr NAME`, `remove service NAME`, `remove slice NAME`, `remove endpoint ADDRESS of SERVICE`
    pub(super) fn remove(&mut self, line: &mut Line) -> Result<()> {
        const WHAT: &str = "what goes: node, service-cidr, service, slice or endpoint";
        match line.word(WHAT)? {
            "node" => {
                self.state.node = None;
                self.draft.node = Some(None);
            }
            "service-cidr" => {
                let name = line.word("the name of a ServiceCIDR")?;
                if !self.state.service_cidrs.remove(name) {
                    return Err(line.error("a ServiceCIDR that a line above names", name));
                }
                self.draft.service_cidrs.insert(name.into(), None);
            }
            "service" => {
                let word = line.word("the name of a Service")?;
                let key = line.key(word)?;
                if self.state.targets.remove(&key).is_none() {
                    return Err(line.error("a Service that a line above names", word));
                }
                self.draft.services.insert(key, None);
            }
            "slice" => {
                let word = line.word("the name of a slice")?;
                let ServiceKey { namespace, name } = line.key(word)?;
                let key = SliceKey { namespace, name };
                if self.state.slices.remove(&key).is_none() {
                    return Err(line.error("a slice that a line above names or implies", word));
                }
                self.draft.slices.insert(key, None);
            }
            "endpoint" => self.remove_endpoint(line)?,
            other => return Err(line.error(WHAT, other)),
        }
        line.end()
    }

    fn remove_endpoint(&mut self, line: &mut Line) -> Result<()> {
        let place = line.word("an endpoint's address")?;
        let address = line.address(place)?;
        line.exactly("of")?;
        let word = line.word("the name of the endpoint's Service")?;
        let service = line.key(word)?;
        let key = implied_slice(&service, Family::of(address));
        let slice = self.state.slices.get(&key).cloned();
        let Some(mut slice) =
            slice.filter(|s| s.endpoints.iter().any(|known| known.address == address))
        else {
            return Err(line.error(format!("an endpoint of slice {}", key.name), place));
        };
        slice.endpoints.retain(|known| known.address != address);
        self.put_slice(slice);
        Ok(())
    }
}

fn no_plain(line: &Line, fields: &Fields) -> Result<()> {
    match fields.plain.first() {
        None => Ok(()),
        Some(word) => Err(line.error("KEY=VALUE", word)),
    }
}

fn prefixes(line: &mut Line, others: &str, text: &str) -> Result<Vec<daymark_model::Cidr>> {
    match text.strip_prefix("cidr:") {
        Some(list) => line.list(list, |line, text| line.cidr(text)),
        None => Err(line.error(format!("one of {others}, cidr:PREFIX,..."), text)),
    }
}

fn node_port_address(line: &mut Line, text: &str) -> Result<NodePortAddress> {
    let mut keywords = NodePortAddress::KEYWORDS.into_iter();
    match keywords.find(|(word, _)| *word == text) {
        Some((_, entry)) => Ok(entry),
        None => {
            let cidr = line.cidr_or("primary, localhost, all, or ", text)?;
            Ok(NodePortAddress::Cidr(cidr))
        }
    }
}

/// `[NAME:]PORT/PROTOCOL`
fn slice_port(line: &Line, text: &str) -> Result<SlicePort> {
    let expected = "a port such as 8080/TCP or http:8080/TCP, or dns-only";
    let (name, number) = text.split_once(':').unwrap_or(("", text));
    let (port, protocol) = number
        .split_once('/')
        .ok_or_else(|| line.error(expected, text))?;
    Ok(SlicePort {
        name: name.into(),
        protocol: line.protocol(protocol)?,
        port: line.port(port)?,
    })
}

fn endpoint<'a>(line: &mut Line<'a>) -> Result<(Endpoint, Option<&'a str>)> {
    const KEYS: [&str; 6] = [
        "ready",
        "serving",
        "terminating",
        "zones",
        "nodes",
        "hostname",
    ];
    let word = line.word("an endpoint's address")?;
    let address = line.address(word)?;
    let fields = line.fields(&KEYS)?;
    let (mut node, mut of) = (None, None);
    let mut conditions = conditions_by_field(line, &fields)?;
    let mut words = fields.plain.iter();
    while let Some(word) = words.next() {
        let mut name = |what| words.next().copied().ok_or_else(|| line.error(what, ""));
        match *word {
            "on" => node = Some(name("the node's name")?.into()),
            "of" => of = Some(name("the Service's name")?),
            word => conditions = conditions_by_word(line, word)?,
        }
    }
    let hints = Hints {
        zones: fields.list(line, "zones", |_, text| Ok(text.into()))?,
        nodes: fields.list(line, "nodes", |_, text| Ok(text.into()))?,
    };
    let hinted = fields.get("zones").or(fields.get("nodes")).is_some();
    let endpoint = Endpoint {
        address,
        conditions,
        node,
        hints: hinted.then(|| Box::new(hints)),
        hostname: fields.get("hostname").map(Into::into),
    };
    Ok((endpoint, of))
}

fn conditions_by_word(line: &Line, word: &str) -> Result<Conditions> {
    let known = CONDITIONS.into_iter().find(|(known, _)| *known == word);
    known.map(|(_, conditions)| conditions).ok_or_else(|| {
        let words: Vec<&str> = CONDITIONS.iter().map(|(word, _)| *word).collect();
        line.error(
            format!("one of {}, on NODE, of SERVICE", words.join(", ")),
            word,
        )
    })
}

fn conditions_by_field(line: &Line, fields: &Fields) -> Result<Conditions> {
    let read = |key| fields.get(key).map(|text| line.yes(text)).transpose();
    Ok(Conditions {
        ready: read("ready")?,
        serving: read("serving")?,
        terminating: read("terminating")?,
    })
}
