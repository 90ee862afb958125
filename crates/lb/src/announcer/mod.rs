//! The part of a node's agent that answers for load-balancer addresses.
//!
//! ```text
//! feed batches ---> View ----\
//! Leases ---------> Membership --> owners --> those of this node, committed by its plane --> Ports
//! interfaces -----> Links ---/
//! ```
//!
//! One task decides; one thread an interface answers ([`crate::l2`]). The order in which things happen is
//! what keeps an address from having two owners or none:
//! 1. the Lease is renewed only once the data plane has committed something, or no plane runs here, and only while
//!    every interface that is needed can be listened on: a node that cannot serve is not elected;
//!    One whose Lease is new is known for a renewal before it is elected;
//! 2. an address is answered for only once the plane holds the batch that made this node able to serve it;
//! 3. when the Lease's renewals no longer come back, answers end by themselves if others are still heard; if nothing is
//!    heard at all they go on with care, and end where another node claims the address ([`crate::membership`]).

mod deaf;
mod lease;
mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daymark_feed::{PlaneReceiver, PlaneStatus, Subscription, reference};
use daymark_model::Cidr;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::clock;
use crate::election::{Living, Owner};
use crate::events::{Events, Severity};
use crate::l2::links::{Link, Links, links_of, prefixes};
use crate::l2::port::Port;
use crate::membership::{Membership, Timing};
use crate::metrics::{Metrics, add};
use crate::moment::Moment;
use crate::pool::POOL_NAMESPACE;
use crate::reserved::default_service_cidrs;
use crate::view::{Changed, View};
use deaf::{Attempt, Deaf};
use lease::{Heartbeat, News, Stamps, Watch};
use owners::Owners;

/// How an announcer is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node.
    pub node: Arc<str>,
    /// The `spec.loadBalancerClass` that is served; `None` serves Services without one.
    pub class: Option<Arc<str>>,
    /// How often the Lease is renewed and when it lapses.
    pub timing: Timing,
    /// The namespace of the announcers' Leases.
    pub lease_namespace: String,
    /// The namespace whose IPAddressPools and L2Advertisements count, the controller's
    /// [`pool_namespace`](crate::controller::Config::pool_namespace).
    pub pool_namespace: Arc<str>,
    /// The ranges of cluster IPs (ServiceCIDRs): addresses of them are never announced.
    pub service_cidrs: Vec<Cidr>,
}

impl Config {
    /// Services without a class, pools of `metallb-system`, a Lease in `kube-system` renewed each second that lapses after three.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            class: None,
            timing: Timing::default(),
            lease_namespace: "kube-system".to_owned(),
            pool_namespace: POOL_NAMESPACE.into(),
            service_cidrs: default_service_cidrs(),
        }
    }
}

/// Why an announcer could not start.
#[derive(Debug, Error)]
pub enum RunError {
    /// No route socket.
    #[error("following the interfaces by netlink: {0}")]
    Links(#[source] io::Error),
}

/// Announces until `shutdown` is done or the feed ends; then gives every address up and deletes its Lease, so
/// that others take over at once.
///
/// The feed must have been started with [`daymark_feed::Nodes::All`] and its pools; node Leases are not needed.
/// Packet sockets are opened in the network namespace of the runtime's threads, with `CAP_NET_RAW`.
///
/// # Errors
/// When the interfaces cannot be followed. Everything that fails later is tried again.
pub async fn run(
    client: kube::Client,
    subscription: Subscription,
    plane: PlaneReceiver,
    config: Config,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let links = Links::open().map_err(RunError::Links)?;
    let mut announcer = Task::new(client, subscription, plane, config, metrics, links);
    announcer.list_links().await;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            more = announcer.step() => if more == More::No { break },
        }
        announcer.settle();
    }
    announcer.leave().await;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

/// A node that takes over a thousand addresses at once says so of the first of them; the log has them all.
const MOST_TOLD: usize = 256;
/// And so much time is between two.
const BETWEEN: Duration = Duration::from_millis(200);

struct Task {
    config: Config,
    subscription: Subscription,
    plane: PlaneReceiver,
    heartbeat: Heartbeat,
    watch: Watch,
    watching_since: Moment,
    renewals: tokio::time::Interval,
    /// The renewal on its way, and Events.
    renewing: JoinSet<bool>,
    events: Events,
    telling: JoinSet<()>,
    /// One is told after the other.
    turn: Arc<Mutex<()>>,
    stamps: Stamps,
    links: Links,
    listed: Vec<Link>,
    listings: tokio::time::Interval,
    membership: Membership,
    view: View,
    owners: Owners,
    ports: BTreeMap<u32, Port>,
    deaf: Deaf,
    mine: BTreeSet<IpAddr>,
    /// Whether the plane has said anything since the start.
    plane_began: bool,
    metrics: Arc<Metrics>,
}

impl Task {
    fn new(
        client: kube::Client,
        subscription: Subscription,
        plane: PlaneReceiver,
        config: Config,
        metrics: Arc<Metrics>,
        links: Links,
    ) -> Self {
        // Unique for every process: the moment it started, to the nanosecond.
        let holder: Arc<str> =
            format!("{}_{:x}", config.node, clock::timestamp().as_nanosecond()).into();
        let node = Arc::clone(&config.node);
        let heartbeat = Heartbeat::new(
            client.clone(),
            &config.lease_namespace,
            Arc::clone(&node),
            Arc::clone(&holder),
            config.timing,
        );
        let mut renewals = interval(config.timing.renew());
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            watch: heartbeat.watch(),
            watching_since: clock::now(),
            heartbeat,
            renewals,
            renewing: JoinSet::new(),
            events: Events::new(client.clone(), "daymark-announcer", Some(node.to_string())),
            telling: JoinSet::new(),
            turn: Arc::default(),
            stamps: Stamps::default(),
            links,
            listed: Vec::new(),
            listings: interval(LIST_AGAIN),
            membership: Membership::new(Arc::clone(&node), holder, config.timing),
            view: View::new(
                config.class.clone(),
                node,
                Arc::clone(&config.pool_namespace),
                config.service_cidrs.clone(),
            ),
            owners: Owners::default(),
            ports: BTreeMap::new(),
            deaf: Deaf::default(),
            mine: BTreeSet::new(),
            plane_began: false,
            subscription,
            plane,
            config,
            metrics,
        }
    }

    /// Waits for whatever comes first and takes it in.
    async fn step(&mut self) -> More {
        let deadline = self.membership.deadline(clock::now());
        let lapse = async {
            match deadline {
                Some(at) => sleep(at.since(clock::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            batch = self.subscription.next() => {
                let Some(batch) = batch else { return More::No };
                self.owners.changed(self.view.apply(&batch));
            }
            // An error means that the plane is gone: its last word stands.
            Ok(()) = self.plane.changed() => {
                // The first renewal may have waited for it; others that start now do not wait for a tick either. Later ones go by the
                // clock alone, also those of a Lease that nobody lets us write.
                let is_first = !std::mem::replace(&mut self.plane_began, true);
                if is_first && self.membership.is_unheard() {
                    self.renewals.reset_immediately();
                }
            }
            news = self.watch.next() => self.heard(news),
            _ = self.renewals.tick() => self.renew(),
            Some(renewed) = self.renewing.join_next() => {
                if !renewed.unwrap_or(false) {
                    add(&self.metrics.renewal_failures);
                }
            }
            Some(_) = self.telling.join_next() => {}
            () = self.links.changed() => self.list_links().await,
            _ = self.listings.tick() => self.list_links().await,
            () = lapse => {}
        }
        More::Yes
    }

    fn heard(&mut self, news: News) {
        let now = clock::now();
        match news {
            News::Saw(announcer) => self.membership.saw(now, announcer),
            News::Left(node) => self.membership.left(&node),
            News::Listed(announcers) => {
                let nodes: Vec<_> = announcers.iter().map(|one| Arc::clone(&one.node)).collect();
                self.membership.saw_all(now, announcers);
                self.membership.listed(now, &nodes);
                // No tick of the clock has to be waited for: the first renewal, or the first after a gap.
                self.renewals.reset_immediately();
            }
        }
    }

    /// Sends a renewal, if this node may be elected and none is on its way.
    fn renew(&mut self) {
        let now = clock::now();
        if !self.membership.may_renew(now) {
            // A watch that shows no sign of life for as long as a Lease lasts is opened again.
            if now.since(self.watching_since) >= self.config.timing.lapse() {
                self.watch.reopen(&self.heartbeat);
                self.watching_since = now;
            }
            return;
        }
        if *self.plane.borrow() == PlaneStatus::Starting || !self.renewing.is_empty() {
            return;
        }
        if !self.deaf.hears(&self.listed, Port::probe) {
            return;
        }
        let written = self.stamps.next();
        let standing = self.membership.standing(now);
        self.membership.renewing(now, written);
        let heartbeat = self.heartbeat.clone();
        let prefixes = prefixes(&self.listed);
        let patience = self.config.timing.renew();
        self.renewing.spawn(async move {
            match timeout(patience, heartbeat.renew(written, &prefixes, standing)).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => tracing::warn!(%error, "the announcer's Lease was not renewed"),
                Err(_) => {
                    tracing::warn!(?patience, "the announcer's Lease was not renewed in time")
                }
            }
            false
        });
    }

    async fn list_links(&mut self) {
        if let Err(error) = self.links.mend() {
            tracing::warn!(%error, "the interfaces cannot be followed");
        }
        match self.links.list().await {
            Ok(links) if links == self.listed => {}
            Ok(links) => {
                if prefixes(&links) != prefixes(&self.listed) {
                    // Others learn by a renewal which links this node is on.
                    self.renewals.reset_immediately();
                }
                self.listed = links;
                self.owners.changed(Changed::Everything);
            }
            Err(error) => tracing::warn!(%error, "the interfaces cannot be listed"),
        }
    }

    /// Brings owners, ports and counters in line with what is known now.
    fn settle(&mut self) {
        let now = clock::now();
        let was_dark = self.membership.in_the_dark();
        self.membership.look(now);
        match (was_dark, self.membership.in_the_dark()) {
            (false, true) => tracing::warn!(
                "the API is silent: addresses stay where they are, and one that another node claims is yielded"
            ),
            (true, false) => tracing::info!("the API is heard again"),
            _ => {}
        }
        let living: Living = self
            .membership
            .alive(now)
            .map(|(node, prefixes)| (Arc::clone(node), prefixes.to_vec()))
            .collect();
        match self.owners.settle(&self.view, living) {
            Changed::Everything => self.metrics.set_owners(self.owners.all().clone()),
            Changed::Addresses(addresses) => {
                for address in addresses {
                    let owner = self.owners.all().get(&address).cloned();
                    self.metrics.set_owner(address, owner);
                }
            }
        }
        let lively = self.membership.is_alive(now, &self.config.node);
        self.metrics.lively.store(lively, Ordering::Relaxed);
        let plane = *self.plane.borrow();
        let own = Owner::Node(Arc::clone(&self.config.node));
        let mine: BTreeSet<IpAddr> = self
            .owners
            .all()
            .iter()
            .filter(|(address, owner)| **owner == own && self.view.is_committed(**address, plane))
            .map(|(address, _)| *address)
            .collect();
        self.settle_ports(&mine);
        self.tell(mine);
    }

    fn settle_ports(&mut self, mine: &BTreeSet<IpAddr>) {
        let mut on: BTreeMap<u32, (&Link, BTreeSet<IpAddr>)> = BTreeMap::new();
        for address in mine {
            for link in links_of(&self.listed, *address, self.view.own_addresses()) {
                on.entry(link.index)
                    .or_insert_with(|| (link, BTreeSet::new()))
                    .1
                    .insert(*address);
            }
        }
        self.ports.retain(|index, port| {
            let wanted = on
                .get(index)
                .is_some_and(|(link, _)| link.mac == port.link().mac);
            wanted && !port.has_ended()
        });
        let mut answering: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for (index, (link, addresses)) in on {
            let opened = match self.ports.get(&index) {
                Some(port) => Some(port),
                None => match Port::open(link, Arc::clone(&self.metrics)) {
                    Ok(port) => Some(&*self.ports.entry(index).or_insert(port)),
                    Err(error) => {
                        if self.deaf.failed(link, &error) == Attempt::First {
                            add(&self.metrics.interface_failures);
                        }
                        None
                    }
                },
            };
            let Some(port) = opened else { continue };
            port.order(&addresses, self.membership.fence());
            for address in addresses {
                answering
                    .entry(address)
                    .or_default()
                    .push(link.name.clone());
            }
        }
        self.metrics.set_answering(answering);
    }

    /// Logs what changed hands, and says so on the Services that came here.
    fn tell(&mut self, mine: BTreeSet<IpAddr>) {
        let lively = self.metrics.lively.load(Ordering::Relaxed);
        for address in self.mine.difference(&mine) {
            if !lively {
                tracing::warn!(%address, "no longer announced from this node: its Lease could not be renewed in time");
                continue;
            }
            let owner = self
                .owners
                .all()
                .get(address)
                .map_or_else(|| "nobody".to_owned(), Owner::to_string);
            tracing::info!(%address, %owner, "no longer announced from this node");
        }
        for address in mine.difference(&self.mine) {
            tracing::info!(%address, "announced from this node");
            for service in self.view.services_of(*address) {
                if self.telling.len() >= MOST_TOLD {
                    continue;
                }
                let (events, turn) = (self.events.clone(), Arc::clone(&self.turn));
                let about = reference(service);
                let message = format!(
                    "announcing {address} from node {:?} with protocol \"layer2\"",
                    self.config.node
                );
                self.telling.spawn(async move {
                    let _turn = turn.lock().await;
                    events
                        .publish(about, Severity::Normal, "nodeAssigned", message)
                        .await;
                    sleep(BETWEEN).await;
                });
            }
        }
        self.mine = mine;
    }

    /// Falls silent and lets others take over.
    async fn leave(mut self) {
        self.ports.clear();
        self.renewing.shutdown().await;
        match timeout(LAST_WORD, self.heartbeat.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the announcer's Lease was not deleted; it lapses")
            }
            Err(_) => tracing::warn!("the announcer's Lease was not deleted in time; it lapses"),
        }
        self.metrics.lively.store(false, Ordering::Relaxed);
        self.metrics.set_answering(BTreeMap::new());
    }
}

/// How often the interfaces are listed even if nothing was heard of them: netlink may lose messages.
const LIST_AGAIN: Duration = Duration::from_secs(10);
/// How long a node that leaves tries to say so.
const LAST_WORD: Duration = Duration::from_secs(2);
