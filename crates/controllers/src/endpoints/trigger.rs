//! When the change happened that a slice is written for: what the last-change annotation says.
//!
//! Tools measure the programming latency of a cluster by it (SIG Scalability, "network programming latency").
//! Source: `k8s.io/endpointslice/trigger_time_tracker.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};

/// What was already told about one Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Triggers {
    seen: Option<Seen>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    service: Option<Timestamp>,
    pods: BTreeMap<String, Timestamp>,
}

impl Triggers {
    /// The oldest change since the last call; for the first one the creation of the Service. `None` if nothing with a
    /// time has changed.
    pub(crate) fn next(&mut self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let created = service
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        let times: BTreeMap<String, Timestamp> =
            pods.iter().filter_map(|pod| ready_since(pod)).collect();
        let now = Seen {
            service: created,
            pods: times,
        };
        let Some(before) = self.seen.replace(now.clone()) else {
            return created;
        };
        let pods = now
            .pods
            .iter()
            .filter(|(name, time)| before.pods.get(*name).is_none_or(|old| old < *time));
        let changed = pods
            .map(|(_, time)| *time)
            .chain(created.filter(|_| now.service > before.service));
        changed.min()
    }
}

fn ready_since(pod: &Pod) -> Option<(String, Timestamp)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    Some((
        pod.metadata.name.clone()?,
        ready.last_transition_time.as_ref()?.0,
    ))
}
