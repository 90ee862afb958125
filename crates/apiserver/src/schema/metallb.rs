//! The schemas of the two MetalLB kinds, as far as they are served.
//!
//! `L2Advertisement` knows its other fields so that they can be refused by name instead of as unknown.

use serde_json::{Map, Value, json};

/// Adds the definitions of IPAddressPool and L2Advertisement and their lists.
pub(super) fn add(definitions: &mut Map<String, Value>) {
    definitions.insert(
        name("IPAddressPool"),
        kind("A pool of addresses for load balancers.", "IPAddressPool"),
    );
    definitions.insert(name("IPAddressPoolSpec"), pool_spec());
    definitions.insert(name("IPAddressPoolStatus"), pool_status());
    definitions.insert(
        name("L2Advertisement"),
        kind(
            "Announces the addresses of pools by ARP and NDP.",
            "L2Advertisement",
        ),
    );
    definitions.insert(name("L2AdvertisementSpec"), advertisement_spec());
    definitions.insert(
        name("L2AdvertisementStatus"),
        json!({ "type": "object", "additionalProperties": true }),
    );
    definitions.entry(SELECTOR).or_insert_with(selector);
    definitions.entry(REQUIREMENT).or_insert_with(requirement);
}

const SELECTOR: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
const REQUIREMENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement";

fn name(kind: &str) -> String {
    format!("io.metallb.v1beta1.{kind}")
}

fn refer(definition: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{definition}") })
}

fn described(description: &str, definition: &str) -> Value {
    json!({ "description": description, "allOf": [refer(definition)] })
}

fn texts(description: &str) -> Value {
    json!({ "description": description, "type": "array", "items": { "type": "string" } })
}

fn text(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn kind(description: &str, kind: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": text("The version of the schema, metallb.io/v1beta1."),
            "kind": text("The kind of the object."),
            "metadata": described("Standard metadata.", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            "spec": described("What is wanted.", &name(&format!("{kind}Spec"))),
            "status": described("What was found.", &name(&format!("{kind}Status"))),
        },
    })
}

fn pool_spec() -> Value {
    json!({
        "description": "The addresses and who may have them.",
        "type": "object",
        "required": ["addresses"],
        "properties": {
            "addresses": texts("CIDRs and ranges such as 192.0.2.10-192.0.2.20."),
            "autoAssign": { "type": "boolean", "default": true,
                "description": "Whether addresses are given to Services that name no pool." },
            "avoidBuggyIPs": { "type": "boolean", "default": false,
                "description": "Whether addresses that end in .0 and .255 are left out." },
            "serviceAllocation": {
                "description": "Which Services may have an address of this pool.",
                "type": "object",
                "properties": {
                    "priority": { "type": "integer", "format": "int32",
                        "description": "Pools with a lower number come first; 0 is last." },
                    "namespaces": texts("Namespaces whose Services may have an address."),
                    "namespaceSelectors": { "type": "array", "items": refer(SELECTOR),
                        "description": "Selects namespaces by label." },
                    "serviceSelectors": { "type": "array", "items": refer(SELECTOR),
                        "description": "Selects Services by label." },
                },
            },
        },
    })
}

fn pool_status() -> Value {
    let count =
        |description| json!({ "description": description, "type": "integer", "format": "int64" });
    json!({
        "description": "How much of the pool is in use.",
        "type": "object",
        "properties": {
            "assignedIPv4": count("IPv4 addresses in use."),
            "assignedIPv6": count("IPv6 addresses in use."),
            "availableIPv4": count("IPv4 addresses that are free."),
            "availableIPv6": count("IPv6 addresses that are free."),
            "conditions": { "type": "array", "description": "What is wrong with the pool.",
                "items": refer("io.k8s.apimachinery.pkg.apis.meta.v1.Condition") },
        },
    })
}

fn advertisement_spec() -> Value {
    let unsupported = "Not supported: objects with this field are refused.";
    json!({
        "description": "Which pools are announced.",
        "type": "object",
        "properties": {
            "ipAddressPools": texts("Names of IPAddressPools; empty means all."),
            "ipAddressPoolSelectors": { "type": "array", "items": refer(SELECTOR), "description": unsupported },
            "nodeSelectors": { "type": "array", "items": refer(SELECTOR), "description": unsupported },
            "interfaces": texts(unsupported),
            "serviceSelectors": { "type": "array", "items": refer(SELECTOR), "description": unsupported },
        },
    })
}

fn selector() -> Value {
    json!({
        "description": "Selects objects by label; all requirements must hold.",
        "type": "object",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" },
                "description": "Labels that must be there with these values." },
            "matchExpressions": { "type": "array", "items": refer(REQUIREMENT),
                "description": "Further requirements." },
        },
    })
}

fn requirement() -> Value {
    json!({
        "description": "One requirement of a selector.",
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": text("The label's key."),
            "operator": text("In, NotIn, Exists or DoesNotExist."),
            "values": texts("The values of In and NotIn."),
        },
    })
}
