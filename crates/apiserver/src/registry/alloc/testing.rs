//! A store in a map, for the tests of the rules.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::address::SERVICE_CIDRS;
use crate::registry::strategy::Operation;
use crate::registry::validate::read::text;
use crate::registry::{Effects, View};

type Key = (String, String, String);

/// Objects by store kind, namespace and name.
#[derive(Default)]
pub(crate) struct Memory(BTreeMap<Key, Value>);

impl Memory {
    /// A cluster with these networks, ready.
    pub(crate) fn with_cidrs(cidrs: &[&str]) -> Self {
        let mut memory = Self::default();
        memory.put(SERVICE_CIDRS, cidr("kubernetes", cidrs, "True"));
        memory
    }

    pub(crate) fn put(&mut self, kind: &str, object: Value) {
        let meta = &object["metadata"];
        let key = (
            kind.to_owned(),
            text(meta, "namespace").to_owned(),
            text(meta, "name").to_owned(),
        );
        self.0.insert(key, object);
    }

    pub(crate) fn apply(&mut self, effects: Effects) {
        for operation in effects.operations {
            match operation {
                Operation::Put { store_kind, object } => self.put(store_kind, object),
                Operation::Delete {
                    store_kind,
                    namespace,
                    name,
                } => {
                    self.0.remove(&(store_kind.to_owned(), namespace, name));
                }
            }
        }
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, kind: &str) -> Vec<&str> {
        self.0
            .keys()
            .filter(|key| key.0 == kind)
            .map(|key| key.2.as_str())
            .collect()
    }
}

impl View for Memory {
    fn get(&self, store_kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.0
            .get(&(store_kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    fn list<'a>(
        &'a self,
        store_kind: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
        let (kind, namespace) = (store_kind.to_owned(), namespace.map(str::to_owned));
        let matches =
            move |key: &Key| key.0 == kind && namespace.as_ref().is_none_or(|n| *n == key.1);
        Box::new(
            self.0
                .iter()
                .filter(move |(key, _)| matches(key))
                .map(|(_, value)| value),
        )
    }
}

/// A ServiceCIDR with the given Ready condition.
pub(crate) fn cidr(name: &str, cidrs: &[&str], ready: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "cidrs": cidrs },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] },
    })
}
