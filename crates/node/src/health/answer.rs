//! The body of `/healthz`, `/livez` and `/readyz`, as kube-proxy writes it (kubernetes `pkg/proxy/healthcheck/proxy_health.go`).

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use daymark_model::Family;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Shared, page};
use crate::clock;
use crate::metrics::kube_proxy::Probe;

/// `healthy` without the Node, and whether the Node is eligible, if that is asked.
pub(super) fn answer(shared: &Shared, probe: Probe, state: (bool, Option<bool>)) -> Response {
    let (code, response) = respond(shared, state);
    shared.metrics.kube_proxy.probed(probe, code.as_u16());
    response
}

/// The same for a page that kube-proxy does not have, and so does not count.
pub(super) fn respond(shared: &Shared, state: (bool, Option<bool>)) -> (StatusCode, Response) {
    let good = state.0 && state.1 != Some(false);
    let code = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let updated = shared.metrics.kube_proxy.updated();
    let body = body(clock::timestamp(), updated, state);
    (code, (code, page("application/json", body)).into_response())
}

/// While all is well "lastUpdated" is now, for old clients that take its age for a sign.
pub(super) fn body(
    now: Timestamp,
    updated: Option<Timestamp>,
    (healthy, eligible): (bool, Option<bool>),
) -> String {
    let good = healthy && eligible != Some(false);
    let mut body = Map::new();
    let last = if good { Some(now) } else { updated };
    body.insert("lastUpdated".to_owned(), time(last));
    body.insert("currentTime".to_owned(), time(Some(now)));
    if let Some(eligible) = eligible {
        body.insert("nodeEligible".to_owned(), Value::Bool(eligible));
    }
    body.insert("healthy".to_owned(), Value::Bool(good));
    let families = Family::BOTH.map(|family| {
        let status = json!({"lastUpdated": time(updated), "healthy": healthy});
        (family.to_string(), status)
    });
    body.insert("status".to_owned(), families.into_iter().collect());
    Value::Object(body).to_string()
}

/// Go writes a time that was never set so.
fn time(when: Option<Timestamp>) -> Value {
    let never = || "0001-01-01T00:00:00Z".to_owned();
    Value::String(when.map_or_else(never, |when| when.to_string()))
}
