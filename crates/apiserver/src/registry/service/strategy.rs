//! The Service rules, as the registry calls them.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::allocate::{self, Refusal};
use super::validate;
use super::view::{Service, Type};
use super::{defaults, normalise, warnings};
use crate::registry::alloc::port::DEFAULT_RANGE;
use crate::registry::alloc::reconcile::release_all;
use crate::registry::validate::causes;
use crate::registry::{Context, Effects, Resource, Strategy, Subresource};
use crate::status::{Cause, Reason, Status};

/// The strategy of Services.
pub struct ServiceStrategy {
    resource: &'static Resource,
    node_ports: RangeInclusive<u16>,
}

impl ServiceStrategy {
    /// Services under that row, with node ports 30000 to 32767.
    pub fn new(resource: &'static Resource) -> Self {
        Self {
            resource,
            node_ports: DEFAULT_RANGE,
        }
    }

    /// The same with another range of node ports.
    pub fn with_node_ports(mut self, range: RangeInclusive<u16>) -> Self {
        self.node_ports = range;
        self
    }

    fn refuse(&self, object: &Value, refusal: Refusal) -> Status {
        match refusal {
            Refusal::Invalid(wrong) => {
                Status::invalid(self.resource, Service::new(object).name(), causes(wrong))
            }
            Refusal::Internal(why) => Status::internal(why),
            Refusal::Plain(message) => Status {
                code: 500,
                reason: Reason::InternalError,
                message,
                details: None,
            },
        }
    }
}

impl Strategy for ServiceStrategy {
    fn resource(&self) -> &'static Resource {
        self.resource
    }

    fn default(&self, object: &mut Value) {
        defaults::apply(object);
    }

    fn prepare_create(
        &self,
        cx: &Context<'_>,
        object: &mut Value,
        effects: &mut Effects,
    ) -> Result<(), Status> {
        object["status"] = json!({ "loadBalancer": {} });
        normalise::sync_created(object);
        allocate::create(
            object,
            cx.view,
            self.node_ports.clone(),
            &mut cx.rng(),
            effects,
        )
        .map_err(|refusal| self.refuse(object, refusal))
    }

    fn prepare_update(
        &self,
        cx: &Context<'_>,
        object: &mut Value,
        old: &Value,
        effects: &mut Effects,
    ) -> Result<(), Status> {
        if cx.subresource != Subresource::Main {
            return Ok(());
        }
        normalise::keep_allocated(object, old);
        normalise::drop_unused(object, old);
        normalise::sync_updated(object, old);
        if !Service::new(object).is(Type::LoadBalancer) && object["status"].is_object() {
            object["status"]["loadBalancer"] = json!({});
        }
        allocate::update(
            object,
            old,
            cx.view,
            self.node_ports.clone(),
            &mut cx.rng(),
            effects,
        )
        .map_err(|refusal| self.refuse(object, refusal))
    }

    fn validate_create(&self, _cx: &Context<'_>, object: &Value) -> Vec<Cause> {
        causes(validate::validate(object, None))
    }

    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> Vec<Cause> {
        causes(match cx.subresource {
            Subresource::Status => validate::validate_status(object, old),
            _ => validate::validate(object, Some(old)),
        })
    }

    fn warnings(&self, _cx: &Context<'_>, object: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::warnings(object)
    }

    fn prepare_delete(
        &self,
        cx: &Context<'_>,
        object: &Value,
        effects: &mut Effects,
    ) -> Result<(), Status> {
        release_all(cx.view, object, effects);
        Ok(())
    }
}
