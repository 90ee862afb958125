//! What a health check answers, byte for byte as kube-proxy does (kubernetes `pkg/proxy/healthcheck/service_health.go`):
//! load balancers and those who watch them read the code, the weight and the object.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response, StatusCode};
use daymark_model::listeners::{HealthCheck, HealthCheckKey};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{AskHealth, HealthChecks};
use crate::health::Health;
use crate::sockets::accept;
use crate::sockets::room::{Bounds, Room, Stream};

/// How many endpoints are here, for load balancers that weigh nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// A prober has one connection, and an answer takes no time: one more than this ends the one that has been idle the longest.
const BOUNDS: Bounds = Bounds {
    of_each: 128,
    of_all: 128,
    idle: Duration::ZERO,
};
/// The most bytes of a request's head.
const MOST_OF_A_REQUEST: usize = 16 * 1024;
/// How long a request may take to arrive, and a connection be idle between two.
const PATIENCE: Duration = Duration::from_secs(30);

/// Accepts and answers until it is dropped.
pub(super) async fn listen(
    listener: TcpListener,
    at: HealthCheckKey,
    checks: Arc<HealthChecks>,
    health: AskHealth,
) {
    let share = Room::new(BOUNDS).share();
    let mut connections = JoinSet::new();
    loop {
        let stream = accept(&listener).await;
        let place = share.place().await;
        while connections.try_join_next().is_some() {}
        let (checks, health) = (Arc::clone(&checks), Arc::clone(&health));
        let stream = place.stream(stream);
        connections.spawn(place.hold(converse(stream, at, checks, health)));
    }
}

async fn converse(
    stream: Stream<TcpStream>,
    at: HealthCheckKey,
    checks: Arc<HealthChecks>,
    health: AskHealth,
) {
    let service = service_fn(|_| {
        let answer = answer(checks.of(at).as_deref(), health());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let serving = http1::Builder::new()
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MOST_OF_A_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    // However it ends, it is the client's business.
    let _ = serving.await;
}

/// Any path and any method. A check that has just gone has no endpoint.
fn answer(check: Option<&HealthCheck>, health: Health) -> Response<Body> {
    let count = check.map_or(0, |check| check.endpoints.len());
    let body = check.map_or_else(String::new, |check| body(check, health));
    let mut response = Response::new(Body::from(body));
    if count == 0 || health == Health::Unhealthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(count));
    response
}

/// Namespaces and names are of letters that JSON does not escape.
fn body(check: &HealthCheck, health: Health) -> String {
    let service = &check.service;
    format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {},\n\t\
         \"serviceProxyHealthy\": {}\n}}",
        service.namespace,
        service.name,
        check.endpoints.len(),
        health == Health::Healthy,
    )
}
