//! ServiceCIDR and IPAddress.
//!
//! Source: `pkg/apis/networking/validation/validation.go` of Kubernetes.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::ip::{Family, parse_canonical_cidr, parse_ip};
use super::meta::validate_object_name;
use super::names::{self, dns1123_subdomain};
use super::read::{at, deep, list, text, texts};

/// The longest host part of an IPv6 Service network (so that an address fits a 64-bit offset).
const IPV6_HOST_BITS_MAX: u8 = 64;

/// A ServiceCIDR: one or two networks, each of its own family, fixed but for adding the second.
pub fn validate_service_cidr(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    let path = Path::new("spec").child("cidrs");
    let cidrs = texts(&object["spec"], "cidrs");
    let before = old
        .map(|old| texts(&old["spec"], "cidrs"))
        .unwrap_or_default();
    match (cidrs.len(), old) {
        (0, _) => wrong.push(FieldError::required(&path, "at least one CIDR required")),
        (1 | 2, None) => wrong.extend(validate_cidrs(&path, &cidrs)),
        (1 | 2, Some(_)) => wrong.extend(validate_cidr_change(&path, &cidrs, &before)),
        _ => {
            let shown = object["spec"]["cidrs"].clone();
            wrong.push(FieldError::invalid(
                &path,
                shown,
                "may only hold up to 2 values",
            ));
        }
    }
    wrong
}

fn validate_cidrs(path: &Path, cidrs: &[&str]) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut families = Vec::new();
    for (i, text) in cidrs.iter().enumerate() {
        match parse_canonical_cidr(text) {
            Err(why) => wrong.push(FieldError::invalid(&path.index(i), *text, why)),
            Ok(cidr) if cidr.family() == Family::V6 && cidr.host_bits() > IPV6_HOST_BITS_MAX => {
                wrong.push(FieldError::invalid(
                    &path.index(i),
                    *text,
                    "prefix length must be at least 64 for IPv6",
                ));
            }
            Ok(cidr) => families.push(cidr.family()),
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
        wrong.push(FieldError::invalid(path, cidrs.to_vec(), why));
    }
    wrong
}

fn validate_cidr_change(path: &Path, cidrs: &[&str], before: &[&str]) -> Vec<FieldError> {
    let kept = cidrs
        .iter()
        .zip(before)
        .enumerate()
        .filter(|(_, (new, old))| new != old);
    let mut wrong: Vec<_> = kept
        .map(|(i, (new, _))| FieldError::invalid(&path.index(i), *new, "field is immutable"))
        .collect();
    if cidrs.len() < before.len() {
        wrong.push(FieldError::invalid(
            path,
            cidrs.to_vec(),
            "field is immutable",
        ));
    }
    if wrong.is_empty() && cidrs.len() > before.len() {
        wrong.extend(validate_cidrs(path, cidrs));
    }
    wrong
}

/// The status of a ServiceCIDR: each condition has a type and a status that exists.
pub fn validate_service_cidr_status(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("status").child("conditions");
    let mut wrong = Vec::new();
    for (i, condition) in list(&object["status"], "conditions").iter().enumerate() {
        if text(condition, "type").is_empty() {
            wrong.push(FieldError::required(&path.index(i).child("type"), ""));
        }
        if !matches!(text(condition, "status"), "True" | "False" | "Unknown") {
            let known = ["True", "False", "Unknown"];
            wrong.push(FieldError::not_supported(
                &path.index(i).child("status"),
                text(condition, "status"),
                &known,
            ));
        }
    }
    wrong
}

/// An IPAddress: the name is the canonical address, the parent is fixed.
pub fn validate_ip_address(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let name = text(&object["metadata"], "name");
    let path = Path::new("metadata").child("name");
    match parse_ip(name) {
        Err(why) => wrong.push(FieldError::invalid(&path, name, why)),
        Ok(ip) if ip.to_string() != name => {
            wrong.push(FieldError::invalid(
                &path,
                name,
                format!("must be in canonical form (\"{ip}\")"),
            ));
        }
        Ok(_) => {}
    }
    let path = Path::new("spec").child("parentRef");
    let Some(parent) = deep(object, &["spec", "parentRef"]) else {
        wrong.push(FieldError::required(&path, ""));
        return wrong;
    };
    for (key, check) in [
        ("resource", dns1123_subdomain as names::Check),
        ("name", path_segment),
    ] {
        match text(parent, key) {
            "" => wrong.push(FieldError::required(&path.child(key), "")),
            value => wrong.extend(names::invalid(&path.child(key), value, check)),
        }
    }
    if let Some(group) = at(parent, "group")
        .and_then(Value::as_str)
        .filter(|g| !g.is_empty())
    {
        wrong.extend(names::invalid(
            &path.child("group"),
            group,
            dns1123_subdomain,
        ));
    }
    if let Some(namespace) = at(parent, "namespace")
        .and_then(Value::as_str)
        .filter(|n| !n.is_empty())
    {
        wrong.extend(names::invalid(
            &path.child("namespace"),
            namespace,
            path_segment,
        ));
    }
    if old.is_some_and(|old| deep(old, &["spec", "parentRef"]) != Some(parent)) {
        wrong.push(FieldError::invalid(
            &path,
            Value::Null,
            "field is immutable",
        ));
    }
    wrong
}

/// Anything that can be one segment of a URL path.
fn path_segment(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if matches!(text, "." | "..") {
        wrong.push(format!("may not be '{text}'"));
    }
    for c in ['/', '%'] {
        if text.contains(c) {
            wrong.push(format!("may not contain '{c}'"));
        }
    }
    wrong
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
    fn service_cidrs() {
        let rows = [
            (json!(["10.96.0.0/16"]), None, ""),
            (json!(["10.96.0.0/16", "fd00::/112"]), None, ""),
            (json!([]), None, "spec.cidrs Required"),
            (json!(["10.96.0.1/16"]), None, "spec.cidrs[0] Invalid"),
            (json!(["FD00::/112"]), None, "spec.cidrs[0] Invalid"),
            (json!(["fd00::/63"]), None, "spec.cidrs[0] Invalid"),
            (
                json!(["10.0.0.0/16", "10.1.0.0/16"]),
                None,
                "spec.cidrs Invalid",
            ),
            (
                json!(["10.0.0.0/16", "fd00::/112", "fd01::/112"]),
                None,
                "spec.cidrs Invalid",
            ),
            (
                json!(["10.0.0.0/16", "fd00::/112"]),
                Some(json!(["10.0.0.0/16"])),
                "",
            ),
            (
                json!(["10.0.0.0/16"]),
                Some(json!(["10.0.0.0/16", "fd00::/112"])),
                "spec.cidrs Invalid",
            ),
            (
                json!(["10.1.0.0/16"]),
                Some(json!(["10.0.0.0/16"])),
                "spec.cidrs[0] Invalid",
            ),
        ];
        for (cidrs, before, expected) in rows {
            let object =
                |cidrs: &Value| json!({ "metadata": { "name": "a" }, "spec": { "cidrs": cidrs } });
            let old = before.as_ref().map(object);
            assert_eq!(
                first(&validate_service_cidr(&object(&cidrs), old.as_ref())),
                expected,
                "{cidrs}"
            );
        }
    }

    #[test]
    fn ip_addresses() {
        let parent = json!({ "group": "", "resource": "services", "namespace": "ns", "name": "a" });
        let rows = [
            ("10.96.0.1", parent.clone(), ""),
            ("fd00::1", parent.clone(), ""),
            ("fd00::0001", parent.clone(), "metadata.name Invalid"),
            ("web", parent.clone(), "metadata.name Invalid"),
            ("10.96.0.1", Value::Null, "spec.parentRef Required"),
            (
                "10.96.0.1",
                json!({ "name": "a" }),
                "spec.parentRef.resource Required",
            ),
            (
                "10.96.0.1",
                json!({ "resource": "services" }),
                "spec.parentRef.name Required",
            ),
        ];
        for (name, parent, expected) in rows {
            let object = json!({ "metadata": { "name": name }, "spec": { "parentRef": parent } });
            assert_eq!(
                first(&validate_ip_address(&object, None)),
                expected,
                "{object}"
            );
        }
        let old = json!({ "metadata": { "name": "10.96.0.1" }, "spec": { "parentRef": parent } });
        let mut moved = old.clone();
        moved["spec"]["parentRef"]["name"] = json!("b");
        let wrong = validate_ip_address(&moved, Some(&old));
        assert_eq!(
            wrong[0].to_string(),
            "spec.parentRef: Invalid value: null: field is immutable"
        );
    }
}
