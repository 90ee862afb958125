//! The store operations of one write, while they are being collected.

use std::collections::HashMap;

use daymark_store::{Key, Op, Snapshot};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::strategy::{Effects, Operation, View};
use crate::json;
use crate::object::Object;

/// A snapshot as strategies see it.
pub(crate) struct SnapshotView<'a>(pub(crate) &'a Snapshot<Object>);

impl View for SnapshotView<'_> {
    fn get(&self, store_kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.0
            .get(&Key::new(store_kind, namespace, name))
            .map(|entry| entry.value.value())
    }

    fn list<'a>(
        &'a self,
        store_kind: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
        Box::new(
            self.0
                .range(store_kind, namespace, None)
                .map(|(_, entry)| entry.value.value()),
        )
    }

    fn count(&self, store_kind: &str) -> usize {
        self.0.count(store_kind, None)
    }
}

/// The operations of one write. An object appears at most once: the last word counts.
pub(crate) struct Transaction<'a> {
    snapshot: &'a Snapshot<Object>,
    /// The revision that the operations will get.
    revision: u64,
    now: Timestamp,
    rng: StdRng,
    /// In the order in which their objects first came up; `None` where the operation fell away.
    ops: Vec<Option<Op<Object>>>,
    places: HashMap<Key, usize>,
}

impl<'a> Transaction<'a> {
    /// An empty transaction on a snapshot.
    pub(crate) fn new(
        snapshot: &'a Snapshot<Object>,
        revision: u64,
        now: Timestamp,
        seed: u64,
    ) -> Self {
        // Another sequence than the strategy's, which starts from the seed itself.
        let rng = StdRng::seed_from_u64(seed ^ 0x6461_796d_6172_6b00);
        Self {
            snapshot,
            revision,
            now,
            rng,
            ops: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Stores an object, stamped with the transaction's revision.
    pub(crate) fn put(&mut self, store_kind: &str, mut value: Value) -> Object {
        let key = key(store_kind, &value);
        self.stamp(&mut value);
        let object = Object::new(value);
        self.add(Op::Put {
            key,
            value: object.clone(),
        });
        object
    }

    /// Removes an object, of which `last` is the final state.
    pub(crate) fn delete(&mut self, store_kind: &str, mut last: Value) -> Object {
        let key = key(store_kind, &last);
        self.stamp(&mut last);
        let object = Object::new(last);
        self.add(Op::Delete {
            key,
            last: object.clone(),
        });
        object
    }

    /// Takes over what a strategy wants done beside its object.
    pub(crate) fn extend(&mut self, effects: Effects) {
        for operation in effects.operations {
            match operation {
                Operation::Put { store_kind, object } => self.put_further(store_kind, object),
                Operation::Delete {
                    store_kind,
                    namespace,
                    name,
                } => {
                    self.delete_further(Key::new(store_kind, namespace, name));
                }
            }
        }
    }

    /// A fresh uid, a version 4 UUID.
    pub(crate) fn uid(&mut self) -> String {
        let bits = self.rng.random::<u128>();
        let bits = bits & !(0xf << 76) | (0x4 << 76);
        let bits = bits & !(0x3 << 62) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    /// Five characters for the end of a generated name, from upstream's alphabet without vowels.
    pub(crate) fn name_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5)
            .map(|_| char::from(ALPHABET[self.rng.random_range(0..ALPHABET.len())]))
            .collect()
    }

    /// What was collected.
    pub(crate) fn into_ops(self) -> Vec<Op<Object>> {
        self.ops.into_iter().flatten().collect()
    }

    fn put_further(&mut self, store_kind: &str, mut object: Value) {
        let old = self.snapshot.get(&key(store_kind, &object));
        let old_metadata = old.and_then(|entry| entry.value.value().get("metadata"));
        let (uid, now) = (self.uid(), json::seconds(self.now));
        let metadata = json::metadata(&mut object);
        for (field, fresh) in [("uid", uid), ("creationTimestamp", now)] {
            let kept = old_metadata
                .and_then(|metadata| metadata.get(field))
                .cloned();
            metadata.insert(field.to_owned(), kept.unwrap_or_else(|| fresh.into()));
        }
        self.put(store_kind, object);
    }

    fn delete_further(&mut self, key: Key) {
        match self.snapshot.get(&key) {
            Some(entry) => {
                self.delete(&key.kind, entry.value.value().clone());
            }
            // It was only put in this transaction, if at all.
            None => {
                if let Some(place) = self.places.get(&key) {
                    self.ops[*place] = None;
                }
            }
        }
    }

    fn stamp(&self, value: &mut Value) {
        json::metadata(value).insert(
            "resourceVersion".to_owned(),
            self.revision.to_string().into(),
        );
    }

    fn add(&mut self, op: Op<Object>) {
        let place = *self
            .places
            .entry(op.key().clone())
            .or_insert(self.ops.len());
        if place == self.ops.len() {
            self.ops.push(None);
        }
        self.ops[place] = Some(op);
    }
}

fn key(store_kind: &str, object: &Value) -> Key {
    Key::new(store_kind, json::namespace(object), json::name(object))
}

#[cfg(test)]
mod tests {
    use daymark_store::{Op, Options, Store};
    use jiff::Timestamp;
    use serde_json::json;

    use super::{Effects, Transaction};
    use crate::object::Object;

    #[test]
    fn the_last_word_on_an_object_counts() {
        let store: Store<Object> = Store::open(Options::in_memory()).unwrap();
        let snapshot = store.snapshot();
        let mut transaction = Transaction::new(&snapshot, 7, Timestamp::UNIX_EPOCH, 1);
        let object =
            |name: &str, value: i64| json!({ "metadata": { "name": name }, "value": value });
        let mut effects = Effects::default();
        effects.put("a", object("x", 1));
        effects.put("a", object("y", 1));
        effects.put("a", object("x", 2));
        effects.delete("a", "", "y");
        effects.delete("a", "", "never-there");
        transaction.extend(effects);
        let ops = transaction.into_ops();
        let [Op::Put { key, value }] = ops.as_slice() else {
            panic!("{ops:?}")
        };
        assert_eq!((&*key.name, &value.value()["value"]), ("x", &json!(2)));
        let metadata = &value.value()["metadata"];
        assert_eq!(
            (&metadata["resourceVersion"], &metadata["creationTimestamp"]),
            (&json!("7"), &json!("1970-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn uids_are_random_uuids_and_depend_on_the_seed() {
        let store: Store<Object> = Store::open(Options::in_memory()).unwrap();
        let snapshot = store.snapshot();
        let uid = |seed| Transaction::new(&snapshot, 1, Timestamp::UNIX_EPOCH, seed).uid();
        let (one, two) = (uid(1), uid(2));
        assert_eq!(one, uid(1));
        assert_ne!(one, two);
        let shape: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(shape, [8, 4, 4, 4, 12]);
        assert!(
            one.as_bytes()[14] == b'4' && b"89ab".contains(&one.as_bytes()[19]),
            "{one}"
        );
    }
}
