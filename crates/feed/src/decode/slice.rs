//! EndpointSlices.

use std::net::IpAddr;
use std::num::NonZeroI64;
use std::sync::Arc;

use daymark_model::Family;
use daymark_model::address::parse_address;
use daymark_model::input::{
    Conditions, Endpoint, Hints, Slice, SliceAudience, SliceKey, SlicePort,
};
use serde::Deserialize;

use super::meta::Metadata;
use super::value::{Flag, List, Number, Part, Read, Shape, Text};
use super::{Json, Reader, Record, micros};
use crate::record::ObjectKey;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SliceJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    address_type: Text<'a>,
    #[serde(borrow)]
    endpoints: List<EndpointJson<'a>>,
    #[serde(borrow)]
    ports: List<Port<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EndpointJson<'a> {
    #[serde(borrow)]
    addresses: List<Text<'a>>,
    conditions: Part<ConditionsJson>,
    #[serde(borrow)]
    hostname: Text<'a>,
    #[serde(borrow)]
    node_name: Text<'a>,
    #[serde(borrow)]
    hints: Part<HintsJson<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionsJson {
    ready: Flag,
    serving: Flag,
    terminating: Flag,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HintsJson<'a> {
    #[serde(borrow)]
    for_zones: List<Named<'a>>,
    #[serde(borrow)]
    for_nodes: List<Named<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    protocol: Text<'a>,
    port: Number,
}

impl Shape for SliceJson<'_> {}
impl Shape for ConditionsJson {}
impl Shape for HintsJson<'_> {}

impl<'a> Json<'a> for SliceJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let service = reader.share_text(&self.metadata.labels.service_name)?;
        let family = family(&self.address_type, reader)?;
        let audience = if self.metadata.labels.headless.is_absent() {
            SliceAudience::Everyone
        } else {
            SliceAudience::DnsOnly
        };
        let slice = Slice {
            key: SliceKey {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(&key.name),
            },
            service,
            family,
            audience,
            ports: ports(&self.ports, reader),
            endpoints: endpoints(&self.endpoints, family, reader),
        };
        // Who made the slice says when what it follows from changed; without that, nobody knows.
        let triggered = micros(&self.metadata.annotations.last_change);
        let triggered = triggered.and_then(NonZeroI64::new);
        Some(Record::Slice(Arc::new(slice), triggered))
    }
}

fn family(address_type: &Text<'_>, reader: &mut Reader<'_, '_>) -> Option<Family> {
    match address_type.text() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        // Valid, and of no use to a proxy.
        "FQDN" => None,
        other => {
            reader.refuse(
                "addressType",
                format!("{other:?} is not IPv4 or IPv6; the slice is left out"),
            );
            None
        }
    }
}

fn ports(list: &List<Port<'_>>, reader: &mut Reader<'_, '_>) -> Vec<SlicePort> {
    let mut ports = Vec::with_capacity(list.len());
    for (index, entry) in reader.part("ports", list).iter().enumerate() {
        let field = |name: &'static str| move || format!("ports[{index}].{name}");
        let Some(port) = reader.port(field("port"), &entry.port) else {
            continue;
        };
        let Some(protocol) = reader.protocol(field("protocol"), &entry.protocol) else {
            continue;
        };
        ports.push(SlicePort {
            name: reader.share(entry.name.text()),
            protocol,
            port,
        });
    }
    ports
}

fn endpoints(
    list: &List<EndpointJson<'_>>,
    family: Family,
    reader: &mut Reader<'_, '_>,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(list.len());
    for (index, entry) in reader.part("endpoints", list).iter().enumerate() {
        let Some(address) = address(index, entry, family, reader) else {
            continue;
        };
        endpoints.push(Endpoint {
            address,
            conditions: Conditions {
                ready: flag(&entry.conditions.ready),
                serving: flag(&entry.conditions.serving),
                terminating: flag(&entry.conditions.terminating),
            },
            node: reader.share_text(&entry.node_name),
            hints: hints(&entry.hints, reader),
            hostname: reader.share_text(&entry.hostname),
        });
    }
    endpoints.shrink_to_fit();
    endpoints
}

/// `addresses[0]`, which must be of the slice's family.
fn address(
    index: usize,
    entry: &EndpointJson<'_>,
    family: Family,
    reader: &mut Reader<'_, '_>,
) -> Option<IpAddr> {
    let first = entry.addresses.first().map_or("", Text::text);
    let address = parse_address(first).filter(|address| Family::of(*address) == family);
    if address.is_none() {
        let why = format!("{first:?} is not an {family} address; the endpoint is left out");
        reader.refuse(format!("endpoints[{index}].addresses[0]"), why);
    }
    address
}

fn flag(flag: &Flag) -> Option<bool> {
    match flag {
        Read::Value(value) => Some(*value),
        Read::Absent | Read::Unreadable => None,
    }
}

fn hints(json: &HintsJson<'_>, reader: &mut Reader<'_, '_>) -> Option<Box<Hints>> {
    if json.for_zones.is_empty() && json.for_nodes.is_empty() {
        return None;
    }
    let mut names = |list: &List<Named<'_>>| {
        list.iter()
            .map(|entry| reader.share(entry.name.text()))
            .collect()
    };
    Some(Box::new(Hints {
        zones: names(&json.for_zones),
        nodes: names(&json.for_nodes),
    }))
}
