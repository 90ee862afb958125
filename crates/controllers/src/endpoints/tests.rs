//! Slices as a table: a Service, Pods and the slices there are, against what is written.

use serde_json::{Value, json};

use super::*;

fn service(change: Value) -> Service {
    let mut object = json!({
        "metadata": { "name": "web", "namespace": "ns", "uid": "u-web", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": {
            "selector": { "app": "web" }, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }],
        },
    });
    merge(&mut object, change);
    serde_json::from_value(object).expect("a Service")
}

fn merge(object: &mut Value, change: Value) {
    match (object, change) {
        (Value::Object(map), Value::Object(change)) => {
            for (key, value) in change {
                merge(map.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, change) => *object = change,
    }
}

/// Pod number `i`, ready on node-1.
fn pod(i: usize, change: Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": { "name": format!("web-{i}"), "namespace": "ns", "uid": format!("u-{i}"), "labels": { "app": "web" } },
        "spec": { "nodeName": "node-1", "containers": [] },
        "status": {
            "phase": "Running",
            "podIPs": [{ "ip": format!("10.244.1.{i}") }, { "ip": format!("fd00:10:244:1::{i:x}") }],
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T00:00:00Z" }],
        },
    });
    merge(&mut object, change);
    Arc::new(serde_json::from_value(object).expect("a Pod"))
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    (1..=count).map(|i| pod(i, json!({}))).collect()
}

fn node(name: &str) -> Option<Arc<Node>> {
    let object = json!({ "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": "zone-a" } } });
    (name != "gone").then(|| Arc::new(serde_json::from_value(object).expect("a Node")))
}

fn run(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>], max: usize) -> Plan {
    plan(&Inputs {
        service,
        pods,
        node: &node,
        shares: &|| Err(Unsafe::OneZone),
        slices,
        trigger: None,
        max,
    })
}

/// The slices after the writes, with names and uids as a server would give them.
fn apply(slices: &[Arc<EndpointSlice>], plan: &Plan) -> Vec<Arc<EndpointSlice>> {
    let mut slices: Vec<Arc<EndpointSlice>> = slices.to_vec();
    for write in &plan.writes {
        match write {
            Write::Create(slice) => {
                let mut slice = (**slice).clone();
                let name = format!(
                    "{}{}",
                    slice.metadata.generate_name.take().unwrap_or_default(),
                    slices.len()
                );
                slice.metadata.uid = Some(format!("u-{name}"));
                slice.metadata.name = Some(name);
                slices.push(Arc::new(slice));
            }
            Write::Update(slice) => {
                let old = slices
                    .iter_mut()
                    .find(|old| old.metadata.name == slice.metadata.name)
                    .expect("is there");
                *old = Arc::new((**slice).clone());
            }
            Write::Delete { name, .. } => {
                slices.retain(|slice| slice.metadata.name.as_ref() != Some(name))
            }
        }
    }
    slices
}

/// How many slices are created, updated and deleted.
fn count(plan: &Plan) -> (usize, usize, usize) {
    let count = |f: fn(&Write) -> bool| plan.writes.iter().filter(|w| f(w)).count();
    (
        count(|w| matches!(w, Write::Create(_))),
        count(|w| matches!(w, Write::Update(_))),
        count(|w| matches!(w, Write::Delete { .. })),
    )
}

fn only_slice(plan: &Plan) -> Value {
    match plan.writes.as_slice() {
        [Write::Create(slice) | Write::Update(slice)] => {
            serde_json::to_value(slice).expect("encodes")
        }
        other => panic!("one slice expected: {other:?}"),
    }
}

#[test]
fn a_pod_becomes_an_endpoint() {
    let plan = run(
        &service(json!({ "metadata": { "labels": { "team": "a" } } })),
        &pods(1),
        &[],
        100,
    );
    assert_eq!(
        only_slice(&plan),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "generateName": "web-", "namespace": "ns",
                "labels": {
                    "team": "a", "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u-web",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "endpoints": [{
                "addresses": ["10.244.1.1"], "nodeName": "node-1", "zone": "zone-a",
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "namespace": "ns", "name": "web-1", "uid": "u-1" },
            }],
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        })
    );
}

#[test]
fn which_pods_are_endpoints_and_with_which_conditions() {
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-03T00:00:00Z" } });
    let publish = json!({ "spec": { "publishNotReadyAddresses": true } });
    let rows = [
        ("ready", json!({}), json!({}), Some((true, true, false))),
        (
            "not ready",
            unready.clone(),
            json!({}),
            Some((false, false, false)),
        ),
        (
            "terminating",
            deleted.clone(),
            json!({}),
            Some((false, true, true)),
        ),
        (
            "not ready, published",
            unready,
            publish.clone(),
            Some((true, false, false)),
        ),
        (
            "terminating, published",
            deleted,
            publish.clone(),
            Some((true, true, true)),
        ),
        (
            "succeeded",
            json!({ "status": { "phase": "Succeeded" } }),
            json!({}),
            None,
        ),
        (
            "failed",
            json!({ "status": { "phase": "Failed" } }),
            json!({}),
            None,
        ),
        (
            "no address",
            json!({ "status": { "podIPs": [] } }),
            json!({}),
            None,
        ),
        (
            "other family",
            json!({ "status": { "podIPs": [{ "ip": "fd00::1" }] } }),
            json!({}),
            None,
        ),
        (
            "no node",
            json!({ "spec": { "nodeName": "gone" } }),
            json!({}),
            None,
        ),
        (
            "no node, published",
            json!({ "spec": { "nodeName": "gone" } }),
            publish,
            Some((true, true, false)),
        ),
    ];
    for (what, pod_change, service_change, expected) in rows {
        let plan = run(&service(service_change), &[pod(1, pod_change)], &[], 100);
        let slice = only_slice(&plan);
        let found = slice["endpoints"].get(0).map(|endpoint| {
            let condition = |key: &str| endpoint["conditions"][key].as_bool().expect("set");
            (
                condition("ready"),
                condition("serving"),
                condition("terminating"),
            )
        });
        assert_eq!(found, expected, "{what}");
        assert_eq!(plan.waits_for_node, what == "no node", "{what}");
    }
}

#[test]
fn ports_are_resolved_by_pod_and_part_the_slices() {
    let named = json!({ "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": "web", "protocol": "TCP" }] } });
    let container = |port: u16, protocol: &str| json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "name": "web", "containerPort": port, "protocol": protocol }] }] } });
    let sidecar = json!({ "spec": { "initContainers": [
        { "name": "once", "ports": [{ "name": "web", "containerPort": 1 }] },
        { "name": "side", "restartPolicy": "Always", "ports": [{ "name": "web", "containerPort": 9000 }] },
    ] } });
    let pods = [
        pod(1, container(8080, "TCP")),
        pod(2, container(9090, "TCP")),
        pod(3, container(8080, "UDP")),
        pod(4, sidecar),
    ];
    let plan = run(&service(named), &pods, &[], 100);
    let mut found: Vec<(Option<i32>, usize)> = plan
        .writes
        .iter()
        .map(|write| match write {
            Write::Create(slice) => (
                slice
                    .ports
                    .as_ref()
                    .and_then(|ports| ports.first())
                    .and_then(|port| port.port),
                slice.endpoints.as_ref().map_or(0, Vec::len),
            ),
            other => panic!("only creates: {other:?}"),
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [(None, 1), (Some(8080), 1), (Some(9000), 1), (Some(9090), 1)]
    );
}

#[test]
fn each_family_has_slices_of_its_own() {
    let dual = service(json!({ "spec": { "ipFamilies": ["IPv4", "IPv6"] } }));
    let slices = apply(&[], &run(&dual, &pods(2), &[], 100));
    let families: Vec<&str> = slices
        .iter()
        .map(|slice| slice.address_type.as_str())
        .collect();
    assert_eq!(families, ["IPv4", "IPv6"]);
    assert_eq!(
        run(&dual, &pods(2), &slices, 100).writes,
        [],
        "nothing to do the second time"
    );
    let plan = run(&service(json!({})), &pods(2), &slices, 100);
    assert_eq!(
        count(&plan),
        (0, 0, 1),
        "the slice of the dropped family goes"
    );
}

#[test]
fn a_headless_service_without_ports_has_endpoints_without_ports() {
    let headless = service(json!({ "spec": { "clusterIP": "None", "ports": null } }));
    let slice = only_slice(&run(&headless, &pods(1), &[], 100));
    assert_eq!(
        slice["metadata"]["labels"]["service.kubernetes.io/headless"],
        ""
    );
    assert_eq!(slice["ports"], json!([]));
    assert_eq!(slice["endpoints"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_hostname_needs_the_services_name_as_subdomain() {
    let rows = [
        (
            json!({ "hostname": "db-0", "subdomain": "web" }),
            json!("db-0"),
        ),
        (
            json!({ "hostname": "db-0", "subdomain": "other" }),
            Value::Null,
        ),
        (json!({ "subdomain": "web" }), Value::Null),
    ];
    for (spec, expected) in rows {
        let slice = only_slice(&run(
            &service(json!({})),
            &[pod(1, json!({ "spec": spec }))],
            &[],
            100,
        ));
        assert_eq!(slice["endpoints"][0]["hostname"], expected);
    }
}

#[test]
fn hints_by_the_cpu_of_zones_are_given_to_all_ready_endpoints_or_none() {
    let auto = service(
        json!({ "metadata": { "annotations": { "service.kubernetes.io/topology-mode": "Auto" } } }),
    );
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let pods = [pod(1, json!({})), pod(2, json!({})), pod(3, unready)];
    let of_zone = |zone: &str| -> Node {
        let object = json!({
            "metadata": { "labels": { "topology.kubernetes.io/zone": zone } },
            "status": {
                "allocatable": { "cpu": "2" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        serde_json::from_value(object).expect("a Node")
    };
    // All three Pods are in zone-a: one of the two that are ready serves the other zone.
    for (zones, expected, why) in [
        (vec!["zone-a", "zone-b"], vec!["zone-a", "zone-b"], None),
        (vec!["zone-a"], vec![], Some(Unsafe::OneZone)),
    ] {
        let nodes: Vec<Node> = zones.into_iter().map(of_zone).collect();
        let plan = plan(&Inputs {
            service: &auto,
            pods: &pods,
            node: &node,
            shares: &|| Shares::of(&nodes),
            slices: &[],
            trigger: None,
            max: 100,
        });
        let slice = only_slice(&plan);
        let endpoints = slice["endpoints"].as_array().expect("endpoints");
        assert_eq!(endpoints.len(), 3);
        let hint = |endpoint: &Value| {
            Some(
                endpoint["hints"]["forZones"][0]["name"]
                    .as_str()?
                    .to_owned(),
            )
        };
        let mut hints: Vec<String> = endpoints.iter().filter_map(hint).collect();
        hints.sort();
        assert_eq!(
            (hints, plan.no_hints),
            (expected.into_iter().map(str::to_owned).collect(), why)
        );
    }
}

#[test]
fn traffic_distribution_gives_hints_to_ready_endpoints() {
    let zone = json!({ "forZones": [{ "name": "zone-a" }] });
    let both = json!({ "forZones": [{ "name": "zone-a" }], "forNodes": [{ "name": "node-1" }] });
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let auto =
        json!({ "metadata": { "annotations": { "service.kubernetes.io/topology-mode": "Auto" } } });
    let rows = [
        ("PreferClose", json!({}), json!({}), zone.clone()),
        ("PreferSameZone", json!({}), json!({}), zone),
        ("PreferSameNode", json!({}), json!({}), both),
        ("PreferSameNode", unready, json!({}), Value::Null),
        ("PreferSameZone", json!({}), auto, Value::Null),
    ];
    for (distribution, pod_change, mut service_change, expected) in rows {
        merge(
            &mut service_change,
            json!({ "spec": { "trafficDistribution": distribution } }),
        );
        let slice = only_slice(&run(
            &service(service_change),
            &[pod(1, pod_change)],
            &[],
            100,
        ));
        assert_eq!(slice["endpoints"][0]["hints"], expected, "{distribution}");
    }
}

#[test]
fn packing() {
    let web = service(json!({}));
    let full = apply(&[], &run(&web, &pods(10), &[], 4));
    let sizes = |slices: &[Arc<EndpointSlice>]| {
        let mut sizes: Vec<usize> = slices
            .iter()
            .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
            .collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&full), [2, 4, 4]);

    let plan = run(&web, &pods(11), &full, 4);
    assert_eq!(
        count(&plan),
        (0, 1, 0),
        "one more goes into the slice that has room"
    );
    assert_eq!(sizes(&apply(&full, &plan)), [3, 4, 4]);

    let plan = run(&web, &pods(14), &full, 4);
    assert_eq!(
        count(&plan),
        (1, 0, 0),
        "four more do not fit the two that are free: nothing is split to fill a hole"
    );

    let replaced: Vec<_> = pods(12).into_iter().skip(1).collect();
    let plan = run(&web, &replaced, &full, 4);
    let after = apply(&full, &plan);
    assert_eq!(
        after
            .iter()
            .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
            .sum::<usize>(),
        11
    );
    assert_eq!(
        count(&plan),
        (0, 2, 0),
        "a slice that is written anyway is filled first"
    );

    let plan = run(&web, &[], &full, 4);
    assert_eq!(
        count(&plan),
        (0, 1, 2),
        "without endpoints one empty slice stays"
    );
    let empty = apply(&full, &plan);
    assert_eq!(run(&web, &[], &empty, 4).writes, []);
    assert_eq!(
        count(&run(&web, &pods(1), &empty, 4)),
        (0, 1, 0),
        "the empty slice is filled again"
    );
}

#[test]
fn an_endpoint_changes_in_place() {
    let web = service(json!({}));
    let slices = apply(&[], &run(&web, &pods(3), &[], 100));
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let changed = [pod(1, json!({})), pod(2, unready), pod(3, json!({}))];
    let plan = run(&web, &changed, &slices, 100);
    assert_eq!(count(&plan), (0, 1, 0));
    let slice = only_slice(&plan);
    let ready: Vec<&Value> = slice["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| &e["conditions"]["ready"])
        .collect();
    assert_eq!(ready, [true, false, true]);
}

#[test]
fn changed_labels_rewrite_slices_and_reserved_ones_are_ignored() {
    let slices = apply(&[], &run(&service(json!({})), &pods(1), &[], 100));
    let labelled = service(json!({ "metadata": { "labels": { "team": "b" } } }));
    assert_eq!(count(&run(&labelled, &pods(1), &slices, 100)), (0, 1, 0));
    let reserved =
        service(json!({ "metadata": { "labels": { "kubernetes.io/service-name": "other" } } }));
    assert_eq!(run(&reserved, &pods(1), &slices, 100).writes, []);
}

#[test]
fn slices_of_an_earlier_service_of_that_name_are_replaced() {
    let slices = apply(
        &[],
        &run(
            &service(json!({ "metadata": { "uid": "u-before" } })),
            &pods(1),
            &[],
            100,
        ),
    );
    let plan = run(&service(json!({})), &pods(1), &slices, 100);
    assert_eq!(count(&plan), (1, 0, 1));
}

#[test]
fn a_service_that_is_being_deleted_gets_no_new_slices() {
    let going = service(json!({ "metadata": { "deletionTimestamp": "2026-01-03T00:00:00Z" } }));
    assert_eq!(run(&going, &pods(1), &[], 100).writes, []);
}

#[test]
fn the_trigger_time_is_that_of_the_oldest_change() {
    let web = service(json!({}));
    let ready_at = |i: usize, time: &str| {
        pod(
            i,
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": time }] } }),
        )
    };
    let mut triggers = Triggers::default();
    let time = |text: &str| -> Option<Timestamp> { Some(text.parse().expect("a time")) };
    let first = [ready_at(1, "2026-01-02T00:00:00Z")];
    assert_eq!(
        triggers.next(&web, &first),
        time("2026-01-01T00:00:00Z"),
        "the Service's creation at first"
    );
    assert_eq!(triggers.next(&web, &first), None, "nothing new");
    let second = [
        ready_at(1, "2026-01-02T00:00:09Z"),
        ready_at(2, "2026-01-02T00:00:05Z"),
    ];
    assert_eq!(triggers.next(&web, &second), time("2026-01-02T00:00:05Z"));
}

#[test]
fn the_annotation_is_written_and_removed() {
    let web = service(json!({}));
    let pods = pods(1);
    let inputs = |slices, trigger| Inputs {
        service: &web,
        pods: &pods,
        node: &node,
        shares: &|| Err(Unsafe::OneZone),
        slices,
        trigger,
        max: 100,
    };
    let time: Timestamp = "2026-01-02T00:00:05.25Z".parse().expect("a time");
    let created = plan(&inputs(&[], Some(time)));
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    assert_eq!(
        only_slice(&created)["metadata"]["annotations"][key],
        "2026-01-02T00:00:05.25Z"
    );
    let slices = apply(&[], &created);
    assert_eq!(
        plan(&inputs(&slices, Some(time))).writes,
        [],
        "a time alone writes nothing"
    );
}
