//! An agent beside the real kube-proxy (mode nftables), both under the real kube-apiserver.
//!
//! Each proxy runs alone, in a network namespace of its own with a way to the API ([`Relay`]), and is told the same
//! things: a cluster to load, single changes, and many changes a second. [`connect`] opens connections through the
//! rules of each.

mod cluster;
mod connect;
mod row;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use daymark_lab::control::{ControlPlane, Relay};
use daymark_lab::net::Segment;
use daymark_sys::ns::NetNs;

use super::agent::{self, Commits};
use super::figure::percentile;
use super::ground::{Folder, Ground, Part};
use super::{api, clock, plane};
use crate::beside::{self, Proxy};
use crate::client::from_kubeconfig;

pub(crate) use row::{Row, Wanted};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Services of the cluster.
    pub(crate) services: usize,
    /// Endpoints of each.
    pub(crate) endpoints: usize,
    /// Single changes whose times are taken.
    pub(crate) changes: usize,
    /// For how long endpoints change.
    pub(crate) churn: Duration,
    /// How many a second.
    pub(crate) rate: u32,
    /// For how long connections are opened.
    pub(crate) connect: Duration,
    /// Beside how many other Services.
    pub(crate) others: [usize; 2],
}

impl Sizes {
    /// Those of the project's goals.
    pub(crate) fn full() -> Self {
        Self {
            services: 5000,
            endpoints: 10,
            changes: 20,
            churn: Duration::from_secs(60),
            rate: 100,
            connect: Duration::from_secs(5),
            others: [0, 9999],
        }
    }

    /// A try; no goal is judged by it.
    pub(crate) fn quick() -> Self {
        Self {
            services: 200,
            changes: 3,
            churn: Duration::from_secs(5),
            connect: Duration::from_secs(1),
            others: [0, 199],
            ..Self::full()
        }
    }
}

/// Starts a program in the namespace of the calling thread, with the configuration that both read.
fn start(proxy: Proxy, programs: &Path, folder: &Folder) -> anyhow::Result<Part> {
    let name = proxy.name();
    let config = beside::configuration(&folder.join(&format!("{name}.kubeconfig")));
    let file = folder.join(&format!("{name}.json"));
    std::fs::write(&file, config.to_string())?;
    let (program, args) = proxy.command(programs, &file)?;
    let log = match proxy {
        Proxy::Kube => File::create(folder.join("kube-proxy.log"))?.into(),
        Proxy::Daymark => Stdio::inherit(),
    };
    Part::start_program(&program, &args, Vec::new(), log)
}

/// What one proxy did in one run.
struct Run {
    /// Seconds from its start to its last commit.
    start: f64,
    /// Milliseconds from the answer to a write to the commit.
    changes: Vec<f64>,
    /// kube-proxy's own word: milliseconds of a sync after one change, and seconds of the first full one.
    syncs: Option<[f64; 2]>,
    /// Megabytes after the load.
    memory: f64,
    /// Seconds of processor time while endpoints change.
    churn: f64,
}

/// Measures, and hands out each row as soon as it is known. The caller is inside namespaces of its own.
///
/// # Errors
/// If something could not be measured; a goal that was missed is no error.
pub(crate) fn run(
    programs: &Path,
    base: &Path,
    sizes: &Sizes,
    runs: usize,
    mut report: impl FnMut(&Row),
) -> anyhow::Result<Vec<Row>> {
    // Its loopback is where the API answers.
    let _here = Segment::new(NetNs::current()?, &[])?;
    let folder = Folder::new(base, "peers")?;
    let runtime = api::runtime()?;
    let control = runtime.block_on(cluster::control(programs, &folder))?;
    let client = runtime.block_on(control.client())?;
    runtime.block_on(cluster::fill(&client, 0..sizes.services, sizes.endpoints))?;
    let mut done = [Vec::new(), Vec::new()];
    for number in 0..runs {
        for (proxy, runs) in Proxy::BOTH.into_iter().zip(&mut done) {
            runs.push(one(proxy, programs, &folder, sizes, number)?);
        }
    }
    let [kube, daymark] = done;
    let mut rows = followed(sizes, &kube, &daymark);
    rows.insert(1, load(sizes, runs, &kube)?);
    rows.iter().for_each(&mut report);
    runtime.block_on(async {
        cluster::empty(&client).await?;
        connect::target(&client).await
    })?;
    for others in sizes.others {
        runtime.block_on(cluster::fill(&client, 0..others, 1))?;
        for row in connect::run(programs, &folder, sizes, (runs, others))? {
            report(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn one(
    proxy: Proxy,
    programs: &Path,
    folder: &Folder,
    sizes: &Sizes,
    number: usize,
) -> anyhow::Result<Run> {
    let ground = Ground::new()?;
    let _relay = Relay::accepting(ground.listener()?, ControlPlane::address())?;
    ground.run(|| {
        let runtime = api::runtime()?;
        runtime.block_on(async {
            let mut commits = Commits::follow()?;
            let started = clock::now();
            let mut part = start(proxy, programs, folder)?;
            let loaded = commits.last(QUIET, PATIENCE).await;
            part.still_runs()?;
            let loaded = loaded.with_context(|| format!("{} committed nothing", proxy.name()))?;
            let first = own_syncs(proxy)?;
            let memory = part.memory("VmRSS:")? / 1e6;
            let client = from_kubeconfig(&folder.join("admin.kubeconfig")).await?;
            let changes = changes(&client, &mut commits, sizes, number).await?;
            let syncs = own_syncs(proxy)?;
            let before = part.processor_time()?;
            churn(&client, sizes, number).await?;
            // What was put off is part of the price.
            commits.last(QUIET, QUIET).await;
            let churn = part.processor_time()? - before;
            part.stop()?;
            Ok(Run {
                start: (loaded - started).as_secs_f64(),
                changes,
                syncs: first.zip(syncs).map(|(first, after)| first.since(after)),
                memory,
                churn,
            })
        })
    })
}

/// Replaces one endpoint after the other, and takes the time until the kernel has it.
async fn changes(
    client: &kube::Client,
    commits: &mut Commits,
    sizes: &Sizes,
    run: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for change in 0..sizes.changes {
        let replaced = 1 + run * sizes.changes + change;
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

/// Replaces so many endpoints a second.
async fn churn(client: &kube::Client, sizes: &Sizes, run: usize) -> anyhow::Result<()> {
    let started = clock::now();
    let mut change = 0_u32;
    while clock::now() - started < sizes.churn {
        let replaced = 10_000 * (run + 1) + usize::try_from(change)?;
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
    Ok(())
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
    let text = scrape().context("kube-proxy's metrics")?;
    let value = |name: &str| -> f64 {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let of_v4 = lines.filter(|rest| rest.contains("IPv4") || rest.starts_with(' '));
        let values = of_v4.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    };
    Ok(Some(Syncs {
        full: value("kubeproxy_sync_full_proxy_rules_duration_seconds_sum"),
        all: [
            value("kubeproxy_sync_proxy_rules_duration_seconds_sum"),
            value("kubeproxy_sync_proxy_rules_duration_seconds_count"),
        ],
    }))
}

fn scrape() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: node\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The row that two programs cannot be asked for alike: kube-proxy tells how long its first sync took, of daymark
/// translation and commits are taken from the plane alone.
fn load(sizes: &Sizes, runs: usize, kube: &[Run]) -> anyhow::Result<Row> {
    let of_plane = super::Sizes {
        services: sizes.services,
        endpoints: sizes.endpoints,
        changes: 10,
        ..super::Sizes::full()
    };
    let figures = plane::load_and_change(&of_plane, runs)?;
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

fn followed(sizes: &Sizes, kube: &[Run], daymark: &[Run]) -> Vec<Row> {
    let (services, endpoints) = (sizes.services, sizes.endpoints);
    let row = |name: &str, what: String, unit, wanted, value: &dyn Fn(&Run) -> f64| Row {
        name: name.to_owned(),
        what,
        unit,
        kube: kube.iter().map(value).collect(),
        daymark: daymark.iter().map(value).collect(),
        wanted,
    };
    let at = |percent| move |run: &Run| percentile(&mut run.changes.clone(), percent);
    let mut change = row(
        "change",
        "one endpoint: kube-proxy's own sync; daymark, write answered to commit, p50".to_owned(),
        "ms",
        Wanted::AtMost(1.0 / 50.0),
        &at(50),
    );
    change.kube = kube.iter().filter_map(|run| Some(run.syncs?[0])).collect();
    vec![
        row(
            "start",
            format!("start to last commit, {services} Services x {endpoints}"),
            "s",
            Wanted::Nothing,
            &|run| run.start,
        ),
        change,
        row(
            "change-seen",
            "the same for both from write answered to commit, waiting included, p50".to_owned(),
            "ms",
            Wanted::Nothing,
            &at(50),
        ),
        row(
            "change-seen-p99",
            "the same, the slowest of a hundred".to_owned(),
            "ms",
            Wanted::Nothing,
            &at(99),
        ),
        row(
            "memory",
            "resident after the load".to_owned(),
            "MB",
            Wanted::AtMost(0.25),
            &|run| run.memory,
        ),
        row(
            "churn",
            format!(
                "processor time while {} endpoints/s change for {} s",
                sizes.rate,
                sizes.churn.as_secs()
            ),
            "s",
            Wanted::AtMost(1.0 / 20.0),
            &|run| run.churn,
        ),
    ]
}

/// A load has ended when nothing was committed for so long.
const QUIET: Duration = Duration::from_secs(3);
/// The first commit comes within this.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN: Duration = Duration::from_millis(1300);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249);
