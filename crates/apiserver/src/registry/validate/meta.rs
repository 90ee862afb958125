//! Metadata that all kinds share.
//!
//! Source: `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::names::{self, Check};
use super::read::{deep, int, list, map, some_text, text};
use crate::registry::Scope;

const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

/// Finalizers that need no prefix.
const PLAIN_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Metadata of a new object. `name` is the kind's own form of names.
pub fn validate_meta(object: &Value, scope: Scope, name: Check) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let meta = &object["metadata"];
    let mut wrong = validate_name(&path, meta, name);
    wrong.extend(validate_namespace(&path, text(meta, "namespace"), scope));
    wrong.extend(validate_shared(&path, meta));
    wrong
}

/// The name alone, for kinds whose other metadata is checked elsewhere.
pub fn validate_object_name(object: &Value, name: Check) -> Vec<FieldError> {
    validate_name(&Path::new("metadata"), &object["metadata"], name)
}

/// Metadata of an update: the form, and what may not change.
pub fn validate_meta_update(object: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let (meta, before) = (&object["metadata"], &old["metadata"]);
    let mut wrong = validate_shared(&path, meta);
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if deep(meta, &[key]) != deep(before, &[key]) {
            wrong.push(FieldError::invalid(
                &path.child(key),
                meta[key].clone(),
                "field is immutable",
            ));
        }
    }
    if int(meta, "generation") < int(before, "generation") {
        let generation = int(meta, "generation");
        wrong.push(FieldError::invalid(
            &path.child("generation"),
            generation,
            "must not be decremented",
        ));
    }
    wrong.extend(validate_no_new_finalizers(&path, meta, before));
    wrong
}

fn validate_name(path: &Path, meta: &Value, check: Check) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if let Some(prefix) = some_text(meta, "generateName").filter(|p| !p.is_empty()) {
        // A trailing dash is followed by random letters, so judge the prefix as if a letter stood there.
        let whole = match prefix.strip_suffix('-') {
            Some(head) if !head.is_empty() => format!("{head}a"),
            _ => prefix.to_owned(),
        };
        let at = path.child("generateName");
        wrong.extend(
            check(&whole)
                .into_iter()
                .map(|why| FieldError::invalid(&at, prefix, why)),
        );
    }
    match text(meta, "name") {
        "" => wrong.push(FieldError::required(
            &path.child("name"),
            "name or generateName is required",
        )),
        name => wrong.extend(names::invalid(&path.child("name"), name, check)),
    }
    wrong
}

fn validate_namespace(path: &Path, namespace: &str, scope: Scope) -> Vec<FieldError> {
    let path = path.child("namespace");
    match (scope, namespace) {
        (Scope::Namespaced, "") => vec![FieldError::required(&path, "")],
        (Scope::Namespaced, name) => names::invalid(&path, name, names::dns1123_label).collect(),
        (Scope::Cluster, "") => Vec::new(),
        (Scope::Cluster, _) => vec![FieldError::forbidden(&path, "not allowed on this type")],
    }
}

/// What is checked on create and on update alike.
fn validate_shared(path: &Path, meta: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if int(meta, "generation") < 0 {
        let why = "must be greater than or equal to 0";
        wrong.push(FieldError::invalid(
            &path.child("generation"),
            int(meta, "generation"),
            why,
        ));
    }
    wrong.extend(validate_labels(
        &path.child("labels"),
        deep(meta, &["labels"]),
    ));
    wrong.extend(validate_annotations(&path.child("annotations"), meta));
    wrong.extend(validate_owners(&path.child("ownerReferences"), meta));
    wrong.extend(validate_finalizers(&path.child("finalizers"), meta));
    wrong
}

/// A map of labels, or a selector that is one.
pub fn validate_labels(path: &Path, labels: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        wrong.extend(names::invalid(path, key, names::qualified_name));
        let value = value.as_str().unwrap_or_default();
        wrong.extend(names::invalid(path, value, names::label_value));
    }
    wrong
}

fn validate_annotations(path: &Path, meta: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut bytes = 0;
    for (key, value) in map(meta, "annotations").into_iter().flatten() {
        let lower = key.to_lowercase();
        wrong.extend(
            names::qualified_name(&lower)
                .into_iter()
                .map(|why| FieldError::invalid(path, key.as_str(), why)),
        );
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_MAX_BYTES {
        wrong.push(FieldError::too_long(path, ANNOTATIONS_MAX_BYTES));
    }
    wrong
}

fn validate_owners(path: &Path, meta: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut controller: Option<String> = None;
    for (i, owner) in list(meta, "ownerReferences").iter().enumerate() {
        let path = path.index(i);
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                wrong.push(FieldError::required(&path.child(key), ""));
            }
        }
        if text(owner, "apiVersion").matches('/').count() > 1 {
            let why = "must be <group>/<version> or <version>";
            wrong.push(FieldError::invalid(
                &path.child("apiVersion"),
                text(owner, "apiVersion"),
                why,
            ));
        }
        if owner["controller"] == true {
            let shown = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {shown}"
                );
                wrong.push(FieldError::invalid(
                    &Path::new("metadata.ownerReferences"),
                    meta["ownerReferences"].clone(),
                    why,
                ));
            }
            controller = Some(shown);
        }
    }
    wrong
}

fn validate_finalizers(path: &Path, meta: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let finalizers: Vec<&str> = list(meta, "finalizers")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (i, finalizer) in finalizers.iter().enumerate() {
        let path = path.index(i);
        wrong.extend(names::invalid(&path, finalizer, names::qualified_name));
        if !finalizer.contains('/') && !PLAIN_FINALIZERS.contains(finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            wrong.push(FieldError::invalid(&path, *finalizer, why));
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        wrong.push(FieldError::invalid(path, meta["finalizers"].clone(), why));
    }
    wrong
}

fn validate_no_new_finalizers(path: &Path, meta: &Value, before: &Value) -> Option<FieldError> {
    deep(before, &["deletionTimestamp"])?;
    let old = list(before, "finalizers");
    let added: Vec<&str> = list(meta, "finalizers")
        .iter()
        .filter(|f| !old.contains(f))
        .filter_map(Value::as_str)
        .collect();
    if added.is_empty() {
        return None;
    }
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    Some(FieldError::forbidden(&path.child("finalizers"), why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::validate::names::dns1123_label;

    fn shown(wrong: &[FieldError]) -> Vec<String> {
        wrong
            .iter()
            .map(|e| format!("{} {:?}", e.path, e.kind))
            .collect()
    }

    #[test]
    fn metadata_of_a_new_object() {
        let huge = "x".repeat(ANNOTATIONS_MAX_BYTES);
        let owner = json!({ "apiVersion": "v1", "kind": "Service", "name": "a", "uid": "u", "controller": true });
        let rows = [
            (json!({ "name": "a", "namespace": "ns" }), vec![]),
            (json!({ "name": "a" }), vec!["metadata.namespace Required"]),
            (json!({ "namespace": "ns" }), vec!["metadata.name Required"]),
            (
                json!({ "name": "A", "namespace": "N" }),
                vec!["metadata.name Invalid", "metadata.namespace Invalid"],
            ),
            (
                json!({ "name": "a", "generateName": "a-", "namespace": "ns" }),
                vec![],
            ),
            (
                json!({ "name": "a", "generateName": "A-", "namespace": "ns" }),
                vec!["metadata.generateName Invalid"],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "labels": { "a b": "c", "d": "e f" } }),
                vec!["metadata.labels Invalid", "metadata.labels Invalid"],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "annotations": { "Example.com/X": "any \n text" } }),
                vec![],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "annotations": { "a": huge } }),
                vec!["metadata.annotations TooLong"],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "finalizers": ["foregroundDeletion", "example.com/x"] }),
                vec![],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "finalizers": ["mine"] }),
                vec!["metadata.finalizers[0] Invalid"],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "ownerReferences": [{ "apiVersion": "v1", "kind": "Service", "name": "x" }] }),
                vec!["metadata.ownerReferences[0].uid Required"],
            ),
            (
                json!({ "name": "a", "namespace": "ns", "ownerReferences": [owner, owner] }),
                vec!["metadata.ownerReferences Invalid"],
            ),
        ];
        for (meta, expected) in rows {
            let object = json!({ "metadata": meta });
            assert_eq!(
                shown(&validate_meta(&object, Scope::Namespaced, dns1123_label)),
                expected,
                "{object}"
            );
        }
    }

    #[test]
    fn cluster_scoped_objects_have_no_namespace() {
        let object = json!({ "metadata": { "name": "a", "namespace": "ns" } });
        assert_eq!(
            shown(&validate_meta(&object, Scope::Cluster, dns1123_label)),
            ["metadata.namespace Forbidden"]
        );
    }

    #[test]
    fn an_update_keeps_the_identity() {
        let old = json!({ "metadata": {
            "name": "a", "namespace": "ns", "uid": "u", "generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["a/b"],
        } });
        let rows = [
            ("/metadata/name", json!("b"), vec!["metadata.name Invalid"]),
            ("/metadata/uid", json!("v"), vec!["metadata.uid Invalid"]),
            (
                "/metadata/generation",
                json!(1),
                vec!["metadata.generation Invalid"],
            ),
            ("/metadata/finalizers", json!([]), vec![]),
            (
                "/metadata/finalizers",
                json!(["a/b", "c/d"]),
                vec!["metadata.finalizers Forbidden"],
            ),
        ];
        for (pointer, value, expected) in rows {
            let mut object = old.clone();
            *object.pointer_mut(pointer).expect("the row names a field") = value;
            assert_eq!(
                shown(&validate_meta_update(&object, &old)),
                expected,
                "{pointer}"
            );
        }
    }
}
