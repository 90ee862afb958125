//! The server as a whole: opened over a store, asked in process or over listeners.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use daymark_store::{Options, Store};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::auth::grant::{Grant, Grants, Use};
use crate::http::{Watchers, handle};
use crate::metrics::Metrics;
use crate::object::Object;
use crate::registry::{Registry, User};
use crate::status::Status;
use crate::{bootstrap, clock};

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's file; in memory without one. Its folder must be there.
    pub store: Option<PathBuf>,
    /// One or two networks for Services, the first of the default family. They are fixed at the first start: a store
    /// that has others is refused, unless these are the default ones, which stand for what the store has.
    pub service_cidrs: Vec<String>,
    /// The range that node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// Addresses under which Pods reach this server; loopback ones are left out.
    pub advertise: Vec<IpAddr>,
    /// The port under which they do.
    pub port: u16,
    /// Rights besides those of the fixed roles.
    pub grants: Vec<Grant>,
}

impl Default for Config {
    /// In memory, with the usual networks: 10.96.0.0/16 and `fd00:10:96::/112`, node ports 30000 to 32767.
    fn default() -> Self {
        Self {
            store: None,
            service_cidrs: vec!["10.96.0.0/16".to_owned(), "fd00:10:96::/112".to_owned()],
            node_ports: 30_000..=32_767,
            advertise: Vec::new(),
            port: 6443,
            grants: Vec::new(),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store did not open.
    #[error(transparent)]
    Store(#[from] daymark_store::OpenError),
    /// The networks for Services are none.
    #[error(
        "service CIDRs {given:?}: {why}: give one or two networks of different families, such as 10.96.0.0/16 and \
         fd00:10:96::/112"
    )]
    ServiceCidrs {
        /// What was given.
        given: Vec<String>,
        /// What is wrong with it.
        why: String,
    },
    /// The networks for Services are not those of the store.
    #[error(
        "--service-cidrs {}: the store was made with {}, and Services have addresses of these: leave the flag out (or \
         give what the store has); more networks are added and removed as ServiceCIDR objects",
        given.join(","),
        stored.join(",")
    )]
    OtherServiceCidrs {
        /// What was given.
        given: Vec<String>,
        /// What the ServiceCIDR `kubernetes` says.
        stored: Vec<String>,
    },
    /// The objects that are there from the start could not be written.
    #[error("the first objects could not be stored: {0}")]
    Bootstrap(String),
}

/// The embedded API server: a cheap handle.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Server>,
}

/// What all requests share.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) store: Store<Object>,
    pub(crate) registry: Arc<Registry>,
    /// The newest durable revision.
    pub(crate) revisions: tokio::sync::watch::Receiver<u64>,
    pub(crate) metrics: Metrics,
    pub(crate) watchers: Watchers,
    pub(crate) grants: Grants,
    /// One permit for each request that is being answered; a watch gives its back once it has begun.
    pub(crate) in_flight: Semaphore,
}

/// Requests answered at the same time: upstream's 400 reads and 200 writes.
const MOST_IN_FLIGHT: usize = 600;

/// How often the server looks after its own objects.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

impl ApiServer {
    /// Opens the store and makes the objects that are there from the start.
    ///
    /// Blocks for as long as that takes; needs no async runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn open(config: Config) -> Result<Self, StartError> {
        let options = config
            .store
            .as_ref()
            .map_or_else(Options::in_memory, Options::at);
        Self::over(Store::open(options)?, config)
    }

    /// A server over a store that is open already.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn over(store: Store<Object>, config: Config) -> Result<Self, StartError> {
        bootstrap::check(&config).map_err(|why| StartError::ServiceCidrs {
            given: config.service_cidrs.clone(),
            why,
        })?;
        check_networks(&store, &config.service_cidrs)?;
        let (sender, revisions) = tokio::sync::watch::channel(store.revision());
        store.on_publish(move |revision| {
            sender.send_replace(revision);
        });
        let registry = Arc::new(Registry::new(config.node_ports.clone()));
        let (metrics, watchers) = (Metrics::default(), Watchers::default());
        let grants = Grants::new(config.grants.clone());
        let inner = Arc::new(Server {
            config,
            grants,
            store,
            registry,
            revisions,
            metrics,
            watchers,
            in_flight: Semaphore::new(MOST_IN_FLIGHT),
        });
        inner.bootstrap().map_err(StartError::Bootstrap)?;
        inner.take_stock().map_err(StartError::Bootstrap)?;
        Ok(Self { inner })
    }

    /// The server as an in-process service with the identity `system:daymark`, who may do everything: what
    /// `kube::Client::new` takes.
    pub fn router(&self) -> Router {
        let user = User {
            name: "system:daymark".to_owned(),
            groups: vec!["system:masters".to_owned()],
        };
        self.router_as(Some(user))
    }

    /// The server as the service of one user; without one, of somebody who has no client certificate.
    pub fn router_as(&self, user: Option<User>) -> Router {
        let server = Arc::clone(&self.inner);
        Router::new().fallback(move |request: Request<Body>| handle(server, user, request))
    }

    /// Which of [`Config::grants`] were made use of.
    pub fn used_grants(&self) -> BTreeSet<Use> {
        self.inner.grants.used()
    }

    /// The store underneath.
    pub fn store(&self) -> &Store<Object> {
        &self.inner.store
    }

    /// Keeps the server's own objects there and drops old Events, for ever. [`ApiServer::serve`] does it itself.
    pub async fn keep_house(&self) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        loop {
            ticks.tick().await;
            let server = Arc::clone(&self.inner);
            let done = tokio::task::spawn_blocking(move || {
                server.bootstrap().and_then(|()| server.expire_events())
            });
            if let Ok(Err(why)) = done.await {
                tracing::warn!(why, "the server's own objects could not be looked after");
            }
        }
    }
}

/// Whether the networks given are those of the store, which cannot be changed any more.
fn check_networks(store: &Store<Object>, given: &[String]) -> Result<(), StartError> {
    let Some(stored) = bootstrap::stored_networks(&store.snapshot()) else {
        return Ok(());
    };
    if given == stored {
        return Ok(());
    }
    if given != Config::default().service_cidrs {
        return Err(StartError::OtherServiceCidrs {
            given: given.to_vec(),
            stored,
        });
    }
    // Whoever starts again without the flag means what is there.
    tracing::warn!(
        ?stored,
        default = ?given,
        "the networks for Services are those of the store, not the default ones"
    );
    Ok(())
}

impl Server {
    fn bootstrap(self: &Arc<Self>) -> Result<(), String> {
        let config = self.config.clone();
        let (now, seed) = (clock::now(), rand::random());
        let result = self.store.transact(move |snapshot, revision| {
            Ok::<_, Status>(bootstrap::ensure(&config, now, seed, snapshot, revision))
        });
        result.map(drop).map_err(|error| error.to_string())
    }

    /// Makes allocated addresses and ports agree with the Services: they do unless the store was edited or imported.
    fn take_stock(&self) -> Result<(), String> {
        let (now, seed) = (clock::now(), rand::random());
        let result = self.store.transact(move |snapshot, revision| {
            Ok::<_, Status>(bootstrap::take_stock(now, seed, snapshot, revision))
        });
        for warning in result.map_err(|error| error.to_string())?.answer {
            tracing::warn!(warning, "two Services claim one number");
        }
        Ok(())
    }

    fn expire_events(&self) -> Result<(), String> {
        let now = clock::now();
        let result = self.store.transact(move |snapshot, revision| {
            Ok::<_, Status>(bootstrap::expire_events(now, snapshot, revision))
        });
        let dropped = result.map_err(|error| error.to_string())?.answer;
        if dropped > 0 {
            tracing::debug!(dropped, "old Events dropped");
        }
        Ok(())
    }

    /// Waits until a revision is there; 504 when it does not come.
    pub(crate) async fn wait_for(&self, revision: u64, patience: Duration) -> Result<(), Status> {
        let mut revisions = self.revisions.clone();
        let arrived =
            tokio::time::timeout(patience, revisions.wait_for(|current| *current >= revision));
        match arrived.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Status::version_too_large(revision, self.store.revision())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiServer, Config};

    #[test]
    fn networks_that_are_none_are_refused_with_the_remedy() {
        let rows: [&[&str]; 5] = [
            &[],
            &["10.96.0.0"],
            &["10.96.0.1/16"],
            &["10.96.0.0/16", "10.97.0.0/16"],
            &["fd00::/32"],
        ];
        for cidrs in rows {
            let service_cidrs = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
            let config = Config {
                service_cidrs,
                ..Config::default()
            };
            let error = ApiServer::open(config)
                .err()
                .expect("a refusal")
                .to_string();
            assert!(error.contains("such as 10.96.0.0/16"), "{cidrs:?}: {error}");
        }
    }

    #[test]
    fn other_networks_than_those_of_the_store_are_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let open = |cidrs: &[&str]| {
            let server = ApiServer::open(Config {
                store: Some(folder.path().join("store.redb")),
                service_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
                ..Config::default()
            });
            server.map(drop).map_err(|error| error.to_string())
        };
        open(&["10.50.0.0/16"]).unwrap();
        let rows: [(&[&str], bool); 5] = [
            (&["10.50.0.0/16"], true),
            (&["10.51.0.0/16"], false),
            (&["10.50.0.0/16", "fd00:50::/112"], false),
            // The default cannot be told from an absent flag.
            (&["10.96.0.0/16", "fd00:10:96::/112"], true),
            (&["10.96.0.0/16"], false),
        ];
        for (cidrs, starts) in rows {
            let opened = open(cidrs);
            assert_eq!(opened.is_ok(), starts, "{cidrs:?}: {opened:?}");
        }
        assert_eq!(
            open(&["10.51.0.0/16", "fd00:51::/112"]).unwrap_err(),
            "--service-cidrs 10.51.0.0/16,fd00:51::/112: the store was made with 10.50.0.0/16, and Services have \
             addresses of these: leave the flag out (or give what the store has); more networks are added and removed \
             as ServiceCIDR objects"
        );
    }

    #[test]
    fn what_the_server_needs_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = || Config {
            store: Some(folder.path().join("store.redb")),
            ..Config::default()
        };
        let first = ApiServer::open(config()).unwrap().store().revision();
        let second = ApiServer::open(config()).unwrap();
        assert_eq!(second.store().revision(), first);
        assert_eq!(second.store().snapshot().count("namespaces", None), 4);
    }
}
