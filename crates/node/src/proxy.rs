//! The plane's thread: inputs in, commits out.
//!
//! A failed commit is not the end of anything: the tables are read back and the whole state is tried
//! again, first at once, then after waits that double. Meanwhile the kernel holds a valid state. What the kernel refuses
//! for what it is costs the Service that it is of, not the node ([`isolated`]).

mod ask;
mod conflicts;
mod due;
mod isolated;
mod lax;
mod unusable;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use daymark_dataplane::nft::apply::{Kernel, Places, Plane, StartError};
use daymark_feed::record::ObjectKey;
use daymark_feed::trouble::{Before, Trouble};
use daymark_feed::{Findings, Kind, PlaneSender, PlaneStatus};
use daymark_model::flows::{self, Suspects, Verdicts};
use daymark_model::{Change, Family, Options, World};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::ask::Ask;
use crate::clock;
use crate::conntrack::Told;
use crate::events::Notices;
use crate::health_check::{self, HealthChecks};
use crate::loopback::{self, Loopback};
use crate::metrics::Metrics;
use crate::metrics::kube_proxy::{Sync, families};
use conflicts::Conflicts;
use due::Foreign;
use isolated::Isolated;
use lax::Lax;
use unusable::Unusable;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// Inputs changed. `batch` is the feed's number, if the changes came from it.
    Changes {
        /// The feed's batch that ends with these changes.
        batch: Option<u64>,
        /// The changes.
        changes: Vec<Change>,
        /// When they arrived, to measure how long they took.
        arrived: Instant,
        /// Dropped once the changes are taken in, and their commit has returned: whoever waits for that may send the next.
        taken: Option<oneshot::Sender<()>>,
    },
    /// What of objects cannot be used, or (`None`) can be now. It is told with the changes that come next.
    Unusable(Vec<(Kind, ObjectKey, Option<Arc<Findings>>)>),
    /// Another process committed to nf_tables: look whether our tables are as they should be.
    ForeignCommit,
    /// Judge the flows to every frontend anew: what was told of them before may be lost.
    JudgeFlows,
    /// Somebody wants to know something.
    Ask(Ask),
    /// End the thread. The tables stay.
    Stop,
}

/// The state of the thread.
#[derive(Debug)]
pub struct Proxy<K> {
    world: World,
    plane: Plane<K>,
    status: PlaneSender,
    metrics: Arc<Metrics>,
    /// The newest feed batch that was taken in; none before the first.
    batch: Option<u64>,
    state: State,
    /// Whether a missing Node was told.
    told: bool,
    /// Whether the machine's addresses were read. Before that, which of them serve node ports is not known, and
    /// adopted tables would lose those that do.
    addresses_known: bool,
    /// Whether the first state has been in the kernel.
    loaded: bool,
    /// Where verdicts about flows go, once the kernel holds what they are about.
    cleaner: Sender<Told>,
    /// Places whose flows are judged after the next commit.
    suspects: Suspects,
    isolated: Isolated,
    foreign: Foreign,
    notices: Notices,
    conflicts: Conflicts,
    lax: Lax,
    unusable: Unusable,
    /// Whom load balancers ask for endpoints.
    health_checks: health_check::Teller,
    /// Who serves node ports on loopback.
    loopback: loopback::Teller,
    /// Another number after each attempt to change the tables.
    moment: u64,
    /// When the last changes came.
    last_change: Option<Instant>,
    /// What the last failed commit said.
    last_error: Option<String>,
    /// What of it is in the log.
    trouble: Trouble,
}

/// Whether the kernel follows the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first batch has not come; the kernel keeps what it has.
    Waiting,
    /// The kernel holds what the world wants.
    InStep,
    /// The last commit failed; all is tried again when it is due.
    Behind {
        /// The next wait, should that fail too.
        wait: Duration,
        /// When all is tried again.
        due: Instant,
        /// When the changes came with which it failed first.
        since: Instant,
    },
}

/// Why stale flows stay, once nobody takes verdicts any more.
const CLEANER_ENDED: &str = "the thread `conntrack` has ended, which it should not: its last words are in the log; restart the agent";

impl<K: Kernel> Proxy<K> {
    /// A proxy over tables that were brought up. `cleaner` hears which flows are stale after each commit
    /// ([`crate::conntrack`]).
    #[must_use]
    pub fn new(
        mut plane: Plane<K>,
        options: Options,
        status: PlaneSender,
        metrics: Arc<Metrics>,
        cleaner: Sender<Told>,
        notices: Notices,
    ) -> Self {
        // Of what went while no agent was here only the tables know: without them nothing is known to have gone.
        let mut suspects = Suspects::default();
        if plane.found_any() {
            let Places {
                frontends,
                node_addresses,
            } = plane.take_places();
            suspects.remember(frontends, node_addresses);
        }
        Self {
            world: World::new(options),
            plane,
            status,
            metrics,
            batch: None,
            state: State::Waiting,
            told: false,
            addresses_known: false,
            loaded: false,
            cleaner,
            suspects,
            isolated: Isolated::default(),
            foreign: Foreign::default(),
            notices,
            conflicts: Conflicts::default(),
            lax: Lax::default(),
            unusable: Unusable::default(),
            health_checks: health_check::Teller::default(),
            loopback: loopback::Teller::default(),
            moment: 0,
            last_change: None,
            last_error: None,
            trouble: Trouble::default(),
        }
    }

    /// The health checks, told as the kernel follows.
    #[must_use]
    pub fn health_checks(&self) -> Arc<HealthChecks> {
        self.health_checks.shared()
    }

    /// The node ports on loopback.
    #[must_use]
    pub fn loopback(&self) -> Arc<Loopback> {
        self.loopback.shared()
    }

    /// Follows orders until [`Order::Stop`], or until nobody can give any.
    pub fn run(mut self, orders: &Receiver<Order>) {
        while self.wake(orders) == Next::GoOn {}
    }

    /// Sleeps until there is an order, or something is due, and does it.
    fn wake(&mut self, orders: &Receiver<Order>) -> Next {
        let first = match self.next_wait() {
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => orders.recv_timeout(wait),
        };
        self.metrics.set_at_work(Some(clock::now()));
        let next = self.work(first, orders);
        self.metrics.set_at_work(None);
        next
    }

    fn work(&mut self, first: Result<Order, RecvTimeoutError>, orders: &Receiver<Order>) -> Next {
        match first {
            Err(RecvTimeoutError::Disconnected) | Ok(Order::Stop) => return Next::Stop,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(order) => {
                if self.take(order, orders) == Next::Stop {
                    return Next::Stop;
                }
            }
        }
        self.catch_up();
        Next::GoOn
    }

    /// Until [`Self::catch_up`] has something to do. What it leaves for another state must not wake the thread in this one.
    fn next_wait(&self) -> Option<Duration> {
        let now = clock::now();
        let due = match self.state {
            State::Waiting => None,
            State::Behind { due, .. } => Some(due),
            State::InStep => {
                let look = self.foreign.due(now);
                self.isolated.due().into_iter().chain(look).min()
            }
        };
        due.map(|due| due.saturating_duration_since(now))
    }

    /// Takes an order and everything that is waiting behind it: one batch, one commit.
    fn take(&mut self, first: Order, orders: &Receiver<Order>) -> Next {
        let mut gathered = Vec::new();
        let mut oldest: Option<Instant> = None;
        let mut next = Some(first);
        let mut handled = Vec::new();
        let mut asked = Vec::new();
        let mut flows = Flows::AsTold;
        while let Some(order) = next {
            match order {
                Order::Changes {
                    batch,
                    changes,
                    arrived,
                    taken,
                } => {
                    handled.extend(taken);
                    oldest = Some(oldest.map_or(arrived, |oldest| oldest.min(arrived)));
                    gathered.extend(changes);
                    self.batch = batch.or(self.batch);
                }
                Order::Unusable(found) => {
                    for (kind, key, now) in found {
                        self.unusable.note(kind, key, now);
                    }
                }
                Order::ForeignCommit => self.foreign.pending = true,
                Order::JudgeFlows => flows = Flows::Anew,
                Order::Ask(ask) => asked.push(ask),
                Order::Stop => return Next::Stop,
            }
            next = orders.try_recv().ok();
        }
        if let Some(oldest) = oldest {
            self.last_change = Some(oldest);
            self.metrics.set_at_work(Some(oldest));
            self.follow(gathered, oldest);
        }
        if flows == Flows::Anew {
            self.judge_anew();
        }
        asked.into_iter().for_each(|ask| self.answer(ask));
        Next::GoOn
    }

    fn follow(&mut self, changes: Vec<Change>, arrived: Instant) {
        let tells_addresses = |change: &Change| matches!(change, Change::MachineAddresses(_));
        self.addresses_known |= changes.iter().any(tells_addresses);
        let suspects = flows::suspects(&self.world, &changes);
        self.suspects.extend(suspects);
        self.metrics.kube_proxy.came(&changes);
        self.lax.note(&self.world, &changes);
        self.unusable.hear(&changes);
        let delta = self.world.apply(changes);
        self.metrics.kube_proxy.wanted(&delta);
        self.health_checks.before(&delta);
        self.loopback.note(&delta);
        if self.batch.is_none() || !self.addresses_known || !self.is_registered() {
            return;
        }
        self.loopback.tell(self.world.desired());
        let started = clock::now();
        let outcome = match self.state {
            // What failed is tried when it is due, with everything that came meanwhile.
            State::Behind { .. } => return,
            State::InStep => self.plane.update(&delta).map_err(StartError::from),
            State::Waiting => self.reconcile(),
        };
        let about = match self.state {
            State::InStep => (Sync::Partial, families(&delta)),
            State::Waiting | State::Behind { .. } => whole(),
        };
        self.settle(outcome, about, started, arrived);
    }

    /// Brings all of the state to the kernel. If that begins with reading the tables back, nobody has to look at them for the
    /// commits of others that were heard of before.
    fn reconcile(&mut self) -> Result<usize, StartError> {
        let reads = self.plane.reads_back();
        let outcome = self.plane.reconcile(self.world.desired().clone());
        if reads && outcome.is_ok() {
            self.foreign.pending = false;
        }
        outcome
    }

    /// What follows from an attempt to bring the kernel in step.
    fn settle(
        &mut self,
        outcome: Result<usize, StartError>,
        (sync, families): (Sync, Vec<Family>),
        started: Instant,
        arrived: Instant,
    ) {
        self.moment += 1;
        let changed = match outcome {
            Ok(changed) => changed,
            Err(error) => return self.fall_behind(&error, arrived),
        };
        let now = clock::now();
        if changed > 0 {
            self.metrics
                .committed((sync, &families), changed, now - started, now - arrived);
        }
        if !std::mem::replace(&mut self.loaded, true) {
            let services = self.world.inputs().services.len();
            info!(
                services,
                elements = changed,
                "the kernel holds the first state"
            );
        }
        self.in_step();
    }

    /// Before the first state the Node object must be there: without it the node would have no addresses and
    /// no Pods of its own, and adopted tables would lose both. Afterwards its absence is a state like any other.
    fn is_registered(&mut self) -> bool {
        let waits = self.state == State::Waiting && self.world.inputs().node.is_none();
        if waits && !self.told {
            self.told = true;
            warn!("this node has no Node object yet; if it should have one, check --node-name");
        }
        !waits
    }

    fn in_step(&mut self) {
        self.state = State::InStep;
        if self.trouble.is_over() == Before::Failures {
            info!("the kernel follows again");
        }
        self.tell_isolated();
        let conflicts = self.conflicts.follow(&mut self.world);
        for notice in conflicts.into_iter().chain(self.lax.follow(&self.world)) {
            info!(about = %notice.about, reason = notice.reason, "{}", notice.message);
            self.notices.put(notice);
        }
        // The feed has it in the log already.
        for notice in self.unusable.follow(&self.world) {
            self.notices.put(notice);
        }
        self.health_checks
            .after(self.world.desired(), self.isolated.services());
        self.judge_flows();
        self.metrics.set_behind(None);
        self.metrics.set_synced();
        self.metrics
            .kube_proxy
            .in_step(clock::timestamp(), self.batch);
        self.metrics.set_world(self.world.desired());
        if let Some(generation) = self.batch {
            self.status
                .send_replace(PlaneStatus::Committed { generation });
        }
    }

    /// Tells what has become of the flows that may be stale. The kernel holds what is said of them.
    fn judge_flows(&mut self) {
        let verdicts = std::mem::take(&mut self.suspects).judge(&self.world);
        if !verdicts.is_empty() {
            self.tell_cleaner(verdicts);
        }
    }

    /// The same of every frontend; after the next commit, if the kernel does not follow.
    fn judge_anew(&mut self) {
        let desired = self.world.desired();
        self.suspects.remember(
            desired.frontends.keys().copied(),
            desired.node_port_addresses.iter().copied(),
        );
        if self.state == State::InStep {
            self.judge_flows();
        }
    }

    /// The agent goes on without its thread, which costs it less than a restart at each change would; but a UDP client that keeps
    /// sending never lets a flow come to its timeout.
    fn tell_cleaner(&mut self, verdicts: Verdicts) {
        let at = clock::now();
        if self.cleaner.send(Told { at, verdicts }).is_ok() {
            return;
        }
        if self.metrics.conntrack_failure().as_deref() != Some(CLEANER_ENDED) {
            error!(why = CLEANER_ENDED, "flows of endpoints that left stay");
        }
        self.metrics
            .set_conntrack_failure(Some(CLEANER_ENDED.to_owned()));
    }

    /// Says what the kernel refused since the last time, and what it takes again.
    fn tell_isolated(&mut self) {
        if self.isolated.len() == 0 && self.plane.withheld().is_empty() {
            return;
        }
        let news = self.isolated.follow(self.plane.withheld(), clock::now());
        let refused = news.iter().filter(|one| one.why.is_some()).count();
        self.metrics.set_isolated(self.isolated.len(), refused);
        for one in news {
            match &one.why {
                Some(why) => warn!(
                    left_out = %one.subject,
                    shown = why.shown,
                    reason = why.reason,
                    "the kernel refused this; everything else goes on"
                ),
                None => info!(taken = %one.subject, "no longer left out"),
            }
            if let Some(notice) = one.notice(self.world.desired()) {
                self.notices.put(notice);
            }
        }
    }
}

/// A sync of the whole state, which is of both families.
fn whole() -> (Sync, Vec<Family>) {
    (Sync::Full, Family::BOTH.into())
}

/// Which flows are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flows {
    /// Those to places that changed.
    AsTold,
    /// All.
    Anew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

#[cfg(test)]
mod tests;
