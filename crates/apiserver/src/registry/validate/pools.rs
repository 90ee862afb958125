//! MetalLB's IPAddressPool and L2Advertisement, as far as daymark acts on them.
//!
//! A field that daymark would not act on is refused by name rather than accepted and forgotten.
//! Source: `api/v1beta1` of MetalLB; the rules are those of its webhooks.

use std::net::IpAddr;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::ip::{Family, number, parse_ip};
use super::meta::validate_object_name;
use super::names::{self, dns1123_subdomain};
use super::read::{map, texts};

/// One entry of `spec.addresses`, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    family: Family,
    first: u128,
    last: u128,
}

impl Range {
    fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }
}

const POOL_FIELDS: [&str; 3] = ["addresses", "autoAssign", "avoidBuggyIPs"];
const ADVERTISEMENT_FIELDS: [&str; 1] = ["ipAddressPools"];

/// An IPAddressPool: at least one entry, each a network or a range, none inside another.
pub fn validate_ip_address_pool(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    wrong.extend(refuse_other_fields(object, &POOL_FIELDS));
    let path = Path::new("spec").child("addresses");
    let entries = texts(&object["spec"], "addresses");
    if entries.is_empty() {
        wrong.push(FieldError::required(
            &path,
            "a pool needs at least one network or range",
        ));
    }
    let mut seen: Vec<(&str, Range)> = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        match parse_entry(entry) {
            Err(why) => wrong.push(FieldError::invalid(&path.index(i), *entry, why)),
            Ok(range) => {
                if let Some((other, _)) = seen.iter().find(|(_, other)| range.overlaps(other)) {
                    wrong.push(FieldError::invalid(
                        &path.index(i),
                        *entry,
                        format!("overlaps \"{other}\" of the same pool"),
                    ));
                }
                seen.push((entry, range));
            }
        }
    }
    wrong
}

/// An L2Advertisement: the names of pools.
pub fn validate_l2_advertisement(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    wrong.extend(refuse_other_fields(object, &ADVERTISEMENT_FIELDS));
    let path = Path::new("spec").child("ipAddressPools");
    for (i, pool) in texts(&object["spec"], "ipAddressPools").iter().enumerate() {
        wrong.extend(names::invalid(&path.index(i), pool, dns1123_subdomain));
    }
    wrong
}

fn refuse_other_fields(object: &Value, known: &[&str]) -> Vec<FieldError> {
    let path = Path::new("spec");
    let fields = map(object, "spec").into_iter().flatten();
    let others = fields.filter(|(key, value)| !known.contains(&key.as_str()) && !is_empty(value));
    others
        .map(|(key, _)| {
            FieldError::forbidden(
                &path.child(key),
                "daymark does not act on this field yet: leave it out",
            )
        })
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn parse_entry(entry: &str) -> Result<Range, String> {
    if let Some((low, high)) = entry.split_once('-') {
        let (low, high) = (parse_ip(low.trim())?, parse_ip(high.trim())?);
        if low.is_ipv4() != high.is_ipv4() {
            return Err("both ends of a range must be of one family".to_owned());
        }
        let range = Range {
            family: Family::of(low),
            first: number(low),
            last: number(high),
        };
        return if range.first <= range.last {
            Ok(range)
        } else {
            Err("the range ends before it starts".to_owned())
        };
    }
    let Some((ip, prefix)) = entry.split_once('/') else {
        return Err(
            "must be a network (192.0.2.0/24) or a range (192.0.2.10-192.0.2.20)".to_owned(),
        );
    };
    let ip: IpAddr = parse_ip(ip)?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let bits = prefix.parse::<u8>().ok().filter(|bits| *bits <= width);
    let cidr = bits
        .map(|bits| super::ip::Cidr::new(ip, bits))
        .ok_or("must have a prefix length that fits its family")?;
    Ok(Range {
        family: cidr.family(),
        first: cidr.first(),
        last: cidr.last(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(wrong: &[FieldError]) -> String {
        wrong
            .first()
            .map(|e| format!("{} {:?}", e.path, e.kind))
            .unwrap_or_default()
    }

    #[test]
    fn pools() {
        let rows = [
            (
                json!({ "addresses": ["172.30.0.200-172.30.0.250", "fd00:30::200-fd00:30::250"] }),
                "",
            ),
            (
                json!({ "addresses": ["192.0.2.0/24", "2001:db8::/120"], "autoAssign": false }),
                "",
            ),
            (json!({ "addresses": [] }), "spec.addresses Required"),
            (json!({}), "spec.addresses Required"),
            (
                json!({ "addresses": ["192.0.2.1"] }),
                "spec.addresses[0] Invalid",
            ),
            (
                json!({ "addresses": ["192.0.2.9-192.0.2.1"] }),
                "spec.addresses[0] Invalid",
            ),
            (
                json!({ "addresses": ["192.0.2.1-2001:db8::1"] }),
                "spec.addresses[0] Invalid",
            ),
            (
                json!({ "addresses": ["192.0.2.0/33"] }),
                "spec.addresses[0] Invalid",
            ),
            (
                json!({ "addresses": ["192.0.2.0/24", "192.0.2.9-192.0.2.10"] }),
                "spec.addresses[1] Invalid",
            ),
            (
                json!({ "addresses": ["192.0.2.0/24"], "serviceAllocation": { "priority": 1 } }),
                "spec.serviceAllocation Forbidden",
            ),
        ];
        for (spec, expected) in rows {
            let object = json!({ "metadata": { "name": "a", "namespace": "ns" }, "spec": spec });
            assert_eq!(
                first(&validate_ip_address_pool(&object, None)),
                expected,
                "{object}"
            );
        }
    }

    #[test]
    fn advertisements_refuse_fields_by_name() {
        let rows = [
            (json!({}), ""),
            (json!({ "ipAddressPools": ["a"] }), ""),
            (
                json!({ "ipAddressPools": ["A"] }),
                "spec.ipAddressPools[0] Invalid",
            ),
            (
                json!({ "interfaces": ["eth0"] }),
                "spec.interfaces Forbidden",
            ),
            (json!({ "nodeSelectors": [] }), ""),
        ];
        for (spec, expected) in rows {
            let object = json!({ "metadata": { "name": "a", "namespace": "ns" }, "spec": spec });
            assert_eq!(
                first(&validate_l2_advertisement(&object, None)),
                expected,
                "{object}"
            );
        }
    }
}
