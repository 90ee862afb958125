//! Objects of which something cannot be used: told on the Service that it costs something, or else on the object itself.
//!
//! What is said follows from what is wrong now, and not from how it came to be so: every node says the same words, and that is one
//! Event for all of them. It is said again when it is something else.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use daymark_feed::record::ObjectKey;
use daymark_feed::{Findings, Kind};
use daymark_model::audience::{self, NotProxied};
use daymark_model::{Change, ServiceKey, World};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::ask::wire;
use crate::events::{About, Notice, Scope, Severity, UNUSABLE, node_reference};

/// What cannot be used, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Unusable {
    groups: BTreeMap<Group, BTreeMap<Object, Arc<Findings>>>,
    group_of: BTreeMap<Object, Group>,
    touched: BTreeSet<Group>,
    /// Hashes of it.
    said: BTreeMap<Group, u64>,
}

type Object = (Kind, ObjectKey);

/// What is told together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// A Service and its slices.
    Service(ServiceKey),
    /// What belongs to no Service.
    Object(Object),
}

impl Group {
    /// `None` for kinds that are no input of this agent: the load balancer has a condition for its own.
    fn of(object: &Object, findings: &Findings) -> Option<Self> {
        let (kind, key) = object;
        let service = |name: &Arc<str>| {
            Self::Service(ServiceKey {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(name),
            })
        };
        match (kind, &findings.whose.service) {
            (Kind::Service, _) => Some(service(&key.name)),
            (Kind::EndpointSlice, Some(name)) => Some(service(&Arc::from(&**name))),
            (Kind::EndpointSlice | Kind::ServiceCidr | Kind::Node, _) => {
                Some(Self::Object(object.clone()))
            }
            (Kind::Namespace | Kind::Pool | Kind::L2Advertisement | Kind::Lease, _) => None,
        }
    }
}

impl Unusable {
    /// Hears what of an object cannot be used now.
    pub(super) fn note(&mut self, kind: Kind, key: ObjectKey, now: Option<Arc<Findings>>) {
        let object = (kind, key);
        self.forget(&object);
        let Some(now) = now else { return };
        if let Some(group) = Group::of(&object, &now) {
            self.touched.insert(group.clone());
            let members = self.groups.entry(group.clone()).or_default();
            members.insert(object.clone(), now);
            self.group_of.insert(object, group);
        }
    }

    /// Hears of changes: a Service that comes or goes, or has another proxy, is another object to tell of.
    pub(super) fn hear(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Service(key, _) = change {
                let group = Group::Service(key.clone());
                if self.groups.contains_key(&group) {
                    self.touched.insert(group);
                }
            }
        }
    }

    fn forget(&mut self, object: &Object) {
        let Some(group) = self.group_of.remove(object) else {
            return;
        };
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(object);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        self.touched.insert(group);
    }

    /// What is to be said now.
    pub(super) fn follow(&mut self, world: &World) -> Vec<Notice> {
        let mut notices = Vec::new();
        for group in std::mem::take(&mut self.touched) {
            let members = self.groups.get(&group);
            let notice = members.and_then(|members| notice(&group, members, world));
            let Some(notice) = notice else {
                self.said.remove(&group);
                continue;
            };
            let hash = hash(&notice);
            if self.said.insert(group, hash) != Some(hash) {
                notices.push(notice);
            }
        }
        notices
    }

    /// Whether something is wrong yet with what a notice was about.
    pub(super) fn concerns(&self, about: &About) -> bool {
        match about {
            About::Service(key) => self.groups.contains_key(&Group::Service(key.clone())),
            About::Object(kind, key) => self.group_of.contains_key(&(*kind, key.clone())),
        }
    }

    /// The object, if something of it cannot be used.
    pub(super) fn reference(&self, kind: Kind, key: &ObjectKey) -> Option<ObjectReference> {
        if kind == Kind::Node {
            return Some(node_reference(&key.name));
        }
        let object = (kind, key.clone());
        let findings = self.groups.get(self.group_of.get(&object)?)?.get(&object)?;
        let namespace = Some(key.namespace.to_string());
        Some(ObjectReference {
            api_version: Some(version(kind).to_owned()),
            kind: Some(kind.to_string()),
            name: Some(key.name.to_string()),
            namespace: namespace.filter(|namespace| !namespace.is_empty()),
            uid: Some(findings.whose.uid.to_string()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        })
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.group_of.len()
    }

    /// The first of them, for `daymark status`.
    pub(super) fn rows(&self) -> Vec<wire::Unusable> {
        let all = self.groups.values().flatten().take(MOST_ROWS);
        let row = |((kind, key), findings): (&Object, &Arc<Findings>)| wire::Unusable {
            kind: kind.to_string(),
            name: key.to_string(),
            values: findings.shown.iter().map(ToString::to_string).collect(),
            more: findings.more,
        };
        all.map(row).collect()
    }
}

/// So many objects are rows of a status.
const MOST_ROWS: usize = 100;

/// The version of a kind's API.
fn version(kind: Kind) -> &'static str {
    match kind {
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::ServiceCidr => "networking.k8s.io/v1",
        _ => "v1",
    }
}

/// `None` if it is not this agent's to say: a Service of another proxy, another Node.
fn notice(
    group: &Group,
    members: &BTreeMap<Object, Arc<Findings>>,
    world: &World,
) -> Option<Notice> {
    let (first, _) = members.first_key_value()?;
    let itself = || About::Object(first.0, first.1.clone());
    let (about, scope) = match group {
        Group::Service(key) => match world.inputs().services.get(key) {
            Some(service) if audience::proxy(service) == Err(NotProxied::OtherProxy) => {
                return None;
            }
            Some(_) => (key.clone().into(), Scope::Cluster),
            None => (itself(), Scope::Cluster),
        },
        Group::Object((Kind::Node, key)) if key.name != world.options().node_name => return None,
        Group::Object((Kind::Node, _)) => (itself(), Scope::Node),
        Group::Object(_) => (itself(), Scope::Cluster),
    };
    Some(Notice {
        message: message(&about, members),
        about,
        scope,
        severity: Severity::Warning,
        reason: UNUSABLE,
    })
}

/// The first values in words, and how many more there are.
fn message(about: &About, members: &BTreeMap<Object, Arc<Findings>>) -> String {
    let shown = members.iter().flat_map(|(object, findings)| {
        let name = name_beside(about, object);
        let shown = findings.shown.iter();
        shown.map(move |reason| format!("{name}{reason}"))
    });
    let all: usize = members.values().map(|one| one.shown.len() + one.more).sum();
    let mut words = String::new();
    let mut told = 0;
    for one in shown.take(SHOWN) {
        if told > 0 && words.len() + one.len() > LONGEST {
            break;
        }
        words += if told == 0 { "" } else { "; " };
        words += &one;
        told += 1;
    }
    if all > told {
        words += &format!("; and {} more: see daymark status", all - told);
    }
    let slices = members.keys().any(|(kind, _)| *kind == Kind::EndpointSlice);
    let remedy = if slices {
        "correct what is named, or what writes the EndpointSlice (label endpointslice.kubernetes.io/managed-by)"
    } else {
        "correct what is named"
    };
    format!("{words}. Everything else goes on; {remedy}")
}

/// So many values are in a message,
const SHOWN: usize = 3;
/// and no second one that would make it longer, bytes: the API takes messages of 1,024, and the remedy stands at the end.
const LONGEST: usize = 700;

/// Which object a value is of; nothing if that is the object which the Event is about.
fn name_beside(about: &About, (kind, key): &Object) -> String {
    let same = match about {
        About::Service(_) => *kind == Kind::Service,
        About::Object(about, name) => (about, name) == (kind, key),
    };
    if same {
        String::new()
    } else {
        format!("{kind} {}: ", key.name)
    }
}

fn hash(notice: &Notice) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&notice.about, &notice.message).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
