//! Requests that are refused, one by one.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{CONFIG_MAPS, ask, config_map, server};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_not_served_says_so() {
    let server = server();
    let map = || config_map("a", "1");
    let one = format!("{CONFIG_MAPS}/a");
    let rows = [
        (
            Method::POST,
            CONFIG_MAPS,
            "application/vnd.kubernetes.protobuf",
            map(),
            415,
            "kubectl: create -f",
        ),
        (
            Method::PATCH,
            one.as_str(),
            "application/apply-patch+yaml",
            map(),
            415,
            "server-side apply",
        ),
        (
            Method::PATCH,
            one.as_str(),
            "application/json",
            map(),
            415,
            "accepted media types",
        ),
        (
            Method::GET,
            "/api/v1/namespaces/default/pods/p/log",
            "",
            Value::Null,
            404,
            "pods/log is not served",
        ),
        (
            Method::GET,
            "/apis/apps/v1/deployments",
            "",
            Value::Null,
            404,
            "could not find",
        ),
        (
            Method::GET,
            "/openapi/v2",
            "",
            Value::Null,
            404,
            "could not find",
        ),
        (
            Method::POST,
            one.as_str(),
            "application/json",
            map(),
            405,
            "does not allow this method",
        ),
        (
            Method::DELETE,
            "/api/v1/namespaces/default/configmaps/a?propagationPolicy=Orphan",
            "",
            Value::Null,
            400,
            "ownerReferences",
        ),
        (
            Method::PUT,
            one.as_str(),
            "application/json",
            map(),
            404,
            "configmaps \"a\" not found",
        ),
        (
            Method::PUT,
            one.as_str(),
            "application/json",
            config_map("b", "1"),
            404,
            "not found",
        ),
        (
            Method::PATCH,
            one.as_str(),
            "application/merge-patch+json",
            json!([]),
            400,
            "must be an object",
        ),
    ];
    for (method, url, media, body, code, text) in rows {
        let (found, _, status) = ask(&server, method.clone(), url, media, body).await;
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!(
            (found, &status["kind"]),
            (code, &json!("Status")),
            "{method} {url}: {message}"
        );
        assert!(
            message.contains(text),
            "{method} {url}: {message:?} lacks {text:?}"
        );
    }
}
