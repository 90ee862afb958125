//! `/healthz`, `/livez`, `/proxyMode` and `/metrics`, at kube-proxy's ports and paths.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use daymark_feed::{PlaneReceiver, PlaneStatus};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Why a health or metrics port is not open.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {address} for {what}: {source}; another program has the port, or the address is not this machine's: name another one with {flag}"
)]
pub struct BindError {
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
    #[source]
    source: std::io::Error,
}

#[derive(Clone)]
struct Shared {
    plane: PlaneReceiver,
    metrics: Arc<Metrics>,
}

/// Opens the health port.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve_health(
    address: SocketAddr,
    plane: PlaneReceiver,
    metrics: Arc<Metrics>,
) -> Result<impl Future<Output = ()>, BindError> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez));
    serve(
        address,
        "health checks",
        "--healthz-bind-address",
        router,
        Shared { plane, metrics },
    )
    .await
}

/// Opens the metrics port. `extra` adds lines of other parts of the agent.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve_metrics(
    address: SocketAddr,
    plane: PlaneReceiver,
    metrics: Arc<Metrics>,
    extra: Arc<dyn Fn() -> String + Send + Sync>,
) -> Result<impl Future<Output = ()>, BindError> {
    let text = move |State(shared): State<Shared>| {
        let extra = Arc::clone(&extra);
        async move {
            // OpenMetrics ends with a line of its own, which must stay the last.
            let own = shared.metrics.text();
            let body =
                own.strip_suffix("# EOF\n").unwrap_or(&own).to_owned() + &extra() + "# EOF\n";
            (
                [(
                    "content-type",
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                )],
                body,
            )
        }
    };
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(|| async { "ok" }))
        .route("/proxyMode", get(|| async { "nftables" }));
    serve(
        address,
        "metrics",
        "--metrics-bind-address",
        router,
        Shared { plane, metrics },
    )
    .await
}

async fn serve(
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
    router: Router<Shared>,
    shared: Shared,
) -> Result<impl Future<Output = ()>, BindError> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| BindError {
        address,
        what,
        flag,
        source,
    })?;
    Ok(async move {
        // It ends with the process: an accept error is retried inside.
        let _ = axum::serve(listener, router.with_state(shared)).await;
    })
}

/// Healthy once the kernel holds a first state: before that a load balancer should send nothing here.
async fn healthz(State(shared): State<Shared>) -> (StatusCode, String) {
    answer(*shared.plane.borrow(), &shared.metrics)
}

/// Alive as long as it answers.
async fn livez(State(shared): State<Shared>) -> (StatusCode, String) {
    let (_, body) = answer(*shared.plane.borrow(), &shared.metrics);
    (StatusCode::OK, body)
}

fn answer(plane: PlaneStatus, metrics: &Metrics) -> (StatusCode, String) {
    let (code, healthy, generation) = match plane {
        PlaneStatus::Committed { generation } => (StatusCode::OK, true, generation),
        PlaneStatus::Starting => (StatusCode::SERVICE_UNAVAILABLE, false, 0),
        PlaneStatus::NoPlane => (StatusCode::OK, true, 0),
    };
    let commits = metrics.commits();
    (
        code,
        format!("{{\"healthy\":{healthy},\"generation\":{generation},\"commits\":{commits}}}\n"),
    )
}
