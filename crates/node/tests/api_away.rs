//! The API is away for longer than anybody waits: the kernel holds what it held, whatever is done to its tables is mended, and
//! what changed meanwhile comes with the API's return. An agent that starts meanwhile touches nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use daymark_apiserver::{ApiServer, Config};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Kernel;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{Words, all_tables, backend_of, decode_frontend_key, set};
use daymark_feed::{Config as Feeds, Feed, PlaneStatus, Retry, plane_channel};
use daymark_model::{Family, FrontendKey, Options};
use daymark_netlink::nft::{Message, Value};
use daymark_node::agent::Agent;
use daymark_node::metrics::Metrics;
use daymark_node::{events, foreign};
use daymark_sys::ns::isolated_test;
use futures::StreamExt;
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tower::ServiceExt;

/// How the agent finds the API.
#[derive(Clone)]
enum Api {
    There(Router),
    /// It is away, and what was open is cut.
    Away,
}

async fn gate(mut api: watch::Receiver<Api>, request: Request) -> Response {
    let Api::There(router) = api.borrow_and_update().clone() else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let answer = router.oneshot(request).await.expect("a router answers");
    let (head, body) = answer.into_parts();
    let cut = async move {
        if api.changed().await.is_err() {
            std::future::pending().await
        }
    };
    let body = body.into_data_stream().take_until(Box::pin(cut));
    Response::from_parts(head, Body::from_stream(body))
}

/// An agent that watches the API through the gate, until it is stopped.
struct Running {
    agent: Arc<Agent>,
    following: tokio::task::JoinHandle<()>,
    metrics: Arc<Metrics>,
}

fn start(api: &watch::Receiver<Api>) -> Running {
    let api = api.clone();
    let router = Router::new().fallback(move |request| gate(api.clone(), request));
    let client = Client::new(router, "default");
    let kernel = Netlink::open().expect("a netfilter socket");
    let own = kernel.port();
    let metrics = Arc::new(Metrics::default());
    let (status, _) = plane_channel(PlaneStatus::Starting);
    let notices = events::board().0;
    let agent = Agent::start(
        kernel,
        TableFlags::NONE,
        Options::default(),
        status,
        Arc::clone(&metrics),
        notices,
    );
    let agent = Arc::new(agent.expect("an agent"));
    foreign::follow(own, agent.orders()).expect("a watch");
    let retry = Retry {
        first: Duration::from_millis(5),
        longest: Duration::from_millis(300),
        longest_away: Duration::from_millis(300),
    };
    let config = Feeds {
        retry,
        ..Feeds::node("node-1")
    };
    let follower = Arc::clone(&agent);
    let following = tokio::spawn(async move {
        let feed = Feed::start(&client, config);
        follower.follow(feed.subscribe(), None).await;
    });
    Running {
        agent,
        following,
        metrics,
    }
}

impl Running {
    async fn stop(self) {
        self.following.abort();
        let _ = self.following.await;
        let agent = Arc::into_inner(self.agent).expect("nobody else has it");
        agent.stop();
    }
}

/// What the kernel serves: addresses, and where they lead to.
fn served() -> BTreeSet<String> {
    let mut kernel = Netlink::open().expect("a netfilter socket");
    let words = Words::of(Family::V4);
    let mut all = BTreeSet::new();
    let tables = all_tables().filter_map(|table| kernel.read(&table).expect("readable"));
    for list in tables.flat_map(|ruleset| ruleset.elements) {
        for elem in &list.elems {
            let key = decode_frontend_key(Family::V4, &list.set, &elem.key);
            match (&elem.value, key) {
                (Value::Data(data), _) if *list.set == *set::SLOTS => {
                    all.extend(backend_of(&words, data).map(|to| to.to_string()));
                }
                (_, Some(FrontendKey::Address { ip, .. }))
                    if set::FRONTENDS.contains(&&*list.set) && !ip.is_ipv6() =>
                {
                    all.insert(ip.to_string());
                }
                _ => {}
            }
        }
    }
    all
}

fn set_of(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

async fn call(client: &Client, method: &str, path: &str, body: Json) {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    if method == "PATCH" {
        request = request.header("content-type", "application/merge-patch+json");
    } else {
        request = request.header("content-type", "application/json");
    }
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = request.body(body).expect("a request");
    let answer: Result<Json, _> = client.request(request).await;
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

async fn node(client: &Client) {
    let addresses = json!([{ "type": "InternalIP", "address": "172.30.0.11" }]);
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" }, "status": { "addresses": addresses } });
    call(client, "POST", "/api/v1/nodes", node).await;
}

/// A Service with an endpoint.
async fn service(client: &Client, name: &str, ip: &str, endpoint: &str) {
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "clusterIP": ip, "ports": [{ "port": 80, "targetPort": 8080 }] } });
    call(client, "POST", SERVICES, service).await;
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "endpoints": [{ "addresses": [endpoint], "conditions": { "ready": true } }],
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }] });
    call(client, "POST", SLICES, slice).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let end = now() + Duration::from_secs(10);
    loop {
        let Err(why) = holds() else { return };
        assert!(now() < end, "{what}: {why}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_served(what: &str, expected: &BTreeSet<String>) {
    let holds = || match served() {
        now if now == *expected => Ok(()),
        now => Err(format!("{now:?}, expected {expected:?}")),
    };
    until(what, holds).await;
}

/// For this time nothing but this is served.
async fn stays(what: &str, expected: &BTreeSet<String>, time: Duration) {
    let end = now() + time;
    while now() < end {
        assert_eq!(served(), *expected, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Another program deletes both tables.
fn flush() {
    let mut other = Netlink::open().expect("a netfilter socket");
    let tables = Family::BOTH.map(|family| Words::of(family).table());
    let messages = tables.map(|table| Message::DelTable { table });
    other.commit(&messages).expect("no owner");
}

/// Far more than the longest wait between two attempts.
const LONG: Duration = Duration::from_secs(2);

async fn story() {
    let server = ApiServer::open(Config::default()).expect("a server in memory");
    let direct = Client::new(server.router(), "default");
    node(&direct).await;
    service(&direct, "stays", "10.96.0.20", "10.244.1.5").await;
    service(&direct, "goes", "10.96.0.21", "10.244.1.6").await;
    let (api, gate) = watch::channel(Api::There(server.router()));
    // The API's own Service is there too; it has no endpoint.
    let own = "10.96.0.1";
    let before = set_of(&[
        own,
        "10.96.0.20",
        "10.244.1.5:8080",
        "10.96.0.21",
        "10.244.1.6:8080",
    ]);
    let first = start(&gate);
    until_served("the first state", &before).await;

    api.send_replace(Api::Away);
    stays("the API is away", &before, LONG).await;
    flush();
    until_served("mended without the API", &before).await;
    assert!(
        first
            .metrics
            .families()
            .contains("daymark_plane_repairs_total 1\n")
    );
    call(&direct, "DELETE", &format!("{SERVICES}/goes"), Json::Null).await;
    call(&direct, "DELETE", &format!("{SLICES}/goes"), Json::Null).await;
    service(&direct, "comes", "10.96.0.22", "10.244.1.7").await;
    stays("nobody can know", &before, LONG / 4).await;

    // An agent that starts now adopts, and waits.
    first.stop().await;
    let second = start(&gate);
    stays("an agent without an API", &before, LONG / 2).await;
    api.send_replace(Api::There(server.router()));
    let after = set_of(&[
        own,
        "10.96.0.20",
        "10.244.1.5:8080",
        "10.96.0.22",
        "10.244.1.7:8080",
    ]);
    until_served("all that changed meanwhile", &after).await;

    // It goes again, and another one comes in its place that knows nothing of the revisions that this agent has seen.
    api.send_replace(Api::Away);
    stays("away again", &after, LONG / 4).await;
    let restored = ApiServer::open(Config::default()).expect("a server in memory");
    let direct = Client::new(restored.router(), "default");
    node(&direct).await;
    service(&direct, "stays", "10.96.0.20", "10.244.1.9").await;
    api.send_replace(Api::There(restored.router()));
    let restored = set_of(&[own, "10.96.0.20", "10.244.1.9:8080"]);
    until_served("what the other one knows", &restored).await;
    second.stop().await;
}

#[test]
fn an_api_that_is_away_takes_nothing_and_brings_what_changed_meanwhile() {
    let test = "an_api_that_is_away_takes_nothing_and_brings_what_changed_meanwhile";
    isolated_test(test, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(story());
    });
}

#[allow(clippy::disallowed_methods, reason = "a test measures time")]
fn now() -> Instant {
    Instant::now()
}
