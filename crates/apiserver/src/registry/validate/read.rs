//! Reading JSON objects whose shape the decoder has already checked: an absent field and a null are the same.

use serde_json::{Map, Value};

/// The value at `key`, if it is there and not null.
pub fn at<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|v| !v.is_null())
}

/// The value below `keys`, if it is there and not null.
pub fn deep<'a>(object: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().try_fold(object, |v, key| at(v, key))
}

/// The text at `key`, or `""`.
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The text at `key`, if there is one, the empty one included.
pub fn some_text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// The number at `key`, or 0.
pub fn int(object: &Value, key: &str) -> i64 {
    object.get(key).and_then(Value::as_i64).unwrap_or_default()
}

/// The list at `key`, or an empty one.
pub fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The texts of the list at `key`.
pub fn texts<'a>(object: &'a Value, key: &str) -> Vec<&'a str> {
    list(object, key)
        .iter()
        .map(|v| v.as_str().unwrap_or_default())
        .collect()
}

/// The map at `key`, if it is there (an empty one counts).
pub fn map<'a>(object: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    object.get(key).and_then(Value::as_object)
}

/// `metadata.annotations[key]`.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    deep(object, &["metadata", "annotations"]).and_then(|a| some_text(a, key))
}
