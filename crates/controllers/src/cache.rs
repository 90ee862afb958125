//! The objects of one kind as a watch tells them, never older than what this process wrote itself.
//!
//! A controller that decides on a stale view writes the same change twice. So the answer to each write goes into the
//! cache at once, and what the watch brings later is compared by resource version: versions of one object are
//! numbers that grow (KEP-5504), so an older one is dropped. A deleted object leaves its uid behind until the watch
//! has confirmed the delete, and for a while after it: the answer to a write may arrive when the watch has told the end.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

/// Namespace (empty if there is none) and name.
pub(crate) type Id = (String, String);

/// The namespace and name of an object.
pub(crate) fn id_of<K: Resource>(object: &K) -> Id {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// What an event changed.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// The object is new or different.
    Set {
        /// What was there before.
        old: Option<Arc<K>>,
        /// What is there now.
        new: Arc<K>,
    },
    /// The object is gone.
    Gone(Arc<K>),
}

impl<K> Change<K> {
    /// The object after the change, or the last one there was.
    pub(crate) fn object(&self) -> &Arc<K> {
        match self {
            Self::Set { new, .. } => new,
            Self::Gone(old) => old,
        }
    }

    /// Both sides of the change.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Arc<K>> {
        let (a, b) = match self {
            Self::Set { old, new } => (old.as_ref(), Some(new)),
            Self::Gone(old) => (Some(old), None),
        };
        a.into_iter().chain(b)
    }
}

/// See the module.
pub(crate) struct Cache<K> {
    objects: BTreeMap<Id, Arc<K>>,
    listed: Option<BTreeSet<Id>>,
    deleted: HashSet<String>,
    /// Uids of objects that the watch has told the end of, the oldest first.
    ended: VecDeque<String>,
    synced: bool,
}

/// How many ends are remembered: far more than writes are under way.
const ENDED: usize = 256;

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listed: None,
            deleted: HashSet::new(),
            ended: VecDeque::new(),
            synced: false,
        }
    }
}

impl<K: Resource> Cache<K> {
    /// Whether the first list has arrived.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// One object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All objects, by namespace and name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// The objects of one namespace.
    pub(crate) fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        let from = (namespace.to_owned(), String::new());
        self.objects
            .range(from..)
            .take_while(move |(id, _)| id.0 == namespace)
            .map(|(_, object)| object)
    }

    /// Takes in what the watch says.
    pub(crate) fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(id_of(&object));
                }
                // A list says what there is, also what a restored store has again.
                let uid = object.meta().uid.as_ref();
                self.ended.retain(|ended| Some(ended) != uid);
                self.set(object).into_iter().collect()
            }
            Event::InitDone => self.finish_list(),
            Event::Apply(object) => self.set(object).into_iter().collect(),
            Event::Delete(object) => {
                if let Some(uid) = &object.meta().uid {
                    self.deleted.remove(uid);
                }
                self.end(&object);
                let id = id_of(&object);
                if self
                    .objects
                    .get(&id)
                    .is_some_and(|old| old.meta().uid == object.meta().uid)
                {
                    self.objects.remove(&id);
                }
                vec![Change::Gone(Arc::new(object))]
            }
        }
    }

    fn finish_list(&mut self) -> Vec<Change<K>> {
        self.synced = true;
        self.deleted.clear();
        let Some(listed) = self.listed.take() else {
            return Vec::new();
        };
        let gone: Vec<Id> = self
            .objects
            .keys()
            .filter(|id| !listed.contains(*id))
            .cloned()
            .collect();
        let gone: Vec<Arc<K>> = gone
            .iter()
            .filter_map(|id| self.objects.remove(id))
            .collect();
        gone.iter().for_each(|object| self.end(object));
        gone.into_iter().map(Change::Gone).collect()
    }

    fn end(&mut self, object: &K) {
        self.ended.extend(object.meta().uid.clone());
        if self.ended.len() > ENDED {
            self.ended.pop_front();
        }
    }

    /// Takes in an object: from the watch, or the answer to a write.
    pub(crate) fn set(&mut self, object: K) -> Option<Change<K>> {
        let id = id_of(&object);
        if object
            .meta()
            .uid
            .as_ref()
            .is_some_and(|uid| self.deleted.contains(uid) || self.ended.contains(uid))
        {
            return None;
        }
        if self
            .objects
            .get(&id)
            .is_some_and(|old| !is_newer(&object, old))
        {
            return None;
        }
        let new = Arc::new(object);
        let old = self.objects.insert(id, Arc::clone(&new));
        Some(Change::Set { old, new })
    }

    /// Takes in that this process deleted an object.
    pub(crate) fn forget(&mut self, namespace: &str, name: &str, uid: &str) {
        let id = (namespace.to_owned(), name.to_owned());
        if self
            .objects
            .get(&id)
            .is_some_and(|old| old.meta().uid.as_deref() == Some(uid))
        {
            self.objects.remove(&id);
            self.deleted.insert(uid.to_owned());
        }
    }
}

/// Whether `new` is a later state than `old`. What cannot be compared counts as later.
fn is_newer<K: Resource>(new: &K, old: &K) -> bool {
    let version = |object: &K| {
        object
            .meta()
            .resource_version
            .as_deref()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match (version(new), version(old)) {
        (Some(new_version), Some(old_version)) if new.meta().uid == old.meta().uid => {
            new_version > old_version
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        let meta = json!({ "namespace": "ns", "name": name, "uid": uid, "resourceVersion": version.to_string() });
        serde_json::from_value(json!({ "metadata": meta })).expect("a ConfigMap")
    }

    fn version(cache: &Cache<ConfigMap>, name: &str) -> Option<String> {
        cache
            .get("ns", name)
            .and_then(|object| object.metadata.resource_version.clone())
    }

    #[test]
    fn an_older_state_from_the_watch_does_not_undo_a_write() {
        let mut cache = Cache::default();
        cache.apply(Event::Apply(object("a", "u", 5)));
        cache.set(object("a", "u", 9));
        assert!(cache.apply(Event::Apply(object("a", "u", 7))).is_empty());
        assert!(
            cache.apply(Event::Apply(object("a", "u", 9))).is_empty(),
            "the echo changes nothing"
        );
        assert_eq!(version(&cache, "a").as_deref(), Some("9"));
        assert_eq!(
            cache.apply(Event::Apply(object("a", "other", 6))).len(),
            1,
            "another object of that name"
        );
    }

    #[test]
    fn a_deleted_object_does_not_come_back_with_a_late_event() {
        let mut cache = Cache::default();
        cache.apply(Event::Apply(object("a", "u", 5)));
        cache.forget("ns", "a", "u");
        assert!(cache.apply(Event::Apply(object("a", "u", 6))).is_empty());
        assert_eq!(version(&cache, "a"), None);
        cache.apply(Event::Delete(object("a", "u", 7)));
        assert_eq!(cache.apply(Event::Apply(object("a", "v", 8))).len(), 1);
    }

    #[test]
    fn a_deleted_object_does_not_come_back_with_the_answer_to_an_earlier_write() {
        let mut cache = Cache::default();
        cache.apply(Event::Apply(object("a", "u", 5)));
        cache.apply(Event::Delete(object("a", "u", 7)));
        assert!(cache.set(object("a", "u", 6)).is_none());
        assert_eq!(version(&cache, "a"), None);
        assert!(
            cache.set(object("a", "v", 8)).is_some(),
            "another of that name"
        );
        // A list has it again: the store was restored.
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(object("a", "u", 5)));
        cache.apply(Event::InitDone);
        assert_eq!(cache.all().count(), 1);
    }

    #[test]
    fn a_list_removes_what_it_does_not_name() {
        let mut cache = Cache::default();
        cache.apply(Event::Apply(object("a", "u", 1)));
        cache.apply(Event::Apply(object("b", "v", 2)));
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(object("b", "v", 2)));
        let gone = cache.apply(Event::InitDone);
        assert!(cache.is_synced());
        assert!(
            matches!(gone.as_slice(), [Change::Gone(old)] if old.metadata.name.as_deref() == Some("a"))
        );
        assert_eq!(cache.of("ns").count(), 1);
    }
}
