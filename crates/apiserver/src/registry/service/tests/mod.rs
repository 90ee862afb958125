//! Services through all steps, against a store in a map: each row is an input with the errors or the object expected.

mod change;
mod create;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ServiceStrategy;
use crate::registry::alloc::reconcile::SERVICES;
use crate::registry::alloc::testing::Memory;
use crate::registry::alloc::{IP_ADDRESSES, NODE_PORTS};
use crate::registry::{
    Context, DryRun, Effects, FieldValidation, Resource, Scope, Strategy, Subresource, User, Verb,
    View,
};
use crate::status::Status;

static ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    scope: Scope::Namespaced,
    subresources: &["status"],
    store_kind: SERVICES,
};

/// A cluster in a map, and the Service strategy in front of it.
struct Cluster {
    memory: Memory,
    seed: u64,
}

impl Cluster {
    fn dual() -> Self {
        Self {
            memory: Memory::with_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]),
            seed: 1,
        }
    }

    fn single() -> Self {
        Self {
            memory: Memory::with_cidrs(&["10.96.0.0/16"]),
            seed: 1,
        }
    }

    fn run(
        &mut self,
        verb: Verb,
        subresource: Subresource,
        rules: impl FnOnce(&ServiceStrategy, &Context<'_>, &mut Effects) -> Result<Value, Status>,
    ) -> Result<(Value, Vec<String>), Status> {
        self.seed += 1;
        let strategy = ServiceStrategy::new(&ROW);
        let user = User {
            name: "test".to_owned(),
            groups: Vec::new(),
        };
        let cx = Context {
            user: &user,
            verb,
            subresource,
            dry_run: DryRun::Off,
            field_validation: FieldValidation::Strict,
            now: Timestamp::UNIX_EPOCH,
            seed: self.seed,
            view: &self.memory,
        };
        let mut effects = Effects::default();
        let object = rules(&strategy, &cx, &mut effects)?;
        let warnings = strategy.warnings(&cx, &object, None);
        self.memory.apply(effects);
        self.memory.put(SERVICES, object.clone());
        Ok((object, warnings))
    }

    fn create(&mut self, name: &str, spec: Value) -> Result<(Value, Vec<String>), Status> {
        let mut object = json!({ "metadata": { "namespace": "ns", "name": name }, "spec": spec });
        self.run(Verb::Create, Subresource::Main, |strategy, cx, effects| {
            strategy.default(&mut object);
            strategy.prepare_create(cx, &mut object, effects)?;
            refuse(name, strategy.validate_create(cx, &object))?;
            Ok(object)
        })
    }

    fn update(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<(Value, Vec<String>), Status> {
        self.write(name, Subresource::Main, change)
    }

    fn write(
        &mut self,
        name: &str,
        subresource: Subresource,
        change: impl FnOnce(&mut Value),
    ) -> Result<(Value, Vec<String>), Status> {
        let old = self
            .memory
            .get(SERVICES, "ns", name)
            .expect("created before")
            .clone();
        let mut object = old.clone();
        change(&mut object);
        self.run(Verb::Update, subresource, |strategy, cx, effects| {
            strategy.default(&mut object);
            strategy.prepare_update(cx, &mut object, &old, effects)?;
            refuse(name, strategy.validate_update(cx, &object, &old))?;
            Ok(object)
        })
    }

    fn delete(&mut self, name: &str) {
        let old = self
            .memory
            .get(SERVICES, "ns", name)
            .expect("created before")
            .clone();
        self.run(Verb::Delete, Subresource::Main, |strategy, cx, effects| {
            strategy.prepare_delete(cx, &old, effects)?;
            Ok(old)
        })
        .expect("a delete gives everything back");
    }

    fn held(&self) -> (usize, usize) {
        (
            self.memory.names(IP_ADDRESSES).len(),
            self.memory.names(NODE_PORTS).len(),
        )
    }
}

fn refuse(name: &str, causes: Vec<crate::status::Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(&ROW, name, causes))
    }
}

/// The message after `Service "web" is invalid: `, or the whole one.
fn tail(result: Result<(Value, Vec<String>), Status>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(status) => status
            .message
            .trim_start_matches("Service \"web\" is invalid: ")
            .to_owned(),
    }
}

fn port(number: u16) -> Value {
    json!([{ "port": number }])
}
