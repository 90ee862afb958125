//! The nftables plane alone: the compiler and the kernel, without an API.
//!
//! Each run has a network namespace of its own, with a send buffer as small as a stock kernel's.

use std::time::Duration;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Kernel, Plane};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_model::{Change, Options, World};
use daymark_netlink::nft::{Message, Ruleset, TableId};
use daymark_sys::ns::NetNs;
use daymark_sys::probe::{self, Answer};

use super::figure::{Goal, percentile};
use super::{Figure, Measurement, Sizes, clock, inputs};

/// The send buffer that a stock kernel gives an unprivileged program, in bytes.
const SEND_BUFFER: usize = 212_992;

/// A kernel whose commits are timed, with building and splitting their messages.
pub(super) struct Timed {
    kernel: Netlink,
    spent: Duration,
}

impl Timed {
    fn take_spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }
}

impl Kernel for Timed {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let started = clock::now();
        let result = self.kernel.commit(messages);
        self.spent += clock::now() - started;
        result
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.kernel.read(table)
    }
}

/// A loaded plane.
pub(super) struct Loaded {
    pub(super) world: World,
    pub(super) plane: Plane<Timed>,
    services: usize,
    endpoints: usize,
    changes: usize,
    /// In the kernel, and with translating.
    kernel: Duration,
    whole: Duration,
}

/// In the network namespace of this thread.
pub(super) fn load(services: usize, endpoints: usize) -> anyhow::Result<Loaded> {
    let mut kernel = Netlink::open()?;
    kernel.socket().set_send_buffer(SEND_BUFFER)?;
    let flags = match probe::persistent_owner(kernel.socket())? {
        Answer::Yes => TableFlags::OWNER | TableFlags::PERSIST,
        Answer::No { .. } => TableFlags::NONE,
    };
    let timed = Timed {
        kernel,
        spent: Duration::ZERO,
    };
    let mut world = World::new(Options::default());
    let _delta = world.apply(inputs::records(services, endpoints));
    let started = clock::now();
    let (mut plane, _) = Plane::start(timed, flags)?;
    plane.reconcile(world.desired().clone())?;
    let whole = clock::now() - started;
    let kernel = plane.kernel().take_spent();
    Ok(Loaded {
        world,
        plane,
        services,
        endpoints,
        changes: 0,
        kernel,
        whole,
    })
}

impl Loaded {
    /// One endpoint of a Service is another, each time of another Service.
    pub(super) fn next_change(&mut self) -> Change {
        self.changes += 1;
        // A step without a common factor with the sizes, so that neighbours in time are none in the tables.
        let service = self.changes * 7919 % self.services;
        inputs::slice_change(service, self.endpoints, self.changes)
    }

    /// Replaces one endpoint so many times, each time of another Service; microseconds in the kernel, each.
    fn change(&mut self, times: usize) -> anyhow::Result<Vec<f64>> {
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            let change = self.next_change();
            let delta = self.world.apply([change]);
            self.plane.update(&delta)?;
            taken.push(self.plane.kernel().take_spent().as_secs_f64() * 1e6);
        }
        Ok(taken)
    }
}

/// `nft-load` and `nft-change`.
pub(crate) fn load_and_change(sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (services, endpoints) = (sizes.services, sizes.endpoints);
    let of = format!("{services} Services x {endpoints} endpoints");
    let mut load_kernel = Vec::new();
    let mut load_whole = Vec::new();
    let mut load_read = Vec::new();
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (kernel, whole, mut times, read) = alone(|| {
            let mut loaded = load(services, endpoints)?;
            let times = loaded.change(sizes.changes)?;
            let started = clock::now();
            let mended = loaded.plane.verify()?;
            anyhow::ensure!(mended == 0, "{mended} elements were not as they should be");
            let read = clock::now() - started;
            Ok((loaded.kernel, loaded.whole, times, read))
        })?;
        load_kernel.push(kernel.as_secs_f64());
        load_whole.push(whole.as_secs_f64());
        load_read.push(read.as_secs_f64());
        p50.push(percentile(&mut times, 50));
        p99.push(percentile(&mut times, 99) / 1000.0);
    }
    let changed = format!("one endpoint of {of} replaced, {} times", sizes.changes);
    let figure = |of: Measurement, name: &str, what: String, unit, runs, goal| Figure {
        of,
        name: name.to_owned(),
        what,
        unit,
        runs,
        goal,
    };
    let (load, change) = (Measurement::NftLoad, Measurement::NftChange);
    Ok(vec![
        figure(
            load,
            "nft-load",
            format!("cold load of {of}, in the kernel"),
            "s",
            load_kernel,
            Some(Goal::AtMost(0.4)),
        ),
        figure(
            load,
            "nft-load-whole",
            "the same, with translating".to_owned(),
            "s",
            load_whole,
            None,
        ),
        figure(
            load,
            "nft-verify",
            "the same tables read back and compared, as after another program's edit".to_owned(),
            "s",
            load_read,
            None,
        ),
        figure(
            change,
            "nft-change",
            format!("{changed}: commit, p99"),
            "ms",
            p99,
            Some(Goal::AtMost(1.0)),
        ),
        figure(
            change,
            "nft-change-p50",
            "the same, p50".to_owned(),
            "us",
            p50,
            None,
        ),
    ])
}

/// `nft-ratio`.
pub(crate) fn ratio(sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut medians = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (services, medians) in [sizes.few, sizes.many].into_iter().zip(&mut medians) {
            let mut times = alone(|| load(services, sizes.endpoints)?.change(sizes.changes))?;
            medians.push(percentile(&mut times, 50));
        }
    }
    let [few, many] = medians;
    let ratios = many
        .iter()
        .zip(&few)
        .map(|(many, few)| many / few)
        .collect();
    let figure = |name: &str, what, unit, runs, goal| Figure {
        of: Measurement::NftRatio,
        name: name.to_owned(),
        what,
        unit,
        runs,
        goal,
    };
    Ok(vec![
        figure(
            "nft-ratio",
            format!(
                "commit of one change at {} Services against {}",
                sizes.many, sizes.few
            ),
            "",
            ratios,
            Some(Goal::AtMost(2.0)),
        ),
        figure(
            "nft-ratio-few",
            format!("p50 at {} Services", sizes.few),
            "us",
            few,
            None,
        ),
        figure(
            "nft-ratio-many",
            format!("p50 at {} Services", sizes.many),
            "us",
            many,
            None,
        ),
    ])
}

/// `nft-load-flat`.
pub(crate) fn load_flat(sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (large, very) = (sizes.services, sizes.many);
    let mut loads = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (services, loads) in [large, very].into_iter().zip(&mut loads) {
            let whole = alone(|| Ok(load(services, sizes.endpoints)?.whole))?;
            loads.push(whole.as_secs_f64());
        }
    }
    let [of_large, of_very] = loads;
    let each =
        |(of_very, of_large): (&f64, &f64)| (of_very / very as f64) / (of_large / large as f64);
    let ratios = of_very.iter().zip(&of_large).map(each).collect();
    let figure = |name: &str, what, unit, runs, goal| Figure {
        of: Measurement::NftLoadFlat,
        name: name.to_owned(),
        what,
        unit,
        runs,
        goal,
    };
    let endpoints = sizes.endpoints;
    Ok(vec![
        figure(
            "nft-load-flat",
            format!(
                "cold load of {very} Services x {endpoints}: cost of a Service against {large}"
            ),
            "",
            ratios,
            Some(Goal::AtMost(1.5)),
        ),
        figure(
            "nft-load-many",
            format!("that load, with translating, of {very} Services"),
            "s",
            of_very,
            None,
        ),
        figure(
            "nft-load-few",
            format!("and of {large}"),
            "s",
            of_large,
            None,
        ),
    ])
}

/// In a fresh network namespace; the kernel has a moment to clear the one before away.
pub(super) fn alone<R: Send>(f: impl FnOnce() -> anyhow::Result<R> + Send) -> anyhow::Result<R> {
    let result = NetNs::create()?.run(f)?;
    std::thread::sleep(CLEARING);
    result
}

/// Tables of a namespace that is gone are freed on a work queue, which must not be part of the next run.
const CLEARING: Duration = Duration::from_secs(1);
