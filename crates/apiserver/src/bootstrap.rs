//! The objects that are there from the start, and what the server keeps doing on its own.
//!
//! - the namespaces `default`, `kube-system`, `kube-public` and `kube-node-lease`;
//! - the ServiceCIDR `kubernetes`, ready;
//! - the Service `default/kubernetes` with its IPAddress, and its EndpointSlice as long as somebody can reach it.
//!
//! What is missing is made again within ten seconds. Events are dropped an hour after they last happened.

use std::net::IpAddr;

use daymark_store::{Plan, Snapshot};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::json;
use crate::object::Object;
use crate::registry::alloc::address::DEFAULT_CIDR;
use crate::registry::alloc::reconcile::reconcile;
use crate::registry::service::bootstrap as service;
use crate::registry::strategy::Effects;
use crate::registry::transaction::SnapshotView;
use crate::registry::transaction::Transaction;
use crate::registry::{View, kinds, validate};
use crate::server::Config;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// How long an Event is kept after it last happened, as upstream.
const EVENT_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// The most Events dropped in one transaction.
const EVENT_BATCH: usize = 500;

/// Checks the networks for Services: the rules of a ServiceCIDR, and an address for the server itself.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    let cidrs: Vec<&str> = config.service_cidrs.iter().map(String::as_str).collect();
    let object = service::service_cidr(&cidrs, Timestamp::UNIX_EPOCH);
    if let Some(wrong) = validate::validate_service_cidr(&object, None).first() {
        return Err(wrong.body());
    }
    match service::kubernetes_address(&cidrs) {
        Some(_) => Ok(()),
        None => Err("the first network has no usable address".to_owned()),
    }
}

/// The networks that the store has, and that stay; `None` before the first start.
pub(crate) fn stored_networks(snapshot: &Snapshot<Object>) -> Option<Vec<String>> {
    let view = SnapshotView(snapshot);
    let stored = view.get(kinds::SERVICE_CIDR.resource.store_kind, "", DEFAULT_CIDR)?;
    let cidrs = json::texts(stored, "/spec/cidrs").into_iter();
    Some(cidrs.map(str::to_owned).collect())
}

/// Makes what is missing. Nothing is written when nothing is.
pub(crate) fn ensure(
    config: &Config,
    now: Timestamp,
    seed: u64,
    snapshot: &Snapshot<Object>,
    revision: u64,
) -> Plan<Object, ()> {
    let view = SnapshotView(snapshot);
    let mut effects = Effects::default();
    for name in NAMESPACES {
        put_missing(
            &view,
            &mut effects,
            kinds::NAMESPACE.resource.store_kind,
            namespace(name),
        );
    }
    // The networks are fixed once the store has them.
    let stored = view.get(kinds::SERVICE_CIDR.resource.store_kind, "", DEFAULT_CIDR);
    let cidrs: Vec<&str> = match stored {
        Some(stored) => json::texts(stored, "/spec/cidrs"),
        None => config.service_cidrs.iter().map(String::as_str).collect(),
    };
    let cidr = service::service_cidr(&cidrs, now);
    put_missing(
        &view,
        &mut effects,
        kinds::SERVICE_CIDR.resource.store_kind,
        cidr,
    );
    if let Some(address) = service::kubernetes_address(&cidrs) {
        kubernetes(&view, &mut effects, config, address);
    }
    let mut transaction = Transaction::new(snapshot, revision, now, seed);
    transaction.extend(effects);
    Plan {
        ops: transaction.into_ops(),
        answer: (),
    }
}

/// Adds the IPAddresses and node ports that Services hold and nobody wrote down, and frees those that none
/// holds. The answer is what two Services claim.
pub(crate) fn take_stock(
    now: Timestamp,
    seed: u64,
    snapshot: &Snapshot<Object>,
    revision: u64,
) -> Plan<Object, Vec<String>> {
    let effects = reconcile(&SnapshotView(snapshot));
    let answer = effects.warnings.clone();
    let mut transaction = Transaction::new(snapshot, revision, now, seed);
    transaction.extend(effects);
    Plan {
        ops: transaction.into_ops(),
        answer,
    }
}

/// Drops Events that are over.
pub(crate) fn expire_events(
    now: Timestamp,
    snapshot: &Snapshot<Object>,
    revision: u64,
) -> Plan<Object, usize> {
    let kind = kinds::EVENT.resource.store_kind;
    let mut transaction = Transaction::new(snapshot, revision, now, 0);
    let entries = snapshot
        .range(kind, None, None)
        .map(|(_, entry)| entry.value.value());
    let over: Vec<&Value> = entries
        .filter(|event| last_seen(event) + EVENT_LIFE < now)
        .take(EVENT_BATCH)
        .collect();
    for event in &over {
        transaction.delete(kind, (*event).clone());
    }
    Plan {
        answer: over.len(),
        ops: transaction.into_ops(),
    }
}

fn last_seen(event: &Value) -> Timestamp {
    let pointers = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
        "/metadata/creationTimestamp",
    ];
    pointers
        .iter()
        .filter_map(|pointer| json::time(event, pointer))
        .max()
        .unwrap_or(Timestamp::MIN)
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    })
}

fn put_missing(view: &dyn View, effects: &mut Effects, store_kind: &'static str, object: Value) {
    if view
        .get(store_kind, json::namespace(&object), json::name(&object))
        .is_none()
    {
        effects.put(store_kind, object);
    }
}

/// The Service of the server itself, and the slice that leads to it: written again when the addresses changed.
fn kubernetes(view: &dyn View, effects: &mut Effects, config: &Config, address: IpAddr) {
    let (service, ip_address) = service::kubernetes_service(address, config.port);
    put_missing(view, effects, kinds::SERVICE.resource.store_kind, service);
    put_missing(
        view,
        effects,
        kinds::IP_ADDRESS.resource.store_kind,
        ip_address,
    );
    let mut slice = service::kubernetes_slice(address, &config.advertise, config.port);
    if json::list(&slice, "/endpoints").is_empty() {
        return;
    }
    let kind = kinds::ENDPOINT_SLICE.resource.store_kind;
    let old = view.get(kind, json::namespace(&slice), json::name(&slice));
    if old.is_some_and(|old| {
        ["endpoints", "ports"]
            .iter()
            .all(|part| old.get(part) == slice.get(part))
    }) {
        return;
    }
    let generation = old
        .and_then(|old| old.pointer("/metadata/generation"))
        .and_then(Value::as_i64)
        .unwrap_or(0);
    json::metadata(&mut slice).insert("generation".to_owned(), json!(generation + 1));
    effects.put(kind, slice);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use daymark_store::{Key, Op, Options, Store};

    use super::*;
    use crate::ApiServer;

    #[test]
    fn what_services_hold_is_taken_even_if_only_the_services_were_imported() {
        let store: Store<Object> = Store::open(Options::in_memory()).unwrap();
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"],
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30123}],
            },
        });
        let put = move |_: &Snapshot<Object>, _: u64| {
            let key = Key::new("services", "default", "web");
            let value = Object::new(service);
            Ok::<_, Infallible>(Plan {
                ops: vec![Op::Put { key, value }],
                answer: (),
            })
        };
        store.transact(put).unwrap();

        let server = ApiServer::over(store, Config::default()).unwrap();

        let snapshot = server.store().snapshot();
        let view = SnapshotView(&snapshot);
        let address = view.get(kinds::IP_ADDRESS.resource.store_kind, "", "10.96.0.77");
        assert_eq!(address.unwrap()["spec"]["parentRef"]["name"], "web");
        assert!(
            view.get(crate::registry::alloc::NODE_PORTS, "", "30123")
                .is_some()
        );
    }
}
