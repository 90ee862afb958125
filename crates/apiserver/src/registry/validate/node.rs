//! Node, reduced to what Service networking reads.
//!
//! Source: `pkg/apis/core/validation/validation.go` (`ValidateNode`, `ValidateNodeUpdate`) of Kubernetes.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::ip::{Family, parse_canonical_cidr};
use super::meta::validate_object_name;
use super::names::{self, dns1123_subdomain};
use super::read::{list, text, texts};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A Node: pod networks, taints, addresses.
pub fn validate_node(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    let spec = &object["spec"];
    wrong.extend(validate_pod_cidrs(spec));
    wrong.extend(validate_taints(spec));
    wrong.extend(validate_addresses(&object["status"]));
    wrong.extend(
        old.into_iter()
            .flat_map(|old| validate_change(spec, &old["spec"])),
    );
    wrong
}

fn validate_pod_cidrs(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("podCIDRs");
    let cidrs = texts(spec, "podCIDRs");
    let mut wrong = Vec::new();
    if cidrs.len() > 2 {
        let why = "may specify no more than one CIDR for each IP family";
        wrong.push(FieldError::invalid(&path, spec["podCIDRs"].clone(), why));
    }
    let mut families: Vec<Family> = Vec::new();
    for (i, text) in cidrs.iter().enumerate() {
        match parse_canonical_cidr(text) {
            Err(why) => wrong.push(FieldError::invalid(&path.index(i), *text, why)),
            Ok(cidr) if families.contains(&cidr.family()) => {
                let why = "may specify no more than one CIDR for each IP family";
                wrong.push(FieldError::invalid(&path, spec["podCIDRs"].clone(), why));
            }
            Ok(cidr) => families.push(cidr.family()),
        }
    }
    let single = text(spec, "podCIDR");
    if !single.is_empty() && cidrs.first().is_some_and(|first| *first != single) {
        let at = Path::new("spec").child("podCIDR");
        wrong.push(FieldError::invalid(
            &at,
            single,
            "must match the first entry of `podCIDRs`",
        ));
    }
    wrong
}

fn validate_taints(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("taints");
    let mut wrong = Vec::new();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in list(spec, "taints").iter().enumerate() {
        let path = path.index(i);
        let (key, effect) = (text(taint, "key"), text(taint, "effect"));
        wrong.extend(names::invalid(
            &path.child("key"),
            key,
            names::qualified_name,
        ));
        wrong.extend(names::invalid(
            &path.child("value"),
            text(taint, "value"),
            names::label_value,
        ));
        match effect {
            "" => wrong.push(FieldError::required(&path.child("effect"), "")),
            effect if !EFFECTS.contains(&effect) => {
                wrong.push(FieldError::not_supported(
                    &path.child("effect"),
                    effect,
                    &EFFECTS,
                ));
            }
            _ => {}
        }
        if seen.contains(&(key, effect)) {
            wrong.push(FieldError::duplicate(&path, taint.clone()));
        }
        seen.push((key, effect));
    }
    wrong
}

fn validate_addresses(status: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("addresses");
    let addresses = list(status, "addresses");
    let repeated = addresses
        .iter()
        .enumerate()
        .filter(|(i, address)| addresses[..*i].contains(address));
    repeated
        .map(|(i, address)| FieldError::duplicate(&path.index(i), address.clone()))
        .collect()
}

fn validate_change(spec: &Value, old: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let before = texts(old, "podCIDRs");
    if !before.is_empty() && texts(spec, "podCIDRs") != before {
        let path = Path::new("spec").child("podCIDRs");
        wrong.push(FieldError::forbidden(
            &path,
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let why = match (text(old, "providerID"), text(spec, "providerID")) {
        ("", _) => None,
        (old, new) if old == new => None,
        (_, "") => Some("field cannot be cleared once set"),
        _ => Some("field cannot be modified once set"),
    };
    if let Some(why) = why {
        wrong.push(FieldError::invalid(
            &Path::new("spec").child("providerID"),
            Value::Null,
            why,
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes() {
        let rows = [
            (
                json!({ "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"] }),
                None,
                "",
            ),
            (
                json!({ "podCIDRs": ["10.244.1.1/24"] }),
                None,
                "spec.podCIDRs[0] Invalid",
            ),
            (
                json!({ "podCIDRs": ["10.244.1.0/24", "10.244.2.0/24"] }),
                None,
                "spec.podCIDRs Invalid",
            ),
            (
                json!({ "podCIDR": "10.9.0.0/24", "podCIDRs": ["10.244.1.0/24"] }),
                None,
                "spec.podCIDR Invalid",
            ),
            (
                json!({ "taints": [{ "key": "a", "effect": "NoSchedule" }] }),
                None,
                "",
            ),
            (
                json!({ "taints": [{ "key": "a", "effect": "Never" }] }),
                None,
                "spec.taints[0].effect NotSupported",
            ),
            (
                json!({ "taints": [{ "key": "a" }] }),
                None,
                "spec.taints[0].effect Required",
            ),
            (
                json!({ "podCIDRs": ["10.1.0.0/24"] }),
                Some(json!({ "podCIDRs": ["10.2.0.0/24"] })),
                "spec.podCIDRs Forbidden",
            ),
            (
                json!({}),
                Some(json!({ "providerID": "a" })),
                "spec.providerID Invalid",
            ),
        ];
        for (spec, before, expected) in rows {
            let object = |spec: &Value| json!({ "metadata": { "name": "node-1" }, "spec": spec });
            let wrong = validate_node(&object(&spec), before.as_ref().map(object).as_ref());
            let first = wrong
                .first()
                .map(|e| format!("{} {:?}", e.path, e.kind))
                .unwrap_or_default();
            assert_eq!(first, expected, "{spec}");
        }
    }
}
