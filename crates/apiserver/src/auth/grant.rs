//! Rights that are granted besides the fixed roles: rules of RBAC, each with the user who has it.
//!
//! There are no Role objects here; whoever starts a server hands it what a manifest grants, and asks afterwards what of it
//! was made use of. That is how a manifest is held to what a program really asks.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{Attributes, Name};
use crate::registry::User;

/// One rule of a Role or ClusterRole, as bound to a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Who has it.
    pub user: String,
    /// Where it holds: in one namespace, or everywhere.
    pub namespace: Option<String>,
    /// `apiGroups`; the empty text is the core group.
    pub api_groups: Vec<String>,
    /// `resources`, subresources as `services/status`.
    pub resources: Vec<String>,
    /// `resourceNames`; without any, all objects.
    pub resource_names: Vec<String>,
    /// `verbs`.
    pub verbs: Vec<String>,
}

/// A right that was made use of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// Who did.
    pub user: String,
    /// The verb.
    pub verb: String,
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The resource, with its subresource.
    pub resource: String,
}

/// All that was granted, and what of it was used.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    all: Vec<Grant>,
    used: Mutex<BTreeSet<Use>>,
}

impl Grants {
    pub(crate) fn new(all: Vec<Grant>) -> Self {
        Self {
            all,
            used: Mutex::default(),
        }
    }

    /// Whether a grant permits this; then it is noted.
    pub(super) fn permit(&self, user: &User, asked: &Attributes<'_>) -> bool {
        let permits = self.all.iter().any(|grant| grant.permits(user, asked));
        if permits {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.insert(Use {
                user: user.name.clone(),
                verb: asked.verb.as_str().to_owned(),
                api_group: asked.target.group.clone(),
                resource: asked.resource(),
            });
        }
        permits
    }

    pub(crate) fn used(&self) -> BTreeSet<Use> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.clone()
    }
}

impl Grant {
    /// `*` stands for everything, as in RBAC (`k8s.io/component-helpers/auth/rbac/validation`).
    fn permits(&self, user: &User, asked: &Attributes<'_>) -> bool {
        let has =
            |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let namespace = self.namespace.as_deref();
        let named = self.resource_names.is_empty()
            || match asked.name {
                Name::Known(name) => self.resource_names.iter().any(|known| known == name),
                Name::InBody => true,
            };
        self.user == user.name
            && namespace.is_none_or(|namespace| namespace == asked.target.namespace)
            && has(&self.verbs, asked.verb.as_str())
            && has(&self.api_groups, &asked.target.group)
            && has(&self.resources, &asked.resource())
            && named
    }
}
