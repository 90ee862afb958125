//! The announcer beside the agent: it starts behind it, and ends before it.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use daymark_feed::{PlaneReceiver, Subscription};
use daymark_lb::Metrics;
use daymark_lb::announcer::{self, Config, RunError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::warn;

/// An announcer that runs.
#[derive(Debug)]
pub(super) struct Announcing {
    task: JoinHandle<Result<(), RunError>>,
    stop: oneshot::Sender<()>,
}

impl Announcing {
    pub(super) fn start(
        client: kube::Client,
        subscription: Subscription,
        plane: PlaneReceiver,
        config: Config,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            // A dropped sender means the same as a sent word.
            let _ = stopped.await;
        };
        let run = announcer::run(client, subscription, plane, config, metrics, stopped);
        Self {
            task: tokio::spawn(run),
            stop,
        }
    }

    /// Waits until it ends, which it should not do by itself; of none, for ever.
    pub(super) async fn ended(announcing: &mut Option<Self>) -> anyhow::Error {
        let Some(Self { task, .. }) = announcing else {
            return std::future::pending().await;
        };
        match task.await {
            Ok(Ok(())) => anyhow!("the announcer ended by itself"),
            Ok(Err(error)) => anyhow!(error).context("the announcer"),
            Err(error) => anyhow!(error).context("the announcer's task"),
        }
    }

    /// Gives all addresses up, so that others take over at once, however the agent comes to end.
    pub(super) async fn leave(self) {
        let Self { task, stop } = self;
        drop(stop);
        // One that was waited for until it ended has given up what it could.
        if task.is_finished() {
            return;
        }
        let left = task.await.context("the announcer's task");
        if let Err(error) = left.and_then(|left| left.context("the announcer")) {
            warn!("{error:#}");
        }
    }
}
