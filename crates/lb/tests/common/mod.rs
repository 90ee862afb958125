//! An API server in memory, and objects to put into it.
#![allow(clippy::unwrap_used, reason = "a test: whatever is missing fails it")]
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::time::Duration;

use daymark_apiserver::{ApiServer, Config};
use http::Request;
use kube::Client;
use serde_json::{Value, json};

pub(crate) fn server() -> ApiServer {
    ApiServer::open(Config::default()).expect("a server in memory opens")
}

pub(crate) fn client(server: &ApiServer) -> Client {
    Client::new(server.router(), "default")
}

/// One request with a JSON body, its answer as JSON.
pub(crate) async fn call(client: &Client, method: &str, path: &str, body: Value) -> Value {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body)
        .unwrap();
    client
        .request(request)
        .await
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

pub(crate) async fn get(client: &Client, path: &str) -> Value {
    call(client, "GET", path, Value::Null).await
}

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const POOLS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools";
pub(crate) const ADVERTISEMENTS: &str =
    "/apis/metallb.io/v1beta1/namespaces/metallb-system/l2advertisements";

/// The namespace of the pools.
pub(crate) async fn metallb_namespace(client: &Client) {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "metallb-system" } });
    call(client, "POST", "/api/v1/namespaces", namespace).await;
}

pub(crate) fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": { "name": name, "namespace": "metallb-system" }, "spec": { "addresses": addresses },
    })
}

pub(crate) fn advertisement(pools: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": { "name": "l2", "namespace": "metallb-system" }, "spec": { "ipAddressPools": pools },
    })
}

pub(crate) fn service(name: &str, more: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    });
    merge(&mut service, more);
    service
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

pub(crate) fn ingress(service: &Value) -> Vec<String> {
    let list = service["status"]["loadBalancer"]["ingress"].as_array();
    list.into_iter()
        .flatten()
        .map(|one| one["ip"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Asks until the answer is right, at most so long.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    limit: Duration,
    ask: impl Fn() -> F,
) -> T {
    let mut last = String::new();
    let found = tokio::time::timeout(limit, async {
        loop {
            match ask().await {
                Ok(found) => return found,
                Err(seen) => last = seen,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {limit:?}; last seen: {last}"),
    }
}
