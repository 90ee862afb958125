//! What the agent counts: kube-proxy's metrics ([`kube_proxy`]) and its own.

pub mod connections;
pub(crate) mod format;
pub(crate) mod kube_proxy;
pub mod process;
pub mod refused;
mod wrong;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use daymark_feed::record::Eligibility;
use daymark_model as model;
use daymark_model::Desired;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::clock;
use kube_proxy::{KubeProxy, Sync};
use wrong::Wrong;

/// The agent's counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    synced: Gauge<i64, AtomicI64>,
    programming: Histogram,
    failures: Family<OfFamily, Counter<u64, AtomicU64>>,
    repairs: Counter<u64, AtomicU64>,
    elements: Counter<u64, AtomicU64>,
    isolations: Counter<u64, AtomicU64>,
    isolated: Gauge<i64, AtomicI64>,
    frontends: Gauge<i64, AtomicI64>,
    pools: Gauge<i64, AtomicI64>,
    kube_proxy_rules: Wrong,
    kube_proxy_leftovers: Wrong,
    api_server_is_service: Wrong,
    configuration_refused: Gauge<i64, AtomicI64>,
    conntrack_failing: Wrong,
    conntrack_restarts: Counter<u64, AtomicU64>,
    conntrack_full: Wrong,
    loopback: Family<OfFamily, Gauge<i64, AtomicI64>>,
    loopback_failures: Family<OfFamily, Counter<u64, AtomicU64>>,
    commits: AtomicU64,
    behind: Mutex<Option<Instant>>,
    at_work: Mutex<Option<Instant>>,
    pub(crate) kube_proxy: KubeProxy,
    node: Mutex<Option<Eligibility>>,
    adopted: AtomicBool,
}

/// The label of what each IP family has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFamily {
    ip_family: String,
}

impl OfFamily {
    fn of(family: model::Family) -> Self {
        Self {
            ip_family: family.to_string(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        // 10 us to 5 s.
        let histogram = || Histogram::new(exponential_buckets(0.000_01, 2.0, 20));
        let metrics = Self {
            synced: Gauge::default(),
            programming: histogram(),
            failures: Family::default(),
            repairs: Counter::default(),
            elements: Counter::default(),
            isolations: Counter::default(),
            isolated: Gauge::default(),
            frontends: Gauge::default(),
            pools: Gauge::default(),
            kube_proxy_rules: Wrong::default(),
            kube_proxy_leftovers: Wrong::default(),
            api_server_is_service: Wrong::default(),
            configuration_refused: Gauge::default(),
            conntrack_failing: Wrong::default(),
            conntrack_restarts: Counter::default(),
            conntrack_full: Wrong::default(),
            loopback: Family::default(),
            loopback_failures: Family::default(),
            commits: AtomicU64::new(0),
            behind: Mutex::new(None),
            at_work: Mutex::new(None),
            kube_proxy: KubeProxy::default(),
            node: Mutex::new(None),
            adopted: AtomicBool::new(false),
            registry: Registry::default(),
        };
        metrics.kube_proxy.register(&mut registry);
        let build = Family::<Vec<(&str, &str)>, Gauge>::default();
        let of = vec![("version", env!("CARGO_PKG_VERSION"))];
        build.get_or_create(&of).set(1);
        registry.register("daymark_build_info", "Which daymark this is", build);
        registry.register(
            "daymark_synced",
            "Whether this agent itself has brought a state of the API to the kernel: 1 once it has",
            metrics.synced.clone(),
        );
        registry.register_with_unit(
            "daymark_programming_duration",
            "From when changes are handed to the plane's thread to their commit in the kernel",
            Unit::Seconds,
            metrics.programming.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_nftables_sync_failures",
            "Commits that failed and were tried again",
            metrics.failures.clone(),
        );
        registry.register(
            "daymark_plane_repairs",
            "Times that another process had changed the tables",
            metrics.repairs.clone(),
        );
        registry.register(
            "daymark_plane_elements",
            "Elements and other objects that were added or removed",
            metrics.elements.clone(),
        );
        registry.register(
            "daymark_isolations",
            "Times that the kernel refused something of one Service, which was left out so that all else went on",
            metrics.isolations.clone(),
        );
        registry.register(
            "daymark_isolated",
            "Service ports and addresses that are left out because the kernel refuses them",
            metrics.isolated.clone(),
        );
        registry.register(
            "daymark_frontends",
            "Addresses and ports that are captured",
            metrics.frontends.clone(),
        );
        registry.register(
            "daymark_pools",
            "Lists of backends in use",
            metrics.pools.clone(),
        );
        registry.register(
            "daymark_kube_proxy_rules",
            "Whether kube-proxy's rules are on this node beside daymark's: 1 while they are, looked for each 45 s",
            metrics.kube_proxy_rules.gauge(),
        );
        registry.register(
            "daymark_kube_proxy_leftovers",
            "What kube-proxy left on this node and could not be removed, or not be seen: kinds of it; tried each 5 minutes",
            metrics.kube_proxy_leftovers.gauge(),
        );
        registry.register(
            "daymark_api_server_is_service",
            "Whether the API is reached at a Service's address: 1 if so, and then this node does not come up by itself",
            metrics.api_server_is_service.gauge(),
        );
        registry.register(
            "daymark_configuration_refused",
            "Whether the configuration file changed to one that cannot be used: 1 while the agent could not start with it",
            metrics.configuration_refused.clone(),
        );
        registry.register(
            "daymark_conntrack_failing",
            "Whether flows of endpoints that left stay, UDP clients that keep sending with them: 1 while they cannot be forgotten",
            metrics.conntrack_failing.gauge(),
        );
        registry.register(
            "daymark_conntrack_restarts",
            "How often the thread that forgets flows of endpoints that left panicked and began anew",
            metrics.conntrack_restarts.clone(),
        );
        registry.register(
            "daymark_conntrack_full",
            "Whether the kernel dropped new connections in the last ten seconds because it tracks as many as it may",
            metrics.conntrack_full.gauge(),
        );
        registry.register(
            "kubeproxy_nftables_localhost_nodeport_listeners",
            "Node ports that are served on loopback",
            metrics.loopback.clone(),
        );
        registry.register(
            "kubeproxy_nftables_localhost_nodeport_listener_creation_failures",
            "Times that a listener for a node port on loopback could not be opened",
            metrics.loopback_failures.clone(),
        );
        for family in model::Family::BOTH {
            // Present from the first, at 0.
            drop(metrics.loopback.get_or_create(&OfFamily::of(family)));
            for failures in [&metrics.failures, &metrics.loopback_failures] {
                drop(failures.get_or_create(&OfFamily::of(family)));
            }
        }
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// The families of `/metrics` as OpenMetrics writes them, without its end.
    #[must_use]
    pub fn families(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text.truncate(text.strip_suffix(format::END).unwrap_or(&text).len());
        text
    }

    /// How many updates were committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// How long the kernel has not followed the API; `None` while it does.
    #[must_use]
    pub fn behind(&self) -> Option<Duration> {
        let since = *self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| clock::now() - since)
    }

    /// Why stale flows stay; `None` while they are forgotten.
    pub(crate) fn conntrack_failure(&self) -> Option<String> {
        self.conntrack_failing.word()
    }

    /// The thread panicked, and waits before it begins anew.
    pub(crate) fn conntrack_fell(&self, why: String) {
        self.conntrack_restarts.inc();
        self.set_conntrack_failure(Some(why));
    }

    pub(crate) fn set_conntrack_full(&self, full: Option<String>) {
        self.conntrack_full.set(full);
    }

    /// What is to be said of a table of tracked connections that has no room.
    pub(crate) fn conntrack_full(&self) -> Option<String> {
        self.conntrack_full.word()
    }

    pub(crate) fn conntrack_restarts(&self) -> u64 {
        self.conntrack_restarts.get()
    }

    pub(crate) fn set_conntrack_failure(&self, failure: Option<String>) {
        self.conntrack_failing.set(failure);
    }

    /// How long the changes that the plane's thread is at have waited, or else how long it is at what it does; `None` while it
    /// waits for orders. The kernel may hold it in a commit: it returns when another process's is done, which none can cut short.
    #[must_use]
    pub fn at_work(&self) -> Option<Duration> {
        let since = *self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| clock::now().saturating_duration_since(since))
    }

    pub(crate) fn set_at_work(&self, since: Option<Instant>) {
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub(crate) fn set_behind(&self, since: Option<Instant>) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether load balancers should send to this node; `None` while it has no Node object.
    #[must_use]
    pub fn eligibility(&self) -> Option<Eligibility> {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_eligibility(&self, node: Option<Eligibility>) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = node;
    }

    /// Whether the kernel held a state when the agent started: it serves until the first batch comes.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted.load(Ordering::Relaxed)
    }

    pub(crate) fn set_adopted(&self) {
        self.adopted.store(true, Ordering::Relaxed);
    }

    /// The kernel holds a state that this agent brought it.
    pub(crate) fn set_synced(&self) {
        self.synced.set(1);
    }

    pub(crate) fn committed(
        &self,
        (sync, families): (Sync, &[model::Family]),
        changed: usize,
        commit: Duration,
        programming: Duration,
    ) {
        self.kube_proxy.committed(sync, families, commit);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.elements
            .inc_by(u64::try_from(changed).unwrap_or(u64::MAX));
        self.programming.observe(programming.as_secs_f64());
    }

    /// Each node port that is served on loopback now, by its family.
    pub(crate) fn set_loopback(&self, open: impl Iterator<Item = model::Family>) {
        let open: Vec<_> = open.collect();
        for family in model::Family::BOTH {
            let count = open.iter().filter(|of| **of == family).count();
            let gauge = self.loopback.get_or_create(&OfFamily::of(family));
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn loopback_failed(&self, family: model::Family) {
        let failures = self.loopback_failures.get_or_create(&OfFamily::of(family));
        failures.inc();
    }

    /// A commit failed, which is of both families.
    pub(crate) fn failed(&self) {
        for family in model::Family::BOTH {
            self.failures.get_or_create(&OfFamily::of(family)).inc();
        }
    }

    /// `now` things are left out, `more` of them since the last time.
    pub(crate) fn set_isolated(&self, now: usize, more: usize) {
        self.isolated.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.isolations
            .inc_by(u64::try_from(more).unwrap_or(u64::MAX));
    }

    /// What of kube-proxy's rules is there beside the agent's own.
    pub fn set_kube_proxy_rules(&self, there: Option<String>) {
        self.kube_proxy_rules.set(there);
    }

    /// What of them was there at the last look.
    #[must_use]
    pub fn kube_proxy_rules(&self) -> Option<String> {
        self.kube_proxy_rules.word()
    }

    /// Why each kind of what kube-proxy left could not be removed that could not.
    pub fn set_kube_proxy_leftovers(&self, failed: Vec<String>) {
        self.kube_proxy_leftovers.set(failed);
    }

    /// What that was at the last try.
    #[must_use]
    pub fn kube_proxy_leftovers(&self) -> Vec<String> {
        self.kube_proxy_leftovers.words()
    }

    /// The API is reached at a Service's address; in words, with the remedy.
    pub fn set_api_server_is_service(&self, message: String) {
        self.api_server_is_service.set([message]);
    }

    /// What is to be said of the API's address, if it is a Service's.
    #[must_use]
    pub fn api_server_is_service(&self) -> Option<String> {
        self.api_server_is_service.word()
    }

    /// Whether the configuration file is one that the agent could not start with.
    pub fn set_configuration_refused(&self, refused: bool) {
        self.configuration_refused.set(i64::from(refused));
    }

    pub(crate) fn repaired(&self) {
        self.repairs.inc();
    }

    pub(crate) fn set_world(&self, desired: &Desired) {
        self.frontends
            .set(i64::try_from(desired.frontends.len()).unwrap_or(i64::MAX));
        self.pools
            .set(i64::try_from(desired.pools.len()).unwrap_or(i64::MAX));
    }
}
