//! The watches that feed the controllers: one of each kind.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, DynamicObject};
use kube::runtime::utils::{Backoff, WatchStreamExt};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kinds::Kinds;

/// What one of the watches says.
pub(crate) enum Seen {
    Pod(Box<Event<Pod>>),
    Service(Box<Event<Service>>),
    Slice(Event<EndpointSlice>),
    Node(Box<Event<Node>>),
    Lease(Event<Lease>),
    Namespace(Event<Namespace>),
    Cidr(Event<ServiceCIDR>),
    /// Another kind, by its index in [`Kinds`]: the metadata alone, for who owns what.
    Other(usize, Event<DynamicObject>),
    /// A watch failed and is tried again.
    Broken(&'static str, Box<watcher::Error>),
}

/// What the watch of Leases is called.
pub(crate) const LEASES: &str = "leases";

/// A stream of what the watches say.
pub(crate) type Watches = Pin<Box<dyn Stream<Item = Seen> + Send>>;

/// Kinds that own nothing and are owned by nothing: they come and go too often to be followed for that.
const UNFOLLOWED: [&str; 2] = ["Event", "IPAddress"];

/// Starts all watches.
pub(crate) fn all(client: &Client, kinds: &Kinds) -> Watches {
    let mut streams = vec![
        typed("pods", client, |event| Seen::Pod(Box::new(event))),
        typed("services", client, |event| Seen::Service(Box::new(event))),
        typed("endpointslices", client, Seen::Slice),
        typed("nodes", client, |event| Seen::Node(Box::new(event))),
        typed(LEASES, client, Seen::Lease),
        typed("namespaces", client, Seen::Namespace),
        typed("servicecidrs", client, Seen::Cidr),
    ];
    streams.extend(others(kinds).map(|index| dynamic(client, kinds, index)));
    stream::select_all(streams).boxed()
}

/// The kinds that have no type here.
pub(crate) fn others(kinds: &Kinds) -> impl Iterator<Item = usize> {
    let typed = [
        kinds.of::<Pod>(),
        kinds.of::<Service>(),
        kinds.of::<EndpointSlice>(),
        kinds.of::<Node>(),
        kinds.of::<Lease>(),
        kinds.of::<Namespace>(),
        kinds.of::<ServiceCIDR>(),
    ];
    let unfollowed = |kind: &str| UNFOLLOWED.contains(&kind);
    let followed = kinds
        .all()
        .filter(move |(_, kind)| !unfollowed(&kind.resource.kind));
    followed
        .map(|(index, _)| index)
        .filter(move |index| !typed.contains(&Some(*index)))
}

fn typed<K>(name: &'static str, client: &Client, seen: fn(Event<K>) -> Seen) -> Watches
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watch = watcher::watcher(Api::<K>::all(client.clone()), Config::default())
        .backoff(Retry::default());
    watch
        .map(move |event| event.map_or_else(|error| Seen::Broken(name, Box::new(error)), seen))
        .boxed()
}

fn dynamic(client: &Client, kinds: &Kinds, index: usize) -> Watches {
    let Some(kind) = kinds.get(index) else {
        return stream::empty().boxed();
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
    let watch = watcher::watcher(api, Config::default()).backoff(Retry::default());
    let thin = |event: Event<DynamicObject>| match event {
        Event::Apply(object) => Event::Apply(without_data(object)),
        Event::InitApply(object) => Event::InitApply(without_data(object)),
        Event::Delete(object) => Event::Delete(without_data(object)),
        other => other,
    };
    let seen = move |event: Result<_, watcher::Error>| match event {
        Ok(event) => Some(Seen::Other(index, thin(event))),
        Err(error) => Some(Seen::Broken("another kind", Box::new(error))),
    };
    watch
        .filter_map(move |event| future::ready(seen(event)))
        .boxed()
}

fn without_data(mut object: DynamicObject) -> DynamicObject {
    object.data = Value::Null;
    object
}

const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest time between two attempts of a watch.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long to wait before a failed watch is tried again: from 50 ms to 5 s, doubling. One process watches, so there
/// is no crowd to spread out.
struct Retry(Duration);

impl Default for Retry {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(LAST_WAIT);
        Some(wait)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.0 = FIRST_WAIT;
    }
}
