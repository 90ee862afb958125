//! Reproducible measurements of daymark on this machine, against the project's goals.
//!
//! - [`plane`]: the nftables plane alone, against the kernel; [`paced`]: at several paces;
//! - [`conntrack`]: what becomes of tracked flows when endpoints leave;
//! - [`agent`]: `daymark node` against an API server over TLS;
//! - [`api`]: the embedded API server;
//! - [`ready`]: a Pod that becomes ready, until it is reached;
//! - [`lab`]: a lab from nothing to its first request;
//! - [`peers`]: an agent beside the real kube-proxy, under the real API server;
//! - [`figure`]: a number, its spread and its goal; [`inputs`]: made-up clusters; [`ground`]: where processes run;
//!   [`server`]: who answers.
//!
//! Everything happens in namespaces of its own; `docs/benchmarks.md` tells what came out.

mod agent;
mod api;
mod conntrack;
mod count;
mod figure;
mod ground;
mod inputs;
mod lab;
mod paced;
pub(crate) mod peers;
mod plane;
mod pods;
mod ready;
mod server;

use std::path::Path;

use daymark_store::bench::Settings;

pub(crate) use figure::Figure;
use ground::Folder;

use crate::clock;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Measurement {
    /// Cold load of the nftables plane, kernel part.
    NftLoad,
    /// Commit of one endpoint change.
    NftChange,
    /// Commit of one change in a large cluster against a small one.
    NftRatio,
    /// Cold load of a very large cluster: what a Service costs against a large one.
    NftLoadFlat,
    /// Processor time of a change, at several paces.
    NftPaced,
    /// What a new connection costs more because it is counted for its Service.
    Count,
    /// Many tracked flows, many changed ports.
    Conntrack,
    /// Agent start to its first commit, over TLS.
    AgentStart,
    /// The agent's peak memory.
    AgentMemory,
    /// Watch event to commit.
    AgentChange,
    /// Agent start and memory in a very large cluster.
    AgentMany,
    /// A Pod becomes ready, until its first packet through the Service.
    PodReady,
    /// Lab command to first request served.
    LabStart,
    /// API server, start to ready, nothing stored.
    ApiStartEmpty,
    /// API server, start to ready, 10,000 Services stored.
    #[value(name = "api-start-10k")]
    ApiStart10k,
    /// Service creates a second, 50 clients.
    ApiCreates,
    /// The store alone: writes a second.
    Store,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Services of the cluster.
    pub(crate) services: usize,
    /// Endpoints of each.
    pub(crate) endpoints: usize,
    /// Changes whose times make a percentile.
    pub(crate) changes: usize,
    /// Services of the large cluster of `nft-ratio`, `nft-load-flat` and `agent-many`.
    pub(crate) many: usize,
    /// And of the small one.
    pub(crate) few: usize,
    /// Tracked flows of `conntrack`.
    pub(crate) flows: usize,
    /// And the ports that change.
    pub(crate) ports: usize,
    /// How often a Pod becomes ready in `pod-ready`.
    pub(crate) readies: usize,
    /// And beside how many other Services.
    pub(crate) beside: usize,
    /// Connections of `count`, at a time.
    pub(crate) connections: usize,
    /// Clients of `api-creates`.
    pub(crate) clients: usize,
    /// Services that they create.
    pub(crate) creates: usize,
    /// What the store is asked to do.
    pub(crate) store: Settings,
}

impl Sizes {
    /// Those of the project's goals.
    pub(crate) fn full() -> Self {
        Self {
            services: 10_000,
            endpoints: 10,
            changes: 1000,
            many: 50_000,
            few: 100,
            flows: 200_000,
            ports: 1000,
            readies: 200,
            beside: 1000,
            connections: 1000,
            clients: 50,
            creates: 5000,
            store: Settings::default(),
        }
    }

    /// A try in seconds; no goal is judged by it.
    pub(crate) fn quick() -> Self {
        Self {
            services: 500,
            changes: 100,
            many: 1000,
            flows: 10_000,
            ports: 100,
            readies: 10,
            beside: 20,
            connections: 100,
            creates: 500,
            store: Settings {
                writes: 20,
                single_writes: 50,
                ..Settings::default()
            },
            ..Self::full()
        }
    }
}

/// Measures, and hands out each figure as soon as it is known. The caller is inside namespaces of its own.
///
/// # Errors
/// If something could not be measured; a goal that was missed is no error.
pub(crate) fn run(
    wanted: &[Measurement],
    sizes: &Sizes,
    runs: usize,
    base: &Path,
    mut report: impl FnMut(&Figure),
) -> anyhow::Result<Vec<Figure>> {
    use Measurement as M;
    type Step<'a> = (&'a [M], &'a dyn Fn() -> anyhow::Result<Vec<Figure>>);
    let steps: [Step<'_>; 14] = [
        (&[M::NftLoad, M::NftChange], &|| {
            plane::load_and_change(sizes, runs)
        }),
        (&[M::NftRatio], &|| plane::ratio(sizes, runs)),
        (&[M::NftLoadFlat], &|| plane::load_flat(sizes, runs)),
        (&[M::NftPaced], &|| paced::run(sizes, runs)),
        (&[M::Count], &|| count::cost(sizes, runs)),
        (&[M::Conntrack], &|| conntrack::run(sizes, runs)),
        (&[M::AgentStart, M::AgentMemory, M::AgentChange], &|| {
            agent::run(base, sizes, runs)
        }),
        (&[M::AgentMany], &|| agent::many(base, sizes, runs.min(FEW))),
        (&[M::PodReady], &|| ready::run(base, sizes, runs)),
        (&[M::LabStart], &|| lab::start(runs)),
        (&[M::ApiStartEmpty], &|| {
            Ok(vec![api::start_empty(base, runs)?])
        }),
        (&[M::ApiStart10k], &|| api::start_filled(base, sizes, runs)),
        (&[M::ApiCreates], &|| {
            Ok(vec![api::creates(base, sizes, runs)?])
        }),
        (&[M::Store], &|| store(base, sizes, runs)),
    ];
    let mut all = Vec::new();
    for (measurements, measure) in steps {
        if !measurements.iter().any(|one| wanted.contains(one)) {
            continue;
        }
        for figure in measure()? {
            if wanted.contains(&figure.of) {
                report(&figure);
                all.push(figure);
            }
        }
    }
    Ok(all)
}

/// Runs of what takes long and varies little.
const FEW: usize = 3;

/// `store`.
fn store(base: &Path, sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut rates = Vec::new();
    let mut singles = Vec::new();
    for _ in 0..runs {
        let folder = Folder::new(base, "store")?;
        let figures = daymark_store::bench::run(&folder.path().join("store.redb"), sizes.store)?;
        rates.push(figures.writes_per_second);
        singles.push(figures.single.p50_ms);
    }
    let figure = |name: &str, what: String, unit, runs| Figure {
        of: Measurement::Store,
        name: name.to_owned(),
        what,
        unit,
        runs,
        goal: None,
    };
    let (writers, bytes) = (sizes.store.writers, sizes.store.value_bytes);
    Ok(vec![
        figure(
            "store",
            format!("writes of {bytes} bytes by {writers} writers, fsync on"),
            "/s",
            rates,
        ),
        figure(
            "store-single",
            "one write of a single writer, p50".to_owned(),
            "ms",
            singles,
        ),
    ])
}
