//! A removal: at once, after a grace period, or once finalizers allow.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::update::is_gone;
use super::{Outcome, Write};
use crate::json;
use crate::object::Object;
use crate::read::Filter;
use crate::registry::kinds::{Generation, Removal};
use crate::registry::strategy::Effects;
use crate::status::Status;

/// Namespaces that may not be deleted (`k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle`).
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    /// The uid that the object must have.
    pub(crate) uid: Option<String>,
    /// The version that the object must have.
    pub(crate) resource_version: Option<String>,
    /// Seconds until a Pod goes; its own setting if absent.
    pub(crate) grace_seconds: Option<i64>,
    /// What happens to dependents.
    pub(crate) propagation: Propagation,
}

/// What happens to an object's dependents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are collected afterwards.
    #[default]
    Background,
    /// Asked for: they go first. Served as background, with a warning.
    Foreground,
}

impl Write<'_> {
    pub(super) fn delete(&mut self, options: &DeleteOptions) -> Result<Outcome, Status> {
        let old = self.old().ok_or_else(|| self.not_found())?;
        if options.propagation == Propagation::Foreground {
            self.warnings
                .push("propagationPolicy Foreground is served as Background".to_owned());
        }
        self.delete_one(&old, options)
    }

    pub(super) fn delete_collection(
        &mut self,
        options: &DeleteOptions,
        filter: &Filter,
    ) -> Result<Outcome, Status> {
        let namespace =
            Some(self.request.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let snapshot = self.snapshot;
        let chosen: Vec<Object> = snapshot
            .range(self.store_kind(), namespace, None)
            .map(|(_, entry)| &entry.value)
            .filter(|object| filter.matches(object.value()))
            .map(|object| Object::clone(object))
            .collect();
        let mut deleted = Vec::with_capacity(chosen.len());
        for object in chosen {
            match self.delete_one(&object, options)? {
                Outcome::Deleted(last) | Outcome::Deleting(last) => deleted.push(last),
                other => unreachable!("a delete ends in a deletion, not {other:?}"),
            }
        }
        Ok(Outcome::DeletedCollection(deleted))
    }

    fn delete_one(&mut self, old: &Object, options: &DeleteOptions) -> Result<Outcome, Status> {
        self.check_preconditions(old.value(), options)?;
        self.check_immortal(json::name(old.value()))?;
        let mut object = old.value().clone();
        mark(&mut object, self.kind().removal, options, self.cx.now);
        if is_gone(self.kind().removal, &object) {
            return self.remove(object);
        }
        if object == *old.value() {
            return Ok(Outcome::Deleting(old.clone()));
        }
        if self.kind().removal == Removal::Emptied {
            json::child(&mut object, "status").insert("phase".to_owned(), "Terminating".into());
        }
        if self.kind().generation != Generation::None {
            let before = object
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            json::metadata(&mut object).insert("generation".to_owned(), json!(before + 1));
        }
        Ok(Outcome::Deleting(
            self.transaction
                .put(self.kind().resource.store_kind, object),
        ))
    }

    /// Takes the object out of the store, and gives back what it held.
    pub(super) fn remove(&mut self, object: Value) -> Result<Outcome, Status> {
        let mut effects = Effects::default();
        self.strategy()
            .prepare_delete(&self.cx, &object, &mut effects)?;
        self.take_effects(effects);
        Ok(Outcome::Deleted(
            self.transaction
                .delete(self.kind().resource.store_kind, object),
        ))
    }

    fn check_preconditions(&self, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
        let resource = &self.kind().resource;
        let name = json::name(old);
        let uid = json::text(old, "/metadata/uid");
        if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
            let why = format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict(resource, name, why));
        }
        let version = json::text(old, "/metadata/resourceVersion");
        if let Some(wanted) = options
            .resource_version
            .as_deref()
            .filter(|wanted| *wanted != version)
        {
            let why = format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
                 ({version}). The object might have been modified"
            );
            return Err(Status::conflict(resource, name, why));
        }
        Ok(())
    }

    fn check_immortal(&self, name: &str) -> Result<(), Status> {
        match self.kind().removal == Removal::Emptied && IMMORTAL.contains(&name) {
            true => Err(Status::forbidden(
                &self.kind().resource,
                name,
                "this namespace may not be deleted",
            )),
            false => Ok(()),
        }
    }
}

/// Sets the deletion time and the grace period. A later delete can shorten the period, never lengthen it.
fn mark(object: &mut Value, removal: Removal, options: &DeleteOptions, now: Timestamp) {
    let grace = grace(object, removal, options);
    let before = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    let marked = json::time(object, "/metadata/deletionTimestamp");
    let due = match (marked, before) {
        (Some(_), before) if before.unwrap_or(0) <= grace => return,
        (Some(due), before) => due - SignedDuration::from_secs(before.unwrap_or(0)),
        (None, _) => now,
    } + SignedDuration::from_secs(grace);
    let metadata = json::metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), json::seconds(due).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
}

/// Seconds until the object goes. Only a Pod that a node runs gets any (`pkg/registry/core/pod/strategy.go`,
/// `CheckGracefulDelete`).
fn grace(object: &Value, removal: Removal, options: &DeleteOptions) -> i64 {
    if removal != Removal::Graceful {
        return 0;
    }
    let over = ["Succeeded", "Failed"].contains(&json::text(object, "/status/phase"));
    if over || json::text(object, "/spec/nodeName").is_empty() {
        return 0;
    }
    let own = || {
        object
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
    };
    // A negative period is a mistake that upstream takes for one second.
    let asked = options.grace_seconds.or_else(own).unwrap_or(30);
    if asked < 0 { 1 } else { asked }
}
