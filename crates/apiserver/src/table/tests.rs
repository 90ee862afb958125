use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, layout};
use crate::registry::kinds::{self, Kind};

const NOW: &str = "2026-01-02T00:00:00Z";

fn cells(kind: &Kind, object: Value) -> Vec<Value> {
    let now: Timestamp = NOW.parse().unwrap();
    let layout = layout(kind);
    let cells = (layout.cells)(&object, now);
    assert_eq!(cells.len(), layout.columns.len(), "{}", kind.resource.kind);
    cells
}

#[test]
fn ages_are_short() {
    let rows = [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_860, "3h1m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (176_400, "2d1h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (315_360_000, "10y"),
    ];
    for (seconds, expected) in rows {
        assert_eq!(age::human(seconds), expected, "{seconds}");
    }
}

#[test]
fn services_show_where_they_are_reached() {
    let meta = json!({"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let rows = [
        (
            json!({"type": "ClusterIP", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
                "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"b": "2", "a": "1"}}),
            json!({}),
            ["10.96.0.5", "<none>", "80/TCP", "a=1,b=2"],
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"],
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "lb.example"}]}}),
            [
                "10.96.0.5",
                "192.0.2.9,lb.example",
                "80:30080/TCP,53/UDP",
                "<none>",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"]}),
            json!({}),
            ["10.96.0.5", "<pending>", "<none>", "<none>"],
        ),
        (
            json!({"type": "ExternalName", "externalName": "example.com"}),
            json!({}),
            ["<none>", "example.com", "<none>", "<none>"],
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["192.0.2.1"]}),
            json!({}),
            ["None", "192.0.2.1", "<none>", "<none>"],
        ),
    ];
    for (spec, status, [cluster, external, ports, selector]) in rows {
        let kind = spec["type"].clone();
        let service = json!({"metadata": meta, "spec": spec, "status": status});
        let expected = [
            json!("web"),
            kind,
            json!(cluster),
            json!(external),
            json!(ports),
            json!("24h"),
            json!(selector),
        ];
        assert_eq!(cells(&kinds::SERVICE, service), expected);
    }
}

#[test]
fn slices_show_three_endpoints_and_count_the_rest() {
    let endpoint = |address: &str| json!({"addresses": [address]});
    let few = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "any"}, {}],
        "endpoints": [endpoint("10.0.0.1")]});
    assert_eq!(
        cells(&kinds::ENDPOINT_SLICE, few)[2..4],
        [json!("80,any,*"), json!("10.0.0.1")]
    );
    let many: Vec<Value> = (1..=5).map(|i| endpoint(&format!("10.0.0.{i}"))).collect();
    let many = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": many});
    let expected = [
        json!("<unset>"),
        json!("10.0.0.1,10.0.0.2,10.0.0.3 + 2 more..."),
    ];
    assert_eq!(cells(&kinds::ENDPOINT_SLICE, many)[2..4], expected);
}

#[test]
fn the_status_of_a_pod_is_one_word() {
    let spec =
        json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
    let rows = [
        (json!({"phase": "Pending"}), "0/2", "Pending"),
        (
            json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "ready": true, "state": {"running": {}}},
                {"name": "b", "ready": false, "state": {"running": {}}}]}),
            "1/2",
            "Running",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                {"name": "b", "ready": true, "state": {"running": {}}}]}),
            "1/2",
            "CrashLoopBackOff",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"signal": 9}}}]}),
            "0/2",
            "Signal:9",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "ready": true, "state": {"running": {}}},
                {"name": "b", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}],
                "conditions": [{"type": "Ready", "status": "False"}]}),
            "1/2",
            "NotReady",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            "0/2",
            "Init:0/1",
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted"}),
            "0/2",
            "Evicted",
        ),
    ];
    for (status, ready, word) in rows {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        assert_eq!(
            cells(&kinds::POD, pod.clone())[1..3],
            [json!(ready), json!(word)],
            "{status}"
        );
        let mut deleted = pod;
        deleted["metadata"]["deletionTimestamp"] = json!(NOW);
        assert_eq!(cells(&kinds::POD, deleted)[2], "Terminating");
    }
}

#[test]
fn restarts_say_when_the_last_one_was() {
    let status = json!({"containerStatuses": [{"name": "a", "restartCount": 3, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:00Z"}}}]});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}, "status": status});
    assert_eq!(cells(&kinds::POD, pod)[3], "3 (60s ago)");
}

#[test]
fn nodes_show_their_state_and_addresses() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}],
            "nodeInfo": {"kernelVersion": "6.1", "architecture": "amd64", "kubeletVersion": "v1"}}});
    let expected = [
        json!("n"),
        json!("NotReady,SchedulingDisabled"),
        json!("control-plane"),
        json!("<unknown>"),
        json!("v1"),
        json!("172.30.0.11"),
        json!("<none>"),
        json!("<unknown>"),
        json!("6.1 (amd64)"),
        json!("<unknown>"),
    ];
    assert_eq!(cells(&kinds::NODE, node), expected);
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in kinds::ALL {
        cells(kind, json!({"metadata": {"name": "a"}}));
    }
}
