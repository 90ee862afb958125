//! The kubelet's connection to the API, which may be cut and come back.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::watch;

use super::KubeletError;

/// A client that is made anew after every outage: a connection that went silent with a cut cable would only
/// wake up by a retransmission, many seconds late.
pub(super) struct Session {
    path: PathBuf,
    client: RefCell<Client>,
    outages: watch::Sender<u64>,
}

impl Session {
    pub(super) async fn open(path: &Path) -> Result<Self, KubeletError> {
        let client = connect(path).await?;
        Ok(Self {
            path: path.to_owned(),
            client: RefCell::new(client),
            outages: watch::Sender::new(0),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Changes after every outage: long-lived requests should be made again then.
    pub(super) fn outages(&self) -> watch::Receiver<u64> {
        self.outages.subscribe()
    }

    /// Drops the old connections.
    pub(super) async fn renew(&self) {
        match connect(&self.path).await {
            Ok(client) => {
                self.client.replace(client);
            }
            Err(error) => tracing::warn!(%error, "the old connection is kept"),
        }
    }

    /// Says that an outage is over.
    pub(super) fn back(&self) {
        self.outages.send_modify(|count| *count += 1);
    }
}

async fn connect(path: &Path) -> Result<Client, KubeletError> {
    let bad = |reason: String| KubeletError::Kubeconfig {
        path: path.to_owned(),
        reason,
    };
    let file = Kubeconfig::read_from(path).map_err(|error| bad(error.to_string()))?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await;
    let mut config = config.map_err(|error| bad(error.to_string()))?;
    config.connect_timeout = Some(PATIENCE);
    Client::try_from(config).map_err(|error| bad(error.to_string()))
}

/// A request with the patience of this kubelet: `None` when no answer came in time.
pub(super) async fn in_time<T>(request: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, request).await.ok()
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(1500);
