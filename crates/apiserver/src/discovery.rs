//! Discovery: which groups, versions and resources there are, in the legacy and the aggregated form.

use serde_json::{Value, json};

use crate::registry::{Entry, Registry, Resource, Scope};
use crate::status::Status;

/// The media type of the aggregated form.
pub(crate) const AGGREGATED_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// `/api`
pub(crate) fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// `/apis`
pub(crate) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = group_versions(registry)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, version)| api_group(group, version))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`
pub(crate) fn group(registry: &Registry, wanted: &str) -> Result<Value, Status> {
    let found = group_versions(registry)
        .into_iter()
        .find(|(group, _)| !group.is_empty() && *group == wanted);
    let (group, version) = found.ok_or_else(|| unserved_group(wanted))?;
    let mut page = api_group(group, version);
    page["kind"] = "APIGroup".into();
    page["apiVersion"] = "v1".into();
    Ok(page)
}

fn unserved_group(group: &str) -> Status {
    Status::unserved(
        &format!("the group {group}"),
        "kubectl api-versions lists those that are",
    )
}

/// `/api/v1` and `/apis/GROUP/VERSION`
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, Status> {
    let entries = entries(registry, group, version);
    if entries.is_empty() {
        return Err(unserved_group(&group_version(group, version)));
    }
    let mut resources = Vec::new();
    for entry in entries {
        let resource = &entry.kind.resource;
        resources.push(legacy(resource, "", &VERBS));
        for subresource in resource.subresources {
            resources.push(legacy(resource, subresource, verbs_of(subresource)));
        }
    }
    let group_version = group_version(group, version);
    Ok(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources }),
    )
}

/// The aggregated form of the core group, or of all others.
pub(crate) fn aggregated(registry: &Registry, core: bool) -> Value {
    let items: Vec<Value> = group_versions(registry)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, version)| {
            let entries = entries(registry, group, version);
            let resources: Vec<Value> = entries.iter().map(|entry| discovered(&entry.kind.resource)).collect();
            json!({
                "metadata": { "name": group, "creationTimestamp": null },
                "versions": [{ "version": version, "resources": resources, "freshness": "Current" }],
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// Every group with its version, in the order of the registry.
pub(crate) fn group_versions(registry: &Registry) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for entry in registry.entries() {
        let pair = (entry.kind.resource.group, entry.kind.resource.version);
        if !found.contains(&pair) {
            found.push(pair);
        }
    }
    found
}

/// The kinds of a group version.
pub(crate) fn entries<'a>(registry: &'a Registry, group: &str, version: &str) -> Vec<&'a Entry> {
    let of_group = |entry: &&Entry| {
        entry.kind.resource.group == group && entry.kind.resource.version == version
    };
    let mut entries: Vec<&Entry> = registry.entries().iter().filter(of_group).collect();
    entries.sort_by_key(|entry| entry.kind.resource.plural);
    entries
}

fn verbs_of(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "finalize" => &SUBRESOURCE_VERBS[2..],
        _ => &SUBRESOURCE_VERBS,
    }
}

fn api_group(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": group_version(group, version), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

fn group_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

fn legacy(resource: &Resource, subresource: &str, verbs: &[&str]) -> Value {
    let main = subresource.is_empty();
    let name = if main {
        resource.plural.to_owned()
    } else {
        format!("{}/{subresource}", resource.plural)
    };
    let mut page = json!({
        "name": name,
        "singularName": if main { resource.singular } else { "" },
        "namespaced": resource.is_namespaced(),
        "kind": resource.kind,
        "verbs": verbs,
    });
    if main {
        add_names(&mut page, resource);
    }
    page
}

fn discovered(resource: &Resource) -> Value {
    let kind =
        json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
    let scope = match resource.scope {
        Scope::Cluster => "Cluster",
        Scope::Namespaced => "Namespaced",
    };
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|name| json!({ "subresource": name, "responseKind": kind, "verbs": verbs_of(name) }))
        .collect();
    let mut page = json!({
        "resource": resource.plural,
        "responseKind": kind,
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": VERBS,
    });
    add_names(&mut page, resource);
    if !subresources.is_empty() {
        page["subresources"] = subresources.into();
    }
    page
}

fn add_names(page: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        page["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        page["categories"] = json!(resource.categories);
    }
}
