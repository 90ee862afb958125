//! Tables: what `kubectl get` prints, made on the server.
//!
//! Columns and cells are upstream's (`pkg/printers/internalversion/printers.go`); wide columns have priority 1.

mod age;
mod core;
mod network;
mod pod;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::registry::kinds::Kind;

/// A column.
pub(crate) struct Column {
    name: &'static str,
    /// `string`, `integer` or `boolean`.
    kind: &'static str,
    /// `name` for the column that names the object.
    format: &'static str,
    description: &'static str,
    /// 0 is shown always, 1 with `-o wide`.
    priority: u8,
}

/// The columns of a kind and how a row's cells are made.
pub(crate) struct Layout {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// How much of the object comes with each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// Whether a table says what its columns are: in a watch only the first does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headers {
    Shown,
    Hidden,
}

/// A table of objects, each as it is stored (`stored`) and in the version of the request (`shown`).
pub(crate) fn table<'a>(
    kind: &Kind,
    rows: impl Iterator<Item = (&'a Value, Value)>,
    metadata: Value,
    include: Include,
    headers: Headers,
    now: Timestamp,
) -> Value {
    let layout = layout(kind);
    let columns = match headers {
        Headers::Shown => layout.columns.iter().map(Column::to_json).collect(),
        Headers::Hidden => Value::Array(Vec::new()),
    };
    let rows: Vec<Value> = rows
        .map(|(stored, shown)| {
            let mut row = json!({ "cells": (layout.cells)(stored, now) });
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = partial(&shown),
                Include::Object => row["object"] = shown,
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// An object's metadata alone, as `PartialObjectMetadata`.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new())),
    })
}

impl Column {
    fn to_json(&self) -> Value {
        let Self {
            name,
            kind,
            format,
            description,
            priority,
        } = self;
        json!({ "name": name, "type": kind, "format": format, "description": description, "priority": priority })
    }
}

fn layout(kind: &Kind) -> Layout {
    match kind.resource.store_kind {
        "services" => network::SERVICE,
        "discovery.k8s.io/endpointslices" => network::ENDPOINT_SLICE,
        "networking.k8s.io/servicecidrs" => network::SERVICE_CIDR,
        "networking.k8s.io/ipaddresses" => network::IP_ADDRESS,
        "metallb.io/ipaddresspools" => network::IP_ADDRESS_POOL,
        "metallb.io/l2advertisements" => network::L2_ADVERTISEMENT,
        "pods" => pod::POD,
        "nodes" => core::NODE,
        "namespaces" => core::NAMESPACE,
        "events" => core::EVENT,
        "coordination.k8s.io/leases" => core::LEASE,
        "configmaps" => core::CONFIG_MAP,
        "secrets" => core::SECRET,
        _ => core::PLAIN,
    }
}

const fn column(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 0,
    }
}

const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        priority: 1,
        ..column(name, description)
    }
}

const fn integer(name: &'static str, description: &'static str) -> Column {
    Column {
        kind: "integer",
        ..column(name, description)
    }
}

const NAME: Column = Column {
    format: "name",
    ..column("Name", "The name of the object, unique in its namespace.")
};
const AGE: Column = column("Age", "How long ago the object was created.");

/// A text, or what stands for none.
fn or(text: &str, none: &str) -> Value {
    Value::from(if text.is_empty() { none } else { text })
}

#[cfg(test)]
mod tests;
