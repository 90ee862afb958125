//! How fast the store is on this machine: reproducible, fsync on, as numbers for `daymark bench`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock;
use crate::error::{OpenError, SubmitError};
use crate::store::{Options, Store};
use crate::value::{Key, Op, Plan, Raw, Value};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Writers that each wait for their answer before they write again.
    pub writers: usize,
    /// Writes of each writer.
    pub writes: usize,
    /// Writes of the one writer whose latency is taken.
    pub single_writes: usize,
    /// Size of a value, in bytes.
    pub value_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            writers: 50,
            writes: 200,
            single_writes: 500,
            value_bytes: 1500,
        }
    }
}

/// What was measured. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// What the figures are of.
    pub settings: Settings,
    /// Answered writes per second of all writers together.
    pub writes_per_second: f64,
    /// Latency of one write among those of all writers.
    pub shared: Latency,
    /// Latency of one write of a single writer.
    pub single: Latency,
    /// From the path of a store with all of these objects to its first snapshot, decoding to bytes only.
    pub open_ms: f64,
    /// Objects in that store.
    pub objects: usize,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half take at most this.
    pub p50_ms: f64,
    /// 99 of 100 take at most this.
    pub p99_ms: f64,
}

/// Measures a new store at `path`, which must not exist.
///
/// # Errors
/// Why the store did not open, or did not write.
pub fn run(path: &Path, settings: Settings) -> Result<Figures, BenchError> {
    let store: Store<Raw> = Store::open(Options::at(path))?;
    let (single, _) = write_all(&store, 1, settings.single_writes, settings.value_bytes)?;
    let (shared, took) = write_all(
        &store,
        settings.writers,
        settings.writes,
        settings.value_bytes,
    )?;
    let writes_per_second = shared.len() as f64 / took.as_secs_f64();
    drop(store);
    let (took, objects) = open::<Raw>(path)?;
    Ok(Figures {
        settings,
        writes_per_second,
        shared: latency(shared),
        single: latency(single),
        open_ms: milliseconds(took),
        objects,
    })
}

/// How long a store takes to open, and how many objects it holds.
///
/// # Errors
/// See [`OpenError`].
pub fn open<V: Value>(path: &Path) -> Result<(Duration, usize), OpenError> {
    let start = clock::now();
    let store: Store<V> = Store::open(Options::at(path))?;
    let snapshot = store.snapshot();
    let took = since(start);
    Ok((
        took,
        snapshot
            .kinds()
            .map(|kind| snapshot.count(kind, None))
            .sum(),
    ))
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A write failed.
    #[error("a write of the benchmark failed")]
    Write(#[from] SubmitError<std::convert::Infallible>),
}

/// Every write makes an object of its own. Returns how long each took, and all of them.
fn write_all(
    store: &Store<Raw>,
    writers: usize,
    writes: usize,
    bytes: usize,
) -> Result<(Vec<Duration>, Duration), BenchError> {
    let start = clock::now();
    let kind = format!("writers-{writers}");
    let times: Result<Vec<_>, _> = std::thread::scope(|scope| {
        let writer = |writer: usize| {
            let kind = kind.as_str();
            scope.spawn(move || {
                (0..writes)
                    .map(|number| write(store, key(kind, writer, number), bytes))
                    .collect()
            })
        };
        let threads: Vec<_> = (0..writers).map(writer).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .expect("a writer of the benchmark does not panic")
            })
            .collect()
    });
    let times: Vec<Vec<Duration>> = times?;
    Ok((times.into_iter().flatten().collect(), since(start)))
}

fn key(kind: &str, writer: usize, number: usize) -> Key {
    Key::new(kind, "default", format!("writer-{writer}-object-{number}"))
}

fn write(store: &Store<Raw>, key: Key, bytes: usize) -> Result<Duration, BenchError> {
    let start = clock::now();
    store.transact(move |_, revision| {
        let value = Raw(revision
            .to_string()
            .into_bytes()
            .into_iter()
            .cycle()
            .take(bytes)
            .collect());
        Ok(Plan {
            ops: vec![Op::Put { key, value }],
            answer: (),
        })
    })?;
    Ok(since(start))
}

fn since(start: Instant) -> Duration {
    clock::now().saturating_duration_since(start)
}

fn latency(mut times: Vec<Duration>) -> Latency {
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len().saturating_sub(1) * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    Latency {
        p50_ms: milliseconds(at(50)),
        p99_ms: milliseconds(at(99)),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
