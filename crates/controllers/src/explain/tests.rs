use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}),
    )
    .unwrap()
}

fn web() -> Service {
    service(json!({
        "selector": {"app": "web", "tier": "front"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }))
}

/// A ready Pod, with some fields replaced.
fn pod(name: &str, patch: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web", "tier": "front"}},
        "spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.5"}], "conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch(&mut pod, patch);
    serde_json::from_value(pod).unwrap()
}

/// RFC 7386, for objects.
fn json_patch(to: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (value, to.as_object_mut()) {
                    (Value::Null, Some(object)) => drop(object.remove(&key)),
                    (value, _) => json_patch(&mut to[key], value),
                }
            }
        }
        other => *to = other,
    }
}

fn check(service: &Service, patch: Value, expected: &[&str]) {
    let pod = pod("web-1", patch);
    let found: Vec<String> = obstacles(service, &pod)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn each_obstacle_is_told_with_what_the_status_says() {
    check(&web(), json!({}), &[]);
    check(
        &web(),
        json!({"status": {"phase": "Failed"}}),
        &["it has ended (Failed)"],
    );
    check(
        &web(),
        json!({"status": {"phase": "Pending", "podIPs": [], "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}}),
        &["it has no address yet: 0/3 nodes are available"],
    );
    check(
        &web(),
        json!({"status": {"phase": "Pending", "podIPs": [], "conditions": []}}),
        &["it has no address yet: its phase is Pending"],
    );
    check(
        &web(),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "message": "containers with unready status: [main]"}]}}),
        &["it is not ready: containers with unready status: [main]"],
    );
    check(
        &web(),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [
            {"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 3,
             "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}]}}),
        &["it is not ready: container main: CrashLoopBackOff: back-off 40s"],
    );
    check(
        &web(),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        &["it is being deleted"],
    );
}

#[test]
fn a_target_port_that_no_container_names_is_told_with_those_there_are() {
    check(
        &web(),
        json!({"spec": {"containers": [{"name": "main", "ports": [{"name": "admin", "containerPort": 1}]}]}}),
        &["port http: no container has a port named \"http\" with TCP; there are admin/TCP"],
    );
    let patch = json!({"spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 1, "protocol": "UDP"}]}]}});
    check(
        &web(),
        patch,
        &["port http: no container has a port named \"http\" with TCP; there are http/UDP"],
    );
    check(
        &web(),
        json!({"spec": {"containers": [{"name": "main"}]}, "status": {"conditions": []}}),
        &[
            "port http: no container has a port named \"http\" with TCP, nor any named port",
            "it is not ready: its condition Ready is not True",
        ],
    );
    let by_number =
        service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 9}]}));
    check(
        &by_number,
        json!({"spec": {"containers": [{"name": "main"}]}}),
        &[],
    );
}

#[test]
fn a_service_that_publishes_what_is_not_ready_minds_it_not() {
    let service = service(
        json!({"selector": {"app": "web"}, "publishNotReadyAddresses": true, "ports": [{"port": 80}]}),
    );
    check(&service, json!({"status": {"conditions": []}}), &[]);
}

#[test]
fn what_a_selector_comes_to() {
    let by_hand = service(json!({"ports": [{"port": 80}]}));
    assert_eq!(
        selected(&by_hand, &[pod("web-1", json!({}))]),
        Selected::NoSelector
    );
    let far = pod(
        "db-1",
        json!({"metadata": {"labels": {"app": "db", "tier": "back"}}}),
    );
    let near = pod(
        "web-2",
        json!({"metadata": {"labels": {"app": "web", "tier": null}}}),
    );
    let pods = [far.clone(), near];
    let Selected::Nobody {
        pods: 2,
        nearest: Some((nearest, differs)),
    } = selected(&web(), &pods)
    else {
        panic!("nobody is selected");
    };
    assert_eq!(nearest.metadata.name.as_deref(), Some("web-2"));
    assert_eq!(
        differs[0].to_string(),
        "it has no label tier (wanted: \"front\")"
    );
    assert_eq!(
        mismatches(&web(), &far)[0].to_string(),
        "app is \"db\", not \"web\""
    );
    let strange = pod(
        "job",
        json!({"metadata": {"labels": {"app": null, "tier": null, "job": "x"}}}),
    );
    let nobody = Selected::Nobody {
        pods: 1,
        nearest: None,
    };
    assert_eq!(selected(&web(), &[strange]), nobody);
    let pods = [pod("web-1", json!({}))];
    assert_eq!(
        selected(&web(), &pods),
        Selected::Pods(vec![(&pods[0], vec![])])
    );
}
