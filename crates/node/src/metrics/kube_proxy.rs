//! What kube-proxy counts, under its names, with its labels.
//!
//! One commit brings both families; it counts for those that it changed something of. A first load, and what follows a
//! failure, is a full sync, everything else a partial one. (kubernetes `pkg/proxy/metrics/metrics.go`.)

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daymark_dataplane::conntrack::Walk;
use daymark_model::desired::{Action, Delta, FrontendKey, Origin, PortName, Reason};
use daymark_model::{Change, Family};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::clock;

/// Labels and their values.
type Labels = Vec<(&'static str, String)>;
type Durations = Labelled<Labels, Histogram, fn() -> Histogram>;

/// How much of the kernel's state a sync was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// All of it.
    Full,
    /// What changed.
    Partial,
}

/// Which port was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// `/healthz`.
    Health,
    /// `/livez`.
    Life,
}

/// kube-proxy's counters.
#[derive(Debug)]
pub(crate) struct KubeProxy {
    all: Durations,
    full: Durations,
    partial: Durations,
    synced: Labelled<Labels, Gauge<f64, AtomicU64>>,
    queued: Labelled<Labels, Gauge<f64, AtomicU64>>,
    endpoint_changes: Counter,
    service_changes: Counter,
    endpoints_pending: Gauge<i64, AtomicI64>,
    services_pending: Gauge<i64, AtomicI64>,
    no_local: Labelled<Labels, Gauge<i64, AtomicI64>>,
    healthz: Labelled<Labels, Counter>,
    livez: Labelled<Labels, Counter>,
    reconciled: Durations,
    deleted: Labelled<Labels, Counter>,
    programming: Durations,
    /// Changes before this are no measure of this process.
    started: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the kernel was last in step, by the clock on the wall.
    updated: Option<Timestamp>,
    /// Frontends that drop because no endpoint is on this node.
    /// Changes on their way: the batch, the family, and when they were made, microseconds since 1970.
    triggered: Vec<(u64, Family, i64)>,
    without_local: HashMap<FrontendKey, (Policy, std::sync::Arc<PortName>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Policy {
    Internal,
    External,
}

impl Policy {
    fn word(self) -> String {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
        .to_owned()
    }
}

fn of(family: Family) -> Labels {
    vec![("ip_family", family.to_string())]
}

/// 1 ms to 16 s, as kube-proxy, and below, because that is where daymark is.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 21))
}

impl Default for KubeProxy {
    fn default() -> Self {
        let durations = || Durations::new_with_constructor(seconds);
        Self {
            all: durations(),
            full: durations(),
            partial: durations(),
            synced: Labelled::default(),
            queued: Labelled::default(),
            endpoint_changes: Counter::default(),
            service_changes: Counter::default(),
            endpoints_pending: Gauge::default(),
            services_pending: Gauge::default(),
            no_local: Labelled::default(),
            healthz: Labelled::default(),
            livez: Labelled::default(),
            reconciled: durations(),
            deleted: Labelled::default(),
            programming: durations(),
            started: clock::timestamp(),
            state: Mutex::default(),
        }
    }
}

impl KubeProxy {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let sync = registry.sub_registry_with_prefix("kubeproxy_sync");
        for (name, help, metric) in [
            (
                "proxy_rules_duration",
                "From changes to their commit in the kernel, without waiting",
                &self.all,
            ),
            (
                "full_proxy_rules_duration",
                "The same, for the whole state",
                &self.full,
            ),
            (
                "partial_proxy_rules_duration",
                "The same, for what changed",
                &self.partial,
            ),
        ] {
            sync.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        let rules = sync.sub_registry_with_prefix("proxy_rules");
        let when = "last_timestamp_seconds";
        rules.register(
            when,
            "When the kernel was last brought in step",
            self.synced.clone(),
        );
        let when = "last_queued_timestamp_seconds";
        rules.register(when, "When a change last came", self.queued.clone());
        rules.register(
            "endpoint_changes",
            "Changes of EndpointSlices",
            self.endpoint_changes.clone(),
        );
        rules.register(
            "service_changes",
            "Changes of Services",
            self.service_changes.clone(),
        );
        let pending = "Changes of EndpointSlices that the kernel does not hold yet";
        rules.register(
            "endpoint_changes_pending",
            pending,
            self.endpoints_pending.clone(),
        );
        let pending = "Changes of Services that the kernel does not hold yet";
        rules.register(
            "service_changes_pending",
            pending,
            self.services_pending.clone(),
        );
        let help = "Service ports with a policy Local and endpoints elsewhere alone";
        rules.register("no_local_endpoints_total", help, self.no_local.clone());
        self.register_others(registry.sub_registry_with_prefix("kubeproxy"));
    }

    fn register_others(&self, registry: &mut Registry) {
        for family in Family::BOTH {
            // Present from the first, so that the first slow change counts too.
            drop(self.programming.get_or_create(&of(family)));
            // At 0 until then, so that an alert that compares them is not blind before the first.
            for when in [&self.queued, &self.synced] {
                drop(when.get_or_create(&of(family)));
            }
        }
        let help = "From the change of a Pod or Service to its endpoints in the kernel, as far as the slices say when that was";
        registry.register_with_unit(
            "network_programming_duration",
            help,
            Unit::Seconds,
            self.programming.clone(),
        );
        registry.register("proxy_healthz", "Answers of /healthz", self.healthz.clone());
        registry.register("proxy_livez", "Answers of /livez", self.livez.clone());
        let help = "Walks of the table of tracked connections";
        registry.register_with_unit(
            "conntrack_reconciler_sync_duration",
            help,
            Unit::Seconds,
            self.reconciled.clone(),
        );
        let help = "Connections to endpoints that left, forgotten";
        registry.register(
            "conntrack_reconciler_deleted_entries",
            help,
            self.deleted.clone(),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes came: they wait until [`KubeProxy::in_step`].
    pub(crate) fn came(&self, changes: &[Change]) {
        let count =
            |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count() as u64;
        let services = count(|change| matches!(change, Change::Service(..)));
        let endpoints = count(|change| matches!(change, Change::Slice(..)));
        self.service_changes.inc_by(services);
        self.endpoint_changes.inc_by(endpoints);
        self.services_pending
            .inc_by(i64::try_from(services).unwrap_or(0));
        self.endpoints_pending
            .inc_by(i64::try_from(endpoints).unwrap_or(0));
    }

    /// Changes are there for the plane's thread, which may be at others still. Who sends them says so: a thread that the kernel
    /// holds cannot, and how long nothing was brought in step is seen by this time growing beyond that of the last sync.
    pub(crate) fn queued(&self, now: Timestamp) {
        for family in Family::BOTH {
            self.queued.get_or_create(&of(family)).set(on_the_wall(now));
        }
    }

    /// What is wanted changed: which Service ports have no endpoint here.
    pub(crate) fn wanted(&self, delta: &Delta) {
        if delta.frontends.is_empty() {
            return;
        }
        let mut state = self.state();
        for (key, frontend) in &delta.frontends {
            state.without_local.remove(key);
            let Some(frontend) = frontend else { continue };
            let policy = match frontend.origin {
                Origin::ClusterIp => Policy::Internal,
                _ => Policy::External,
            };
            if frontend.outside == Action::Drop(Reason::NoLocalEndpoint) {
                let port = std::sync::Arc::clone(&frontend.port);
                state.without_local.insert(*key, (policy, port));
            }
        }
        let mut ports = BTreeSet::new();
        for (key, (policy, port)) in &state.without_local {
            ports.insert((key.family(), *policy, port));
        }
        for family in Family::BOTH {
            for policy in [Policy::Internal, Policy::External] {
                let count = ports
                    .iter()
                    .filter(|(of, with, _)| (*of, *with) == (family, policy))
                    .count();
                let labels = vec![
                    ("ip_family", family.to_string()),
                    ("traffic_policy", policy.word()),
                ];
                self.no_local
                    .get_or_create(&labels)
                    .set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// Something was committed.
    pub(crate) fn committed(&self, sync: Sync, families: &[Family], took: Duration) {
        for family in families {
            let labels = of(*family);
            self.all.get_or_create(&labels).observe(took.as_secs_f64());
            let kind = match sync {
                Sync::Full => &self.full,
                Sync::Partial => &self.partial,
            };
            kind.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// A slice of this batch says when what it follows from changed. What was before this process is none of its making.
    pub(crate) fn triggered(&self, batch: u64, family: Family, at: i64) {
        if at >= self.started.as_microsecond() {
            self.state().triggered.push((batch, family, at));
        }
    }

    /// The kernel holds all that came, up to this batch.
    pub(crate) fn in_step(&self, now: Timestamp, batch: Option<u64>) {
        let held = |(of, ..): &mut (u64, Family, i64)| batch.is_some_and(|batch| *of <= batch);
        let held: Vec<_> = self.state().triggered.extract_if(.., held).collect();
        for (_, family, at) in held {
            let took = Duration::from_micros(u64::try_from(now.as_microsecond() - at).unwrap_or(0));
            self.programming
                .get_or_create(&of(family))
                .observe(took.as_secs_f64());
        }
        self.services_pending.set(0);
        self.endpoints_pending.set(0);
        self.state().updated = Some(now);
        for family in Family::BOTH {
            self.synced.get_or_create(&of(family)).set(on_the_wall(now));
        }
    }

    /// When the kernel was last in step.
    pub(crate) fn updated(&self) -> Option<Timestamp> {
        self.state().updated
    }

    /// A probe was answered.
    pub(crate) fn probed(&self, probe: Probe, code: u16) {
        let counter = match probe {
            Probe::Health => &self.healthz,
            Probe::Life => &self.livez,
        };
        counter
            .get_or_create(&vec![("code", code.to_string())])
            .inc();
    }

    /// The table of connections was walked for a family.
    pub(crate) fn walked(&self, walk: Walk, took: Duration) {
        let labels = of(walk.family);
        self.reconciled
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        self.deleted
            .get_or_create(&labels)
            .inc_by(walk.stale as u64);
    }
}

/// The families that a change touches.
pub(crate) fn families(delta: &Delta) -> Vec<Family> {
    let frontends = delta.frontends.keys().map(FrontendKey::family);
    let pools = delta.pools.keys().map(|key| key.family);
    let addresses = delta
        .service_addresses
        .keys()
        .chain(delta.local_backends.keys());
    let addresses = addresses
        .chain(delta.node_port_addresses.keys())
        .map(|ip| Family::of(*ip));
    let touched: BTreeSet<Family> = frontends.chain(pools).chain(addresses).collect();
    touched.into_iter().collect()
}

fn on_the_wall(now: Timestamp) -> f64 {
    now.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use daymark_case::Case;
    use daymark_model::World;
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(it: &KubeProxy) -> String {
        let mut registry = Registry::default();
        it.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    /// Every name and label that kube-proxy 1.37.2 has in mode nftables after a start, and what else makes sense here.
    #[test]
    fn names_and_labels_are_kube_proxys() {
        let it = KubeProxy::default();
        let now = Timestamp::from_second(1_000).unwrap();
        it.committed(Sync::Full, &Family::BOTH, Duration::from_millis(3));
        it.committed(Sync::Partial, &[Family::V6], Duration::from_millis(1));
        it.came(&[]);
        it.queued(now);
        let start = it.started.as_microsecond();
        it.triggered(1, Family::V4, start - 1);
        it.triggered(1, Family::V4, start + 1);
        it.triggered(2, Family::V6, start + 1);
        it.in_step(now, Some(1));
        it.probed(Probe::Health, 503);
        for (family, stale, took) in [(Family::V4, 2, 3), (Family::V6, 0, 1), (Family::V6, 1, 1)] {
            it.walked(Walk { family, stale }, Duration::from_secs(took));
        }
        let text = text(&it);
        for line in [
            r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 2"#,
            r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1"#,
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1000.0"#,
            r#"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 1000.0"#,
            r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1"#,
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 0",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 0",
            r#"kubeproxy_proxy_healthz_total{code="503"} 1"#,
            r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 2"#,
            r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 1"#,
            r#"kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1"#,
            r#"kubeproxy_conntrack_reconciler_sync_duration_seconds_sum{ip_family="IPv4"} 3.0"#,
            r#"kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv6"} 2"#,
            r#"kubeproxy_conntrack_reconciler_sync_duration_seconds_sum{ip_family="IPv6"} 2.0"#,
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        let waits = r#"network_programming_duration_seconds_count{ip_family="IPv6"} 0"#;
        assert!(text.contains(waits), "batch 2 is not in the kernel: {text}");
    }

    #[test]
    fn ports_without_an_endpoint_here_are_counted_by_family_and_policy() {
        let case = "\
node node-1 172.30.0.11 fd00:30::11
service in ClusterIP 80->8080/TCP cluster=10.96.0.20,fd00:10:96::20 internal-policy=Local
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:2::5 ready on node-2
service out LoadBalancer 80->8080/TCP@30001 cluster=10.96.0.21 lb=192.0.2.1,192.0.2.2 external-policy=Local
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:2::5 ready on node-2
";
        let case = Case::parse("inline.case", case).unwrap();
        let changes = case.steps.iter().flat_map(|step| step.changes.clone());
        let it = KubeProxy::default();
        let mut world = World::new(case.options.clone());
        it.wanted(&world.apply(changes.collect::<Vec<_>>()));
        let text = text(&it);
        for (family, policy, count) in [
            ("IPv4", "internal", 1),
            ("IPv6", "internal", 1),
            ("IPv4", "external", 1),
            ("IPv6", "external", 0),
        ] {
            let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
            let line =
                format!(r#"{name}{{ip_family="{family}",traffic_policy="{policy}"}} {count}"#);
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
