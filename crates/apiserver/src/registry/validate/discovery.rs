//! EndpointSlice.
//!
//! Source: `pkg/apis/discovery/validation/validation.go` of Kubernetes.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::ip::{Family, parse_sloppy, validate_ip, validate_reachable};
use super::meta::validate_object_name;
use super::names::{self, dns1123_label, dns1123_subdomain, qualified_name};
use super::read::{deep, list, some_text, text, texts};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

/// An EndpointSlice, new or updated.
pub fn validate_endpoint_slice(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    wrong.extend(validate_ports(list(object, "ports")));
    let address_type = text(object, "addressType");
    // What the declarative rules say comes last.
    let mut declared: Vec<FieldError> = validate_address_type(address_type, old)
        .into_iter()
        .collect();
    let endpoints = list(object, "endpoints");
    let path = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        wrong.push(FieldError::too_many(&path, endpoints.len(), ENDPOINTS_MAX));
        return wrong;
    }
    let before: Vec<&str> = old
        .map(|old| {
            list(old, "endpoints")
                .iter()
                .flat_map(|e| texts(e, "addresses"))
                .collect()
        })
        .unwrap_or_default();
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(i);
        wrong.extend(validate_endpoint(&path, endpoint, address_type, &before));
        declared.extend(validate_count(&path.child("addresses"), endpoint));
    }
    wrong.extend(declared);
    wrong
}

fn validate_count(path: &Path, endpoint: &Value) -> Option<FieldError> {
    match texts(endpoint, "addresses").len() {
        0 => Some(FieldError::required(path, "")),
        n if n > ADDRESSES_MAX => Some(FieldError::too_many(path, n, ADDRESSES_MAX)),
        _ => None,
    }
}

fn validate_address_type(address_type: &str, old: Option<&Value>) -> Option<FieldError> {
    let path = Path::new("addressType");
    match (address_type, old.map(|old| text(old, "addressType"))) {
        ("", _) => Some(FieldError::required(&path, "")),
        (new, Some(old)) if new != old => Some(FieldError::invalid(
            &path,
            Value::Null,
            "field is immutable",
        )),
        (new, _) if !ADDRESS_TYPES.contains(&new) => {
            Some(FieldError::not_supported(&path, new, &ADDRESS_TYPES))
        }
        _ => None,
    }
}

fn validate_endpoint(
    path: &Path,
    endpoint: &Value,
    address_type: &str,
    before: &[&str],
) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let addresses = texts(endpoint, "addresses");
    let at_addresses = path.child("addresses");
    for (i, address) in addresses.iter().enumerate() {
        // An address that was stored stays, whatever else changes.
        if !before.contains(address) {
            wrong.extend(validate_address(&at_addresses, i, address, address_type));
        }
    }
    if let Some(node) = some_text(endpoint, "nodeName") {
        wrong.extend(names::invalid(
            &path.child("nodeName"),
            node,
            dns1123_subdomain,
        ));
    }
    if let Some(zone) = some_text(endpoint, "zone") {
        wrong.extend(names::invalid(
            &path.child("zone"),
            zone,
            names::label_value,
        ));
    }
    if let Some(hostname) = some_text(endpoint, "hostname") {
        wrong.extend(names::invalid(
            &path.child("hostname"),
            hostname,
            dns1123_label,
        ));
    }
    wrong.extend(validate_hints(&path.child("hints"), endpoint));
    wrong
}

fn validate_address(
    list: &Path,
    index: usize,
    address: &str,
    address_type: &str,
) -> Vec<FieldError> {
    let path = &list.index(index);
    let Some(family) = Family::parse(address_type) else {
        return match address_type {
            "FQDN" => names::invalid(path, address, dns1123_subdomain).collect(),
            _ => Vec::new(),
        };
    };
    if let Some(error) = validate_ip(path, address, &[]) {
        return vec![error];
    }
    match parse_sloppy(address).map(Family::of) {
        // Upstream names the list here, not the entry.
        Some(found) if found != family => vec![FieldError::invalid(
            list,
            address,
            format!("must be an {address_type} address"),
        )],
        _ => validate_reachable(path, address),
    }
}

fn validate_hints(path: &Path, endpoint: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    for (key, check) in [
        ("forZones", names::label_value as names::Check),
        ("forNodes", dns1123_subdomain),
    ] {
        let hints = deep(endpoint, &["hints", key])
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let path = path.child(key);
        if hints.len() > HINTS_MAX {
            wrong.push(FieldError::too_many(&path, hints.len(), HINTS_MAX));
            continue;
        }
        let mut seen: Vec<&str> = Vec::new();
        for (i, hint) in hints.iter().enumerate() {
            let (path, name) = (path.index(i).child("name"), text(hint, "name"));
            if seen.contains(&name) {
                wrong.push(FieldError::duplicate(&path, name));
            }
            match name {
                "" => wrong.push(FieldError::required(&path, "")),
                name => wrong.extend(names::invalid(&path, name, check)),
            }
            seen.push(name);
        }
    }
    wrong
}

fn validate_ports(ports: &[Value]) -> Vec<FieldError> {
    let path = Path::new("ports");
    if ports.len() > PORTS_MAX {
        return vec![FieldError::too_many(&path, ports.len(), PORTS_MAX)];
    }
    let mut wrong = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            wrong.extend(names::invalid(&path.child("name"), name, dns1123_label));
        }
        if seen.contains(&name) {
            wrong.push(FieldError::duplicate(&path.child("name"), name));
        }
        seen.push(name);
        match some_text(port, "protocol") {
            None => wrong.push(FieldError::required(&path.child("protocol"), "")),
            Some(protocol) if !PROTOCOLS.contains(&protocol) => {
                wrong.push(FieldError::not_supported(
                    &path.child("protocol"),
                    protocol,
                    &PROTOCOLS,
                ));
            }
            Some(_) => {}
        }
        // Upstream lets any number pass: proxies leave out those that are none.
        if let Some(protocol) = some_text(port, "appProtocol") {
            wrong.extend(names::invalid(
                &path.child("appProtocol"),
                protocol,
                qualified_name,
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice() -> Value {
        json!({
            "metadata": { "name": "web-abcde" },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.244.1.5"], "nodeName": "node-1", "zone": "zone-a" }],
            "ports": [{ "name": "", "protocol": "TCP", "port": 8080 }],
        })
    }

    #[test]
    fn endpoint_slices() {
        let many = |n: usize| {
            (0..n)
                .map(|i| json!(format!("10.0.{}.{}", i / 250, i % 250 + 1)))
                .collect::<Value>()
        };
        let zones: Value = (0..9).map(|i| json!({ "name": format!("z{i}") })).collect();
        let rows = [
            ("/addressType", json!("IPv4"), ""),
            ("/addressType", json!("IPX"), "addressType NotSupported"),
            ("/addressType", json!(""), "addressType Required"),
            (
                "/addressType",
                json!("IPv6"),
                "endpoints[0].addresses Invalid",
            ),
            (
                "/endpoints/0/addresses",
                json!([]),
                "endpoints[0].addresses Required",
            ),
            (
                "/endpoints/0/addresses",
                many(101),
                "endpoints[0].addresses TooMany",
            ),
            (
                "/endpoints/0/addresses",
                json!(["127.0.0.1"]),
                "endpoints[0].addresses[0] Invalid",
            ),
            (
                "/endpoints/0/addresses",
                json!(["010.0.0.1"]),
                "endpoints[0].addresses[0] Invalid",
            ),
            (
                "/endpoints/0/nodeName",
                json!("Node"),
                "endpoints[0].nodeName Invalid",
            ),
            (
                "/endpoints/0/zone",
                json!("a b"),
                "endpoints[0].zone Invalid",
            ),
            (
                "/endpoints/0",
                json!({ "addresses": ["10.0.0.1"], "hostname": "A" }),
                "endpoints[0].hostname Invalid",
            ),
            (
                "/endpoints/0",
                json!({ "addresses": ["10.0.0.1"], "hints": { "forZones": zones } }),
                "endpoints[0].hints.forZones TooMany",
            ),
            (
                "/endpoints",
                json!(vec![json!({ "addresses": ["10.0.0.1"] }); 1001]),
                "endpoints TooMany",
            ),
            (
                "/ports",
                json!([{ "name": "a", "protocol": "TCP" }, { "name": "a", "protocol": "UDP" }]),
                "ports[1].name Duplicate",
            ),
            (
                "/ports/0/protocol",
                json!("ICMP"),
                "ports[0].protocol NotSupported",
            ),
            ("/ports/0/port", json!(70000), ""),
        ];
        for (pointer, value, expected) in rows {
            let mut object = slice();
            *object.pointer_mut(pointer).expect("the row names a field") = value;
            let wrong = validate_endpoint_slice(&object, None);
            let first = wrong
                .first()
                .map(|e| format!("{} {:?}", e.path, e.kind))
                .unwrap_or_default();
            assert_eq!(first, expected, "{pointer}");
        }
    }

    #[test]
    fn the_family_of_a_slice_is_fixed() {
        let mut object = slice();
        object["addressType"] = json!("FQDN");
        let wrong = validate_endpoint_slice(&object, Some(&slice()));
        assert_eq!(
            wrong[0].to_string(),
            "addressType: Invalid value: null: field is immutable"
        );
    }
}
