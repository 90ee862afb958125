//! `/healthz`, `/livez` and `/readyz`, `/metrics` and `/metrics/slis`, `/proxyMode` and `/configz`, at kube-proxy's ports and paths.

mod answer;
mod port;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{self, ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use daymark_feed::record::Eligibility;
use daymark_feed::{PlaneReceiver, PlaneStatus};
use thiserror::Error;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::metrics::format::Format;
use crate::metrics::kube_proxy::Probe;
use crate::metrics::{Metrics, process};

pub use port::Port;

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

/// Where a port is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address; all zeros of IPv6 are those of IPv4 too.
    pub address: SocketAddr,
    /// What follows when it is taken.
    pub busy: Busy,
}

/// What follows when an address cannot be bound (`bindAddressHardFail`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The agent does not start.
    Fail,
    /// It is tried again after [`AGAIN`], for ever.
    TryAgain,
}

/// How long until a taken address is tried again.
pub const AGAIN: Duration = Duration::from_secs(5);

/// Whether the proxy does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The kernel holds a state and follows the API.
    Healthy,
    /// It does not, or nobody knows.
    Unhealthy,
}

/// The health of a proxy, as `/healthz` says it and health checks of Services do. It is not healthy when a change waits for
/// longer than `patience`, whether commits fail or one of them does not return, and before its first state, unless the kernel
/// serves an earlier agent's.
#[must_use]
pub fn health(plane: &PlaneReceiver, metrics: &Metrics, patience: Duration) -> Health {
    let serves = *plane.borrow() != PlaneStatus::Starting || metrics.adopted();
    if serves && is_live(plane, metrics, patience) {
        Health::Healthy
    } else {
        Health::Unhealthy
    }
}

/// Whether the plane's thread lives, and brings changes to the kernel in time; without that only a restart helps.
fn is_live(plane: &PlaneReceiver, metrics: &Metrics, patience: Duration) -> bool {
    let waits = metrics.behind().max(metrics.at_work());
    is_alive(plane) && waits.unwrap_or_default() < patience
}

/// Whether the plane's thread lives: it holds the other end of the channel.
fn is_alive(plane: &PlaneReceiver) -> bool {
    *plane.borrow() == PlaneStatus::NoPlane || plane.has_changed().is_ok()
}

#[derive(Clone)]
struct Shared {
    plane: PlaneReceiver,
    metrics: Arc<Metrics>,
    patience: Duration,
}

/// Opens the health port. A node is not healthy when a change waits for longer than `patience`.
///
/// # Errors
/// If the address cannot be bound, and has to be.
pub async fn serve_health(
    port: Arc<Port>,
    plane: PlaneReceiver,
    metrics: Arc<Metrics>,
    patience: Duration,
) -> Result<impl Future<Output = ()>, BindError> {
    serve(
        port,
        health_routes(),
        Shared {
            plane,
            metrics,
            patience,
        },
    )
    .await
}

/// What the metrics port says beside the agent's own counters.
#[derive(Clone)]
pub struct Pages {
    /// Lines of other parts of the agent for `/metrics`.
    pub lines: Arc<dyn Fn() -> String + Send + Sync>,
    /// The configuration as JSON, for `/configz`.
    pub configz: Arc<str>,
}

/// Opens the metrics port.
///
/// # Errors
/// If the address cannot be bound, and has to be.
pub async fn serve_metrics(
    port: Arc<Port>,
    plane: PlaneReceiver,
    metrics: Arc<Metrics>,
    pages: Pages,
) -> Result<impl Future<Output = ()>, BindError> {
    serve(
        port,
        metrics_routes(pages),
        Shared {
            plane,
            metrics,
            patience: PATIENCE,
        },
    )
    .await
}

fn health_routes() -> Router<Shared> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}

fn metrics_routes(pages: Pages) -> Router<Shared> {
    let Pages { lines, configz } = pages;
    let all = move |State(shared): State<Shared>, headers: HeaderMap| {
        let lines = Arc::clone(&lines);
        // Counters of the kernel are read, which may take a while.
        let families = move || shared.metrics.families() + &process::lines() + &lines();
        async move {
            match tokio::task::spawn_blocking(families).await {
                Ok(families) => counted(&headers, &families),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    let slis = |headers: HeaderMap| async move { counted(&headers, &process::start_line()) };
    let configz = move || async move { page("application/json", configz.to_string()) };
    Router::new()
        .route("/metrics", get(all))
        .route("/metrics/slis", get(slis))
        .route("/healthz", get(|| async { page(TEXT, "ok".to_owned()) }))
        .route(
            "/proxyMode",
            get(|| async { page(TEXT, "nftables".to_owned()) }),
        )
        .route("/configz", get(configz))
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Families of counters in the form that was asked for.
fn counted(headers: &HeaderMap, families: &str) -> Response {
    let accept = headers.get_all(ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    let format = Format::negotiate(&accept.join(","));
    page(format.content_type(), format.write(families))
}

/// The field `Server` of every answer at these ports (RFC 9110 section 10.2.4), which kube-proxy does not send: who asks for
/// kube-proxy's health can tell that it is not kube-proxy's.
pub const SERVER: &str = "daymark";

/// An answer of that type, which no browser takes for another.
fn page(kind: &'static str, body: String) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::SERVER, SERVER),
    ];
    (headers, body).into_response()
}

async fn serve(
    port: Arc<Port>,
    router: Router<Shared>,
    shared: Shared,
) -> Result<impl Future<Output = ()>, BindError> {
    let Place { address, busy } = port.place;
    let failed = |source| {
        let error = BindError {
            address,
            what: port.kind.what(),
            flag: port.kind.flag(),
            source,
        };
        port.set(Some(error.to_string()));
        error
    };
    let first = match bind(address).await {
        Ok(listener) => Some(listener),
        Err(source) if busy == Busy::Fail => return Err(failed(source)),
        Err(source) => {
            let error = failed(source);
            warn!(%error, again = ?AGAIN, "tried again");
            None
        }
    };
    Ok(async move {
        let listener = match first {
            Some(listener) => listener,
            None => bind_at_last(&port).await,
        };
        // It ends with the process: an accept error is retried inside.
        let _ = axum::serve(listener, router.with_state(shared)).await;
    })
}

async fn bind_at_last(port: &Port) -> TcpListener {
    let address = port.address();
    loop {
        tokio::time::sleep(AGAIN).await;
        if let Ok(listener) = bind(address).await {
            port.set(None);
            info!(%address, "the address is free now");
            return listener;
        }
    }
}

/// `[::]` means every address: where the machine has no IPv6 that is every IPv4 one.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Whether load balancers should send to this node: its proxy is healthy, and the Node is there to stay.
async fn healthz(State(shared): State<Shared>) -> Response {
    // Before the first state nothing is known of the Node; if there are tables that serve, they do.
    let eligible = match shared.metrics.eligibility() {
        Some(node) => node == Eligibility::Eligible,
        None => *shared.plane.borrow() == PlaneStatus::Starting,
    };
    let healthy = health(&shared.plane, &shared.metrics, shared.patience) == Health::Healthy;
    answer::answer(&shared, Probe::Health, (healthy, Some(eligible)))
}

/// Whether the proxy does its work, whatever becomes of the Node.
async fn livez(State(shared): State<Shared>) -> Response {
    let live = is_live(&shared.plane, &shared.metrics, shared.patience);
    answer::answer(&shared, Probe::Life, (live, None))
}

/// Whether this process itself has brought a state of the API to the kernel, which tables of an agent before it say nothing
/// about: one that may not read the API, or cannot trust it, has not, and a rollout has to stop at it. kube-proxy has no such page.
async fn readyz(State(shared): State<Shared>) -> Response {
    let loaded = *shared.plane.borrow() != PlaneStatus::Starting;
    let ready = loaded && is_live(&shared.plane, &shared.metrics, shared.patience);
    answer::respond(&shared, (ready, None)).1
}

/// A failing commit is tried again within milliseconds; after so long it will not heal by itself.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
