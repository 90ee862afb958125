//! One entry of a Service's load-balancer status.

use serde_json::Value;

use crate::registry::validate::ip::{parse_sloppy, validate_ip};
use crate::registry::validate::names::{self, dns1123_subdomain};
use crate::registry::validate::read::{some_text, text};
use crate::registry::validate::{FieldError, Path};

const MODES: [&str; 2] = ["Proxy", "VIP"];

/// An address with its mode, or a host name.
pub(super) fn validate_ingress(path: &Path, entry: &Value, before: &[&str]) -> Vec<FieldError> {
    let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
    let mut wrong = Vec::new();
    if !ip.is_empty() {
        wrong.extend(validate_ip(&path.child("ip"), ip, before));
    }
    let at_mode = path.child("ipMode");
    match (some_text(entry, "ipMode"), ip) {
        (None, "") => {}
        (None, _) => wrong.push(FieldError::required(
            &at_mode,
            "must be specified when `ip` is set",
        )),
        (Some(_), "") => wrong.push(FieldError::forbidden(
            &at_mode,
            "may not be specified when `ip` is not set",
        )),
        (Some(mode), _) if !MODES.contains(&mode) => {
            wrong.push(FieldError::not_supported(&at_mode, mode, &MODES))
        }
        (Some(_), _) => {}
    }
    if !host.is_empty() {
        let path = path.child("hostname");
        wrong.extend(names::invalid(&path, host, dns1123_subdomain));
        if parse_sloppy(host).is_some() {
            wrong.push(FieldError::invalid(
                &path,
                host,
                "must be a DNS name, not an IP address",
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ingress_entries() {
        let rows = [
            (json!({ "ip": "192.0.2.1", "ipMode": "VIP" }), ""),
            (json!({ "hostname": "lb.example.com" }), ""),
            (json!({ "ip": "192.0.2.1" }), "i.ipMode Required"),
            (
                json!({ "ip": "192.0.2.1", "ipMode": "Other" }),
                "i.ipMode NotSupported",
            ),
            (
                json!({ "hostname": "a", "ipMode": "VIP" }),
                "i.ipMode Forbidden",
            ),
            (json!({ "ip": "192.0.2", "ipMode": "VIP" }), "i.ip Invalid"),
            (json!({ "hostname": "192.0.2.1" }), "i.hostname Invalid"),
            (json!({ "hostname": "A_b" }), "i.hostname Invalid"),
        ];
        for (entry, expected) in rows {
            let wrong = validate_ingress(&Path::new("i"), &entry, &[]);
            let first = wrong
                .first()
                .map(|e| format!("{} {:?}", e.path, e.kind))
                .unwrap_or_default();
            assert_eq!(first, expected, "{entry}");
        }
    }
}
