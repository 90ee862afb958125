//! Who owns what: which objects go because their owners are gone, and in which order.
//!
//! Source: `pkg/controller/garbagecollector` of Kubernetes.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The finalizer under which an object waits for its dependents to go.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// The finalizer under which dependents are set free first.
pub(crate) const ORPHAN: &str = "orphan";

/// One object, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    /// Index of the kind, see [`crate::kinds::Kinds`].
    pub(crate) kind: usize,
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
    /// The uid.
    pub(crate) uid: String,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    owners: Vec<OwnerReference>,
    waits_for: Option<&'static str>,
}

/// What is to be done about an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    /// Nothing.
    Keep,
    /// None of its owners is known: ask the API about them, delete it if all are gone.
    AskForOwners(Target, Vec<OwnerReference>),
    /// It is being deleted in the foreground: these go first.
    DeleteFirst(Vec<Target>),
    /// It is being deleted and these shall stay: take it off their owners.
    SetFree {
        /// The uid of the owner that goes.
        owner: String,
        /// Those that stay.
        dependents: Vec<Target>,
    },
    /// Nothing depends on it any more: take off the finalizer.
    Release(Target, &'static str),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    objects: HashMap<String, Entry>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// An object is there. Answers with the uids whose fate may have changed.
    pub(crate) fn set(&mut self, kind: usize, meta: &ObjectMeta) -> Vec<String> {
        let Some(uid) = meta.uid.clone() else {
            return Vec::new();
        };
        let mut touched = self.unlink(&uid);
        let owners = meta.owner_references.clone().unwrap_or_default();
        for owner in &owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let finalizers = meta.finalizers.as_deref().unwrap_or_default();
        let deleting = meta.deletion_timestamp.is_some();
        let waits_for = [FOREGROUND, ORPHAN]
            .into_iter()
            .find(|f| deleting && finalizers.iter().any(|own| own == f));
        let target = Target {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: uid.clone(),
        };
        if waits_for.is_some() || owners.iter().any(|owner| !self.is_known(&owner.uid)) {
            touched.push(uid.clone());
        }
        self.objects.insert(
            uid,
            Entry {
                target,
                owners,
                waits_for,
            },
        );
        touched
    }

    /// An object is gone. Answers with the uids whose fate may have changed: what it owned, and what waits for it.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut touched = self.unlink(uid);
        self.objects.remove(uid);
        touched.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        touched
    }

    /// Takes an object off its owners; answers with owners that wait for it.
    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let Some(entry) = self.objects.get(uid) else {
            return Vec::new();
        };
        let owners: Vec<String> = entry.owners.iter().map(|owner| owner.uid.clone()).collect();
        for owner in &owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        let waits = |owner: &String| {
            self.objects
                .get(owner)
                .is_some_and(|entry| entry.waits_for.is_some())
        };
        owners
            .iter()
            .filter(|owner| waits(owner))
            .cloned()
            .collect()
    }

    fn is_known(&self, uid: &str) -> bool {
        self.objects.contains_key(uid)
    }

    /// The uids of all objects that may have something to be done.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        let open = |entry: &Entry| !entry.owners.is_empty() || entry.waits_for.is_some();
        self.objects
            .iter()
            .filter(move |(_, entry)| open(entry))
            .map(|(uid, _)| uid)
    }

    /// See [`Fate`].
    pub(crate) fn fate(&self, uid: &str) -> Fate {
        let Some(entry) = self.objects.get(uid) else {
            return Fate::Keep;
        };
        if let Some(finalizer) = entry.waits_for {
            let uids = self.dependents.get(uid).into_iter().flatten();
            let dependents: Vec<Target> = uids
                .filter_map(|uid| self.objects.get(uid))
                .map(|entry| entry.target.clone())
                .collect();
            return match (finalizer, dependents.is_empty()) {
                (_, true) => Fate::Release(entry.target.clone(), finalizer),
                (FOREGROUND, false) => Fate::DeleteFirst(dependents),
                (_, false) => Fate::SetFree {
                    owner: uid.to_owned(),
                    dependents,
                },
            };
        }
        if entry.owners.is_empty() || entry.owners.iter().any(|owner| self.is_known(&owner.uid)) {
            return Fate::Keep;
        }
        Fate::AskForOwners(entry.target.clone(), entry.owners.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(uid: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> ObjectMeta {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({ "apiVersion": "v1", "kind": "X", "name": uid, "uid": uid }))
            .collect();
        let time = deleting.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "name": uid, "uid": uid, "ownerReferences": owners, "finalizers": finalizers, "deletionTimestamp": time,
        }))
        .expect("metadata")
    }

    #[test]
    fn an_object_follows_its_last_owner() {
        let mut graph = Graph::default();
        graph.set(0, &meta("a", &[], &[], false));
        graph.set(0, &meta("b", &[], &[], false));
        graph.set(0, &meta("child", &["a", "b"], &[], false));
        assert_eq!(graph.remove("a"), ["child"]);
        assert_eq!(graph.fate("child"), Fate::Keep, "b is still there");
        assert_eq!(graph.remove("b"), ["child"]);
        assert!(
            matches!(graph.fate("child"), Fate::AskForOwners(target, owners) if target.name == "child" && owners.len() == 2)
        );
    }

    #[test]
    fn an_object_whose_owner_is_not_known_is_looked_at_when_it_comes() {
        let mut graph = Graph::default();
        assert_eq!(
            graph.set(0, &meta("child", &["gone"], &[], false)),
            ["child"]
        );
        assert_eq!(
            graph.set(0, &meta("free", &[], &[], false)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_foreground_delete_waits_for_dependents() {
        let mut graph = Graph::default();
        graph.set(0, &meta("a", &[], &[], false));
        graph.set(0, &meta("child", &["a"], &[], false));
        assert_eq!(graph.set(0, &meta("a", &[], &[FOREGROUND], true)), ["a"]);
        assert!(
            matches!(graph.fate("a"), Fate::DeleteFirst(targets) if targets[0].name == "child")
        );
        assert_eq!(graph.remove("child"), ["a"]);
        assert!(matches!(graph.fate("a"), Fate::Release(_, FOREGROUND)));
    }

    #[test]
    fn an_orphaning_delete_sets_dependents_free() {
        let mut graph = Graph::default();
        graph.set(0, &meta("a", &[], &[ORPHAN], true));
        graph.set(0, &meta("child", &["a"], &[], false));
        assert!(
            matches!(graph.fate("a"), Fate::SetFree { dependents, .. } if dependents[0].name == "child")
        );
        assert_eq!(graph.set(0, &meta("child", &[], &[], false)), ["a"]);
        assert!(matches!(graph.fate("a"), Fate::Release(_, ORPHAN)));
    }
}
