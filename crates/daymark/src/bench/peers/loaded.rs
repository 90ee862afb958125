//! A large cluster: loaded, changed once and again, and changed many times a second.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use daymark_lab::control::{ControlPlane, Relay};

use super::super::agent::{self, Commits};
use super::super::figure::percentile;
use super::super::ground::{Ground, Part};
use super::super::{Sizes as PlaneSizes, api, clock, plane};
use super::metrics::Metrics;
use super::{Both, PATIENCE, QUIET, Row, Setup, Sizes, Subject, Wanted, cluster, in_turn, start};
use crate::beside::Proxy;
use crate::client::from_kubeconfig;

/// What one proxy did in one run.
struct Run {
    /// Seconds from its start to its last commit.
    start: f64,
    /// Megabytes after the load.
    memory: f64,
    /// Milliseconds from the answer to a write to the commit.
    changes: Vec<f64>,
    /// kube-proxy's own word: milliseconds of a sync after one change, and seconds of the first full one.
    syncs: Option<[f64; 2]>,
    /// Seconds of processor time while endpoints change.
    churn: Option<f64>,
}

/// The rows of [`Subject::Load`] and [`Subject::Churn`], of those among `subjects`.
pub(super) fn run(setup: &Setup<'_>, subjects: &[Subject]) -> anyhow::Result<Vec<Row>> {
    let sizes = setup.sizes;
    let filled = cluster::fill(setup.client, 0..sizes.services, sizes.endpoints);
    setup.runtime.block_on(filled)?;
    let mut done: Both<Vec<Run>> = Both::default();
    for number in 0..setup.runs {
        for (proxy, part) in in_turn(number).into_iter().zip(0..) {
            done.of(proxy)
                .push(one(proxy, setup, subjects, 2 * number + part)?);
        }
    }
    let mut rows = Vec::new();
    if subjects.contains(&Subject::Load) {
        rows.extend(of_load(sizes, &done));
        rows.insert(1, load(setup, &done.kube)?);
    }
    if subjects.contains(&Subject::Churn) {
        rows.push(of_churn(sizes, &done));
    }
    Ok(rows)
}

/// `number` is that of the only run which writes these endpoints.
fn one(
    proxy: Proxy,
    setup: &Setup<'_>,
    subjects: &[Subject],
    number: usize,
) -> anyhow::Result<Run> {
    let ground = Ground::new()?;
    let _relay = Relay::accepting(ground.listener()?, ControlPlane::address())?;
    let (programs, folder, sizes) = (setup.programs, setup.folder, setup.sizes);
    ground.run(|| {
        api::runtime()?.block_on(async {
            let mut commits = Commits::follow()?;
            let started = clock::now();
            let mut part = start(proxy, programs, folder)?;
            let loaded = commits.last(QUIET, PATIENCE).await;
            part.still_runs()?;
            let loaded = loaded.with_context(|| format!("{} committed nothing", proxy.name()))?;
            let mut run = Run {
                start: (loaded - started).as_secs_f64(),
                memory: part.memory("VmRSS:")? / 1e6,
                changes: Vec::new(),
                syncs: None,
                churn: None,
            };
            let client = from_kubeconfig(&folder.join("admin.kubeconfig")).await?;
            if subjects.contains(&Subject::Load) {
                let first = own_syncs(proxy)?;
                run.changes = changes(&client, &mut commits, sizes, number).await?;
                let syncs = first.zip(own_syncs(proxy)?);
                run.syncs = syncs.map(|(first, after)| first.since(after));
            }
            if subjects.contains(&Subject::Churn) {
                run.churn = Some(churn(&client, &part, &mut commits, sizes, number).await?);
            }
            part.stop()?;
            Ok(run)
        })
    })
}

/// Replaces one endpoint after the other, and takes the time until the kernel has it.
async fn changes(
    client: &kube::Client,
    commits: &mut Commits,
    sizes: &Sizes,
    number: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for change in 0..sizes.changes {
        let replaced = 1 + number * sizes.changes + change;
        let service = replaced * 7919 % sizes.services;
        agent::write(client, service, sizes.endpoints, replaced).await?;
        let answered = clock::now();
        let committed = commits.next().await?;
        times.push(milliseconds(answered, committed));
        // Longer than kube-proxy's minSyncPeriod, and another phase of it each time.
        let pause = BETWEEN + Duration::from_millis(u64::try_from(change * 137 % 1000)?);
        tokio::time::sleep(pause).await;
        commits.forget();
    }
    Ok(times)
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

/// Replaces so many endpoints a second; seconds of processor time that a program takes for them.
async fn churn(
    client: &kube::Client,
    part: &Part,
    commits: &mut Commits,
    sizes: &Sizes,
    number: usize,
) -> anyhow::Result<f64> {
    let before = part.processor_time()?;
    let started = clock::now();
    let mut change = 0_u32;
    while clock::now() - started < sizes.churn {
        let replaced = CHURNED * (number + 1) + usize::try_from(change)?;
        let service = replaced * 7919 % sizes.services;
        agent::write(client, service, sizes.endpoints, replaced).await?;
        change += 1;
        let due = started + Duration::from_secs(1) * change / sizes.rate;
        tokio::time::sleep_until(due.into()).await;
    }
    let wanted = sizes.churn.as_secs_f64() * f64::from(sizes.rate);
    if f64::from(change) < 0.9 * wanted {
        bail!("only {change} of {wanted} changes could be written: the machine is too busy");
    }
    // What was put off is part of the price.
    commits.last(QUIET, QUIET).await;
    Ok(part.processor_time()? - before)
}

/// Sums and counts of kube-proxy's own histograms.
#[derive(Clone, Copy)]
struct Syncs {
    full: f64,
    all: [f64; 2],
}

impl Syncs {
    /// Milliseconds of one sync between the two, and seconds of the full syncs before.
    fn since(self, after: Self) -> [f64; 2] {
        let [sum, count] = [0, 1].map(|index| after.all[index] - self.all[index]);
        [1000.0 * sum / count.max(1.0), self.full]
    }
}

fn own_syncs(proxy: Proxy) -> anyhow::Result<Option<Syncs>> {
    if proxy != Proxy::Kube {
        return Ok(None);
    }
    let metrics = Metrics::read().context("kube-proxy's metrics")?;
    Ok(Some(Syncs {
        full: metrics.of_ipv4("kubeproxy_sync_full_proxy_rules_duration_seconds_sum"),
        all: [
            metrics.of_ipv4("kubeproxy_sync_proxy_rules_duration_seconds_sum"),
            metrics.of_ipv4("kubeproxy_sync_proxy_rules_duration_seconds_count"),
        ],
    }))
}

/// The row that two programs cannot be asked for alike: kube-proxy tells how long its first sync took, of daymark
/// translation and commits are taken from the plane alone.
fn load(setup: &Setup<'_>, kube: &[Run]) -> anyhow::Result<Row> {
    let of_plane = PlaneSizes {
        services: setup.sizes.services,
        endpoints: setup.sizes.endpoints,
        changes: 10,
        ..PlaneSizes::full()
    };
    let figures = plane::load_and_change(&of_plane, setup.runs)?;
    let whole = figures
        .into_iter()
        .find(|figure| figure.name == "nft-load-whole")
        .context("the plane's figures")?;
    Ok(Row {
        name: "load".to_owned(),
        what: "cold load, caches full to last commit".to_owned(),
        unit: "s",
        kube: kube.iter().filter_map(|run| Some(run.syncs?[1])).collect(),
        daymark: whole.runs,
        wanted: Wanted::AtMost(0.1),
    })
}

fn of_load(sizes: &Sizes, done: &Both<Vec<Run>>) -> Vec<Row> {
    let (services, endpoints) = (sizes.services, sizes.endpoints);
    let named = |name: &str, what: &str| (name.to_owned(), what.to_owned());
    let at = |percent| move |run: &Run| percentile(&mut run.changes.clone(), percent);
    let what = "one endpoint: kube-proxy's own sync; daymark, write answered to commit, p50";
    let mut change = done.row(
        named("change", what),
        "ms",
        Wanted::AtMost(1.0 / 50.0),
        at(50),
    );
    let syncs = done.kube.iter().filter_map(|run| Some(run.syncs?[0]));
    change.kube = syncs.collect();
    let start = format!("start to last commit, {services} Services x {endpoints}");
    let seen = "the same for both from write answered to commit, waiting included, p50";
    let slowest = format!("the same, the slowest of {}", sizes.changes);
    vec![
        done.row(named("start", &start), "s", Wanted::Nothing, |run| {
            run.start
        }),
        change,
        done.row(named("change-seen", seen), "ms", Wanted::Nothing, at(50)),
        done.row(
            named("change-slowest", &slowest),
            "ms",
            Wanted::Nothing,
            at(100),
        ),
        done.row(
            named("memory", "resident after the load"),
            "MB",
            Wanted::AtMost(0.25),
            |run| run.memory,
        ),
    ]
}

fn of_churn(sizes: &Sizes, done: &Both<Vec<Run>>) -> Row {
    let (rate, seconds) = (sizes.rate, sizes.churn.as_secs());
    let what = format!("processor time while {rate} endpoints/s change for {seconds} s");
    done.row(
        ("churn".to_owned(), what),
        "s",
        Wanted::AtMost(1.0 / 20.0),
        |run| run.churn.unwrap_or(f64::NAN),
    )
}

const BETWEEN: Duration = Duration::from_millis(1300);
/// More endpoints than one program's churn replaces, so that each has addresses of its own.
const CHURNED: usize = 10_000;
