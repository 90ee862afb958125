//! An agent beside the real kube-proxy (mode nftables), both under the real kube-apiserver.
//!
//! Each proxy has a network namespace of its own with a way to the API ([`Relay`](daymark_lab::control::Relay)), and is
//! told the same things:
//!
//! - [`loaded`]: a cluster to load, single changes, and many changes a second;
//! - [`conntrack`]: many tracked flows whose endpoints leave;
//! - [`connect`]: connections through the rules of each.
//!
//! Runs take turns: what a machine does for a while happens to both programs, and a ratio is that of one run.

mod cluster;
mod connect;
mod conntrack;
mod loaded;
mod metrics;
mod row;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use daymark_lab::net::Segment;
use daymark_sys::ns::NetNs;

use super::api;
use super::ground::{Folder, Part};
use crate::beside::{self, Proxy};

pub(crate) use row::{Row, Wanted};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subject {
    /// Start, cold load, single changes and memory.
    Load,
    /// Processor time while endpoints change.
    Churn,
    /// Tracked flows, and many UDP ports that lose an endpoint.
    Conntrack,
    /// New connections through a Service, beside few and many others.
    Connections,
}

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
    /// Tracked flows.
    pub(crate) flows: usize,
    /// UDP ports that lose an endpoint, at once and one after the other.
    pub(crate) ports: u16,
    /// How often each program's turn comes to open connections.
    pub(crate) turns: usize,
    /// For how long in a turn.
    pub(crate) turn: Duration,
    /// Beside how many other Services.
    pub(crate) others: [usize; 2],
}

impl Sizes {
    /// Those of the project's goals.
    pub(crate) fn full() -> Self {
        Self {
            services: 5000,
            endpoints: 10,
            changes: 12,
            churn: Duration::from_secs(60),
            rate: 100,
            flows: 200_000,
            ports: 1000,
            turns: 10,
            turn: Duration::from_millis(500),
            others: [0, 9999],
        }
    }

    /// A try; no goal is judged by it.
    pub(crate) fn quick() -> Self {
        Self {
            services: 200,
            changes: 3,
            churn: Duration::from_secs(5),
            flows: 10_000,
            ports: 100,
            turns: 2,
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

/// What to measure, and with what.
pub(crate) struct Plan<'a> {
    /// The folder of kube-proxy, kube-apiserver and etcd.
    pub(crate) programs: &'a Path,
    /// Where folders for the time of the measurement are made.
    pub(crate) base: PathBuf,
    /// How much.
    pub(crate) sizes: Sizes,
    /// How often.
    pub(crate) runs: usize,
    /// What; rows of others are left out.
    pub(crate) subjects: Vec<Subject>,
}

/// What every measurement needs.
struct Setup<'a> {
    programs: &'a Path,
    folder: &'a Folder,
    sizes: &'a Sizes,
    runs: usize,
    /// With all rights, in the namespace of the API.
    client: &'a kube::Client,
    runtime: &'a tokio::runtime::Runtime,
}

/// Measures, and hands out each row as soon as it is known. The caller is inside namespaces of its own.
///
/// # Errors
/// If something could not be measured; a goal that was missed is no error.
pub(crate) fn run(plan: &Plan<'_>, mut report: impl FnMut(&Row)) -> anyhow::Result<Vec<Row>> {
    // Its loopback is where the API answers.
    let _here = Segment::new(NetNs::current()?, &[])?;
    let folder = Folder::new(&plan.base, "peers")?;
    let runtime = api::runtime()?;
    let control = runtime.block_on(cluster::control(plan.programs, &folder))?;
    let client = runtime.block_on(control.client())?;
    let setup = Setup {
        programs: plan.programs,
        folder: &folder,
        sizes: &plan.sizes,
        runs: plan.runs,
        client: &client,
        runtime: &runtime,
    };
    let mut all = Vec::new();
    let mut take = |rows: Vec<Row>| {
        rows.iter().for_each(&mut report);
        all.extend(rows);
    };
    let of_cluster = [Subject::Load, Subject::Churn];
    let of_cluster: Vec<Subject> = of_cluster
        .into_iter()
        .filter(|subject| plan.subjects.contains(subject))
        .collect();
    if !of_cluster.is_empty() {
        take(loaded::run(&setup, &of_cluster)?);
    }
    if plan.subjects.contains(&Subject::Conntrack) {
        runtime.block_on(cluster::empty(&client))?;
        take(conntrack::run(&setup)?);
    }
    if plan.subjects.contains(&Subject::Connections) {
        runtime.block_on(cluster::empty(&client))?;
        connect::run(&setup, &mut take)?;
    }
    Ok(all)
}

/// The order in which the programs have their turn: neither always comes first.
fn in_turn(number: usize) -> [Proxy; 2] {
    let [first, second] = Proxy::BOTH;
    match number.is_multiple_of(2) {
        true => [first, second],
        false => [second, first],
    }
}

/// A value of each program, kube-proxy's first.
#[derive(Clone, Debug, Default)]
struct Both<T> {
    kube: T,
    daymark: T,
}

impl<T> Both<T> {
    fn of(&mut self, proxy: Proxy) -> &mut T {
        match proxy {
            Proxy::Kube => &mut self.kube,
            Proxy::Daymark => &mut self.daymark,
        }
    }
}

/// Rows out of what each program did, a run each.
impl<R> Both<Vec<R>> {
    fn row(
        &self,
        (name, what): (String, String),
        unit: &'static str,
        wanted: Wanted,
        value: impl Fn(&R) -> f64,
    ) -> Row {
        Row {
            name,
            what,
            unit,
            kube: self.kube.iter().map(&value).collect(),
            daymark: self.daymark.iter().map(&value).collect(),
            wanted,
        }
    }
}

/// A program has nothing more to do when nothing was committed for so long.
const QUIET: Duration = Duration::from_secs(3);
/// The first commit comes within this.
const PATIENCE: Duration = Duration::from_secs(120);
