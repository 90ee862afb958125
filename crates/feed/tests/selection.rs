//! What is asked for, against the embedded API: an object that leaves the selection goes, one that enters it comes.
#![allow(clippy::unwrap_used, reason = "a test: whatever is missing fails it")]

use std::collections::BTreeSet;
use std::time::Duration;

use daymark_apiserver::{ApiServer, Config as Server};
use daymark_feed::{Config, Event, Feed, Subscription};
use daymark_model::Change;
use http::Request;
use kube::Client;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const HEADLESS: &str = "service.kubernetes.io/headless";
const PROXY: &str = "service.kubernetes.io/service-proxy-name";

async fn call(client: &Client, method: &str, path: &str, body: Value) {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", kind);
    let request = request.body(body.to_string().into_bytes()).unwrap();
    let answer: Result<Value, kube::Error> = client.request(request).await;
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
}

async fn service(client: &Client, name: &str, spec: Value) {
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    call(client, "POST", SERVICES, service).await;
}

async fn slice(client: &Client, name: &str, labels: Value) {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": name, "labels": labels},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
    });
    call(client, "POST", SLICES, slice).await;
}

/// What a part of an agent knows.
struct Known {
    subscription: Subscription,
    _feed: Feed,
    names: BTreeSet<String>,
}

impl Known {
    fn start(client: &Client, config: Config) -> Self {
        let feed = Feed::start(client, config);
        Self {
            subscription: feed.subscribe(),
            _feed: feed,
            names: BTreeSet::new(),
        }
    }

    /// Takes batches in until these are the objects that are known.
    async fn until(&mut self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let limit = tokio::time::timeout(Duration::from_secs(10), async {
            while self.names != expected {
                let batch = self.subscription.next().await.unwrap();
                batch.events.iter().for_each(|event| self.take(event));
            }
        });
        let ended = limit.await;
        assert!(ended.is_ok(), "{:?} is not {expected:?}", self.names);
    }

    fn take(&mut self, event: &Event) {
        let (name, is_there) = match event {
            Event::Model(Change::Service(key, service)) => {
                (format!("service {}", key.name), service.is_some())
            }
            Event::Model(Change::Slice(key, slice)) => {
                (format!("slice {}", key.name), slice.is_some())
            }
            _ => return,
        };
        if name == "service kubernetes" || name == "slice kubernetes" {
            return;
        }
        if is_there {
            self.names.insert(name);
        } else {
            self.names.remove(&name);
        }
    }
}

#[tokio::test]
async fn what_leaves_the_selection_goes_and_what_enters_it_comes() {
    let server = ApiServer::open(Server::default()).unwrap();
    let client = Client::new(server.router(), "default");
    let own = |name: &str| json!({"kubernetes.io/service-name": name});
    service(&client, "web", json!({"ports": [{"port": 80}]})).await;
    let headless = json!({"clusterIP": "None", "ports": [{"port": 80}]});
    service(&client, "db", headless).await;
    let alias = json!({"type": "ExternalName", "externalName": "example.com"});
    service(&client, "alias", alias).await;
    slice(&client, "web-1", own("web")).await;
    let hidden = json!({"kubernetes.io/service-name": "db", HEADLESS: ""});
    slice(&client, "db-1", hidden).await;

    let node = Config::node("node-1");
    let mut dns = Known::start(&client, node.clone());
    let mut proxy = Known::start(&client, node.without_dns());
    let all = [
        "service web",
        "service db",
        "service alias",
        "slice web-1",
        "slice db-1",
    ];
    dns.until(&all).await;
    proxy
        .until(&["service web", "service alias", "slice web-1"])
        .await;

    // A label, whatever its value, hides a slice; without it, it is there.
    let label = |value: Value| json!({"metadata": {"labels": {HEADLESS: value}}});
    let path = format!("{SLICES}/web-1");
    call(&client, "PATCH", &path, label(json!("no"))).await;
    proxy.until(&["service web", "service alias"]).await;
    call(&client, "PATCH", &path, label(Value::Null)).await;
    proxy
        .until(&["service web", "service alias", "slice web-1"])
        .await;
    let path = format!("{SLICES}/db-1");
    call(&client, "PATCH", &path, label(Value::Null)).await;
    let shown = ["service web", "service alias", "slice web-1", "slice db-1"];
    proxy.until(&shown).await;

    // A Service becomes headless; that of another proxy is still known, since its address is left alone.
    let becomes = json!({"spec": {"type": "ClusterIP", "externalName": null, "clusterIP": "None", "ports": [{"port": 80}]}});
    call(&client, "PATCH", &format!("{SERVICES}/alias"), becomes).await;
    let other = json!({"metadata": {"labels": {PROXY: "other"}}});
    call(&client, "PATCH", &format!("{SERVICES}/web"), other).await;
    proxy
        .until(&["service web", "slice web-1", "slice db-1"])
        .await;
    call(&client, "DELETE", &format!("{SERVICES}/db"), json!({})).await;
    call(&client, "DELETE", &format!("{SERVICES}/web"), json!({})).await;
    proxy.until(&["slice web-1", "slice db-1"]).await;
    dns.until(&["service alias", "slice web-1", "slice db-1"])
        .await;
}
