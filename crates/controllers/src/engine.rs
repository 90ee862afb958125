//! The loop: what the watches say goes into the caches, the work that follows is decided at once and carried out
//! beside the loop, and what was written goes into the caches before anything else is decided.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::clock;
use crate::jobs::{self, Effect, Outcome, Started, Tools};
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::options::{Beside, Options};
use crate::queue::{Ended, Queue};
use crate::watch::{self, Seen, Watches};
use crate::world::{Job, Touched, World};

/// How many pieces of work are under way at a time.
const WORKERS: usize = 32;

/// How many events are taken in before work is looked at: a burst of changes of one Service is one write.
const BURST: usize = 512;

/// How long to wait before discovery is asked again.
const DISCOVERY_RETRY: Duration = Duration::from_millis(200);

struct Engine {
    world: World,
    queue: Queue<Job>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    tools: Tools,
    metrics: Arc<Metrics>,
    started: bool,
}

/// Runs all controllers until `shutdown` is ready. Failures are logged and tried again; there is nothing that ends it
/// early. Writes that are under way at the end are given up.
pub(crate) async fn run(
    client: Client,
    options: Options,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let kinds = tokio::select! {
        kinds = discover(&client) => kinds,
        () = &mut shutdown => return,
    };
    let watches = watch::all(&client, &kinds).ready_chunks(BURST);
    let world = World::new(&kinds, options.scheduler, options.node_grace);
    let tools = Tools {
        client,
        kinds: Arc::new(kinds),
        options,
    };
    let mut engine = Engine {
        world,
        queue: Queue::default(),
        running: FuturesUnordered::new(),
        tools,
        metrics,
        started: false,
    };
    tokio::select! {
        () = engine.turn(watches) => {}
        () = shutdown => info!("controllers stop"),
    }
}

async fn discover(client: &Client) -> Kinds {
    loop {
        match Kinds::discover(client).await {
            Ok(kinds) => return kinds,
            Err(error) => warn!(%error, "the API does not say which kinds it serves, trying again"),
        }
        tokio::time::sleep(DISCOVERY_RETRY).await;
    }
}

impl Engine {
    async fn turn(&mut self, mut watches: futures::stream::ReadyChunks<Watches>) {
        loop {
            let deadline = self
                .queue
                .deadline()
                .filter(|_| self.started)
                .map(Instant::from_std);
            let alarm = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                seen = watches.next() => match seen {
                    Some(seen) => self.take_in(seen),
                    None => return,
                },
                Some(outcome) = self.running.next() => self.finish(outcome),
                () = alarm => {}
            }
            self.work();
        }
    }

    fn take_in(&mut self, seen: Vec<Seen>) {
        let mut touched = Touched::default();
        for seen in seen {
            if let Seen::Broken(kind, error) = &seen {
                warn!(kind, %error, "a watch failed, trying again");
                self.metrics.watch_failed();
            }
            self.world.apply(seen, clock::now(), &mut touched);
        }
        if self.started {
            self.note(touched);
        } else if self.world.is_synced() {
            let mut all = Touched::default();
            self.world.everything(clock::now(), &mut all);
            self.started = true;
            self.metrics.synced();
            info!(work = all.now.len(), "controllers know all objects");
            self.note(all);
        }
    }

    fn note(&mut self, touched: Touched) {
        let now = clock::now();
        let beside = self.tools.options.beside;
        let ours = |job: &Job| beside == Beside::Nobody || matches!(job, Job::Bind(..));
        for job in touched.now.into_iter().filter(|job| ours(job)) {
            self.queue.add(job);
        }
        for (job, after) in touched.later.into_iter().filter(|(job, _)| ours(job)) {
            self.queue.add_at(job, now + after);
        }
    }

    fn work(&mut self) {
        while self.started && self.running.len() < WORKERS {
            let now = clock::now();
            let Some(job) = self.queue.take(now) else {
                return;
            };
            match jobs::start(job.clone(), &mut self.world, &self.tools, now) {
                Started::Over(ended) => self.queue.finish(&job, ended, now),
                Started::Underway(work) => self.running.push(work),
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let now = clock::now();
        let mut touched = Touched::default();
        for effect in outcome.effects {
            match effect {
                Effect::Slice(slice) => {
                    self.metrics.wrote_slice();
                    self.world.wrote_slice(*slice, &mut touched);
                }
                Effect::SliceGone {
                    namespace,
                    name,
                    uid,
                } => {
                    self.metrics.wrote_slice();
                    self.world
                        .forget_slice(&namespace, &name, &uid, &mut touched);
                }
                Effect::Pod(pod) => self.world.wrote_pod(*pod, now, &mut touched),
                Effect::Node(node) => self.world.wrote_node(*node, now, &mut touched),
                Effect::Heard { node, renewed } => self.world.heard(&node, renewed, now),
                Effect::ApiWasAway => self.world.hear_anew(now),
                Effect::Bound { pod, uid } => {
                    self.metrics.bound();
                    self.world.assumed.remove(&uid);
                    self.world.wrote_pod(*pod, now, &mut touched);
                }
                Effect::NotBound { uid } => {
                    self.world.assumed.remove(&uid);
                }
            }
        }
        let ended = outcome.result.unwrap_or_else(|error| {
            warn!(job = ?outcome.job, %error, "failed, trying again");
            self.metrics.failed();
            Ended::Failed
        });
        debug!(job = ?outcome.job, ?ended, "work ended");
        self.queue.finish(&outcome.job, ended, now);
        self.note(touched);
    }
}
