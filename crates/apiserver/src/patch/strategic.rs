//! Strategic merge patch: lists of objects merge by key, and directives say what a merge cannot.
//!
//! Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`.
//! The rules, including the surprising ones (Service ports merge by `port` alone: with 53/UDP and 53/TCP a patch changes
//! the first, a delete removes both), are those of `k8s.io/apimachinery/pkg/util/strategicpatch/patch.go`.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::schema::{Merge, NodeId, Schemas, Shape};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const REMOVE: &str = "$deleteFromPrimitiveList/";

/// Why a strategic merge patch makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum StrategicError {
    #[error(
        "invalid patch: {field}: unknown directive {directive:?} (one of \"replace\", \"delete\", \"merge\" is meant)"
    )]
    Directive { field: String, directive: String },
    #[error("invalid patch: {field}: every element needs the merge key {key:?}")]
    NoKey { field: String, key: &'static str },
    #[error("invalid patch: {field}: the directive must hold a list")]
    NoList { field: String },
}

/// Applies a patch to an object of the kind whose schema is `root`.
pub(super) fn apply(
    schemas: &Schemas,
    root: NodeId,
    object: &mut Value,
    patch: &Value,
) -> Result<(), StrategicError> {
    let (Some(object), Some(patch)) = (object.as_object_mut(), patch.as_object()) else {
        return Ok(());
    };
    Merger { schemas }.object("", Some(root), object, patch)
}

struct Merger<'a> {
    schemas: &'a Schemas,
}

/// What `$patch` in an object asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Merge,
    Replace,
    Delete,
}

impl Merger<'_> {
    fn object(
        &self,
        at: &str,
        node: Option<NodeId>,
        object: &mut Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<(), StrategicError> {
        match wish(at, patch)? {
            Wish::Delete => {
                object.clear();
                return Ok(());
            }
            Wish::Replace => {
                *object = plain(patch);
                return Ok(());
            }
            Wish::Merge => {}
        }
        retain(at, object, patch)?;
        for (key, value) in patch {
            if !key.starts_with('$') {
                self.field(&join(at, key), node, key, object, value)?;
            }
        }
        for (key, value) in patch {
            if let Some(field) = key.strip_prefix(REMOVE) {
                remove(&join(at, field), field, object, value)?;
            }
        }
        for (key, value) in patch {
            if let Some(field) = key.strip_prefix(ORDER) {
                self.order(&join(at, field), node, field, object, value)?;
            }
        }
        Ok(())
    }

    fn field(
        &self,
        at: &str,
        node: Option<NodeId>,
        key: &str,
        object: &mut Map<String, Value>,
        value: &Value,
    ) -> Result<(), StrategicError> {
        let (child, merge) = self.below(node, key);
        match (value, object.get_mut(key)) {
            (Value::Null, _) => {
                object.shift_remove(key);
            }
            (Value::Object(patch), Some(Value::Object(old))) => {
                let deletes = wish(at, patch)? == Wish::Delete;
                self.object(at, child, old, patch)?;
                if deletes {
                    object.shift_remove(key);
                }
            }
            (Value::Object(patch), _) => {
                if wish(at, patch)? != Wish::Delete {
                    let mut fresh = Map::new();
                    self.object(at, child, &mut fresh, patch)?;
                    object.insert(key.to_owned(), Value::Object(fresh));
                }
            }
            (Value::Array(patch), _) => {
                let old = match object.get_mut(key) {
                    Some(Value::Array(items)) => std::mem::take(items),
                    _ => Vec::new(),
                };
                let merged = self.list(at, child, merge, old, patch)?;
                object.insert(key.to_owned(), Value::Array(merged));
            }
            (value, _) => {
                object.insert(key.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    fn list(
        &self,
        at: &str,
        node: Option<NodeId>,
        merge: Merge,
        old: Vec<Value>,
        patch: &[Value],
    ) -> Result<Vec<Value>, StrategicError> {
        match merge {
            Merge::Replace => Ok(patch.to_vec()),
            Merge::Set => {
                let mut items = old;
                for item in patch {
                    if !items.contains(item) {
                        items.push(item.clone());
                    }
                }
                Ok(items)
            }
            Merge::ByKey(key) => self.keyed(at, self.element(node), key, old, patch),
        }
    }

    fn keyed(
        &self,
        at: &str,
        element: Option<NodeId>,
        key: &'static str,
        old: Vec<Value>,
        patch: &[Value],
    ) -> Result<Vec<Value>, StrategicError> {
        let replaces = patch
            .iter()
            .any(|item| item.get(DIRECTIVE).is_some_and(|wish| wish == "replace"));
        if replaces {
            return Ok(patch
                .iter()
                .filter(|item| item.get(DIRECTIVE).is_none())
                .cloned()
                .collect());
        }
        let mut items = old;
        for item in patch {
            let no_key = || StrategicError::NoKey {
                field: at.to_owned(),
                key,
            };
            let fields = item.as_object().ok_or_else(no_key)?;
            let id = fields.get(key).ok_or_else(no_key)?;
            if wish(at, fields)? == Wish::Delete {
                items.retain(|old| old.get(key) != Some(id));
                continue;
            }
            match items
                .iter_mut()
                .find(|old| old.get(key) == Some(id))
                .and_then(Value::as_object_mut)
            {
                Some(old) => self.object(at, element, old, fields)?,
                None => {
                    let mut fresh = Map::new();
                    self.object(at, element, &mut fresh, fields)?;
                    items.push(Value::Object(fresh));
                }
            }
        }
        Ok(items)
    }

    /// Brings the elements that the directive names into its order. Elements it does not name stay where they are
    /// relative to the named ones that stood before them.
    fn order(
        &self,
        at: &str,
        node: Option<NodeId>,
        field: &str,
        object: &mut Map<String, Value>,
        order: &Value,
    ) -> Result<(), StrategicError> {
        let order = order.as_array().ok_or_else(|| StrategicError::NoList {
            field: at.to_owned(),
        })?;
        let (_, merge) = self.below(node, field);
        let Some(Value::Array(items)) = object.get_mut(field) else {
            return Ok(());
        };
        let id = |item: &Value| match merge {
            Merge::ByKey(key) => item.get(key).cloned().unwrap_or(Value::Null),
            Merge::Set | Merge::Replace => item.clone(),
        };
        let rank = |item: &Value| order.iter().position(|named| id(named) == id(item));
        let mut named: Vec<Value> = items
            .iter()
            .filter(|item| rank(item).is_some())
            .cloned()
            .collect();
        named.sort_by_key(|item| rank(item));
        let mut sorted = named.into_iter();
        for item in items.iter_mut() {
            if rank(item).is_some() {
                *item = sorted.next().expect("as many named elements as places");
            }
        }
        Ok(())
    }

    fn below(&self, node: Option<NodeId>, key: &str) -> (Option<NodeId>, Merge) {
        match node.map(|id| &self.schemas.node(id).shape) {
            Some(Shape::Object(fields)) => {
                fields.get(key).map_or((None, Merge::Replace), |field| {
                    (Some(field.node), field.merge)
                })
            }
            Some(Shape::Map(item)) => (Some(*item), Merge::Replace),
            _ => (None, Merge::Replace),
        }
    }

    fn element(&self, node: Option<NodeId>) -> Option<NodeId> {
        match &self.schemas.node(node?).shape {
            Shape::List(item) => Some(*item),
            _ => None,
        }
    }
}

fn wish(at: &str, patch: &Map<String, Value>) -> Result<Wish, StrategicError> {
    match patch
        .get(DIRECTIVE)
        .map(|value| value.as_str().unwrap_or_default())
    {
        None | Some("merge") => Ok(Wish::Merge),
        Some("replace") => Ok(Wish::Replace),
        Some("delete") => Ok(Wish::Delete),
        Some(other) => Err(StrategicError::Directive {
            field: at.to_owned(),
            directive: other.to_owned(),
        }),
    }
}

/// `$retainKeys`: only these fields stay.
fn retain(
    at: &str,
    object: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), StrategicError> {
    let Some(keys) = patch.get(RETAIN) else {
        return Ok(());
    };
    let keys = keys.as_array().ok_or_else(|| StrategicError::NoList {
        field: at.to_owned(),
    })?;
    object.retain(|key, _| keys.iter().any(|kept| kept == key));
    Ok(())
}

fn remove(
    at: &str,
    field: &str,
    object: &mut Map<String, Value>,
    unwanted: &Value,
) -> Result<(), StrategicError> {
    let unwanted = unwanted.as_array().ok_or_else(|| StrategicError::NoList {
        field: at.to_owned(),
    })?;
    if let Some(Value::Array(items)) = object.get_mut(field) {
        items.retain(|item| !unwanted.contains(item));
    }
    Ok(())
}

/// The patch without its directives.
fn plain(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(key, _)| !key.starts_with('$'))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn join(at: &str, key: &str) -> String {
    match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    }
}

#[cfg(test)]
mod tests;
