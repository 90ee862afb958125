//! Nodes that fall silent: not ready, tainted, and their Pods not ready with them, so that no endpoint stays there.
//!
//! A node is alive as long as its Lease in kube-node-lease (or its own status) keeps changing; whether it is *ready*
//! only its kubelet says. Times are those of this process: the clocks of nodes are not trusted.
//! Source: `pkg/controller/nodelifecycle/node_lifecycle_controller.go` of Kubernetes.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::{Value, json};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The sign of life that was last seen, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    lease: Option<Timestamp>,
    status: Option<Timestamp>,
    seen: Instant,
    /// When the API was last asked.
    asked: Option<Instant>,
}

impl Heartbeat {
    /// A node that is seen for the first time starts with a full grace period.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            lease: None,
            status: None,
            seen: now,
            asked: None,
        }
    }

    /// The Lease says it was renewed at that time.
    pub(crate) fn renewed(&mut self, at: Option<Timestamp>, now: Instant) {
        if at != self.lease {
            (self.lease, self.seen) = (at, now);
        }
    }

    /// The Node says its kubelet posted its status at that time.
    pub(crate) fn posted(&mut self, at: Option<Timestamp>, now: Instant) {
        if at != self.status {
            (self.status, self.seen) = (at, now);
        }
    }

    /// Starts the grace period again: nothing could be seen for a while.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.seen = now;
    }

    /// When the node counts as silent.
    pub(crate) fn lapses(&self, grace: Duration) -> Instant {
        self.seen + grace
    }

    /// The renewal that was seen last.
    pub(crate) fn renewal(&self) -> Option<Timestamp> {
        self.lease
    }

    /// Whether the API is to be asked although the grace period is not over. It is once, after half of it: an API that
    /// stands still until shortly before the end would answer promptly at the end, when no node had the time to be
    /// heard again.
    pub(crate) fn is_late(&self, grace: Duration, now: Instant) -> bool {
        let late = self.seen + grace / 2;
        late <= now && self.asked.is_none_or(|asked| asked < late)
    }

    /// The API is asked.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// How long until the node is to be looked at again.
    pub(crate) fn wait(&self, grace: Duration, now: Instant) -> Duration {
        let moments = [self.seen + grace / 2, self.lapses(grace)];
        let next = moments.into_iter().find(|moment| *moment > now);
        next.map_or(grace, |moment| moment - now)
    }
}

/// When the kubelet last posted the node's Ready condition.
pub(crate) fn posted_at(node: &Node) -> Option<Timestamp> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    ready.last_heartbeat_time.as_ref().map(|time| time.0)
}

/// The status of the node's Ready condition.
pub(crate) fn ready_status(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .map(|condition| condition.status.as_str())
}

/// Whether a node is still heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    Alive,
    Silent,
}

/// What to write about a node. Pods come first: they are what endpoints follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Whether the node's Pods are to be marked not ready.
    pub(crate) pods_not_ready: bool,
    /// The node's conditions are to say that nothing is known.
    pub(crate) unknown: bool,
    /// The node's taints are to be these.
    pub(crate) taints: Option<Vec<Taint>>,
}

/// What follows from a node's pulse and what it says about itself.
pub(crate) fn judge(node: &Node, pulse: Pulse) -> Verdict {
    let ready = ready_status(node);
    let wanted = match (pulse, ready) {
        (Pulse::Alive, Some("True")) => None,
        (Pulse::Alive, Some("False") | None) => Some(NOT_READY),
        // Silent, or heard again without a word about its readiness yet.
        (Pulse::Silent, _) | (Pulse::Alive, Some(_)) => Some(UNREACHABLE),
    };
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let changed = retaint(&taints, wanted);
    Verdict {
        pods_not_ready: pulse == Pulse::Silent || ready == Some("False"),
        unknown: pulse == Pulse::Silent && ready != Some("Unknown"),
        taints: (changed != taints).then_some(changed),
    }
}

/// The taints with exactly `wanted` of the two that this controller keeps, under both effects.
fn retaint(taints: &[Taint], wanted: Option<&str>) -> Vec<Taint> {
    let ours = |taint: &Taint| [UNREACHABLE, NOT_READY].contains(&taint.key.as_str());
    let keep = |taint: &&Taint| !ours(taint) || Some(taint.key.as_str()) == wanted;
    let mut out: Vec<Taint> = taints.iter().filter(keep).cloned().collect();
    for effect in ["NoSchedule", "NoExecute"] {
        if let Some(key) = wanted.filter(|key| {
            !out.iter()
                .any(|taint| taint.key == **key && taint.effect == effect)
        }) {
            out.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                ..Taint::default()
            });
        }
    }
    out
}

/// The status patch of a node, as it was read, that nothing is heard of.
pub(crate) fn unknown_patch(node: &Node, now: Timestamp) -> Value {
    let time = seconds(now);
    let conditions: Vec<Value> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .into_iter()
        .map(|kind| {
            json!({
                "type": kind, "status": "Unknown", "lastTransitionTime": time,
                "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
            })
        })
        .collect();
    let version = &node.metadata.resource_version;
    json!({ "metadata": { "resourceVersion": version }, "status": { "conditions": conditions } })
}

/// The status patch of a Pod whose node is silent, unless it is not ready anyway.
pub(crate) fn pod_patch(pod: &Pod, now: Timestamp) -> Option<Value> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(json!({ "status": { "conditions": [{
        "type": "Ready", "status": "False", "lastTransitionTime": seconds(now),
        "reason": "NodeNotReady", "message": "The node of this Pod does not answer",
    }] } }))
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: Option<&str>, taints: &[&str]) -> Node {
        let conditions: Vec<Value> = ready
            .iter()
            .map(|status| json!({ "type": "Ready", "status": status }))
            .collect();
        let both = |key: &&str| {
            ["NoSchedule", "NoExecute"].map(|effect| json!({ "key": key, "effect": effect }))
        };
        let taints: Vec<Value> = taints.iter().flat_map(both).collect();
        let object = json!({ "metadata": { "name": "a" }, "spec": { "taints": taints }, "status": { "conditions": conditions } });
        serde_json::from_value(object).expect("a Node")
    }

    #[test]
    fn what_follows_from_pulse_and_readiness() {
        use Pulse::{Alive, Silent};
        // pulse, ready, taints before -> pods not ready, conditions unknown, taints after
        type Row<'a> = (
            Pulse,
            Option<&'a str>,
            &'a [&'a str],
            bool,
            bool,
            Option<&'a [&'a str]>,
        );
        let rows: [Row<'_>; 9] = [
            (Alive, Some("True"), &[], false, false, None),
            (Alive, Some("True"), &[UNREACHABLE], false, false, Some(&[])),
            (
                Alive,
                Some("True"),
                &[NOT_READY, "mine"],
                false,
                false,
                Some(&["mine"]),
            ),
            (Alive, Some("False"), &[], true, false, Some(&[NOT_READY])),
            (Alive, Some("Unknown"), &[UNREACHABLE], false, false, None),
            (Alive, None, &[], false, false, Some(&[NOT_READY])),
            (
                Silent,
                Some("True"),
                &["mine"],
                true,
                true,
                Some(&["mine", UNREACHABLE]),
            ),
            (Silent, Some("Unknown"), &[UNREACHABLE], true, false, None),
            (
                Silent,
                Some("False"),
                &[NOT_READY],
                true,
                true,
                Some(&[UNREACHABLE]),
            ),
        ];
        for (pulse, ready, before, pods_not_ready, unknown, after) in rows {
            let verdict = judge(&node(ready, before), pulse);
            let keys = verdict.taints.map(|taints| {
                let mut keys: Vec<String> = taints.into_iter().map(|taint| taint.key).collect();
                keys.dedup();
                keys
            });
            let after =
                after.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
            assert_eq!(
                (verdict.pods_not_ready, verdict.unknown, keys),
                (pods_not_ready, unknown, after),
                "{pulse:?} {ready:?} {before:?}"
            );
        }
    }

    #[test]
    fn only_a_new_renewal_is_a_sign_of_life() {
        #[allow(clippy::disallowed_methods, reason = "any point in time will do")]
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let time = |text: &str| -> Option<Timestamp> { Some(text.parse().expect("a time")) };
        let mut beat = Heartbeat::new(start);
        beat.renewed(time("2026-01-01T00:00:01Z"), start + second);
        beat.renewed(time("2026-01-01T00:00:01Z"), start + second * 2);
        assert_eq!(
            beat.lapses(second * 3),
            start + second * 4,
            "the same renewal seen twice counts once"
        );
        beat.posted(time("2026-01-01T00:00:03Z"), start + second * 3);
        assert_eq!(beat.lapses(second * 3), start + second * 6);
    }

    #[test]
    fn the_api_is_asked_once_when_half_the_grace_is_over() {
        #[allow(clippy::disallowed_methods, reason = "any point in time will do")]
        let start = Instant::now();
        let (second, grace) = (Duration::from_secs(1), Duration::from_secs(4));
        let mut beat = Heartbeat::new(start);
        let at = |seconds: u32| start + second * seconds;
        assert!(!beat.is_late(grace, at(1)));
        assert!(beat.is_late(grace, at(2)) && beat.is_late(grace, at(3)));
        beat.ask(at(3));
        assert!(!beat.is_late(grace, at(3)));
        beat.reset(at(3));
        assert!(!beat.is_late(grace, at(4)) && beat.is_late(grace, at(5)));
        // now, wait: for the middle, for the end, and then from grace to grace
        for (now, wait) in [(3, 2), (4, 1), (5, 2), (6, 1), (7, 4), (9, 4)] {
            assert_eq!(beat.wait(grace, at(now)), second * wait, "at {now} s");
        }
    }

    #[test]
    fn a_pod_is_patched_only_while_it_says_ready() {
        let pod = |status: &str| -> Pod {
            let conditions = json!([{ "type": "Ready", "status": status }]);
            serde_json::from_value(
                json!({ "metadata": {}, "status": { "conditions": conditions } }),
            )
            .expect("a Pod")
        };
        assert!(pod_patch(&pod("True"), Timestamp::UNIX_EPOCH).is_some());
        assert!(pod_patch(&pod("False"), Timestamp::UNIX_EPOCH).is_none());
    }
}
