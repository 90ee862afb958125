//! ConfigMap, Namespace and Event.
//!
//! Source: `pkg/apis/core/validation/{validation,events}.go` of Kubernetes.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::meta::validate_object_name;
use super::names::{self, dns1123_label, dns1123_subdomain, qualified_name};
use super::read::{at, list, map, text};

const CONFIG_MAP_MAX_BYTES: usize = 1024 * 1024;
const KEY_MAX: usize = 253;

/// A ConfigMap: keys, size, and what an immutable one keeps.
pub fn validate_config_map(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    let mut bytes = 0;
    for part in ["data", "binaryData"] {
        let path = Path::new(part);
        for (key, value) in map(object, part).into_iter().flatten() {
            wrong.extend(
                config_key(key)
                    .into_iter()
                    .map(|why| FieldError::invalid(&path.key(key), key.as_str(), why)),
            );
            if part == "binaryData"
                && map(object, "data").is_some_and(|data| data.contains_key(key))
            {
                let why = "duplicate of key present in data";
                wrong.push(FieldError::invalid(
                    &Path::new("data").key(key),
                    key.as_str(),
                    why,
                ));
            }
            let length = value.as_str().map_or(0, str::len);
            bytes += if part == "data" {
                length
            } else {
                length / 4 * 3
            };
        }
    }
    if bytes > CONFIG_MAP_MAX_BYTES {
        wrong.push(FieldError::too_long(&Path::new(""), CONFIG_MAP_MAX_BYTES));
    }
    wrong.extend(old.into_iter().flat_map(|old| validate_frozen(object, old)));
    wrong
}

fn validate_frozen(object: &Value, old: &Value) -> Vec<FieldError> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let why = "field is immutable when `immutable` is set";
    let mut wrong = Vec::new();
    if object["immutable"] != true {
        wrong.push(FieldError::forbidden(&Path::new("immutable"), why));
    }
    for part in ["data", "binaryData"] {
        if at(object, part) != at(old, part) {
            wrong.push(FieldError::forbidden(&Path::new(part), why));
        }
    }
    wrong
}

fn config_key(key: &str) -> Option<String> {
    let form = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match key {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        key if key.len() > KEY_MAX => Some(format!("must be no more than {KEY_MAX} characters")),
        key if key.starts_with("..") => Some("must not start with '..'".to_owned()),
        key if key.is_empty() || !key.bytes().all(form) => Some(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  \
             or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        ),
        _ => None,
    }
}

/// A Namespace: the name's form and its finalizers.
pub fn validate_namespace(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_label);
    let path = Path::new("spec").child("finalizers");
    for (i, finalizer) in list(&object["spec"], "finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        wrong.extend(names::invalid(&path.index(i), finalizer, qualified_name));
        if !finalizer.contains('/') && finalizer != "kubernetes" {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            wrong.push(FieldError::invalid(&path.index(i), finalizer, why));
        }
    }
    wrong
}

/// An Event: it stands in the namespace of the object that it is about.
pub fn validate_event(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    let namespace = text(&object["metadata"], "namespace");
    let about = text(&object["involvedObject"], "namespace");
    let path = Path::new("involvedObject").child("namespace");
    let fits = match about {
        // Objects without a namespace are reported in "default" (or, by old clients, in none).
        "" => matches!(namespace, "" | "default" | "kube-system"),
        about => about == namespace,
    };
    if !fits {
        wrong.push(FieldError::invalid(
            &path,
            about,
            "does not match event.namespace",
        ));
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
    fn config_maps() {
        let big = "x".repeat(CONFIG_MAP_MAX_BYTES + 1);
        let rows = [
            (json!({ "data": { "a.txt": "1" } }), ""),
            (json!({ "data": { "a b": "1" } }), "data[a b] Invalid"),
            (json!({ "data": { "..x": "1" } }), "data[..x] Invalid"),
            (
                json!({ "data": { "a": "1" }, "binaryData": { "a": "MQ==" } }),
                "data[a] Invalid",
            ),
            (json!({ "data": { "a": big } }), " TooLong"),
        ];
        for (mut object, expected) in rows {
            object["metadata"] = json!({ "name": "a" });
            assert_eq!(first(&validate_config_map(&object, None)), expected);
        }
    }

    #[test]
    fn an_immutable_config_map_keeps_its_data() {
        let old = json!({ "metadata": { "name": "a" }, "immutable": true, "data": { "a": "1" } });
        assert_eq!(first(&validate_config_map(&old, Some(&old))), "");
        let changed =
            json!({ "metadata": { "name": "a" }, "immutable": true, "data": { "a": "2" } });
        assert_eq!(
            first(&validate_config_map(&changed, Some(&old))),
            "data Forbidden"
        );
        let thawed = json!({ "metadata": { "name": "a" }, "data": { "a": "1" } });
        assert_eq!(
            first(&validate_config_map(&thawed, Some(&old))),
            "immutable Forbidden"
        );
    }

    #[test]
    fn namespaces() {
        let rows = [
            ("a", json!(["kubernetes"]), ""),
            ("A", json!([]), "metadata.name Invalid"),
            ("a", json!(["x"]), "spec.finalizers[0] Invalid"),
        ];
        for (name, finalizers, expected) in rows {
            let object =
                json!({ "metadata": { "name": name }, "spec": { "finalizers": finalizers } });
            assert_eq!(first(&validate_namespace(&object, None)), expected);
        }
    }

    #[test]
    fn events_stand_beside_their_object() {
        let rows = [
            ("ns", "ns", ""),
            ("default", "", ""),
            ("ns", "other", "involvedObject.namespace Invalid"),
            ("ns", "", "involvedObject.namespace Invalid"),
        ];
        for (namespace, about, expected) in rows {
            let object = json!({ "metadata": { "name": "a", "namespace": namespace }, "involvedObject": { "namespace": about } });
            assert_eq!(first(&validate_event(&object, None)), expected);
        }
    }
}
