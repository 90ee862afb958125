//! Every write as a pure function: the old object, the input, the options and a snapshot in; operations, an answer and
//! warnings, or a Status, out.

mod create;
mod delete;
mod update;

use daymark_store::{Plan, Snapshot};
use jiff::Timestamp;
use serde_json::Value;

use super::decode::Decoded;
use super::strategy::{
    Context, DryRun, Effects, FieldValidation, Strategy, Subresource, User, Verb,
};
use super::transaction::{SnapshotView, Transaction};
use super::{Entry, kinds::Kind};
use crate::json;
use crate::object::Object;
use crate::patch::Patch;
use crate::read::Filter;
use crate::status::Status;

pub(crate) use delete::{DeleteOptions, Propagation};

/// Who writes where, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Who asks.
    pub(crate) user: User,
    /// Empty for a cluster-scoped kind.
    pub(crate) namespace: String,
    /// The name in the URL; empty for a create and for a collection.
    pub(crate) name: String,
    /// Which part is written.
    pub(crate) subresource: Subresource,
    /// Whether it is stored.
    pub(crate) dry_run: DryRun,
    /// What unknown fields do.
    pub(crate) field_validation: FieldValidation,
    /// The time of the request.
    pub(crate) now: Timestamp,
    /// The request's randomness.
    pub(crate) seed: u64,
}

/// What is to be written.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// POST
    Create(Decoded),
    /// PUT
    Replace(Decoded),
    /// PATCH
    Patch(Patch),
    /// DELETE of one object.
    Delete(DeleteOptions),
    /// DELETE of all objects that a filter lets through.
    DeleteCollection(DeleteOptions, Filter),
}

impl Action {
    fn verb(&self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::Replace(_) | Self::Patch(_) => Verb::Update,
            Self::Delete(_) | Self::DeleteCollection(..) => Verb::Delete,
        }
    }
}

/// What came of a write.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What happened.
    pub(crate) outcome: Outcome,
    /// What the client should hear.
    pub(crate) warnings: Vec<String>,
}

/// What happened, with the object as it is stored.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It is new.
    Created(Object),
    /// It changed, or was already as wanted.
    Updated(Object),
    /// It is gone; this was its last state.
    Deleted(Object),
    /// It will go once its finalizers or its grace period allow.
    Deleting(Object),
    /// These are gone or will go.
    DeletedCollection(Vec<Object>),
}

impl Outcome {
    /// What a dry run answers: nothing was stored, so that the object has the version that it had, or none.
    fn unstamped(self, old: Option<&Object>) -> Self {
        let version = old.map(|old| json::text(old.value(), "/metadata/resourceVersion"));
        let unstamp = |object: Object| {
            let mut value = object.value().clone();
            let metadata = json::metadata(&mut value);
            match version {
                Some(version) => metadata.insert("resourceVersion".to_owned(), version.into()),
                None => metadata.shift_remove("resourceVersion"),
            };
            Object::new(value)
        };
        match self {
            Self::Created(object) => Self::Created(unstamp(object)),
            Self::Updated(object) => Self::Updated(unstamp(object)),
            Self::Deleting(object) => Self::Deleting(unstamp(object)),
            gone @ (Self::Deleted(_) | Self::DeletedCollection(_)) => gone,
        }
    }
}

/// Runs a write against a snapshot. `revision` is what its operations will get.
pub(crate) fn plan(
    entry: &Entry,
    request: &Request,
    action: &Action,
    snapshot: &Snapshot<Object>,
    revision: u64,
) -> Result<Plan<Object, Answer>, Status> {
    let view = SnapshotView(snapshot);
    let cx = Context {
        user: &request.user,
        verb: action.verb(),
        subresource: request.subresource,
        dry_run: request.dry_run,
        field_validation: request.field_validation,
        now: request.now,
        seed: request.seed,
        view: &view,
    };
    let mut write = Write {
        entry,
        request,
        cx,
        snapshot,
        transaction: Transaction::new(snapshot, revision, request.now, request.seed),
        warnings: Vec::new(),
    };
    let outcome = write.run(action)?;
    let outcome = match request.dry_run {
        DryRun::Off => outcome,
        DryRun::All => outcome.unstamped(write.old().as_ref()),
    };
    let ops = write.transaction.into_ops();
    Ok(Plan {
        ops,
        answer: Answer {
            outcome,
            warnings: write.warnings,
        },
    })
}

/// A write under way.
struct Write<'a> {
    entry: &'a Entry,
    request: &'a Request,
    cx: Context<'a>,
    snapshot: &'a Snapshot<Object>,
    transaction: Transaction<'a>,
    warnings: Vec<String>,
}

impl<'a> Write<'a> {
    fn run(&mut self, action: &Action) -> Result<Outcome, Status> {
        match action {
            Action::Create(input) => self.create(input.clone()),
            Action::Replace(input) => self.replace(input.clone()),
            Action::Patch(patch) => self.patch(patch),
            Action::Delete(options) => self.delete(options),
            Action::DeleteCollection(options, filter) => self.delete_collection(options, filter),
        }
    }

    fn kind(&self) -> &'static Kind {
        self.entry.kind
    }

    fn strategy(&self) -> &'a dyn Strategy {
        self.entry.strategy.as_ref()
    }

    fn store_kind(&self) -> &'static str {
        self.kind().resource.store_kind
    }

    /// The stored object that the request names.
    fn old(&self) -> Option<Object> {
        let Request {
            namespace, name, ..
        } = self.request;
        let key = daymark_store::Key::new(self.store_kind(), namespace.as_str(), name.as_str());
        self.snapshot
            .get(&key)
            .map(|entry| Object::clone(&entry.value))
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.kind().resource, &self.request.name)
    }

    /// An object of the request's version, as it is stored.
    fn stored(&self, object: Value) -> Value {
        match self.kind().renames {
            Some(renames) => renames.store(&object),
            None => object,
        }
    }

    fn take_effects(&mut self, mut effects: Effects) {
        self.warnings.append(&mut effects.warnings);
        self.transaction.extend(effects);
    }

    /// The body's namespace must be the URL's, and is filled in.
    fn place(&self, object: &mut Value) -> Result<(), Status> {
        let asked = json::namespace(object).to_owned();
        let here = &self.request.namespace;
        if !asked.is_empty() && asked != *here {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let metadata = json::metadata(object);
        match here.as_str() {
            "" => metadata.shift_remove("namespace"),
            here => metadata.insert("namespace".to_owned(), here.into()),
        };
        Ok(())
    }
}

/// Fields that only the server writes.
const SERVER_FIELDS: [&str; 4] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];
