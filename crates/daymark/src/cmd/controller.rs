//! `daymark controller`: the cluster-wide half.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use daymark_controllers::{Beside, Metrics, Options, Scheduler};
use daymark_feed::{Feed, Nodes, Wanted};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tracing::info;

use crate::shutdown::{Ending, Work};
use crate::{client, logging};

/// Flags of `daymark controller`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark controller --kubeconfig /etc/daymark/controller.conf
  # In a lab: bind Pods to nodes, and give up on a silent node soon
  daymark controller --kubeconfig controller.conf --schedule --node-grace 3s --metrics 127.0.0.1:10257

One process runs it on a cluster; where kube-controller-manager runs, with --load-balancer-only. Exit code 0 after SIGTERM or SIGINT, 1 if it
could not start.")]
pub(crate) struct Args {
    /// How to reach the API.
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Bind Pods that have no node to the ready node with the fewest.
    #[arg(long)]
    schedule: bool,
    /// Give out load-balancer addresses and leave the rest to kube-controller-manager.
    #[arg(long)]
    load_balancer_only: bool,
    /// How long a node may go without renewing its Lease before it is not ready: 50s, 1500ms, 2m.
    #[arg(long, value_name = "TIME", default_value = "50s", value_parser = parse_time)]
    node_grace: Duration,
    /// Serve /metrics, /healthz and /livez here.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    logging::start();
    let ending = Ending::listen(Work::Endless)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(args, ending));
    // What is on its way is not waited for, such as a name that nobody resolves.
    runtime.shutdown_background();
    served?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args, ending: Ending) -> anyhow::Result<()> {
    let client = client::from_kubeconfig(&args.kubeconfig).await?;
    let metrics = Arc::new(Metrics::default());
    let options = Options {
        scheduler: if args.schedule {
            Scheduler::On
        } else {
            Scheduler::Off
        },
        beside: if args.load_balancer_only {
            Beside::KubeControllerManager
        } else {
            Beside::Nobody
        },
        node_grace: args.node_grace,
        ..Options::default()
    };
    let feed = Feed::start(&client, feed_config());
    let balancer = daymark_lb::controller::Config::default();
    let idle = options.beside != Beside::Nobody && options.scheduler == Scheduler::Off;
    let mut port = pending().boxed();
    if let Some(address) = args.metrics {
        let known = Known {
            feed: Arc::clone(feed.metrics()),
            controllers: (!idle).then(|| Arc::clone(&metrics)),
        };
        port = serve_metrics(address, Arc::clone(&metrics), known).await?;
    }
    let controllers = async {
        if idle {
            return pending().await;
        }
        daymark_controllers::run_with_metrics(client.clone(), options, metrics, pending()).await;
    };
    tokio::select! {
        () = controllers => bail!("the controllers lost their watches"),
        () = port => bail!("the port for metrics ended by itself"),
        () = daymark_lb::controller::run(client.clone(), feed.subscribe(), balancer, pending()) => {
            bail!("the load-balancer controller lost its feed");
        }
        () = ending.serve() => {}
    }
    info!("ended");
    Ok(())
}

/// What giving out load-balancer addresses needs: Services, pools, and Nodes, whose addresses are never given.
fn feed_config() -> daymark_feed::Config {
    daymark_feed::Config {
        pools: Wanted::Yes,
        nodes: Nodes::All { own: None },
        ..daymark_feed::Config::default()
    }
}

/// What has to be known before anything is decided.
struct Known {
    feed: Arc<daymark_feed::Metrics>,
    /// None run beside kube-controller-manager.
    controllers: Option<Arc<Metrics>>,
}

impl Known {
    /// Whether every kind was read once.
    fn is_all(&self) -> bool {
        let kinds = feed_config().kinds();
        let mut counts = kinds.iter().map(|kind| self.feed.kind(*kind));
        counts.all(|kind| kind.lists.load(Ordering::Relaxed) > 0)
            && self
                .controllers
                .as_ref()
                .is_none_or(|metrics| metrics.is_synced())
    }
}

async fn serve_metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    known: Known,
) -> anyhow::Result<BoxFuture<'static, ()>> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        anyhow!("--metrics {address}: cannot listen there: {error}; choose a free address of this machine")
    })?;
    let known = Arc::new(known);
    let healthz = move || async move {
        if known.is_all() {
            (StatusCode::OK, "ok")
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "not all objects are known yet",
            )
        }
    };
    let router = Router::new()
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/healthz", get(healthz))
        .route("/livez", get(|| async { "ok" }));
    // Errors of single connections are its own affair.
    let serving = async {
        let _ = axum::serve(listener, router).await;
    };
    Ok(serving.boxed())
}

/// A number with a unit, as in `3s`, `1500ms`, `2m`, `1h`.
fn parse_time(text: &str) -> anyhow::Result<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .with_context(|| format!("{text:?} is no time: write it as 3s or 1500ms"))?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => bail!("{text:?} has no unit: write it as 3s or 1500ms"),
    };
    let millis = number
        .checked_mul(millis)
        .with_context(|| format!("{text:?} is too long"))?;
    if millis == 0 {
        bail!("{text:?}: a node needs some time to renew its Lease");
    }
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let rows = [
            ("3s", Some(3000)),
            ("1500ms", Some(1500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("3", None),
            ("s", None),
            ("0s", None),
            ("-1s", None),
            ("3 s", None),
            ("99999999999999999999s", None),
            ("9999999999999999h", None),
        ];
        for (text, millis) in rows {
            assert_eq!(
                parse_time(text).ok(),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
