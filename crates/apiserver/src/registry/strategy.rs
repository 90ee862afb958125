//! What one kind does to an object on its way to the store.
//!
//! The registry runs every write in this order, on the store's writer thread, against one snapshot:
//! 1. decode (unknown and duplicate fields), metadata rules, namespace checks;
//! 2. [`Strategy::default`];
//! 3. [`Strategy::prepare_create`] or [`Strategy::prepare_update`]: normalise, allocate, wipe;
//! 4. [`Strategy::validate_create`] or [`Strategy::validate_update`];
//! 5. [`Strategy::warnings`];
//! 6. one transaction: the object and everything in [`Effects`], or, for a dry run, nothing.
//!
//! A delete runs [`Strategy::prepare_delete`] in the transaction in which the object really goes, also when that is
//! the update that removes the last finalizer.

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;

use super::Resource;
use crate::status::{Cause, Status};

/// The rules of one kind. Objects are JSON with `metadata.name` and, where namespaced, `metadata.namespace` filled in.
pub trait Strategy: Send + Sync {
    /// The resource's row.
    fn resource(&self) -> &'static Resource;

    /// Fills in what the client left out. Must not look at anything but the object.
    fn default(&self, _object: &mut Value) {}

    /// Brings a new object into its stored form; allocations go to `effects`. `status` is still the client's here:
    /// the registry drops it before this call where the resource has a status subresource.
    fn prepare_create(
        &self,
        _cx: &Context<'_>,
        _object: &mut Value,
        _effects: &mut Effects,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Brings an update into its stored form. On the main resource `status` was already taken from `old`, on the
    /// status subresource everything but `status` and some metadata was.
    fn prepare_update(
        &self,
        _cx: &Context<'_>,
        _object: &mut Value,
        _old: &Value,
        _effects: &mut Effects,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// What is wrong with a new object; empty when nothing is. Metadata common to all kinds was checked before,
    /// except the form of the name: that is the kind's own.
    fn validate_create(&self, cx: &Context<'_>, object: &Value) -> Vec<Cause>;

    /// What is wrong with an update; empty when nothing is.
    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> Vec<Cause>;

    /// What the client should hear although the write succeeds.
    fn warnings(&self, _cx: &Context<'_>, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Gives back what the object held. Runs in the transaction that removes it.
    fn prepare_delete(
        &self,
        _cx: &Context<'_>,
        _object: &Value,
        _effects: &mut Effects,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// One request, as a strategy sees it.
pub struct Context<'a> {
    /// Who asks.
    pub user: &'a User,
    /// What is asked; a patch arrives as [`Verb::Update`].
    pub verb: Verb,
    /// Which part of the object is written.
    pub subresource: Subresource,
    /// Whether anything will be stored.
    pub dry_run: DryRun,
    /// What happens to unknown fields (already applied when a strategy runs).
    pub field_validation: FieldValidation,
    /// The time of the request.
    pub now: Timestamp,
    /// The request's share of randomness; see [`Context::rng`].
    pub seed: u64,
    /// The store as this transaction finds it.
    pub view: &'a dyn View,
}

impl Context<'_> {
    /// A random source that depends on the request's seed alone. Every call starts the same sequence again:
    /// take it once for each decision.
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }
}

/// A snapshot of the store, including earlier writes of the same group commit.
///
/// `store_kind` is [`Resource::store_kind`]; one that begins with `_` holds bookkeeping (such as a node port that is
/// taken, one object per number) that is stored and restored like any object and never served.
pub trait View {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    fn get(&self, store_kind: &str, namespace: &str, name: &str) -> Option<&Value>;

    /// All objects of a kind in key order, or those of one namespace.
    fn list<'a>(
        &'a self,
        store_kind: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Value> + 'a>;

    /// How many objects a kind has.
    fn count(&self, store_kind: &str) -> usize {
        self.list(store_kind, None).count()
    }
}

/// What a write does beside storing its object, all in the same transaction.
#[derive(Debug, Default)]
pub struct Effects {
    /// Further operations in the order given. An operation on a key replaces an earlier one on the same key.
    pub operations: Vec<Operation>,
    /// Warnings found on the way.
    pub warnings: Vec<String>,
}

/// One further store operation.
#[derive(Debug, PartialEq)]
pub enum Operation {
    /// Stores an object. The registry fills in uid, creation time and resourceVersion; `metadata.name` and
    /// `metadata.namespace` say where it goes.
    Put {
        /// See [`Resource::store_kind`].
        store_kind: &'static str,
        /// The whole object, with apiVersion, kind and metadata.
        object: Value,
    },
    /// Removes an object; nothing happens if it is not there.
    Delete {
        /// See [`Resource::store_kind`].
        store_kind: &'static str,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// The object's name.
        name: String,
    },
}

impl Effects {
    /// Stores a further object.
    pub fn put(&mut self, store_kind: &'static str, object: Value) {
        self.operations.push(Operation::Put { store_kind, object });
    }

    /// Removes a further object.
    pub fn delete(&mut self, store_kind: &'static str, namespace: &str, name: &str) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.operations.push(Operation::Delete {
            store_kind,
            namespace,
            name,
        });
    }

    /// Adds a warning for the client.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// Who asks: a client certificate's common name and organizations, or the process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Groups the user is in.
    pub groups: Vec<String>,
}

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new object.
    Create,
    /// A change of an existing object, by PUT or PATCH.
    Update,
    /// A removal.
    Delete,
}

/// The part of an object that a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// The object itself; its status is kept.
    Main,
    /// `/status`: the status alone.
    Status,
    /// `namespaces/finalize`: the namespace's `spec.finalizers`.
    Finalize,
}

/// Whether a request is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// Stored.
    Off,
    /// `dryRun=All`: every check runs, nothing is stored.
    All,
}

/// What unknown and duplicate fields of a body do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped with a warning; the default.
    Warn,
    /// The request is refused.
    Strict,
}
