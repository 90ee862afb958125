//! Pods that are bound to a node which is not there: nobody runs them, and nobody will ever stop them.
//!
//! Each is told so by an Event, and deleted later. Source: `pkg/controller/podgc/gc_controller.go` of Kubernetes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Client, Resource};

use crate::cache::id_of;
use crate::collect::ignore_missing;
use crate::notice::warn_about;
use crate::world::node_of;

/// The `quarantineTime` of upstream's PodGC: a Pod may be seen before its Node, and a Node may be late.
const QUARANTINE: Duration = Duration::from_secs(40);

/// How long a Pod waits for a Node that was never seen: as long as upstream, or ten grace periods where nodes are
/// expected to be noticed faster than upstream does, as in a lab. Never less than Pods of a Node that was deleted,
/// which is no mistake of anybody: these wait for the grace period.
pub(crate) fn patience(grace: Duration) -> Duration {
    (grace * 10).min(QUARANTINE).max(grace)
}

/// When a Pod is told: after this part of its wait, so that nothing is said of a Node that is just being made.
const TOLD_AFTER: u32 = 4;

/// When the first Pod is told that waits so long.
pub(crate) fn first_look(wait: Duration) -> Duration {
    wait / TOLD_AFTER
}

/// What is to be done about a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing for so long.
    Wait(Duration),
    /// It is told, and deleted after so long.
    Tell(Duration),
    /// It is deleted.
    Delete,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

struct Wait {
    since: Instant,
    until: Instant,
    told: Told,
}

/// The Pods that wait, by uid.
#[derive(Default)]
pub(crate) struct Adrift(HashMap<String, Wait>);

impl Adrift {
    /// The Pod is bound to a Node that is not there. It waits so long, or as it did already if that is over sooner.
    pub(crate) fn found(&mut self, uid: &str, wait: Duration, now: Instant) {
        let until = now + wait;
        let known = self.0.entry(uid.to_owned()).or_insert(Wait {
            since: now,
            until,
            told: Told::No,
        });
        known.until = known.until.min(until);
    }

    /// The Pod's Node was deleted: whatever was before, it waits from now on.
    pub(crate) fn lost(&mut self, uid: &str, wait: Duration, now: Instant) {
        self.0.remove(uid);
        self.found(uid, wait, now);
    }

    /// The Pod is gone.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Nothing is known any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is to be done now.
    pub(crate) fn step(&mut self, uid: &str, now: Instant) -> Option<Step> {
        let wait = self.0.get_mut(uid)?;
        if wait.until <= now {
            return Some(Step::Delete);
        }
        let tell = wait.since + (wait.until - wait.since) / TOLD_AFTER;
        if wait.told == Told::Yes {
            return Some(Step::Wait(wait.until - now));
        }
        if now < tell {
            return Some(Step::Wait(tell - now));
        }
        wait.told = Told::Yes;
        Some(Step::Tell(wait.until - now))
    }
}

/// Tells a Pod that it will be deleted.
pub(crate) async fn tell(client: &Client, pod: &Pod, left: Duration) {
    warn_about(
        client,
        pod.object_ref(&()),
        NODE_NOT_FOUND,
        message(pod, left),
    )
    .await;
}

const NODE_NOT_FOUND: &str = "NodeNotFound";

fn message(pod: &Pod, left: Duration) -> String {
    format!(
        "spec.nodeName: there is no Node {:?}, so nothing runs this Pod: it is deleted in {} s unless the Node registers",
        node_of(pod).unwrap_or_default(),
        left.as_secs_f64().ceil(),
    )
}

/// Deletes a Pod that no kubelet will answer for.
pub(crate) async fn delete(client: &Client, pod: &Pod) -> Result<(), kube::Error> {
    let (namespace, name) = id_of(pod);
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let preconditions = Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    };
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    ignore_missing(api.delete(&name, &params).await.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_never_seen_is_waited_for_as_long_as_upstream_or_ten_times_the_grace() {
        for (grace, expected) in [
            (200, 2000),
            (3000, 30_000),
            (4500, 40_000),
            (50_000, 50_000),
        ] {
            let found = patience(Duration::from_millis(grace));
            assert_eq!(found, Duration::from_millis(expected), "{grace} ms");
        }
    }

    #[test]
    fn a_pod_is_told_once_and_deleted_later() {
        #[allow(clippy::disallowed_methods, reason = "any point in time will do")]
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let at = |second| start + seconds(second);
        let mut adrift = Adrift::default();
        adrift.found("a", seconds(40), at(0));
        // The Pod changes; that is no reason to wait longer.
        adrift.found("a", seconds(40), at(5));
        let rows = [
            (6, Step::Wait(seconds(4))),
            (12, Step::Tell(seconds(28))),
            (12, Step::Wait(seconds(28))),
            (40, Step::Delete),
            (41, Step::Delete),
        ];
        for (second, step) in rows {
            assert_eq!(adrift.step("a", at(second)), Some(step), "at {second} s");
        }
        adrift.lost("a", seconds(4), at(50));
        assert_eq!(adrift.step("a", at(50)), Some(Step::Wait(seconds(1))));
        adrift.forget("a");
        assert_eq!(adrift.step("a", at(60)), None);
    }

    #[test]
    fn a_pod_that_is_being_deleted_waits_no_longer_than_that() {
        #[allow(clippy::disallowed_methods, reason = "any point in time will do")]
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut adrift = Adrift::default();
        adrift.found("a", second * 40, start);
        adrift.found("a", second * 4, start + second);
        assert_eq!(adrift.step("a", start + second * 5), Some(Step::Delete));
    }
}
