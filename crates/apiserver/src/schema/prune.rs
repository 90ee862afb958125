//! Decoding against a schema: types must fit, unknown fields are dropped and named, nulls are absence.

use std::fmt;

use serde_json::{Map, Value};

use super::{NodeId, Schemas, Shape};
use crate::json::go_kind;

/// A value of the wrong type, in the words of Go's JSON decoder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    found: String,
    /// The struct that has the field.
    within: String,
    /// The path without indices.
    path: String,
    wanted: &'static str,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            found,
            within,
            path,
            wanted,
        } = self;
        write!(
            f,
            "json: cannot unmarshal {found} into Go struct field {within}.{path} of type {wanted}"
        )
    }
}

/// Brings a decoded body into the shape of its kind. Answers the paths of unknown fields, which are gone afterwards.
pub(crate) fn prune(
    schemas: &Schemas,
    root: NodeId,
    value: &mut Value,
) -> Result<Vec<String>, Mismatch> {
    let mut walk = Walk {
        schemas,
        path: Vec::new(),
        unknown: Vec::new(),
        within: String::new(),
    };
    walk.value(root, value)?;
    Ok(walk.unknown)
}

struct Walk<'a> {
    schemas: &'a Schemas,
    path: Vec<Step>,
    unknown: Vec<String>,
    within: String,
}

enum Step {
    Key(String),
    Index(usize),
}

impl Walk<'_> {
    fn value(&mut self, id: NodeId, value: &mut Value) -> Result<(), Mismatch> {
        let schemas = self.schemas;
        let node = schemas.node(id);
        match (&node.shape, value) {
            (Shape::Object(fields), Value::Object(map)) => {
                let outer = std::mem::replace(&mut self.within, node.name.clone());
                self.fields(fields, map)?;
                self.within = outer;
                Ok(())
            }
            (Shape::Map(item), Value::Object(map)) => self.entries(*item, map),
            (Shape::List(item), Value::Array(items)) => self.items(*item, items),
            (shape, value) => match wanted(shape, value) {
                None => Ok(()),
                Some(wanted) => Err(self.mismatch(value, wanted)),
            },
        }
    }

    fn fields(
        &mut self,
        fields: &std::collections::HashMap<String, super::Field>,
        map: &mut Map<String, Value>,
    ) -> Result<(), Mismatch> {
        map.retain(|key, value| {
            let known = fields.contains_key(key);
            if !known {
                self.path.push(Step::Key(key.clone()));
                let path = self.written(Indices::Shown);
                self.unknown.push(path);
                self.path.pop();
            }
            known && !value.is_null()
        });
        for (key, value) in map.iter_mut() {
            self.path.push(Step::Key(key.clone()));
            self.value(fields[key].node, value)?;
            self.path.pop();
        }
        Ok(())
    }

    /// A null in a map of texts is the empty text, as in Go; elsewhere it is dropped.
    fn entries(&mut self, item: NodeId, map: &mut Map<String, Value>) -> Result<(), Mismatch> {
        if matches!(self.schemas.node(item).shape, Shape::String) {
            map.values_mut()
                .filter(|value| value.is_null())
                .for_each(|value| *value = Value::from(""));
        }
        map.retain(|_, value| !value.is_null());
        for (key, value) in map.iter_mut() {
            self.path.push(Step::Key(key.clone()));
            self.value(item, value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn items(&mut self, item: NodeId, items: &mut [Value]) -> Result<(), Mismatch> {
        for (index, value) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(index));
            self.value(item, value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn mismatch(&self, value: &Value, wanted: &'static str) -> Mismatch {
        let found = match value {
            Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
            value => go_kind(value).to_owned(),
        };
        Mismatch {
            found,
            within: self.within.clone(),
            path: self.written(Indices::Hidden),
            wanted,
        }
    }

    fn written(&self, indices: Indices) -> String {
        let mut out = String::new();
        for step in &self.path {
            match (step, indices) {
                (Step::Key(key), _) if out.is_empty() => out.push_str(key),
                (Step::Key(key), _) => out.extend([".", key]),
                (Step::Index(index), Indices::Shown) => out.push_str(&format!("[{index}]")),
                (Step::Index(_), Indices::Hidden) => {}
            }
        }
        out
    }
}

#[derive(Clone, Copy)]
enum Indices {
    Shown,
    Hidden,
}

/// The Go type that was wanted, if the value does not fit.
fn wanted(shape: &Shape, value: &Value) -> Option<&'static str> {
    let (fits, wanted) = match shape {
        Shape::Any => (true, ""),
        Shape::Object(_) => (false, "struct"),
        Shape::Map(_) => (false, "map"),
        Shape::List(_) => (false, "slice"),
        Shape::String => (value.is_string(), "string"),
        Shape::Time => (value.as_str().is_some_and(is_time), "time.Time"),
        Shape::Int32 => (
            value
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            "int32",
        ),
        Shape::Int64 => (value.is_i64(), "int64"),
        Shape::Number => (value.is_number(), "float64"),
        Shape::Bool => (value.is_boolean(), "bool"),
        Shape::IntOrString => (value.is_string() || value.is_number(), "string"),
    };
    (!fits).then_some(wanted)
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}
