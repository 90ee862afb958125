//! EndpointSlices: which Pods stand behind a Service, and how they are spread over slices.
//!
//! Pure: Pods, Service, Nodes and the slices that exist go in, writes come out. The rules are those of the
//! EndpointSlice controller of kube-controller-manager (`k8s.io/endpointslice`, `reconciler.go`), with one difference:
//! a slice that an earlier Service of the same name left behind is replaced, never filled, because the garbage
//! collector is about to take it.

mod endpoint;
mod meta;
mod pack;
pub(crate) mod topology;
mod trigger;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

pub(crate) use self::endpoint::{
    Family, has_selector, is_included, is_ready, matches, number, publishes_not_ready,
};
pub(crate) use self::meta::{SERVICE_NAME_LABEL, is_ours};
use self::topology::{Shares, Unsafe};
pub(crate) use self::trigger::Triggers;

/// The most endpoints that the controller puts into one slice.
pub(crate) const MAX_ENDPOINTS: usize = 100;

/// Everything one Service's slices depend on.
pub(crate) struct Inputs<'a> {
    /// The Service.
    pub(crate) service: &'a Service,
    /// The Pods of its namespace that its selector matches.
    pub(crate) pods: &'a [Arc<Pod>],
    /// A Node by name.
    pub(crate) node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// The slices that this controller keeps for a Service of that name.
    pub(crate) slices: &'a [Arc<EndpointSlice>],
    /// The CPU of zones, for a Service that asks for hints by it.
    pub(crate) shares: &'a dyn Fn() -> Result<Shares, Unsafe>,
    /// What the last-change annotation of written slices should say.
    pub(crate) trigger: Option<Timestamp>,
    /// See [`MAX_ENDPOINTS`].
    pub(crate) max: usize,
}

/// One API call for a slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// POST; the server makes the name.
    Create(Box<EndpointSlice>),
    /// PUT, with the version it was made from.
    Update(Box<EndpointSlice>),
    /// DELETE of exactly this object.
    Delete {
        /// The slice's name.
        name: String,
        /// The slice's uid.
        uid: String,
    },
}

/// What to write, in this order: an endpoint that moves between slices is added before it is removed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The calls, in order.
    pub(crate) writes: Vec<Write>,
    /// A Pod was left out because its Node is not known yet.
    pub(crate) waits_for_node: bool,
    /// Why a Service that asks for hints by the CPU of zones has none.
    pub(crate) no_hints: Option<Unsafe>,
}

/// The endpoints that Pods share a slice with: equal resolved ports.
type Groups = BTreeMap<pack::PortKey, (Vec<EndpointPort>, Vec<Endpoint>)>;

/// What has to be written so that the slices say what the Pods do.
///
/// 1. Slices of an earlier Service or of a family that the Service does not have any more go.
/// 2. For each family, Pods become endpoints, grouped by the ports they resolve to.
/// 3. Each group is packed into the slices that exist ([`pack::pack`]); slices of groups that are gone go.
/// 4. A Service without endpoints keeps one empty slice for each family.
/// 5. What would be deleted beside something created is updated instead.
pub(crate) fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    let families = endpoint::families(inputs.service);
    let labels = meta::labels(inputs.service);
    let (mut changes, mut deletes) = (Vec::new(), Vec::new());
    let (owned, foreign): (Vec<_>, Vec<_>) = inputs
        .slices
        .iter()
        .cloned()
        .partition(|slice| meta::is_owned_by(slice, inputs.service));
    deletes.extend(foreign);
    deletes.extend(
        owned
            .iter()
            .filter(|slice| !families.iter().any(|f| f.as_str() == slice.address_type))
            .cloned(),
    );
    for family in families {
        let (mut groups, waits) = group(inputs, family);
        plan.waits_for_node |= waits;
        if topology::is_asked_by(inputs.service) {
            plan.no_hints = hint(inputs, &mut groups).err().or(plan.no_hints);
        }
        let existing: Vec<_> = owned
            .iter()
            .filter(|slice| slice.address_type == family.as_str())
            .cloned()
            .collect();
        changes.push((family, pack::pack(existing, groups, &labels, inputs.max)));
    }
    let (mut creates, mut updates) = (Vec::new(), Vec::new());
    for (family, change) in changes {
        for (ports, endpoints) in change.creates {
            creates.push(meta::new_slice(inputs, family, &labels, ports, endpoints));
        }
        for (slice, ports, endpoints) in change.updates {
            updates.push(meta::changed_slice(
                inputs, &slice, &labels, ports, endpoints,
            ));
        }
        deletes.extend(change.deletes);
    }
    if inputs.service.metadata.deletion_timestamp.is_some() {
        creates.clear();
    }
    plan.writes
        .extend(creates.into_iter().map(Box::new).map(Write::Create));
    plan.writes
        .extend(updates.into_iter().map(Box::new).map(Write::Update));
    plan.writes
        .extend(deletes.into_iter().map(|slice| Write::Delete {
            name: slice.metadata.name.clone().unwrap_or_default(),
            uid: slice.metadata.uid.clone().unwrap_or_default(),
        }));
    plan
}

/// Gives the ready endpoints of a family hints by the CPU of zones.
fn hint(inputs: &Inputs<'_>, groups: &mut Groups) -> Result<(), Unsafe> {
    let all = groups.values_mut().flat_map(|(_, endpoints)| endpoints);
    let is_ready = |endpoint: &&mut Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) == Some(true)
    };
    let mut ready: Vec<&mut Endpoint> = all.filter(is_ready).collect();
    if ready.is_empty() {
        return Ok(());
    }
    topology::give(&mut ready, &(inputs.shares)()?)
}

/// The endpoints of one family, grouped by resolved ports, and whether a Node was missing.
fn group(inputs: &Inputs<'_>, family: Family) -> (Groups, bool) {
    let mut groups = Groups::new();
    let mut waits = false;
    for pod in inputs.pods.iter().filter(|pod| is_included(pod)) {
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .and_then(|name| (inputs.node)(name));
        if node.is_none() && !publishes_not_ready(inputs.service) {
            waits = true;
            continue;
        }
        let Some(endpoint) = endpoint::endpoint(pod, node.as_deref(), inputs.service, family)
        else {
            continue;
        };
        let ports = endpoint::ports(inputs.service, pod);
        let entry = groups
            .entry(pack::PortKey::new(&ports))
            .or_insert_with(|| (ports, Vec::new()));
        entry.1.push(endpoint);
    }
    (groups, waits)
}
