//! Controllers that a Service needs, for clusters (and labs) without kube-controller-manager.
//!
//! - EndpointSlices follow Pods: an endpoint change is written as soon as the Pod's status is seen, with no batching.
//! - Nodes that stop renewing their Lease become not ready, and their Pods with them, so that endpoints go. An API that
//!   stood still for a while makes no node silent.
//! - Objects whose owners are gone are deleted, namespaces are emptied, ServiceCIDRs are held while in use, Events
//!   are forgotten, Pods of nodes that are gone are deleted.
//! - Where asked for, Pods are bound to nodes ([`Scheduler`]).
//!
//! All of it through `kube::Client` alone. Decisions are pure functions of the cached objects; one loop owns the
//! caches, takes in what the watches say and what it wrote itself, and starts the writes.

mod adrift;
mod cache;
mod cidr;
mod clock;
mod collect;
mod endpoints;
mod engine;
mod events;
pub mod explain;
mod graph;
mod jobs;
mod kinds;
mod lease;
mod metrics;
mod namespace;
mod node;
mod notice;
mod options;
mod queue;
mod schedule;
mod watch;
mod world;

use std::sync::Arc;

use kube::Client;

pub use metrics::Metrics;
pub use options::{Beside, Options, Scheduler};

/// Runs all controllers until `shutdown` is ready. Errors of the API are logged and tried again, so this never ends
/// early. Only one process may run them on a cluster, and none where kube-controller-manager runs.
pub async fn run(client: Client, options: Options, shutdown: impl Future<Output = ()>) {
    run_with_metrics(client, options, Arc::default(), shutdown).await;
}

/// [`run`], with counters that somebody else may read.
pub async fn run_with_metrics(
    client: Client,
    options: Options,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) {
    engine::run(client, options, metrics, shutdown).await;
}
