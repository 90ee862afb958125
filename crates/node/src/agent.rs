//! The tasks around the plane's thread.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Kernel, Old, Plane, StartError};
use daymark_feed::record::ObjectKey;
use daymark_feed::{Event, Findings, Kind, PlaneSender, Subscription};
use daymark_model::{Change, Options};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::addresses::{self, Listen};
use crate::clock;
use crate::conntrack::{self, CleanerError};
use crate::events::Notices;
use crate::health::PATIENCE;
use crate::health_check::HealthChecks;
use crate::loopback::Loopback;
use crate::metrics::Metrics;
use crate::proxy::{Order, Proxy};

/// Why the agent could not start.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The tables could not be brought up.
    #[error("nftables: {0}")]
    Plane(#[from] StartError),
    /// Stale flows could not be followed.
    #[error(transparent)]
    Conntrack(#[from] CleanerError),
    /// No thread.
    #[error("cannot start the plane's thread: {0}")]
    Thread(#[source] io::Error),
}

/// What ended by itself, which nothing should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The feed: no change of the API arrives any more.
    Feed,
    /// The plane's thread: no change reaches the kernel any more.
    Plane,
    /// What follows this machine's addresses: node ports would not be served at those that come.
    Addresses,
}

/// A running agent: the plane's thread, and how to talk to it. Dropping it ends the thread too, and those that serve that, without waiting for it.
#[derive(Debug)]
pub struct Agent {
    orders: Sender<Order>,
    /// Until it is waited for.
    thread: Option<JoinHandle<()>>,
    health_checks: Arc<HealthChecks>,
    loopback: Arc<Loopback>,
    metrics: Arc<Metrics>,
    /// Its other end goes with the thread, however that ends.
    alive: watch::Receiver<()>,
}

impl Agent {
    /// Brings the tables up and starts the thread that keeps them. What people should read goes to `notices`.
    ///
    /// # Errors
    /// If the kernel refuses the tables.
    pub fn start<K: Kernel + Send + 'static>(
        kernel: K,
        flags: TableFlags,
        options: Options,
        status: PlaneSender,
        metrics: Arc<Metrics>,
        notices: Notices,
    ) -> Result<Self, AgentError> {
        let (plane, found) = Plane::start(kernel, flags)?;
        match found {
            Found::Nothing => info!("created the tables"),
            Found::Adopted => {
                // An agent that never had a state left tables too.
                if plane.found_any() {
                    metrics.set_adopted();
                }
                info!("adopted the tables that were there");
            }
            Found::ToReplace { why, old } => {
                // They go on as adopted ones would.
                if old == Old::Serves {
                    metrics.set_adopted();
                }
                warn!(
                    why,
                    "the tables that are there cannot be adopted; others are built beside them with the first state"
                );
            }
        }
        let (orders, inbox) = channel();
        let stale = conntrack::start(Arc::clone(&metrics), orders.clone())?;
        let proxy = Proxy::new(plane, options, status, Arc::clone(&metrics), stale, notices);
        let (health_checks, loopback) = (proxy.health_checks(), proxy.loopback());
        let (life, alive) = watch::channel(());
        let thread = std::thread::Builder::new()
            .name("plane".to_owned())
            .spawn(move || {
                let _life = life;
                proxy.run(&inbox);
            });
        Ok(Self {
            orders,
            thread: Some(thread.map_err(AgentError::Thread)?),
            health_checks,
            loopback,
            metrics,
            alive,
        })
    }

    /// What load balancers may ask this node ([`crate::health_check::serve`]).
    #[must_use]
    pub fn health_checks(&self) -> Arc<HealthChecks> {
        Arc::clone(&self.health_checks)
    }

    /// The node ports on loopback ([`crate::loopback::serve`]).
    #[must_use]
    pub fn loopback(&self) -> Arc<Loopback> {
        Arc::clone(&self.loopback)
    }

    /// Where orders go.
    #[must_use]
    pub fn orders(&self) -> Sender<Order> {
        self.orders.clone()
    }

    /// Hands what the feed brings to the plane, until the feed or the plane's thread ends. A batch is asked for once the plane has taken the one
    /// before: what comes meanwhile waits in the feed, where a newer version of an object replaces an older.
    ///
    /// `primary` goes before the addresses of the Node object (`bindAddress`).
    pub async fn follow(&self, mut feed: Subscription, primary: Option<IpAddr>) -> Ended {
        let followed = addresses_of(self.orders(), Arc::clone(&self.metrics));
        let mut addresses = tokio::spawn(followed);
        let mut alive = self.alive.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            let batch = tokio::select! {
                batch = feed.next() => batch,
                // Nothing is ever sent.
                _ = alive.changed() => break Ended::Plane,
                followed = &mut addresses => break match followed {
                    // Nobody takes orders any more.
                    Ok(()) => Ended::Plane,
                    Err(_) => Ended::Addresses,
                },
            };
            let Some(batch) = batch else {
                break Ended::Feed;
            };
            let changes = batch.events.iter().filter_map(|event| match event {
                Event::Model(change) => Some(addresses::with_primary(change.clone(), primary)),
                Event::Triggered(_, family, at) => {
                    let counters = &self.metrics.kube_proxy;
                    counters.triggered(batch.number, *family, *at);
                    None
                }
                Event::Eligibility(node) => {
                    self.metrics.set_eligibility(*node);
                    None
                }
                _ => None,
            });
            let found = batch.events.iter().filter_map(unusable).collect::<Vec<_>>();
            if !found.is_empty() && self.orders.send(Order::Unusable(found)).is_err() {
                break Ended::Plane;
            }
            let (taken, is_taken) = oneshot::channel();
            let order = Order::Changes {
                batch: Some(batch.number),
                changes: changes.collect(),
                arrived: clock::now(),
                taken: Some(taken),
            };
            drop(batch);
            self.metrics.kube_proxy.queued(clock::timestamp());
            if self.orders.send(order).is_err() {
                break Ended::Plane;
            }
            self.carried_out(is_taken, &feed, &mut looks).await;
        };
        addresses.abort();
        ended
    }

    /// Waits until the plane's thread has carried out what it was given. While that takes long, what comes meanwhile counts as
    /// queued, and somebody is told.
    ///
    /// `looks` are the same for all changes: a timer begun for each would wake the runtime for it, and most are done before.
    async fn carried_out(
        &self,
        mut is_taken: oneshot::Receiver<()>,
        feed: &Subscription,
        looks: &mut Interval,
    ) {
        let sent = clock::now();
        let (mut newest, mut told) = (None, false);
        loop {
            tokio::select! {
                biased;
                // The sender is dropped, not used.
                _ = &mut is_taken => break,
                _ = looks.tick() => {}
            }
            let now_newest = feed.newest();
            if now_newest > newest {
                newest = now_newest;
                self.metrics.kube_proxy.queued(clock::timestamp());
            }
            let waited = clock::now() - sent;
            if !told && waited >= PATIENCE {
                told = true;
                warn!(
                    ?waited,
                    "the plane's thread is at a change for so long, and no other reaches the kernel, which may hold it: in a large commit of \
                     another program to nf_tables, or by a fault; /proc/PID/task/TID/stack of the thread `plane` shows where"
                );
            }
        }
        if told {
            let took = clock::now() - sent;
            info!(?took, "the plane's thread goes on");
        }
    }

    /// Ends the thread, and waits until it has; the tables stay.
    pub fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            // How it ended is in the log.
            let _ = thread.join();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // If the thread is gone already there is nothing to stop.
        let _ = self.orders.send(Order::Stop);
    }
}

fn unusable(event: &Event) -> Option<(Kind, ObjectKey, Option<Arc<Findings>>)> {
    match event {
        Event::Unusable(kind, key, now) => Some((*kind, key.clone(), now.clone())),
        _ => None,
    }
}

/// Follows the machine's addresses for ever: after a failure, from the beginning.
async fn addresses_of(orders: Sender<Order>, metrics: Arc<Metrics>) {
    loop {
        let changed = |list| {
            let changes = vec![Change::MachineAddresses(list)];
            let order = Order::Changes {
                batch: None,
                changes,
                arrived: clock::now(),
                taken: None,
            };
            metrics.kube_proxy.queued(clock::timestamp());
            if orders.send(order).is_ok() {
                Listen::On
            } else {
                Listen::Stop
            }
        };
        match addresses::follow(changed).await {
            Ok(()) => return,
            Err(error) => warn!(%error, "the machine's addresses are read again in a second"),
        }
        tokio::time::sleep(ADDRESSES_AGAIN).await;
    }
}

const ADDRESSES_AGAIN: Duration = Duration::from_secs(1);
/// While a change is under way it is looked after so often, which is ten thousand times as long as one takes.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
