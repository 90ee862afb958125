//! MetalLB's IPAddressPool and L2Advertisement, as far as they are served; other fields are named.

use std::fmt;
use std::sync::Arc;

use daymark_model::address::parse_address;
use daymark_model::{Cidr, Family};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::meta::Metadata;
use super::value::{Flag, List, Number, Part, Read, Shape, Text};
use super::{Json, Reader, Record, micros};
use crate::record::{AddressRange, Assignment, BuggyIps, L2Advertisement, ObjectKey, Pool};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PoolJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    spec: Part<PoolSpec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoolSpec<'a> {
    #[serde(borrow)]
    addresses: List<Text<'a>>,
    #[serde(rename = "autoAssign")]
    auto_assign: Flag,
    #[serde(rename = "avoidBuggyIPs")]
    avoid_buggy_ips: Flag,
    #[serde(flatten)]
    others: Others,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct L2AdvertisementJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    spec: Part<L2Spec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct L2Spec<'a> {
    #[serde(borrow, rename = "ipAddressPools")]
    pools: List<Text<'a>>,
    #[serde(flatten)]
    others: Others,
}

/// The names of the fields that nothing else read.
#[derive(Debug, Default)]
struct Others(Vec<String>);

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OthersVisitor)
    }
}

struct OthersVisitor;

impl<'de> Visitor<'de> for OthersVisitor {
    type Value = Others;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Others, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            names.push(name);
        }
        Ok(Others(names))
    }
}

impl Shape for PoolJson<'_> {}
impl Shape for PoolSpec<'_> {}
impl Shape for L2AdvertisementJson<'_> {}
impl Shape for L2Spec<'_> {}

impl<'a> Json<'a> for PoolJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let mut ranges = Vec::new();
        let mut unreadable = Vec::new();
        for (index, text) in reader
            .part("spec.addresses", &self.spec.addresses)
            .iter()
            .enumerate()
        {
            match range(text.text()) {
                Some(range) => ranges.push(range),
                None => {
                    let why = format!(
                        "{:?} is neither a prefix nor FIRST-LAST; it is left out",
                        text.text()
                    );
                    reader.refuse(format!("spec.addresses[{index}]"), why);
                    unreadable.push(Arc::from(text.text()));
                }
            }
        }
        Some(Record::Pool(Arc::new(Pool {
            key: key.clone(),
            uid: reader.share(self.metadata.uid.text()),
            created: micros(&self.metadata.creation_timestamp)
                .unwrap_or(0)
                .div_euclid(1_000_000),
            generation: number(&self.metadata.generation),
            ranges,
            unreadable,
            assignment: match self.spec.auto_assign {
                Read::Value(false) => Assignment::OnRequest,
                Read::Value(true) | Read::Absent | Read::Unreadable => Assignment::Automatic,
            },
            buggy_ips: match self.spec.avoid_buggy_ips {
                Read::Value(true) => BuggyIps::Avoid,
                Read::Value(false) | Read::Absent | Read::Unreadable => BuggyIps::Give,
            },
            other_fields: names(&self.spec.others),
        })))
    }
}

impl<'a> Json<'a> for L2AdvertisementJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let pools = reader.part("spec.ipAddressPools", &self.spec.pools);
        Some(Record::L2Advertisement(Arc::new(L2Advertisement {
            key: key.clone(),
            uid: reader.share(self.metadata.uid.text()),
            generation: number(&self.metadata.generation),
            pools: pools.iter().map(|name| reader.share(name.text())).collect(),
            other_fields: names(&self.spec.others),
        })))
    }
}

fn names(others: &Others) -> Vec<Arc<str>> {
    others
        .0
        .iter()
        .map(|name| Arc::from(name.as_str()))
        .collect()
}

fn number(number: &Number) -> i64 {
    match number {
        Read::Value(number) => *number,
        Read::Absent | Read::Unreadable => 0,
    }
}

/// `172.30.0.0/24` or `172.30.0.200-172.30.0.250`.
fn range(text: &str) -> Option<AddressRange> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (parse_address(first)?, parse_address(last)?);
        let in_order = Family::of(first) == Family::of(last) && first <= last;
        return in_order.then_some(AddressRange { first, last });
    }
    let cidr = Cidr::parse(text)?;
    Some(AddressRange {
        first: cidr.first(),
        last: cidr.last(),
    })
}
