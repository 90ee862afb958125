//! What the controller writes: status, the pool annotation, Events. Each is read again before it is written.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::{self, ObjectKey};
use daymark_model::ServiceKey;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::allocate::{Outcome, Usage};
use crate::clock;
use crate::events::{Events, Severity, shortened};

/// The annotation that names the pools of a Service's addresses, as MetalLB writes it.
const FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";
/// The condition of a Service that tells whether it has every address it asks for.
const ASSIGNED: &str = "daymark.io/AddressesAssigned";
/// Attempts to write an object that others write at the same time.
const ATTEMPTS: usize = 8;

/// Writes to the API.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: kube::Client,
    pub(super) events: Events,
    pub(super) class: Option<Arc<str>>,
}

impl Writer {
    /// Brings a Service's status in line with what it was given.
    pub(super) async fn assign(
        &self,
        key: &ServiceKey,
        outcome: &Outcome,
    ) -> Result<(), kube::Error> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        for attempt in 1.. {
            let Some(service) = api.get_opt(&key.name).await? else {
                return Ok(());
            };
            if !self.is_ours(&service) {
                return Ok(());
            }
            match self.write_once(&api, service, outcome).await {
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
                other => return other,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The rule of `model::audience::load_balancer`, asked again of the object itself.
    fn is_ours(&self, service: &Service) -> bool {
        let spec = service.spec.as_ref();
        let kind = spec.and_then(|spec| spec.type_.as_deref());
        let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
        kind == Some("LoadBalancer")
            && class == self.class.as_deref()
            && service.metadata.deletion_timestamp.is_none()
    }

    async fn write_once(
        &self,
        api: &Api<Service>,
        service: Service,
        outcome: &Outcome,
    ) -> Result<(), kube::Error> {
        let service = write_annotation(api, service, outcome).await?;
        let before = ingress_of(&service);
        let wanted = outcome.addresses();
        let condition = condition(&service, outcome);
        let known = conditions(&service)
            .find(|one| one.type_ == ASSIGNED)
            .cloned();
        if before == wanted && known.as_ref() == Some(&condition) {
            return Ok(());
        }
        let mut all: Vec<Condition> = conditions(&service)
            .filter(|one| one.type_ != ASSIGNED)
            .cloned()
            .collect();
        all.push(condition);
        let ingress: Vec<Value> = wanted
            .iter()
            .map(|ip| json!({ "ip": ip, "ipMode": "VIP" }))
            .collect();
        let patch = json!({
            "metadata": { "resourceVersion": service.metadata.resource_version },
            "status": { "loadBalancer": { "ingress": ingress }, "conditions": all },
        });
        api.patch_status(
            &service.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await?;
        let (writer, outcome) = (self.clone(), outcome.clone());
        let told = async move { writer.tell(&service, &before, &outcome).await };
        self.events.aside(told).await;
        Ok(())
    }

    /// Events with MetalLB's reasons, so that what reads those goes on working.
    async fn tell(&self, service: &Service, before: &[IpAddr], outcome: &Outcome) {
        let about = || service.object_ref(&());
        for (address, why) in &outcome.lost {
            let message = format!("{address} is no longer assigned: {why}");
            self.events
                .publish(about(), Severity::Warning, "ClearAssignment", message)
                .await;
        }
        let wanted = outcome.addresses();
        if wanted != before && !wanted.is_empty() {
            let message = format!("Assigned IP {wanted:?}");
            self.events
                .publish(about(), Severity::Normal, "IPAllocated", message)
                .await;
        }
        for (_, message) in few(&outcome.refused, MOST_EVENTS) {
            self.events
                .publish(about(), Severity::Warning, "AllocationFailed", message)
                .await;
        }
    }

    /// Says that nobody announces an address of the Service.
    pub(super) async fn not_advertised(
        &self,
        key: &ServiceKey,
        message: String,
    ) -> Result<(), kube::Error> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Some(service) = api.get_opt(&key.name).await? {
            let (events, about) = (self.events.clone(), service.object_ref(&()));
            let told = async move {
                events
                    .publish(about, Severity::Warning, "NotAdvertised", message)
                    .await;
            };
            self.events.aside(told).await;
        }
        Ok(())
    }

    /// Takes the annotation from a Service that is no longer of type LoadBalancer; the API server has emptied
    /// its status (kubernetes pkg/registry/core/service, `dropTypeDependentFields`).
    pub(super) async fn forget(&self, key: &ServiceKey) -> Result<(), kube::Error> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(service) = api.get_opt(&key.name).await? else {
            return Ok(());
        };
        let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
        if kind == Some("LoadBalancer") {
            return Ok(());
        }
        write_annotation(&api, service, &Outcome::default())
            .await
            .map(drop)
    }

    /// Writes `status` of a pool: how much of it is given, and what is wrong with it. An API server that serves
    /// no such subresource is left alone.
    pub(super) async fn report(
        &self,
        pool: &record::Pool,
        usage: Usage,
        faults: &[Fault],
    ) -> Result<(), kube::Error> {
        let api = pools(&self.client, &pool.key);
        let patch = json!({ "status": {
            "assignedIPv4": usage.assigned_v4,
            "assignedIPv6": usage.assigned_v6,
            "availableIPv4": i64::try_from(usage.available_v4).unwrap_or(i64::MAX),
            "availableIPv6": i64::try_from(usage.available_v6).unwrap_or(i64::MAX),
            "conditions": [pool_condition(pool, faults)],
        }});
        match api
            .patch_status(
                &pool.key.name,
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
        {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405 | 422) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Says what is wrong with a pool or advertisement.
    pub(super) async fn warn(&self, kind: &str, key: &ObjectKey, uid: &str, faults: &[Fault]) {
        let about = ObjectReference {
            api_version: Some("metallb.io/v1beta1".to_owned()),
            kind: Some(kind.to_owned()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let warnings = few(faults, MOST_WARNINGS).map(|(fault, message)| (fault.reason, message));
        let (events, warnings) = (self.events.clone(), warnings.collect::<Vec<_>>());
        let told = async move {
            for (reason, message) in warnings {
                let about = about.clone();
                events
                    .publish(about, Severity::Warning, reason, message)
                    .await;
            }
        };
        self.events.aside(told).await;
    }
}

/// Something wrong with a pool or advertisement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    /// One word.
    pub(super) reason: &'static str,
    /// Field and remedy.
    pub(super) message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(out)
    }
}

/// The first of these with what is told of them; of the last also how many more there are.
fn few<T: fmt::Display>(all: &[T], most: usize) -> impl Iterator<Item = (&T, String)> {
    let more = all.len().saturating_sub(most);
    let first = all.iter().take(most).enumerate();
    first.map(move |(number, one)| match more {
        1.. if number + 1 == most => (one, format!("{one}; and so {more} more")),
        _ => (one, one.to_string()),
    })
}

fn pools(client: &kube::Client, key: &ObjectKey) -> Api<DynamicObject> {
    let kind = ApiResource {
        group: "metallb.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "metallb.io/v1beta1".to_owned(),
        kind: "IPAddressPool".to_owned(),
        plural: "ipaddresspools".to_owned(),
    };
    Api::namespaced_with(client.clone(), &key.namespace, &kind)
}

fn pool_condition(pool: &record::Pool, faults: &[Fault]) -> Condition {
    let message = faults
        .iter()
        .map(|fault| fault.message.as_str())
        .collect::<Vec<_>>()
        .join("; ");
    Condition {
        type_: "daymark.io/Valid".to_owned(),
        status: if faults.is_empty() { "True" } else { "False" }.to_owned(),
        reason: faults
            .first()
            .map_or("Valid", |fault| fault.reason)
            .to_owned(),
        message: shortened(message),
        observed_generation: Some(pool.generation),
        last_transition_time: Time(clock::timestamp()),
    }
}

async fn write_annotation(
    api: &Api<Service>,
    service: Service,
    outcome: &Outcome,
) -> Result<Service, kube::Error> {
    let names: Vec<&str> = outcome
        .pools()
        .into_iter()
        .map(|pool| &*pool.name)
        .collect();
    let wanted = (!names.is_empty()).then(|| names.join(","));
    if service.annotations().get(FROM_POOL) == wanted.as_ref() {
        return Ok(service);
    }
    let patch = json!({ "metadata": {
        "resourceVersion": service.metadata.resource_version,
        "annotations": { FROM_POOL: wanted },
    }});
    api.patch(
        &service.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
}

fn ingress_of(service: &Service) -> Vec<IpAddr> {
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    ingress
        .iter()
        .filter_map(|one| one.ip.as_deref()?.parse().ok())
        .collect()
}

fn conditions(service: &Service) -> impl Iterator<Item = &Condition> {
    service
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten()
}

fn condition(service: &Service, outcome: &Outcome) -> Condition {
    let status = if outcome.refused.is_empty() {
        "True"
    } else {
        "False"
    };
    let known = conditions(service).find(|one| one.type_ == ASSIGNED && one.status == status);
    Condition {
        type_: ASSIGNED.to_owned(),
        status: status.to_owned(),
        reason: outcome
            .refused
            .first()
            .map_or("Assigned", |refusal| refusal.reason())
            .to_owned(),
        message: shortened(
            outcome
                .refused
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        ),
        observed_generation: service.metadata.generation,
        // The API keeps whole seconds; a fraction would make every comparison fail.
        last_transition_time: known
            .map_or_else(whole_second, |known| known.last_transition_time.clone()),
    }
}

/// How many refusals of one Service are Events of their own: one an address family, as a rule. An annotation may name sixteen
/// addresses that cannot be given.
const MOST_EVENTS: usize = 3;
/// And how many faults of one pool or advertisement: its list of addresses may name thousands that are none. The condition of a pool has the
/// first of them too.
pub(super) const MOST_WARNINGS: usize = 8;

fn whole_second() -> Time {
    let now = clock::timestamp();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
