//! The running feed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::error;

use crate::config::Config;
use crate::hub::{Hub, Subscription};
use crate::intern::Interner;
use crate::metrics::Metrics;
use crate::watch::Watch;

/// The watches of one agent. Dropping it ends them, and every [`Subscription`].
#[derive(Debug)]
pub struct Feed {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// One task, which has the watches: they end with it.
    _watches: JoinSet<()>,
}

impl Feed {
    /// Opens the watches and returns at once; the first batch comes when all lists are complete.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(client: &kube::Client, config: Config) -> Self {
        let metrics = Arc::new(Metrics::default());
        let names = Arc::new(Mutex::new(Interner::default()));
        let config = Arc::new(config);
        let kinds = config.kinds();
        let hub = Arc::new(Hub::new(&kinds, Arc::clone(&metrics)));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut watches = JoinSet::new();
        for kind in kinds {
            metrics.kind(kind).watched.store(true, Ordering::Relaxed);
            let shared = (Arc::clone(&names), Arc::clone(&metrics));
            let watch = Watch::new(
                kind,
                client.clone(),
                Arc::clone(&config),
                shared,
                sender.clone(),
            );
            watches.spawn(watch.run());
        }
        drop(sender);
        let mut all = JoinSet::new();
        all.spawn(until_one_ends(watches));
        // Not in the set: when the watches are gone the hub still closes its subscriptions.
        tokio::spawn(Arc::clone(&hub).run(receiver));
        Self {
            hub,
            metrics,
            _watches: all,
        }
    }

    /// One part's view: the whole state as it is now (or once it is complete), then every change.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.hub.subscribe()
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

/// No watch ends by itself. One that does, by a panic, would leave its kind as it is for good, and nobody would notice: all end
/// with it, and so do the subscriptions.
async fn until_one_ends(mut watches: JoinSet<()>) {
    watches.join_next().await;
    error!(
        "a watch of the API ended, which it should not: its last words are in the log; the feed ends"
    );
}

/// Chunks that may wait for the hub; beyond that the watches stop reading, and TCP tells the server.
const QUEUE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_one_watch_is_the_end_of_all() {
        let (sender, mut receiver) = mpsc::channel::<()>(1);
        let mut watches = JoinSet::new();
        watches.spawn(async move {
            sender.closed().await;
        });
        watches.spawn(async { panic!("an object like that") });
        until_one_ends(watches).await;
        assert_eq!(receiver.recv().await, None, "the other has gone too");
    }
}
