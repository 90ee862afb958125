//! OpenAPI v3: what kubectl validates, explains and merges by.
//!
//! One document a group version, made from the schemas at the first request. The index names each by a URL with its
//! hash, so that clients keep it for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::discovery::{entries, group_versions};
use crate::object::encode;
use crate::registry::kinds::Kind;
use crate::registry::{Entry, Registry};
use crate::schema::{definitions, reference, short_name};

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its JSON.
    pub(crate) text: Bytes,
    /// A hash of the text, in hexadecimal digits.
    pub(crate) hash: String,
}

/// `/openapi/v3`
pub(crate) fn index(registry: &Registry) -> Value {
    let paths: Map<String, Value> = documents(registry)
        .iter()
        .map(|(path, document)| {
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            (path.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// The document of a path such as `api/v1` or `apis/discovery.k8s.io/v1`.
pub(crate) fn document(registry: &Registry, path: &str) -> Option<&'static Document> {
    documents(registry).get(path)
}

/// `/openapi/v2` as JSON: no path and no definition.
pub(crate) fn second() -> Value {
    json!({ "swagger": SWAGGER, "info": { "title": TITLE, "version": VERSION }, "paths": {} })
}

/// The same in protobuf: `openapi.v2.Document` of gnostic, with its fields `swagger` (1) and `info` (2: `title` and `version`).
pub(crate) fn second_protobuf() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("a short text");
        let head = [number << 3 | LENGTH_DELIMITED, length];
        [&head, content].concat()
    };
    let info = [field(1, TITLE.as_bytes()), field(2, VERSION.as_bytes())].concat();
    [field(1, SWAGGER.as_bytes()), field(2, &info)].concat()
}

/// The type of [`second_protobuf`].
pub(crate) const SECOND_PROTOBUF_TYPE: &str =
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const SWAGGER: &str = "2.0";
const TITLE: &str = "daymark";
/// What it describes is that release's.
pub(crate) const VERSION: &str = "v1.37.2+daymark";
/// The wire type of texts and messages.
const LENGTH_DELIMITED: u8 = 2;

/// The first half of a SHA-256, in hexadecimal digits.
pub(crate) fn hash(text: &[u8]) -> String {
    Sha256::digest(text)[..16]
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// The kinds are the same in every registry of a process, so their documents are made once.
fn documents(registry: &Registry) -> &'static BTreeMap<String, Document> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let make = |(group, version)| {
            let text = encode(&describe(
                group,
                version,
                &entries(registry, group, version),
            ));
            let hash = hash(&text);
            (root(group, version), Document { text, hash })
        };
        group_versions(registry).into_iter().map(make).collect()
    })
}

fn root(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

fn describe(group: &str, version: &str, entries: &[&Entry]) -> Value {
    let mut paths = Map::new();
    for entry in entries {
        add_paths(&mut paths, entry.kind);
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": TITLE, "version": VERSION },
        "paths": paths,
        "components": { "schemas": schemas(group, version, entries) },
    })
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The schemas that the group's kinds need, directly or not.
fn schemas(group: &str, version: &str, entries: &[&Entry]) -> Map<String, Value> {
    let all = definitions();
    let mut kinds: BTreeMap<String, &Kind> = BTreeMap::new();
    let mut open: Vec<String> = ["DeleteOptions", "Status", "Patch"]
        .map(|name| format!("{META}.{name}"))
        .to_vec();
    for entry in entries {
        kinds.insert(entry.kind.definition.to_owned(), entry.kind);
        open.push(entry.kind.definition.to_owned());
        open.push(list_definition(entry.kind));
    }
    let mut needed = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(schema) = all.get(&name)
            && needed.insert(name)
        {
            references(schema, &mut open);
        }
    }
    let mut out = Map::new();
    for name in needed {
        let mut schema = all[&name].clone();
        let kind = short_name(&name);
        let of_kind = |found: &&Kind| kinds.contains_key(&name) || name == list_definition(found);
        if kinds.values().copied().any(|found| of_kind(&found)) {
            schema["x-kubernetes-group-version-kind"] =
                json!([{ "group": group, "version": version, "kind": kind }]);
        }
        out.insert(name, schema);
    }
    out
}

fn list_definition(kind: &Kind) -> String {
    format!("{}List", kind.definition)
}

fn references(schema: &Value, found: &mut Vec<String>) {
    if let Some(name) = reference(schema) {
        found.push(name.to_owned());
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| references(value, found)),
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn add_paths(paths: &mut Map<String, Value>, kind: &Kind) {
    let resource = &kind.resource;
    let root = format!("/{}", root(resource.group, resource.version));
    let (space, parameters) = match resource.is_namespaced() {
        true => ("/namespaces/{namespace}", vec![in_path("namespace")]),
        false => ("", Vec::new()),
    };
    let collection = format!("{root}{space}/{}", resource.plural);
    let one = format!("{collection}/{{name}}");
    let with_name = [parameters.clone(), vec![in_path("name")]].concat();
    paths.insert(
        collection,
        json!({
            "parameters": parameters,
            "get": operation(kind, "list", &list_definition(kind), &LIST_QUERY, Body::None),
            "post": operation(kind, "post", kind.definition, &WRITE_QUERY, Body::Object),
            "delete": operation(kind, "deletecollection", &format!("{META}.Status"), &LIST_QUERY, Body::Delete),
        }),
    );
    paths.insert(
        one.clone(),
        json!({
            "parameters": with_name,
            "get": operation(kind, "get", kind.definition, &[], Body::None),
            "put": operation(kind, "put", kind.definition, &WRITE_QUERY, Body::Object),
            "patch": operation(kind, "patch", kind.definition, &WRITE_QUERY, Body::Patch),
            "delete": operation(kind, "delete", &format!("{META}.Status"), &DELETE_QUERY, Body::Delete),
        }),
    );
    for subresource in resource.subresources {
        paths.insert(
            format!("{one}/{subresource}"),
            json!({
                "parameters": with_name,
                "get": operation(kind, "get", kind.definition, &[], Body::None),
                "put": operation(kind, "put", kind.definition, &WRITE_QUERY, Body::Object),
                "patch": operation(kind, "patch", kind.definition, &WRITE_QUERY, Body::Patch),
            }),
        );
    }
}

#[derive(Clone, Copy)]
enum Body {
    None,
    Object,
    Patch,
    Delete,
}

const LIST_QUERY: [(&str, &str); 9] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("watch", "boolean"),
];
const WRITE_QUERY: [(&str, &str); 3] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const DELETE_QUERY: [(&str, &str); 3] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("propagationPolicy", "string"),
];

fn operation(kind: &Kind, action: &str, answer: &str, query: &[(&str, &str)], body: Body) -> Value {
    let resource = &kind.resource;
    let parameters: Vec<Value> = query
        .iter()
        .map(|(name, kind)| json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } }))
        .collect();
    let content = json!({ "application/json": { "schema": { "$ref": schema(answer) } } });
    let mut operation = json!({
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": content } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind":
            { "group": resource.group, "version": resource.version, "kind": resource.kind },
    });
    let accepted: Option<(&[&str], String)> = match body {
        Body::None => None,
        Body::Object => Some((
            &["application/json", "application/yaml"],
            kind.definition.to_owned(),
        )),
        Body::Patch => Some((&PATCH_TYPES, format!("{META}.Patch"))),
        Body::Delete => Some((&["application/json"], format!("{META}.DeleteOptions"))),
    };
    if let Some((types, definition)) = accepted {
        let content: Map<String, Value> = types
            .iter()
            .map(|media| {
                (
                    (*media).to_owned(),
                    json!({ "schema": { "$ref": schema(&definition) } }),
                )
            })
            .collect();
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

const PATCH_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } })
}

fn schema(definition: &str) -> String {
    format!("#/components/schemas/{definition}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{document, index};
    use crate::registry::Registry;

    #[test]
    fn every_kind_can_be_validated_and_explained_by_kubectl() {
        let registry = Registry::new(30_000..=32_767);
        let index = index(&registry);
        for entry in registry.entries() {
            let resource = &entry.kind.resource;
            let path = super::root(resource.group, resource.version);
            assert!(
                index["paths"][&path]["serverRelativeURL"].is_string(),
                "{path}"
            );
            let page: Value =
                serde_json::from_slice(&document(&registry, &path).unwrap().text).unwrap();
            let schema = &page["components"]["schemas"][entry.kind.definition];
            assert_eq!(
                schema["x-kubernetes-group-version-kind"][0]["kind"], resource.kind,
                "{path}"
            );
            let takes_validation = page["paths"].as_object().unwrap().values().any(|item| {
                let parameters = item["patch"]["parameters"].as_array();
                item["patch"]["x-kubernetes-group-version-kind"]["kind"] == resource.kind
                    && parameters
                        .is_some_and(|all| all.iter().any(|one| one["name"] == "fieldValidation"))
            });
            assert!(takes_validation, "{}", resource.kind);
        }
    }

    #[test]
    fn ports_of_a_service_say_how_they_merge() {
        let registry = Registry::new(30_000..=32_767);
        let page: Value =
            serde_json::from_slice(&document(&registry, "api/v1").unwrap().text).unwrap();
        let ports =
            &page["components"]["schemas"]["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
        assert_eq!(
            ports["x-kubernetes-list-map-keys"],
            serde_json::json!(["port", "protocol"])
        );
    }
}
