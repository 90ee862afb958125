//! An object as the store keeps it: the parsed value, and its JSON once somebody asked for it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use daymark_store::Key;
use serde_json::Value;

/// A stored object. Clones are cheap, and everyone who needs its JSON shares one encoding.
#[derive(Clone, Debug)]
pub struct Object(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    value: Value,
    json: OnceLock<Bytes>,
}

impl Object {
    /// Wraps a value.
    pub fn new(value: Value) -> Self {
        Self(Arc::new(Inner {
            value,
            json: OnceLock::new(),
        }))
    }

    /// The object.
    pub fn value(&self) -> &Value {
        &self.0.value
    }

    /// Its JSON, encoded once.
    pub fn json(&self) -> Bytes {
        self.0.json.get_or_init(|| encode(&self.0.value)).clone()
    }
}

impl daymark_store::Value for Object {
    fn encode(&self) -> Vec<u8> {
        self.json().to_vec()
    }

    fn decode(_key: &Key, bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map(Self::new)
            .map_err(|error| format!("not JSON: {error}"))
    }
}

/// The JSON of a value.
pub(crate) fn encode(value: &Value) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("a JSON value always encodes"))
}
