//! The running server: sockets, the zone kept current, questions answered.

mod follow;
mod serve;
mod sockets;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daymark_feed::{PlaneReceiver, Subscription};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::serve::Shared;
pub use self::sockets::{BindError, Sockets};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::zone::BadName;

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is no domain name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A question would come back at once.
    #[error("upstream {0} is this server itself; name a resolver outside of the cluster")]
    UpstreamIsSelf(SocketAddr),
    /// The runtime took a socket over and failed.
    #[error("sockets: {0}")]
    Sockets(#[from] std::io::Error),
}

/// A running server. Dropping it closes its sockets.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Answers at the sockets from what the feed brings, until the server is dropped. Before the
    /// feed's first batch, names of the zone are SERVFAIL; others are forwarded at once.
    ///
    /// # Errors
    /// If a setting cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        config: Config,
        sockets: Sockets,
        feed: Subscription,
        plane: PlaneReceiver,
    ) -> Result<Self, StartError> {
        let addresses = sockets.addresses();
        if let Some(own) = config
            .upstreams
            .iter()
            .find(|upstream| addresses.contains(upstream))
        {
            return Err(StartError::UpstreamIsSelf(*own));
        }
        let shared = Arc::new(Shared::new(config)?);
        let connections = Arc::new(Semaphore::new(shared.config.tcp.connections));
        let mut tasks = JoinSet::new();
        for (udp, listener) in sockets.into_tokio()? {
            tasks.spawn(udp::serve(Arc::clone(&shared), Arc::new(udp)));
            tasks.spawn(tcp::serve(
                Arc::clone(&shared),
                listener,
                Arc::clone(&connections),
            ));
        }
        tasks.spawn(follow::follow(Arc::clone(&shared), feed, plane));
        Ok(Self {
            addresses,
            shared,
            tasks,
        })
    }

    /// Waits until one of its tasks ends, which none should, and ends the others with it: a zone that nobody keeps, or a socket that nobody
    /// reads, looks like one that is well.
    ///
    /// # Panics
    /// As the task did, if it panicked.
    pub async fn ended(mut self) {
        let ended = self.tasks.join_next().await;
        if let Some(Err(error)) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
    }

    /// Where it answers, UDP and TCP alike.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Whether the zone is known: the feed's first batch has come.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
