//! A server in memory and a client over its router.

use axum::body::Body;
use daymark_apiserver::{ApiServer, Config};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};
use tower::ServiceExt;

/// A server of its own for each test.
pub(crate) fn server() -> ApiServer {
    ApiServer::open(Config::default()).expect("a server in memory opens")
}

/// A client with all rights.
pub(crate) fn client(server: &ApiServer) -> Client {
    Client::new(server.router(), "default")
}

/// Sends a raw request; the body is JSON of the given media type.
pub(crate) async fn send(
    server: &ApiServer,
    method: Method,
    url: &str,
    media: &str,
    body: Value,
) -> Response<Body> {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", media);
    let request = request.body(body).expect("a well-formed request");
    server
        .router()
        .oneshot(request)
        .await
        .expect("the router never fails")
}

/// Sends a raw request and reads the JSON answer: code, warnings, body.
pub(crate) async fn ask(
    server: &ApiServer,
    method: Method,
    url: &str,
    media: &str,
    body: Value,
) -> (u16, Vec<String>, Value) {
    let response = send(server, method, url, media, body).await;
    let (parts, body) = response.into_parts();
    let warnings = parts.headers.get_all("warning").iter();
    let warnings = warnings
        .map(|text| text.to_str().expect("ASCII").to_owned())
        .collect();
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (parts.status.as_u16(), warnings, value)
}

/// [`ask`] with a JSON body, answering code and body.
pub(crate) async fn json_request(
    server: &ApiServer,
    method: Method,
    url: &str,
    body: Value,
) -> (u16, Value) {
    let (code, _, body) = ask(server, method, url, "application/json", body).await;
    (code, body)
}

/// A ConfigMap with one entry.
pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({ "metadata": { "name": name, "labels": { "v": value } }, "data": { "v": value } })
}

/// Where ConfigMaps of the namespace `default` are.
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
