//! Spreading the endpoints of one Service and family over slices, with few and small writes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::Groups;

/// The ports of a slice in an order that does not depend on the Service's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortKey(Vec<Port>);

/// Name, protocol, number and application protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port(Option<String>, Option<String>, Option<i32>, Option<String>);

impl PortKey {
    pub(super) fn new(ports: &[EndpointPort]) -> Self {
        let mut key: Vec<Port> = ports
            .iter()
            .cloned()
            .map(|port| Port(port.name, port.protocol, port.port, port.app_protocol))
            .collect();
        key.sort();
        Self(key)
    }
}

/// What makes an endpoint the same one although its conditions change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    addresses: Vec<String>,
    hostname: Option<String>,
    target: (Option<String>, Option<String>),
}

impl Identity {
    fn of(endpoint: &Endpoint) -> Self {
        let mut addresses = endpoint.addresses.clone();
        addresses.sort();
        let target = endpoint
            .target_ref
            .as_ref()
            .map(|target| (target.namespace.clone(), target.name.clone()));
        Self {
            addresses,
            hostname: endpoint.hostname.clone(),
            target: target.unwrap_or_default(),
        }
    }
}

/// The labels of a slice.
pub(super) type Labels = BTreeMap<String, String>;

/// What becomes of a family's slices.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) creates: Vec<(Vec<EndpointPort>, Vec<Endpoint>)>,
    pub(super) updates: Vec<(Arc<EndpointSlice>, Vec<EndpointPort>, Vec<Endpoint>)>,
    pub(super) deletes: Vec<Arc<EndpointSlice>>,
}

/// Packs all groups of a family.
pub(super) fn pack(
    existing: Vec<Arc<EndpointSlice>>,
    groups: Groups,
    labels: &Labels,
    max: usize,
) -> Change {
    let mut by_ports: BTreeMap<PortKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let count = existing.len();
    for slice in existing {
        let key = PortKey::new(slice.ports.as_deref().unwrap_or_default());
        by_ports.entry(key).or_default().push(slice);
    }
    let mut change = Change::default();
    for (key, (ports, endpoints)) in groups {
        let slices = by_ports.remove(&key).unwrap_or_default();
        pack_group(slices, &ports, endpoints, labels, max, &mut change);
    }
    change.deletes.extend(by_ports.into_values().flatten());
    keep_placeholder(&mut change, count, labels);
    reuse_deleted(&mut change);
    change
}

/// One group, in three steps:
/// 1. endpoints that are not wanted any more leave their slice, changed ones are replaced in place;
/// 2. new ones go into slices that are written anyway, the fullest first;
/// 3. the rest goes into the one untouched slice that it fills best, else into new slices.
fn pack_group(
    slices: Vec<Arc<EndpointSlice>>,
    ports: &[EndpointPort],
    wanted: Vec<Endpoint>,
    labels: &Labels,
    max: usize,
    change: &mut Change,
) {
    let mut wanted: BTreeMap<Identity, Endpoint> =
        wanted.into_iter().map(|e| (Identity::of(&e), e)).collect();
    let (mut written, mut untouched) = (Vec::new(), Vec::new());
    for slice in slices {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<Endpoint> = old
            .iter()
            .filter_map(|e| wanted.remove(&Identity::of(e)))
            .collect();
        if kept != old && kept.is_empty() {
            change.deletes.push(slice);
        } else if kept != old || slice.metadata.labels.as_ref() != Some(labels) {
            written.push((slice, kept));
        } else {
            untouched.push(slice);
        }
    }
    let mut rest = wanted.into_values();
    written.sort_by_key(|(_, endpoints)| Reverse(endpoints.len()));
    for (_, endpoints) in &mut written {
        let room = max.saturating_sub(endpoints.len());
        endpoints.extend(rest.by_ref().take(room));
    }
    while rest.len() > 0 {
        match take_fitting(&mut untouched, rest.len(), max) {
            Some((slice, mut endpoints)) => {
                endpoints.extend(rest.by_ref());
                written.push((slice, endpoints));
            }
            None => change
                .creates
                .push((ports.to_vec(), rest.by_ref().take(max).collect())),
        }
    }
    change.updates.extend(
        written
            .into_iter()
            .map(|(slice, endpoints)| (slice, ports.to_vec(), endpoints)),
    );
}

/// The untouched slice that is fullest with `count` more.
fn take_fitting(
    untouched: &mut Vec<Arc<EndpointSlice>>,
    count: usize,
    max: usize,
) -> Option<(Arc<EndpointSlice>, Vec<Endpoint>)> {
    let length = |slice: &Arc<EndpointSlice>| slice.endpoints.as_ref().map_or(0, Vec::len);
    let fits = |slice: &Arc<EndpointSlice>| count < max && length(slice) + count <= max;
    let best = (0..untouched.len())
        .filter(|i| fits(&untouched[*i]))
        .max_by_key(|i| length(&untouched[*i]))?;
    let slice = untouched.swap_remove(best);
    let endpoints = slice.endpoints.clone().unwrap_or_default();
    Some((slice, endpoints))
}

/// Where no slice would be left, one without endpoints and ports stays: it says that the Service was seen.
fn keep_placeholder(change: &mut Change, count: usize, labels: &Labels) {
    if change.deletes.len() < count || !change.creates.is_empty() {
        return;
    }
    let is_placeholder = |slice: &EndpointSlice| {
        slice.endpoints.as_ref().is_none_or(Vec::is_empty)
            && slice.ports.as_ref().is_none_or(Vec::is_empty)
            && slice.metadata.labels.as_ref() == Some(labels)
    };
    match change.deletes.as_slice() {
        [one] if is_placeholder(one) => change.deletes.clear(),
        _ => change.creates.push((Vec::new(), Vec::new())),
    }
}

/// A slice to delete takes the content of one to create: one write instead of two, and never a moment without either.
fn reuse_deleted(change: &mut Change) {
    let count = change.creates.len().min(change.deletes.len());
    let creates = change.creates.drain(..count);
    let deletes = change.deletes.drain(..count);
    let pairs = deletes.zip(creates);
    change
        .updates
        .extend(pairs.map(|(slice, (ports, endpoints))| (slice, ports, endpoints)));
}
