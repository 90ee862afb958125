//! What a subscriber is handed.

use std::sync::Arc;

use daymark_model as model;

use crate::config::Kind;
use crate::findings::Findings;
use crate::record::{ClusterNode, Eligibility, L2Advertisement, Lease, Namespace, ObjectKey, Pool};

/// One object came, changed or (`None`) went. A changed object carries its whole new record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A Service, an EndpointSlice or the agent's own Node: an input of the model.
    Model(model::Change),
    /// A Namespace, by name.
    Namespace(Arc<str>, Option<Arc<Namespace>>),
    /// An IPAddressPool.
    Pool(ObjectKey, Option<Arc<Pool>>),
    /// An L2Advertisement.
    L2Advertisement(ObjectKey, Option<Arc<L2Advertisement>>),
    /// The Lease of a node, by the node's name.
    Lease(Arc<str>, Option<Arc<Lease>>),
    /// When the change was made that a slice follows from, microseconds since 1970: what the EndpointSlice controller says in
    /// the annotation `endpoints.kubernetes.io/last-change-trigger-time`, to measure how long the way to a node takes.
    Triggered(model::SliceKey, model::Family, i64),
    /// Whether load balancers should send to the agent's own Node.
    Eligibility(Option<Eligibility>),
    /// Any Node of the cluster, by name.
    Node(Arc<str>, Option<Arc<ClusterNode>>),
    /// Values of an object cannot be used; `None`: all of them can be, or it went. What can be used of it comes in an event of its own.
    Unusable(Kind, ObjectKey, Option<Arc<Findings>>),
}

/// What a batch's events add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole state, every list complete: the first batch of each subscription, never a later one.
    Everything,
    /// What changed since the batch before.
    Changes,
}

/// Changes that were ready at the same moment.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Counts the feed's batches from 1. A subscriber that fell behind gets several as one, under
    /// the last one's number. A data plane that has applied it publishes it as its generation
    /// ([`crate::PlaneStatus`]), and so says that everything in it, and before it, is in the kernel.
    pub number: u64,
    /// Whole state or difference.
    pub scope: Scope,
    /// The events; at most one per object.
    pub events: Vec<Event>,
}
