//! Objects through a kube client in process: create, read, update, patch, delete.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{CONFIG_MAPS, ask, client, config_map, json_request, server};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a typed object")
}

fn service(name: &str) -> Service {
    object(json!({ "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] } }))
}

fn reason(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.to_string()),
        other => panic!("no Status: {other}"),
    }
}

#[tokio::test]
async fn a_service_gets_an_address_with_its_object_and_gives_it_back() {
    let server = server();
    let services: Api<Service> = Api::default_namespaced(client(&server));
    let created = services
        .create(&PostParams::default(), &service("web"))
        .await
        .unwrap();
    let ip = created.spec.unwrap().cluster_ip.unwrap();
    let address = format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}");
    let (code, body) = json_request(&server, Method::GET, &address, Value::Null).await;
    assert_eq!(
        (code, &body["spec"]["parentRef"]["name"]),
        (200, &json!("web"))
    );
    assert_eq!(
        body["metadata"]["resourceVersion"],
        json!(created.metadata.resource_version)
    );
    services
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        json_request(&server, Method::GET, &address, Value::Null)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_stale_update_is_a_conflict_and_an_update_without_change_keeps_the_version() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let first = maps
        .create(&PostParams::default(), &object(config_map("a", "1")))
        .await
        .unwrap();
    let same = maps
        .replace("a", &PostParams::default(), &first)
        .await
        .unwrap();
    assert_eq!(
        same.metadata.resource_version,
        first.metadata.resource_version
    );
    let mut changed = first.clone();
    changed
        .data
        .get_or_insert_default()
        .insert("v".to_owned(), "2".to_owned());
    let second = maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_ne!(
        second.metadata.resource_version,
        first.metadata.resource_version
    );
    let error = maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap_err();
    assert_eq!(reason(error), (409, "Conflict".to_owned()));
}

#[tokio::test]
async fn generated_names_differ() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let map: ConfigMap = object(json!({ "metadata": { "generateName": "a-" } }));
    let mut names = Vec::new();
    for _ in 0..20 {
        names.push(
            maps.create(&PostParams::default(), &map)
                .await
                .unwrap()
                .metadata
                .name
                .unwrap(),
        );
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
    assert!(
        names
            .iter()
            .all(|name| name.len() == 7 && name.starts_with("a-")),
        "{names:?}"
    );
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_one_goes() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    maps.create(&PostParams::default(), &object(map))
        .await
        .unwrap();
    let deleting = maps
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .expect("the object");
    assert!(deleting.metadata.deletion_timestamp.is_some());
    let again = maps
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .expect("the object");
    assert_eq!(
        again.metadata.resource_version,
        deleting.metadata.resource_version
    );
    let add = json!({ "metadata": { "finalizers": ["example.com/other", "example.com/hold"] } });
    let error = maps
        .patch("a", &PatchParams::default(), &Patch::Merge(add))
        .await
        .unwrap_err();
    assert_eq!(reason(error).0, 422);
    let release =
        json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["example.com/hold"] } });
    maps.patch("a", &PatchParams::default(), &Patch::Strategic(release))
        .await
        .unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn preconditions_of_a_delete_are_checked() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let map = maps
        .create(&PostParams::default(), &object(config_map("a", "1")))
        .await
        .unwrap();
    let with = |uid: &str, version: &str| {
        DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
        })
    };
    let (uid, version) = (
        map.metadata.uid.unwrap(),
        map.metadata.resource_version.unwrap(),
    );
    assert_eq!(
        reason(
            maps.delete("a", &with("other", &version))
                .await
                .unwrap_err()
        )
        .0,
        409
    );
    assert_eq!(
        reason(maps.delete("a", &with(&uid, "1")).await.unwrap_err()).0,
        409
    );
    assert!(maps.delete("a", &with(&uid, &version)).await.is_ok());
}

#[tokio::test]
async fn a_strategic_patch_changes_one_port() {
    let server = server();
    let services: Api<Service> = Api::default_namespaced(client(&server));
    let mut web = service("web");
    web.spec.as_mut().unwrap().ports = Some(object(json!([
        { "name": "http", "port": 80 }, { "name": "https", "port": 443 }])));
    services.create(&PostParams::default(), &web).await.unwrap();
    let patch = json!({ "spec": { "ports": [{ "port": 443, "targetPort": "tls" }] } });
    let patched = services
        .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let ports = serde_json::to_value(patched.spec.unwrap().ports).unwrap();
    assert_eq!(ports[0]["targetPort"], 80);
    assert_eq!(
        (&ports[1]["name"], &ports[1]["targetPort"]),
        (&json!("https"), &json!("tls"))
    );
}

#[tokio::test]
async fn a_pod_on_a_node_gets_its_grace_and_one_without_goes_at_once() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(client(&server));
    let pod = |name: &str| -> Pod {
        object(
            json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "i" }] } }),
        )
    };
    pods.create(&PostParams::default(), &pod("free"))
        .await
        .unwrap();
    pods.delete("free", &DeleteParams::default()).await.unwrap();
    assert!(pods.get_opt("free").await.unwrap().is_none());

    pods.create(&PostParams::default(), &pod("bound"))
        .await
        .unwrap();
    let bind = json!({ "spec": { "nodeName": "node-1" } });
    let bound = pods
        .patch("bound", &PatchParams::default(), &Patch::Merge(bind))
        .await
        .unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("node-1"));
    pods.delete("bound", &DeleteParams::default())
        .await
        .unwrap();
    let leaving = pods.get("bound").await.unwrap().metadata;
    assert_eq!(leaving.deletion_grace_period_seconds, Some(30));
    assert!(leaving.deletion_timestamp > leaving.creation_timestamp);
    pods.delete("bound", &DeleteParams::default().grace_period(5))
        .await
        .unwrap();
    assert_eq!(
        pods.get("bound")
            .await
            .unwrap()
            .metadata
            .deletion_grace_period_seconds,
        Some(5)
    );
    pods.delete("bound", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(pods.get_opt("bound").await.unwrap().is_none());
}

#[tokio::test]
async fn status_and_spec_are_written_by_their_own_paths() {
    let server = server();
    let services: Api<Service> = Api::default_namespaced(client(&server));
    let mut web = service("web");
    web.spec.as_mut().unwrap().type_ = Some("LoadBalancer".to_owned());
    services.create(&PostParams::default(), &web).await.unwrap();
    let both = json!({ "spec": { "sessionAffinity": "ClientIP" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
    let ingress = |service: Service| service.status?.load_balancer?.ingress?.first()?.ip.clone();
    let affinity = |service: &Service| service.spec.as_ref()?.session_affinity.clone();
    let patched = services
        .patch("web", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(affinity(&patched).as_deref(), Some("ClientIP"));
    assert_eq!(ingress(patched), None);
    let none = json!({ "spec": { "sessionAffinity": "None" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
    let patched = services
        .patch_status("web", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
    assert_eq!(affinity(&patched).as_deref(), Some("ClientIP"));
    assert_eq!(ingress(patched).as_deref(), Some("192.0.2.1"));
}

#[tokio::test]
async fn a_node_keeps_the_status_it_was_registered_with() {
    let server = server();
    let nodes: Api<Node> = Api::all(client(&server));
    let node: Node = object(json!({ "metadata": { "name": "node-1" },
        "status": { "addresses": [{ "type": "InternalIP", "address": "172.30.0.11" }] } }));
    let created = nodes.create(&PostParams::default(), &node).await.unwrap();
    assert!(created.status.unwrap().addresses.is_some());
}

#[tokio::test]
async fn a_namespace_goes_once_it_is_finalized() {
    let server = server();
    let namespaces: Api<Namespace> = Api::all(client(&server));
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "team");
    let error = maps
        .create(&PostParams::default(), &object(config_map("a", "1")))
        .await
        .unwrap_err();
    assert_eq!(reason(error), (404, "NotFound".to_owned()));
    namespaces
        .create(
            &PostParams::default(),
            &object(json!({ "metadata": { "name": "team" } })),
        )
        .await
        .unwrap();
    maps.create(&PostParams::default(), &object(config_map("a", "1")))
        .await
        .unwrap();
    namespaces
        .delete("team", &DeleteParams::default())
        .await
        .unwrap();
    let team = namespaces.get("team").await.unwrap();
    assert_eq!(team.status.unwrap().phase.as_deref(), Some("Terminating"));

    let url = "/api/v1/namespaces/team/configmaps";
    let (code, status) = json_request(&server, Method::POST, url, config_map("b", "1")).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );

    maps.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let finalize = json!({ "metadata": { "name": "team" }, "spec": { "finalizers": [] } });
    let url = "/api/v1/namespaces/team/finalize";
    assert_eq!(
        json_request(&server, Method::PUT, url, finalize).await.0,
        200
    );
    assert!(namespaces.get_opt("team").await.unwrap().is_none());
    let error = namespaces
        .delete("default", &DeleteParams::default())
        .await
        .unwrap_err();
    assert_eq!(reason(error), (403, "Forbidden".to_owned()));
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_leaves_nothing() {
    let server = server();
    let before = server.store().revision();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let services: Api<Service> = Api::default_namespaced(client(&server));
    let created = services.create(&dry, &service("web")).await.unwrap();
    assert!(created.spec.unwrap().cluster_ip.is_some());
    assert_eq!(created.metadata.resource_version, None);
    assert!(services.get_opt("web").await.unwrap().is_none());
    assert_eq!(server.store().revision(), before);
    // What is stored keeps its version.
    let stored = services
        .create(&PostParams::default(), &service("kept"))
        .await
        .unwrap();
    let mut changed = stored.clone();
    changed.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let answered = services.replace("kept", &dry, &changed).await.unwrap();
    assert_eq!(answered.metadata.labels, changed.metadata.labels);
    assert_eq!(
        answered.metadata.resource_version,
        stored.metadata.resource_version
    );
    let url = format!("{CONFIG_MAPS}?dryRun=Some");
    assert_eq!(
        json_request(&server, Method::POST, &url, config_map("a", "1"))
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn delete_collection_takes_what_the_selector_matches() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "1")] {
        maps.create(&PostParams::default(), &object(config_map(name, value)))
            .await
            .unwrap();
    }
    maps.delete_collection(
        &DeleteParams::default(),
        &ListParams::default().labels("v=1"),
    )
    .await
    .unwrap();
    let left = maps.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = left
        .items
        .iter()
        .filter_map(|map| map.metadata.name.as_deref())
        .collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test]
async fn both_faces_of_an_event_are_one_object() {
    let server = server();
    let event = json!({ "metadata": { "name": "e" }, "regarding": { "kind": "Service", "name": "web", "namespace": "default" },
        "note": "hello", "reason": "Test", "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test", "reportingInstance": "t-1", "action": "Testing" });
    let url = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (code, created) = json_request(&server, Method::POST, url, event).await;
    assert_eq!(
        (code, &created["apiVersion"], &created["note"]),
        (201, &json!("events.k8s.io/v1"), &json!("hello"))
    );
    let url =
        "/api/v1/events?fieldSelector=involvedObject.name%3Dweb,involvedObject.kind%3DService";
    let (_, list) = json_request(&server, Method::GET, url, Value::Null).await;
    assert_eq!(
        (
            &list["items"][0]["message"],
            &list["items"][0]["apiVersion"]
        ),
        (&json!("hello"), &json!("v1"))
    );
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_about_or_ignored() {
    let server = server();
    let rows = [
        ("Strict", 400, 0),
        ("Warn", 201, 1),
        ("", 201, 1),
        ("Ignore", 201, 0),
    ];
    for (index, (validation, code, warnings)) in rows.into_iter().enumerate() {
        let mut map = config_map(&format!("m{index}"), "1");
        map["extra"] = json!(1);
        let url = format!("{CONFIG_MAPS}?fieldValidation={validation}");
        let (found, said, _) = ask(&server, Method::POST, &url, "application/json", map).await;
        assert_eq!(
            (found, said.len()),
            (code, warnings),
            "{validation:?}: {said:?}"
        );
    }
}

#[tokio::test]
async fn a_body_over_three_mebibytes_is_refused() {
    let server = server();
    let large =
        json!({ "metadata": { "name": "a" }, "data": { "v": "x".repeat(3 * 1024 * 1024) } });
    let (code, status) = json_request(&server, Method::POST, CONFIG_MAPS, large).await;
    assert_eq!(
        (code, &status["reason"]),
        (413, &json!("RequestEntityTooLarge"))
    );
}

#[tokio::test]
async fn who_has_no_certificate_sees_health_alone() {
    let server = server();
    let get = |url: &'static str| {
        let router = server.router_as(None);
        async move {
            use tower::ServiceExt;
            let request = http::Request::get(url)
                .body(axum::body::Body::empty())
                .unwrap();
            router.oneshot(request).await.unwrap().status().as_u16()
        }
    };
    assert_eq!(get("/readyz").await, 200);
    assert_eq!(get("/livez?verbose").await, 200);
    assert_eq!(get("/version").await, 401);
    assert_eq!(get("/api/v1/services").await, 401);
}

#[tokio::test]
async fn an_advertisement_refuses_unsupported_fields_by_name() {
    let server = server();
    let url = "/apis/metallb.io/v1beta1/namespaces/default/l2advertisements";
    let good = json!({ "metadata": { "name": "a" }, "spec": { "ipAddressPools": ["pool"] } });
    assert_eq!(json_request(&server, Method::POST, url, good).await.0, 201);
    let bad = json!({ "metadata": { "name": "b" }, "spec": { "interfaces": ["eth0"] } });
    let (code, status) = json_request(&server, Method::POST, url, bad).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["field"]),
        (422, &json!("spec.interfaces"))
    );
}
