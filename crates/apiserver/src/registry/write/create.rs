//! A new object.

use serde_json::{Value, json};

use super::{Decoded, Outcome, SERVER_FIELDS, Write};
use crate::json;
use crate::registry::kinds::{FirstStatus, Generation, NAMESPACE};
use crate::registry::strategy::Effects;
use crate::registry::validate;
use crate::status::{Cause, CauseReason, Status};

/// How often a generated name may collide.
const NAME_ATTEMPTS: usize = 8;

impl Write<'_> {
    pub(super) fn create(&mut self, input: Decoded) -> Result<Outcome, Status> {
        self.warnings.extend(input.warnings);
        let mut object = self.stored(input.object);
        self.place(&mut object)?;
        if !json::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.name(&mut object)?;
        self.check_namespace(json::name(&object))?;
        self.begin(&mut object);
        let effects = self.prepare_create(&mut object)?;
        let warnings = self.strategy().warnings(&self.cx, &object, None);
        self.warnings.extend(warnings);
        if self.exists(json::name(&object)) {
            return Err(Status::already_exists(
                &self.kind().resource,
                json::name(&object),
            ));
        }
        self.take_effects(effects);
        Ok(Outcome::Created(
            self.transaction
                .put(self.kind().resource.store_kind, object),
        ))
    }

    /// The name given, or one made from `generateName`.
    fn name(&mut self, object: &mut Value) -> Result<(), Status> {
        if !json::name(object).is_empty() {
            return Ok(());
        }
        let prefix = json::text(object, "/metadata/generateName").to_owned();
        if prefix.is_empty() {
            let cause = Cause {
                reason: CauseReason::Required,
                field: "metadata.name".to_owned(),
                message: "Required value: name or generateName is required".to_owned(),
            };
            return Err(Status::invalid(&self.kind().resource, "", vec![cause]));
        }
        // A name has at most 63 bytes, as upstream's names.SimpleNameGenerator keeps it.
        let base: String = prefix.chars().take(58).collect();
        for _ in 0..NAME_ATTEMPTS {
            let name = format!("{base}{}", self.transaction.name_suffix());
            if !self.exists(&name) {
                json::metadata(object).insert("name".to_owned(), name.into());
                return Ok(());
            }
        }
        Err(Status::already_exists(&self.kind().resource, &prefix).retry_after(1))
    }

    fn exists(&self, name: &str) -> bool {
        self.cx
            .view
            .get(
                self.kind().resource.store_kind,
                &self.request.namespace,
                name,
            )
            .is_some()
    }

    /// Namespaced objects need a namespace that is there and stays.
    fn check_namespace(&self, name: &str) -> Result<(), Status> {
        let namespace = &self.request.namespace;
        if !self.kind().resource.is_namespaced() {
            return Ok(());
        }
        match self
            .cx
            .view
            .get(NAMESPACE.resource.store_kind, "", namespace)
        {
            None => Err(Status::not_found(&NAMESPACE.resource, namespace)),
            Some(found) if json::time(found, "/metadata/deletionTimestamp").is_some() => Err(
                Status::namespace_terminating(&self.kind().resource, name, namespace),
            ),
            Some(_) => Ok(()),
        }
    }

    /// What the server sets on every new object.
    fn begin(&mut self, object: &mut Value) {
        let (uid, now) = (self.transaction.uid(), json::seconds(self.cx.now));
        let metadata = json::metadata(object);
        for field in SERVER_FIELDS {
            metadata.shift_remove(field);
        }
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("generation");
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        if self.kind().generation != Generation::None {
            metadata.insert("generation".to_owned(), json!(1));
        }
        if self.kind().first_status == FirstStatus::Wiped
            && let Some(fields) = object.as_object_mut()
        {
            fields.shift_remove("status");
        }
    }

    fn prepare_create(&mut self, object: &mut Value) -> Result<Effects, Status> {
        let strategy = self.strategy();
        let mut effects = Effects::default();
        strategy.default(object);
        strategy.prepare_create(&self.cx, object, &mut effects)?;
        let resource = &self.kind().resource;
        let mut causes = strategy.validate_create(&self.cx, object);
        // The form of the name is the kind's own business.
        let metadata = validate::meta::validate_meta(object, resource.scope, |_| Vec::new());
        add_new(&mut causes, validate::causes(metadata));
        match causes.is_empty() {
            true => Ok(effects),
            false => Err(Status::invalid(resource, json::name(object), causes)),
        }
    }
}

/// Adds what is not there yet.
pub(super) fn add_new(causes: &mut Vec<Cause>, further: Vec<Cause>) {
    for cause in further {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
}
