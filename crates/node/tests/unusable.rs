//! Values that cannot be used come from the API to Events on what they cost something, and everything else is served.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use daymark_apiserver::{ApiServer, Config};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::program::Program;
use daymark_feed::{Config as Feeds, Feed, PlaneStatus, plane_channel};
use daymark_model::Options;
use daymark_node::agent::Agent;
use daymark_node::events;
use daymark_sys::ns::isolated_test;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value as Json, json};

async fn create(client: &Client, path: &str, body: &Json) {
    let request = axum::http::Request::post(path).header("content-type", "application/json");
    let request = request.body(body.to_string().into_bytes());
    let answer: Result<Json, _> = client.request(request.expect("a request")).await;
    answer.unwrap_or_else(|error| panic!("{path}: {error}"));
}

const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn service(client: &Client, name: &str, annotations: Json) {
    let service = json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "targetPort": 8080 }] } });
    create(client, SERVICES, &service).await;
}

/// A slice that no API server of ours would store: an older one may have it.
fn slice(name: &str, service: &str) -> Json {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("uid-of-{name}"),
            "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.244.1.500"] }, { "addresses": ["::ffff:10.244.1.6"] }, { "addresses": ["fd00::7"] }],
        "ports": [{ "name": "", "port": 70_000, "protocol": "TCP" }, { "name": "q", "port": 443, "protocol": "QUIC" }] })
}

/// The API, with those slices in place of its own.
fn bent(api: &ApiServer) -> Router {
    let line =
        |kind: &str, object: Json| format!("{}\n", json!({ "type": kind, "object": object }));
    let end = json!({ "metadata": { "resourceVersion": "7", "annotations": { "k8s.io/initial-events-end": "true" } } });
    let lines = line("ADDED", slice("web-1", "web")) + &line("ADDED", slice("orphan-1", "orphan"));
    let lines = lines + &line("BOOKMARK", end);
    let answer = move || {
        let lines = Bytes::from(lines.clone());
        let first = futures::stream::iter([Ok::<_, std::convert::Infallible>(lines)]);
        async move { Body::from_stream(first.chain(futures::stream::pending())) }
    };
    let slices = "/apis/discovery.k8s.io/v1/endpointslices";
    Router::new()
        .route(slices, get(answer))
        .fallback_service(api.router())
}

/// What Events say, as `KIND NAME UID: MESSAGE`, in order.
async fn told(client: &Client) -> Vec<String> {
    let events: Api<Event> = Api::all(client.clone());
    let all = events.list(&ListParams::default()).await.expect("Events");
    let unusable = all.items.into_iter().filter(|event| {
        event.reason.as_deref() == Some("UnusableValue")
            && event.type_.as_deref() == Some("Warning")
    });
    let mut told: Vec<_> = unusable
        .map(|event| {
            let about = event.involved_object;
            let [kind, name] = [about.kind, about.name].map(Option::unwrap_or_default);
            assert!(
                about.uid.is_some_and(|uid| !uid.is_empty()),
                "{kind} {name}"
            );
            format!("{kind} {name}: {}", event.message.unwrap_or_default())
        })
        .collect();
    told.sort();
    told
}

async fn story() {
    let api = ApiServer::open(Config::default()).expect("a server in memory");
    let client = Client::new(bent(&api), "default");
    let addresses = json!([{ "type": "InternalIP", "address": "172.30.0.11" }]);
    let node = json!({ "metadata": { "name": "node-1" }, "status": { "addresses": addresses } });
    create(&client, "/api/v1/nodes", &node).await;
    service(&client, "web", json!({})).await;
    service(&client, "good", json!({})).await;
    let many = "not-an-address,".repeat(10_000);
    service(
        &client,
        "hostile",
        json!({ "metallb.io/loadBalancerIPs": many }),
    )
    .await;

    let (notices, board) = events::board();
    let (status, mut plane) = plane_channel(PlaneStatus::Starting);
    let kernel = Program::default();
    let flags = TableFlags::NONE;
    let options = Options {
        node_name: "node-1".into(),
        ..Options::default()
    };
    let agent = Agent::start(kernel, flags, options, status, Arc::default(), notices);
    let agent = Arc::new(agent.expect("an agent"));
    let feed = Feed::start(&client, Feeds::node("node-1"));
    let publishing = board.publish(client.clone(), "node-1".to_owned(), agent.orders());
    let publishing = tokio::spawn(publishing);
    let follower = Arc::clone(&agent);
    let subscription = feed.subscribe();
    let following = tokio::spawn(async move { follower.follow(subscription, None).await });
    let committed = plane.wait_for(|status| matches!(status, PlaneStatus::Committed { .. }));
    let soon = Duration::from_secs(20);
    let committed = tokio::time::timeout(soon, committed).await;
    committed.expect("in time").expect("the agent runs");

    let mut seen = Vec::new();
    for _ in 0..200 {
        seen = told(&client).await;
        if seen.len() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let [orphan, hostile, web] = seen.try_into().expect("three Events");
    let fields = "ports[0].port: 70000 is not a port (1 to 65535); it is left out; ";
    assert!(
        orphan.starts_with(&format!("EndpointSlice orphan-1: {fields}")),
        "{orphan}"
    );
    assert!(
        web.starts_with(&format!("Service web: EndpointSlice web-1: {fields}")),
        "{web}"
    );
    for part in ["and 1 more: see", "endpointslice.kubernetes.io/managed-by"] {
        assert!(web.contains(part), "{part} in {web}");
    }
    assert!(
        hostile.starts_with("Service hostile: metadata.annotations["),
        "{hostile}"
    );
    assert!(hostile.contains("has 10000 entries"), "{hostile}");
    assert!(hostile.len() < 1100, "{}", hostile.len());

    following.abort();
    let _ = following.await;
    publishing.abort();
    let agent = Arc::into_inner(agent).expect("nobody else has it");
    agent.stop();
}

#[test]
fn values_that_cannot_be_used_are_told_on_what_they_cost_something() {
    let test = "values_that_cannot_be_used_are_told_on_what_they_cost_something";
    isolated_test(test, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(story());
    });
}
