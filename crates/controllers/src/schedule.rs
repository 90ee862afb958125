//! Which node a Pod goes to: the ready one with the fewest Pods. For labs and single machines, where nodes are alike;
//! resources, affinity and tolerations play no part.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::node::ready_status;

/// Whether a Pod waits to be given a node.
pub(crate) fn waits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    spec.node_name.as_deref().is_none_or(str::is_empty)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The node for a Pod, or `None` while there is none that would do. `counts` are the Pods on each node; a tie goes to
/// the first name.
pub(crate) fn choose<'a>(
    pod: &Pod,
    nodes: impl Iterator<Item = &'a Node>,
    counts: &HashMap<String, usize>,
) -> Option<String> {
    let none = BTreeMap::new();
    let selector = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_selector.as_ref())
        .unwrap_or(&none);
    let fitting = nodes.filter(|node| accepts(node) && has_labels(node, selector));
    let named = fitting.filter_map(|node| node.metadata.name.clone());
    named.min_by_key(|name| (counts.get(name).copied().unwrap_or_default(), name.clone()))
}

fn accepts(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let tainted = spec.is_some_and(|spec| {
        spec.taints
            .iter()
            .flatten()
            .any(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
    });
    let closed = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
    ready_status(node) == Some("True")
        && !tainted
        && !closed
        && node.metadata.deletion_timestamp.is_none()
}

fn has_labels(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    let labels = node.metadata.labels.as_ref();
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, change: Value) -> Node {
        let mut object = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "spec": {},
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        if let (Some(object), Value::Object(change)) = (object.as_object_mut(), change) {
            object.extend(change);
        }
        serde_json::from_value(object).expect("a Node")
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).expect("a Pod")
    }

    #[test]
    fn the_ready_node_with_the_fewest_pods() {
        let unready =
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
        let tainted = json!({ "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }] } });
        let rows = [
            (
                "fewest",
                vec![node("a", json!({})), node("b", json!({}))],
                json!({ "containers": [] }),
                Some("b"),
            ),
            (
                "not ready",
                vec![node("a", json!({})), node("b", unready)],
                json!({ "containers": [] }),
                Some("a"),
            ),
            (
                "tainted",
                vec![node("a", json!({})), node("b", tainted)],
                json!({ "containers": [] }),
                Some("a"),
            ),
            (
                "cordoned",
                vec![
                    node("a", json!({})),
                    node("b", json!({ "spec": { "unschedulable": true } })),
                ],
                json!({ "containers": [] }),
                Some("a"),
            ),
            (
                "selected",
                vec![node("a", json!({})), node("b", json!({}))],
                json!({ "containers": [], "nodeSelector": { "kubernetes.io/hostname": "a" } }),
                Some("a"),
            ),
            (
                "tie",
                vec![node("d", json!({})), node("c", json!({}))],
                json!({ "containers": [] }),
                Some("c"),
            ),
            ("none", vec![], json!({ "containers": [] }), None),
        ];
        let counts = HashMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        for (what, nodes, spec, expected) in rows {
            assert_eq!(
                choose(&pod(spec), nodes.iter(), &counts).as_deref(),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn which_pods_wait() {
        let rows = [
            (json!({ "containers": [] }), true),
            (json!({ "containers": [], "nodeName": "a" }), false),
            (
                json!({ "containers": [], "schedulingGates": [{ "name": "x" }] }),
                false,
            ),
        ];
        for (spec, expected) in rows {
            assert_eq!(waits(&pod(spec.clone())), expected, "{spec}");
        }
    }
}
