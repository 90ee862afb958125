//! The shape of every served kind: what decoding accepts, how patches merge lists, what OpenAPI publishes.
//!
//! The source are the JSON schemas that `k8s-openapi` generates from upstream's API; how lists merge, which they lack,
//! is the table in [`lists`]. MetalLB's kinds are in [`metallb`].

pub(crate) mod body;
pub(crate) mod lists;
mod metallb;
mod prune;
mod values;

use std::collections::HashMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::registry::kinds;

pub(crate) use lists::Merge;
pub(crate) use prune::prune;

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A struct with known fields.
    Object(HashMap<String, Field>),
    /// A map with free keys.
    Map(NodeId),
    /// A list; how it merges is the field's property.
    List(NodeId),
    /// Text.
    String,
    /// RFC 3339 text.
    Time,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// Any number.
    Number,
    /// True or false.
    Bool,
    /// An integer or a text.
    IntOrString,
    /// Anything.
    Any,
}

/// A field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    /// The field's own shape.
    pub(crate) node: NodeId,
    /// How a strategic merge patch merges it.
    pub(crate) merge: Merge,
}

/// One node of the schema graph.
#[derive(Debug)]
pub(crate) struct Node {
    /// The last part of the definition's name, such as `ServicePort`; empty for nameless ones.
    pub(crate) name: String,
    /// What a value may be.
    pub(crate) shape: Shape,
}

/// An index into [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

/// All schemas, as a graph.
#[derive(Debug)]
pub(crate) struct Schemas {
    nodes: Vec<Node>,
    by_name: HashMap<String, NodeId>,
}

impl Schemas {
    /// The graph of all served kinds, built at its first use.
    pub(crate) fn all() -> &'static Self {
        static ALL: LazyLock<Schemas> = LazyLock::new(|| Schemas::build(definitions()));
        &ALL
    }

    /// The node of a definition such as `io.k8s.api.core.v1.Service`.
    pub(crate) fn root(&self, definition: &str) -> Option<NodeId> {
        self.by_name.get(definition).copied()
    }

    /// A node.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    fn build(definitions: &Map<String, Value>) -> Self {
        let mut schemas = Self {
            nodes: Vec::new(),
            by_name: HashMap::new(),
        };
        for (name, schema) in definitions {
            let id = schemas.declare(name);
            let node = schemas.describe(name, schema);
            schemas.nodes[id.0] = node;
        }
        schemas
    }

    /// The node of a definition, which may be described later.
    fn declare(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = self.push(Node {
            name: String::new(),
            shape: Shape::Any,
        });
        self.by_name.insert(name.to_owned(), id);
        id
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    fn describe(&mut self, definition: &str, schema: &Value) -> Node {
        let name = short_name(definition).to_owned();
        let shape = self.shape(definition, schema);
        Node { name, shape }
    }

    fn shape(&mut self, definition: &str, schema: &Value) -> Shape {
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return Shape::IntOrString;
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or("");
        match schema.get("type").and_then(Value::as_str).unwrap_or("") {
            "string" if format == "date-time" => Shape::Time,
            "string" => Shape::String,
            "integer" if format == "int32" => Shape::Int32,
            "integer" => Shape::Int64,
            "number" => Shape::Number,
            "boolean" => Shape::Bool,
            "array" => Shape::List(self.item(schema.get("items"))),
            "object" => self.object(definition, schema),
            _ => Shape::Any,
        }
    }

    fn object(&mut self, definition: &str, schema: &Value) -> Shape {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let mut fields = HashMap::with_capacity(properties.len());
            for (key, property) in properties {
                let node = self.item(Some(property));
                let merge = lists::merge(short_name(definition), key);
                fields.insert(key.clone(), Field { node, merge });
            }
            return Shape::Object(fields);
        }
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Shape::Map(self.item(Some(values))),
            _ => Shape::Any,
        }
    }

    /// The node of an inline schema or of the definition it refers to.
    fn item(&mut self, schema: Option<&Value>) -> NodeId {
        let Some(schema) = schema else {
            return self.push(Node {
                name: String::new(),
                shape: Shape::Any,
            });
        };
        if let Some(name) = reference(schema) {
            return self.declare(name);
        }
        let node = self.describe("", schema);
        self.push(node)
    }
}

/// The definitions of all served kinds, their lists and everything they refer to, as OpenAPI v3 component schemas.
pub(crate) fn definitions() -> &'static Map<String, Value> {
    static DEFINITIONS: LazyLock<Map<String, Value>> = LazyLock::new(generate);
    &DEFINITIONS
}

/// The last part of a definition's name.
pub(crate) fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

/// The definition that a schema refers to, directly or by `allOf` beside a description.
pub(crate) fn reference(schema: &Value) -> Option<&str> {
    let direct = schema
        .get("$ref")
        .or_else(|| schema.pointer("/allOf/0/$ref"))?;
    direct.as_str()?.strip_prefix("#/components/schemas/")
}

fn generate() -> Map<String, Value> {
    use k8s_openapi::api::{coordination::v1 as coordination, core::v1 as core};
    use k8s_openapi::api::{
        discovery::v1 as discovery, events::v1 as events, networking::v1 as networking,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

    let mut generator = SchemaSettings::openapi3().into_generator();
    add::<core::Namespace>(&mut generator);
    add::<core::Node>(&mut generator);
    add::<core::Pod>(&mut generator);
    add::<core::Service>(&mut generator);
    add::<core::ConfigMap>(&mut generator);
    add::<core::Secret>(&mut generator);
    add::<core::Event>(&mut generator);
    add::<events::Event>(&mut generator);
    add::<discovery::EndpointSlice>(&mut generator);
    add::<coordination::Lease>(&mut generator);
    add::<networking::ServiceCIDR>(&mut generator);
    add::<networking::IPAddress>(&mut generator);
    add::<meta::ListMeta>(&mut generator);
    add::<meta::DeleteOptions>(&mut generator);
    add::<meta::Status>(&mut generator);
    add::<meta::Patch>(&mut generator);
    let mut definitions = generator.take_definitions(true);
    metallb::add(&mut definitions);
    for kind in kinds::ALL {
        let (name, list) = list(kind.definition);
        definitions.insert(name, list);
    }
    for (name, schema) in &mut definitions {
        lists::annotate(short_name(name), schema);
        values::annotate(short_name(name), schema);
    }
    definitions
}

/// The list of a kind, which the generated schemas lack.
fn list(definition: &str) -> (String, Value) {
    let refer = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let text = |description: &str| json!({ "description": description, "type": "string" });
    let metadata = refer("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
    let list = json!({
        "description": format!("A list of {} objects.", short_name(definition)),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("The version of the schema."),
            "items": { "description": "The objects.", "type": "array", "items": refer(definition) },
            "kind": text("The kind of the list."),
            "metadata": { "description": "Standard list metadata.", "allOf": [metadata] },
        },
    });
    (format!("{definition}List"), list)
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

#[cfg(test)]
mod tests;
