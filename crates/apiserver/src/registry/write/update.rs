//! A change of an object, by PUT or PATCH, of the object or of one of its subresources.

use serde_json::{Value, json};

use super::create::add_new;
use super::{Decoded, Outcome, SERVER_FIELDS, Write};
use crate::json;
use crate::object::Object;
use crate::patch::Patch;
use crate::registry::decode::decode;
use crate::registry::kinds::{Generation, PutMissing, Removal, Strategic, Unversioned};
use crate::registry::strategy::{Effects, Subresource};
use crate::registry::validate;
use crate::schema::Schemas;
use crate::schema::body::Parsed;
use crate::status::{Cause, CauseReason, Status};

impl Write<'_> {
    pub(super) fn replace(&mut self, input: Decoded) -> Result<Outcome, Status> {
        match self.old() {
            Some(old) => self.update(&old, input),
            None if self.creates_on_put() => {
                self.check_name(&input.object)?;
                self.create(input)
            }
            None => Err(self.not_found()),
        }
    }

    pub(super) fn patch(&mut self, patch: &Patch) -> Result<Outcome, Status> {
        let old = self.old().ok_or_else(|| self.not_found())?;
        let kind = self.kind();
        if matches!(patch, Patch::Strategic(_)) && kind.strategic == Strategic::Refused {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json",
            ));
        }
        let shown = match kind.renames {
            Some(renames) => renames.show(old.value()),
            None => old.value().clone(),
        };
        let schemas = Schemas::all();
        let root = schemas
            .root(kind.definition)
            .expect("every kind has a schema");
        let value = patch.apply(&shown, schemas, root)?;
        let parsed = Parsed {
            value,
            duplicates: Vec::new(),
        };
        let input = decode(kind, parsed, self.request.field_validation)?;
        self.update(&old, input)
    }

    fn update(&mut self, old: &Object, input: Decoded) -> Result<Outcome, Status> {
        self.warnings.extend(input.warnings);
        let mut object = self.stored(input.object);
        self.check_name(&object)?;
        self.place(&mut object)?;
        self.check_version(&object, old.value())?;
        self.keep(&mut object, old.value());
        let effects = self.prepare_update(&mut object, old.value())?;
        let warnings = self
            .strategy()
            .warnings(&self.cx, &object, Some(old.value()));
        self.warnings.extend(warnings);
        if is_gone(self.kind().removal, &object) {
            self.take_effects(effects);
            return self.remove(object);
        }
        if same(&object, old.value()) {
            return Ok(Outcome::Updated(old.clone()));
        }
        self.count_generation(&mut object, old.value());
        self.take_effects(effects);
        Ok(Outcome::Updated(
            self.transaction
                .put(self.kind().resource.store_kind, object),
        ))
    }

    fn creates_on_put(&self) -> bool {
        self.kind().put_missing == PutMissing::Creates
            && self.request.subresource == Subresource::Main
    }

    /// The name in the body must be the URL's.
    fn check_name(&self, object: &Value) -> Result<(), Status> {
        let (found, wanted) = (json::name(object), &self.request.name);
        if found != wanted {
            return Err(Status::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({wanted})"
            )));
        }
        Ok(())
    }

    /// uid and resourceVersion of the body are preconditions.
    fn check_version(&self, object: &Value, old: &Value) -> Result<(), Status> {
        let kind = self.kind();
        let (uid, stored) = (
            json::text(object, "/metadata/uid"),
            json::text(old, "/metadata/uid"),
        );
        if !uid.is_empty() && uid != stored {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"
            );
            return Err(Status::conflict(&kind.resource, &self.request.name, why));
        }
        let version = json::text(object, "/metadata/resourceVersion");
        if version.is_empty() && kind.unversioned == Unversioned::Refused {
            let cause = Cause {
                reason: CauseReason::Invalid,
                field: "metadata.resourceVersion".to_owned(),
                message: "Invalid value: 0: must be specified for an update".to_owned(),
            };
            return Err(Status::invalid(
                &kind.resource,
                &self.request.name,
                vec![cause],
            ));
        }
        match version.is_empty() || version == json::text(old, "/metadata/resourceVersion") {
            true => Ok(()),
            false => Err(Status::modified(&kind.resource, &self.request.name)),
        }
    }

    /// What this request cannot change stays as it is.
    fn keep(&self, object: &mut Value, old: &Value) {
        let metadata = json::metadata(object);
        for field in
            SERVER_FIELDS
                .into_iter()
                .chain(["generateName", "generation", "resourceVersion"])
        {
            json::carry(field, old.pointer(&format!("/metadata/{field}")), metadata);
        }
        let written = match self.request.subresource {
            Subresource::Main => None,
            Subresource::Status => Some("status"),
            Subresource::Finalize => Some("spec"),
        };
        let fields = object
            .as_object_mut()
            .expect("metadata was just read from it");
        match written {
            None if self.kind().resource.serves("status") => {
                json::carry("status", old.get("status"), fields)
            }
            None => {}
            Some(written) => {
                let mut kept = old.as_object().cloned().unwrap_or_default();
                json::carry(written, fields.get(written), &mut kept);
                json::carry("metadata", fields.get("metadata"), &mut kept);
                *fields = kept;
            }
        }
    }

    fn prepare_update(&mut self, object: &mut Value, old: &Value) -> Result<Effects, Status> {
        let strategy = self.strategy();
        let mut effects = Effects::default();
        strategy.default(object);
        strategy.prepare_update(&self.cx, object, old, &mut effects)?;
        let mut causes = validate::causes(validate::meta::validate_meta_update(object, old));
        add_new(&mut causes, strategy.validate_update(&self.cx, object, old));
        match causes.is_empty() {
            true => Ok(effects),
            false => Err(Status::invalid(
                &self.kind().resource,
                &self.request.name,
                causes,
            )),
        }
    }

    fn count_generation(&self, object: &mut Value, old: &Value) {
        let counts = match self.kind().generation {
            Generation::None => false,
            Generation::Spec => content(object) != content(old),
            Generation::Content => {
                content(object) != content(old)
                    || object.pointer("/metadata/labels") != old.pointer("/metadata/labels")
            }
        };
        if counts {
            let before = old
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            json::metadata(object).insert("generation".to_owned(), json!(before + 1));
        }
    }
}

/// Everything but apiVersion, kind, metadata and status.
fn content(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    let mut content: Vec<_> = fields
        .filter(|(key, _)| !["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()))
        .collect();
    content.sort_by_key(|(key, _)| *key);
    content
}

/// Whether nothing changed, so that no version is used up. The version itself was carried over from the old object.
fn same(object: &Value, old: &Value) -> bool {
    object == old
}

/// Whether an object that is being deleted has nothing left that holds it.
pub(super) fn is_gone(removal: Removal, object: &Value) -> bool {
    let deleting = object.pointer("/metadata/deletionTimestamp").is_some();
    let free = json::list(object, "/metadata/finalizers").is_empty();
    let grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let released = match removal {
        Removal::Direct => true,
        Removal::Graceful => grace == 0,
        Removal::Emptied => json::list(object, "/spec/finalizers").is_empty(),
    };
    deleting && free && released
}
