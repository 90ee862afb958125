//! Requests that are refused, one by one: what is not served, and patches that do not fit.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{CONFIG_MAPS, ask, config_map, json_request, server};
use http::Method;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

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
            "the server could not find the requested resource: the resource deployments of apps/v1 is not served",
        ),
        (
            Method::GET,
            "/api/v1/namespaces/default/endpoints/web",
            "",
            Value::Null,
            404,
            "use endpointslices of discovery.k8s.io/v1",
        ),
        (
            Method::POST,
            "/api/v1/namespaces/default/endpoints",
            "application/json",
            json!({ "metadata": { "name": "web" } }),
            404,
            "use endpointslices of discovery.k8s.io/v1",
        ),
        (
            Method::GET,
            CRDS,
            "",
            Value::Null,
            404,
            "customresourcedefinitions of apiextensions.k8s.io/v1 is not served",
        ),
        (
            Method::POST,
            CRDS,
            "application/json",
            json!({ "metadata": { "name": "a.example.com" } }),
            404,
            "kinds cannot be added",
        ),
        (
            Method::GET,
            "/apis/apiextensions.k8s.io",
            "",
            Value::Null,
            404,
            "group apiextensions.k8s.io is not served",
        ),
        (
            Method::GET,
            "/apis/apps/v1",
            "",
            Value::Null,
            404,
            "kubectl api-versions",
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

#[tokio::test]
async fn a_json_patch_is_carried_out_whole_or_names_what_does_not_fit() {
    let rows = [
        (
            json!([{ "op": "replace", "path": "/data/v", "value": "2" }]),
            200,
            "",
        ),
        (
            json!([{ "op": "test", "path": "/data/v", "value": "1" },
                { "op": "replace", "path": "/data/v", "value": "2" }]),
            200,
            "",
        ),
        (
            json!([{ "op": "replace", "path": "/data/v", "value": "2" },
                { "op": "test", "path": "/data/v", "value": "1" }]),
            422,
            "operation '/1' failed at path '/data/v'",
        ),
        (
            json!([{ "op": "replace", "path": "/data/w", "value": "2" }]),
            422,
            "operation '/0' failed at path '/data/w'",
        ),
        (
            json!([{ "op": "remove", "path": "/nothing/there" }]),
            422,
            "operation '/0' failed at path '/nothing/there'",
        ),
        (
            json!([{ "op": "turn", "path": "/data/v" }]),
            400,
            "unknown variant `turn`",
        ),
        (json!({ "data": {} }), 400, "expected a sequence"),
    ];
    for (patch, code, text) in rows {
        let server = server();
        let map = config_map("a", "1");
        assert_eq!(
            json_request(&server, Method::POST, CONFIG_MAPS, map)
                .await
                .0,
            201
        );
        let url = format!("{CONFIG_MAPS}/a");
        let media = "application/json-patch+json";
        let (found, _, answer) = ask(&server, Method::PATCH, &url, media, patch.clone()).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(found, code, "{patch}: {answer}");
        assert!(
            message.contains(text),
            "{patch}: {message:?} lacks {text:?}"
        );
        let (_, held) = json_request(&server, Method::GET, &url, Value::Null).await;
        let expected = if code == 200 { "2" } else { "1" };
        assert_eq!(held["data"]["v"], expected, "{patch}");
    }
}
