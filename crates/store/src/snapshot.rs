//! One state of the store, frozen: cheap to take, to keep and to share.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::value::{Entry, Key};

/// All objects as they were at one revision.
pub struct Snapshot<V> {
    revision: u64,
    kinds: OrdMap<Arc<str>, OrdMap<Key, Entry<V>>>,
}

impl<V> Snapshot<V> {
    /// The revision of this state.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Entry<V>> {
        self.kinds.get(&key.kind)?.get(key)
    }

    /// The objects of a kind in the order of namespace and name: those of one namespace, or of all; those behind
    /// `after` (namespace, name), or all.
    pub fn range<'a>(
        &'a self,
        kind: &str,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry<V>)> + use<'a, V> {
        let wanted: Option<Arc<str>> = namespace.map(Arc::from);
        let start = start(kind, namespace.unwrap_or_default(), after);
        let objects = self.kinds.get(kind).into_iter();
        objects
            .flat_map(move |objects| objects.range((start.clone(), Bound::Unbounded)))
            .take_while(move |(key, _)| {
                wanted
                    .as_ref()
                    .is_none_or(|wanted| key.namespace == *wanted)
            })
    }

    /// How many objects of a kind there are, in one namespace or in all (then at no cost).
    pub fn count(&self, kind: &str, namespace: Option<&str>) -> usize {
        match namespace {
            None => self.kinds.get(kind).map_or(0, OrdMap::len),
            Some(_) => self.range(kind, namespace, None).count(),
        }
    }

    /// The kinds that have objects, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<str>> {
        self.kinds
            .iter()
            .filter(|(_, objects)| !objects.is_empty())
            .map(|(kind, _)| kind)
    }

    pub(crate) fn at(revision: u64, objects: impl IntoIterator<Item = (Key, Entry<V>)>) -> Self {
        let mut snapshot = Self {
            revision,
            kinds: OrdMap::new(),
        };
        for (key, entry) in objects {
            snapshot.put(key, entry);
        }
        snapshot
    }

    pub(crate) fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    pub(crate) fn put(&mut self, key: Key, entry: Entry<V>) {
        match self.kinds.get_mut(&key.kind) {
            Some(objects) => drop(objects.insert(key, entry)),
            None => drop(
                self.kinds
                    .insert(Arc::clone(&key.kind), OrdMap::unit(key, entry)),
            ),
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(objects) = self.kinds.get_mut(&key.kind) {
            objects.remove(key);
        }
    }
}

impl<V> Clone for Snapshot<V> {
    fn clone(&self) -> Self {
        Self {
            revision: self.revision,
            kinds: self.kinds.clone(),
        }
    }
}

impl<V> std::fmt::Debug for Snapshot<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// Where a range begins: behind `after`, but not before the namespace.
fn start(kind: &str, namespace: &str, after: Option<(&str, &str)>) -> Bound<Key> {
    match after {
        Some((space, name)) if space >= namespace => Bound::Excluded(Key::new(kind, space, name)),
        _ => Bound::Included(Key::new(kind, namespace, "")),
    }
}

#[cfg(test)]
mod tests;
