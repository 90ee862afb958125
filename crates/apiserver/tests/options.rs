//! The options of writes, in the query of the URL.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{CONFIG_MAPS, ask, config_map, server};
use http::Method;
use serde_json::Value;

#[tokio::test]
async fn an_option_that_is_not_known_is_refused_in_the_name_of_its_verb() {
    let server = server();
    let one = format!("{CONFIG_MAPS}/a");
    let dry = "dryRun: Unsupported value: \"foo\": supported values: \"All\"";
    let fields = "fieldValidation: Unsupported value: \"foo\": supported values: \"Ignore\", \"Warn\", \"Strict\"";
    let rows = [
        (Method::POST, CONFIG_MAPS, "dryRun", "CreateOptions", dry),
        (Method::PUT, &one, "dryRun", "UpdateOptions", dry),
        (Method::PATCH, &one, "dryRun", "PatchOptions", dry),
        (Method::DELETE, &one, "dryRun", "DeleteOptions", dry),
        (Method::DELETE, CONFIG_MAPS, "dryRun", "DeleteOptions", dry),
        (
            Method::POST,
            CONFIG_MAPS,
            "fieldValidation",
            "CreateOptions",
            fields,
        ),
        (
            Method::PUT,
            &one,
            "fieldValidation",
            "UpdateOptions",
            fields,
        ),
        (
            Method::PATCH,
            &one,
            "fieldValidation",
            "PatchOptions",
            fields,
        ),
    ];
    for (method, url, option, kind, why) in rows {
        let (media, body) = match method {
            Method::PATCH => ("application/merge-patch+json", config_map("a", "1")),
            Method::DELETE => ("", Value::Null),
            _ => ("application/json", config_map("a", "1")),
        };
        let query = format!("{url}?{option}=foo");
        let (code, _, status) = ask(&server, method.clone(), &query, media, body).await;
        assert_eq!(
            (code, status["message"].as_str()),
            (
                422,
                Some(format!("{kind}.meta.k8s.io \"\" is invalid: {why}").as_str())
            ),
            "{method} {query}"
        );
    }
    // A delete reads no fields.
    let query = format!("{one}?fieldValidation=foo");
    let (code, ..) = ask(&server, Method::DELETE, &query, "", Value::Null).await;
    assert_eq!(code, 404);
}
