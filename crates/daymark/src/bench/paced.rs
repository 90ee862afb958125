//! `nft-paced`: what a change costs the plane's processor time, one after the other, a hundred a second, and those by the handful.
//!
//! Why changes without end wait for each other: between two of them the caches are others'.

use std::time::Duration;

use daymark_model::flows;

use super::plane::{Loaded, alone, load};
use super::{Figure, Measurement, Sizes, clock};

/// A change comes every so often,
const EVERY: Duration = Duration::from_millis(10);
/// and where they wait for each other, so many are taken in at once: those of a quarter of a second.
const HANDFUL: usize = 25;

/// How changes come.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two batches, for each change of a batch.
    every: Duration,
    /// Changes in a batch.
    batch: usize,
}

const PACES: [(&str, &str, Pace); 3] = [
    (
        "nft-paced-one",
        "processor time of a change, model, program and commit, 100 a second",
        Pace {
            every: EVERY,
            batch: 1,
        },
    ),
    (
        "nft-paced-handful",
        "the same, 25 at once each quarter of a second",
        Pace {
            every: EVERY,
            batch: HANDFUL,
        },
    ),
    (
        "nft-paced-busy",
        "the same, one after the other without a pause",
        Pace {
            every: Duration::ZERO,
            batch: 1,
        },
    ),
];

/// The figures of all paces.
pub(super) fn run(sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut costs = [const { Vec::new() }; PACES.len()];
    for _ in 0..runs {
        for ((_, _, pace), costs) in PACES.iter().zip(&mut costs) {
            let cost = alone(|| cost(&mut load(sizes.services, sizes.endpoints)?, *pace, sizes))?;
            costs.push(cost);
        }
    }
    let of = format!("{} Services x {}", sizes.services, sizes.endpoints);
    let figures = PACES.into_iter().zip(costs);
    let figure = |((name, what, _), runs): ((&str, &str, _), _)| Figure {
        of: Measurement::NftPaced,
        name: name.to_owned(),
        what: format!("{what}, {of}"),
        unit: "us",
        runs,
        goal: None,
    };
    Ok(figures.map(figure).collect())
}

/// Microseconds of this thread for a change, in the kernel too.
fn cost(loaded: &mut Loaded, pace: Pace, sizes: &Sizes) -> anyhow::Result<f64> {
    let batches = (sizes.changes / pace.batch).max(1);
    let mut spent = Duration::ZERO;
    for _ in 0..batches {
        let changes: Vec<_> = (0..pace.batch).map(|_| loaded.next_change()).collect();
        std::thread::sleep(pace.every * u32::try_from(pace.batch)?);
        let started = clock::thread_time();
        let suspects = flows::suspects(&loaded.world, &changes);
        let delta = loaded.world.apply(changes);
        loaded.plane.update(&delta)?;
        let _verdicts = suspects.judge(&loaded.world);
        spent += clock::thread_time() - started;
    }
    Ok(spent.as_secs_f64() * 1e6 / (batches * pace.batch) as f64)
}
