//! The cluster-wide half: gives addresses to Services and writes them to their status.
//!
//! Level-triggered: every change of a Service or pool leads to a whole new round of
//! [`allocate`](crate::allocate::allocate()), and what differs from the API is written. The first round waits for
//! the feed's first batch, which is everything: nothing is given away before every status is known.
//!
//! A second controller at the same time does no lasting harm, but wastes writes: each write carries the
//! version that it was worked out for, and both work out the same.

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use daymark_feed::record::{self, L2Advertisement, ObjectKey};
use daymark_feed::{Batch, Event, Subscription};
use daymark_model::input::{Change, IngressMode};
use daymark_model::{Cidr, Service, ServiceKey, audience};
use futures::FutureExt;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::allocate::{Assignments, Claim, Outcome, Usage, allocate};
use crate::events::Events;
use crate::pool::{POOL_NAMESPACE, Pools};
use crate::reserved::{self, Reserved, default_service_cidrs};
use crate::view::is_advertised;
use write::{Fault, Writer};

/// How the controller is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `spec.loadBalancerClass` that is served; `None` serves Services without one.
    pub class: Option<Arc<str>>,
    /// The namespace whose IPAddressPools and L2Advertisements count. Those of others are told so: whoever may
    /// write in some namespace must not thereby give out addresses of the whole cluster's network.
    pub pool_namespace: Arc<str>,
    /// The ranges of cluster IPs (ServiceCIDRs): addresses of them are never given.
    pub service_cidrs: Vec<Cidr>,
}

impl Default for Config {
    /// Services without a class, pools of `metallb-system`, cluster IPs of 10.96.0.0/16 and fd00:10:96::/112.
    fn default() -> Self {
        Self {
            class: None,
            pool_namespace: POOL_NAMESPACE.into(),
            service_cidrs: default_service_cidrs(),
        }
    }
}

/// Gives out addresses until `shutdown` is done or the feed ends. What fails is tried again.
///
/// The feed must have been started with its pools and with [`daymark_feed::Nodes::All`]: an address of a Node or in
/// its `podCIDRs` is never given. It needs no Leases.
pub async fn run(
    client: kube::Client,
    mut subscription: Subscription,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut task = Task::new(client, config);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            batch = subscription.next() => {
                let Some(batch) = batch else { return };
                task.apply(&batch);
            }
            // Whatever becomes of a write is an outcome, panics too.
            Some(Ok((subject, outcome))) = task.jobs.join_next() => task.finished(subject, outcome),
        }
        task.start_jobs();
    }
}

/// Why a write was not carried out.
#[derive(Debug, Error)]
enum WriteError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API did not answer within {} s", PATIENCE.as_secs())]
    Unanswered,
    #[error("it panicked; the log has its last words")]
    Panicked,
}

/// One that has no end, or no outcome, would keep its subject from being written ever again, and others by the place that it takes.
async fn carried_out(job: impl Future<Output = Result<(), kube::Error>>) -> Result<(), WriteError> {
    let job = AssertUnwindSafe(job).catch_unwind();
    let ended = timeout(PATIENCE, job).await;
    let written = ended.map_err(|_| WriteError::Unanswered)?;
    Ok(written.map_err(|_| WriteError::Panicked)??)
}

/// What a write is about; one write of a subject runs at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Service(ServiceKey),
    Pool(ObjectKey),
    Advertisement(ObjectKey),
    /// A Service whose pool nobody announces.
    Silent(ServiceKey),
}

struct Task {
    writer: Writer,
    class: Option<Arc<str>>,
    pool_namespace: Arc<str>,
    service_cidrs: Vec<Cidr>,
    nodes: reserved::Nodes,
    services: BTreeMap<ServiceKey, Arc<Service>>,
    records: BTreeMap<ObjectKey, Arc<record::Pool>>,
    advertisements: BTreeMap<ObjectKey, Arc<L2Advertisement>>,
    given: Assignments,
    faults: BTreeMap<Subject, Vec<Fault>>,
    /// What was last written of a Service that is refused something, so that it is told once.
    told: BTreeMap<ServiceKey, Outcome>,
    reported: BTreeMap<ObjectKey, (Usage, Vec<Fault>)>,
    /// What was said of pools and advertisements, so that it is said once.
    warned: BTreeMap<Subject, Vec<Fault>>,
    /// What is to be said of Services that have an address which nobody announces, and what was said.
    silent: BTreeMap<ServiceKey, String>,
    said: BTreeMap<ServiceKey, String>,
    waiting: BTreeSet<Subject>,
    busy: BTreeSet<Subject>,
    jobs: JoinSet<(Subject, Result<(), WriteError>)>,
}

impl Task {
    fn new(client: kube::Client, config: Config) -> Self {
        let events = Events::new(client.clone(), "daymark-controller", None);
        Self {
            writer: Writer {
                client,
                events,
                class: config.class.clone(),
            },
            class: config.class,
            pool_namespace: config.pool_namespace,
            service_cidrs: config.service_cidrs,
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            records: BTreeMap::new(),
            advertisements: BTreeMap::new(),
            given: Assignments::default(),
            faults: BTreeMap::new(),
            told: BTreeMap::new(),
            reported: BTreeMap::new(),
            warned: BTreeMap::new(),
            silent: BTreeMap::new(),
            said: BTreeMap::new(),
            waiting: BTreeSet::new(),
            busy: BTreeSet::new(),
            jobs: JoinSet::new(),
        }
    }

    fn apply(&mut self, batch: &Batch) {
        let mut relevant = false;
        for event in &batch.events {
            relevant |= match event {
                Event::Model(Change::Service(key, service)) => {
                    self.take_service(key, service.as_ref())
                }
                Event::Pool(key, pool) => {
                    put(&mut self.records, key, pool.as_ref());
                    true
                }
                Event::L2Advertisement(key, one) => {
                    put(&mut self.advertisements, key, one.as_ref());
                    true
                }
                Event::Node(name, node) => {
                    let same = reserved::same(self.nodes.get(name), node.as_ref());
                    put(&mut self.nodes, name, node.as_ref());
                    !same
                }
                Event::Model(_)
                | Event::Triggered(..)
                | Event::Unusable(..)
                | Event::Eligibility(_)
                | Event::Namespace(..)
                | Event::Lease(..) => false,
            };
        }
        if relevant {
            self.round();
        }
    }

    /// Whether the Service is or was one of ours.
    fn take_service(&mut self, key: &ServiceKey, service: Option<&Arc<Service>>) -> bool {
        let ours =
            service.filter(|service| audience::load_balancer(service, self.class.as_deref()));
        let before = self.services.contains_key(key);
        put(&mut self.services, key, ours);
        if ours.is_none() {
            self.told.remove(key);
            if before && service.is_some() {
                self.waiting.insert(Subject::Service(key.clone()));
            }
        }
        before || ours.is_some()
    }

    /// Works out who gets what, and queues what the API does not know yet.
    fn round(&mut self) {
        let here = |key: &ObjectKey| key.namespace == self.pool_namespace;
        let reserved = Reserved::new(self.nodes.values(), &self.service_cidrs);
        let pools = Pools::new(
            self.records.values().filter(|pool| here(&pool.key)),
            reserved,
        );
        let claims = self
            .services
            .values()
            .map(|service| Claim {
                service,
                held: self.held(service),
            })
            .collect();
        self.given = allocate(&pools, claims);
        for (key, outcome) in &self.given.services {
            let service = &self.services[key];
            let as_wanted = addresses(service) == outcome.addresses();
            let told = self.told.get(key).map(|told| &told.refused) == Some(&outcome.refused);
            let healed = outcome.refused.is_empty() && !self.told.contains_key(key);
            if !(as_wanted && (told || healed)) {
                self.waiting.insert(Subject::Service(key.clone()));
            }
        }
        self.faults = faults(
            &pools,
            self.advertisements.values().filter(|one| here(&one.key)),
        );
        self.misplaced();
        self.find_silent();
        self.warned.retain(|subject, _| match subject {
            Subject::Pool(key) => self.records.contains_key(key),
            Subject::Advertisement(key) => self.advertisements.contains_key(key),
            Subject::Service(_) | Subject::Silent(_) => false,
        });
        self.reported
            .retain(|key, _| self.records.contains_key(key));
        for key in self.records.keys() {
            if self.reported.get(key) != Some(&self.report(key)) {
                self.waiting.insert(Subject::Pool(key.clone()));
            }
        }
        for key in self.advertisements.keys() {
            let subject = Subject::Advertisement(key.clone());
            if self.warned.get(&subject) != self.faults.get(&subject) {
                self.waiting.insert(subject);
            }
        }
    }

    /// Finds the Services with an address of a pool that no L2Advertisement names.
    fn find_silent(&mut self) {
        let here: Vec<_> = self
            .advertisements
            .values()
            .filter(|one| one.key.namespace == self.pool_namespace)
            .collect();
        let mut silent = BTreeMap::new();
        for (key, outcome) in &self.given.services {
            let unnamed =
                |(_, pool): &&(IpAddr, ObjectKey)| !is_advertised(here.iter().copied(), &pool.name);
            if let Some((address, pool)) = outcome.given.iter().find(unnamed) {
                let message = format!(
                    "no node answers for {address}, because no L2Advertisement names IPAddressPool {pool}: create one \
                     in namespace {} with {:?} in spec.ipAddressPools",
                    self.pool_namespace, pool.name
                );
                silent.insert(key.clone(), message);
            }
        }
        self.said.retain(|key, _| silent.contains_key(key));
        for (key, message) in &silent {
            if self.said.get(key) != Some(message) {
                self.waiting.insert(Subject::Silent(key.clone()));
            }
        }
        self.silent = silent;
    }

    /// Finds what is in a namespace that does not count.
    fn misplaced(&mut self) {
        let pools = self.records.keys().map(|key| (key, "IPAddressPool"));
        let others = self
            .advertisements
            .keys()
            .map(|key| (key, "L2Advertisement"));
        for (key, kind) in pools.chain(others) {
            if key.namespace == self.pool_namespace {
                continue;
            }
            let subject = if kind == "IPAddressPool" {
                Subject::Pool(key.clone())
            } else {
                Subject::Advertisement(key.clone())
            };
            let message = format!(
                "metadata.namespace: only the {kind} objects of namespace {} are read: create it there",
                self.pool_namespace
            );
            self.faults.entry(subject).or_default().push(Fault {
                reason: "WrongNamespace",
                message,
            });
        }
    }

    /// What a Service holds: what it was given last, which the feed may not show yet, or else its status.
    fn held(&self, service: &Service) -> Vec<IpAddr> {
        match self.given.services.get(&service.key) {
            Some(outcome) if !outcome.given.is_empty() => outcome.addresses(),
            _ => addresses(service),
        }
    }

    fn report(&self, key: &ObjectKey) -> (Usage, Vec<Fault>) {
        let usage = self.given.usage.get(key).copied().unwrap_or_default();
        let faults = self
            .faults
            .get(&Subject::Pool(key.clone()))
            .cloned()
            .unwrap_or_default();
        (usage, faults)
    }

    fn start_jobs(&mut self) {
        while self.jobs.len() < WRITES_AT_ONCE {
            let Some(subject) = self
                .waiting
                .iter()
                .find(|subject| !self.busy.contains(*subject))
                .cloned()
            else {
                return;
            };
            self.waiting.remove(&subject);
            match subject.clone() {
                Subject::Service(key) => self.write_service(key),
                Subject::Pool(key) => self.write_pool(&key),
                Subject::Advertisement(key) => self.warn_advertisement(&key),
                Subject::Silent(key) => self.warn_silent(key),
            }
        }
    }

    fn spawn(
        &mut self,
        subject: Subject,
        job: impl Future<Output = Result<(), kube::Error>> + Send + 'static,
    ) {
        self.busy.insert(subject.clone());
        self.jobs.spawn(async move {
            let outcome = carried_out(job).await;
            if outcome.is_err() {
                sleep(RETRY).await;
            }
            (subject, outcome)
        });
    }

    fn write_service(&mut self, key: ServiceKey) {
        let writer = self.writer.clone();
        let outcome = self
            .given
            .services
            .get(&key)
            .filter(|_| self.services.contains_key(&key))
            .cloned();
        let subject = Subject::Service(key.clone());
        match outcome {
            Some(outcome) => {
                if outcome.refused.is_empty() {
                    self.told.remove(&key);
                } else {
                    self.told.insert(key.clone(), outcome.clone());
                }
                self.spawn(subject, async move { writer.assign(&key, &outcome).await });
            }
            None => self.spawn(subject, async move { writer.forget(&key).await }),
        }
    }

    fn write_pool(&mut self, key: &ObjectKey) {
        let Some(pool) = self.records.get(key).cloned() else {
            return;
        };
        let (usage, faults) = self.report(key);
        self.reported.insert(key.clone(), (usage, faults.clone()));
        let subject = Subject::Pool(key.clone());
        let known = self.warned.insert(subject.clone(), faults.clone());
        let known: BTreeSet<Fault> = known.into_iter().flatten().collect();
        let news = faults.iter().filter(|fault| !known.contains(fault));
        let news: Vec<Fault> = news.cloned().collect();
        let writer = self.writer.clone();
        self.spawn(subject, async move {
            writer
                .warn("IPAddressPool", &pool.key, &pool.uid, &news)
                .await;
            writer.report(&pool, usage, &faults).await
        });
    }

    fn warn_advertisement(&mut self, key: &ObjectKey) {
        let subject = Subject::Advertisement(key.clone());
        let (Some(one), Some(faults)) = (
            self.advertisements.get(key).cloned(),
            self.faults.get(&subject).cloned(),
        ) else {
            self.warned.remove(&subject);
            return;
        };
        self.warned.insert(subject.clone(), faults.clone());
        let writer = self.writer.clone();
        self.spawn(subject, async move {
            let warn = writer.warn("L2Advertisement", &one.key, &one.uid, &faults);
            warn.await;
            Ok(())
        });
    }

    fn warn_silent(&mut self, key: ServiceKey) {
        let Some(message) = self.silent.get(&key).cloned() else {
            return;
        };
        self.said.insert(key.clone(), message.clone());
        let writer = self.writer.clone();
        self.spawn(Subject::Silent(key.clone()), async move {
            writer.not_advertised(&key, message).await
        });
    }

    fn finished(&mut self, subject: Subject, outcome: Result<(), WriteError>) {
        self.busy.remove(&subject);
        let Err(error) = outcome else { return };
        tracing::warn!(?subject, %error, "a write of the load-balancer controller failed; it is tried again");
        if let Subject::Pool(key) = &subject {
            self.reported.remove(key);
        }
        self.waiting.insert(subject);
    }
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    let ours = service
        .ingress
        .iter()
        .filter(|ingress| ingress.mode == IngressMode::Vip);
    ours.map(|ingress| ingress.ip).collect()
}

/// Names what a pool holds and may not give; the first few, because a wide pool may hold every Node.
fn reserved_fault(record: &record::Pool, reserved: &Reserved) -> Option<Fault> {
    let found: BTreeSet<_> = record
        .ranges
        .iter()
        .flat_map(|range| reserved.within(*range).map(|(_, holder)| holder))
        .collect();
    let named: Vec<_> = found.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match found.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!found.is_empty()).then(|| Fault {
        reason: "ReservedAddresses",
        message: format!(
            "spec.addresses: {}{more}; those addresses are never given: leave them out",
            named.join(", ")
        ),
    })
}

/// What is wrong with pools and advertisements, by subject.
fn faults<'a>(
    pools: &Pools,
    advertisements: impl Iterator<Item = &'a Arc<L2Advertisement>>,
) -> BTreeMap<Subject, Vec<Fault>> {
    let mut all: BTreeMap<Subject, Vec<Fault>> = BTreeMap::new();
    for overlap in pools.overlaps() {
        for key in [&overlap.owner, &overlap.other] {
            let fault = Fault {
                reason: "PoolOverlap",
                message: overlap.to_string(),
            };
            all.entry(Subject::Pool(key.clone()))
                .or_default()
                .push(fault);
        }
    }
    for pool in pools.iter() {
        let record = pool.record();
        all.entry(Subject::Pool(pool.key().clone()))
            .or_default()
            .extend(reserved_fault(record, pools.reserved()));
        for text in &record.unreadable {
            let message = format!(
                "spec.addresses: {text:?} is neither a prefix such as 172.30.0.0/24 nor a range such as \
                 172.30.0.200-172.30.0.250, and is left out: correct it"
            );
            all.entry(Subject::Pool(pool.key().clone()))
                .or_default()
                .push(Fault {
                    reason: "InvalidAddresses",
                    message,
                });
        }
        for field in pool.unknown_fields() {
            let message = format!(
                "spec.{field} is not supported yet, so nothing new is given from this pool: remove the field"
            );
            all.entry(Subject::Pool(pool.key().clone()))
                .or_default()
                .push(Fault {
                    reason: "UnsupportedField",
                    message,
                });
        }
    }
    for one in advertisements {
        for field in &one.other_fields {
            let message = format!(
                "spec.{field} is not supported yet, so nothing is announced by this object: remove the field"
            );
            let faults = all
                .entry(Subject::Advertisement(one.key.clone()))
                .or_default();
            faults.push(Fault {
                reason: "UnsupportedField",
                message,
            });
        }
    }
    all
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, Arc<V>>, key: &K, value: Option<&Arc<V>>) {
    match value {
        Some(value) => map.insert(key.clone(), Arc::clone(value)),
        None => map.remove(key),
    };
}

/// Holders of reserved addresses that a message names.
const NAMED: usize = 5;
/// Writes that run side by side.
const WRITES_AT_ONCE: usize = 16;
/// Between two attempts of a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a write may take, all its requests together: an API server gives each up after a minute at most.
const PATIENCE: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests;
