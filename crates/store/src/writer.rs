//! The writer thread: plans in, one fsync for a group of them, answers out.
//!
//! A group goes through these steps, in this order:
//! 1. each plan runs on the state that the plans before it left; no operations and nothing pending: answered at once;
//! 2. the disk commits the changes, with a fresh reservation of revisions if the last one runs low;
//! 3. the new state is published: snapshots and changes show it;
//! 4. listeners hear the revision, then every plan of the group is answered.
//!
//! If step 2 fails, nothing is published, all plans of the group are told, and the store takes no more writes. A refusal
//! that rests on the pending state of an earlier plan waits for step 2 too: it would tell of a write that may not be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::disk::{Batch, Disk};
use crate::group::Group;
use crate::history::{Forgotten, History, Record};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::value::Op;

/// How many plans share an fsync at most.
pub const GROUP_LIMIT: usize = 64;

/// A plan on its way, its types erased.
pub(crate) trait Job<V>: Send {
    /// Runs the plan.
    fn plan(&mut self, state: &Snapshot<V>, revision: u64) -> Vec<Op<V>>;
    /// Answers: with the revision of the outcome, or why there is none.
    fn finish(self: Box<Self>, outcome: Result<u64, String>);
}

/// The thread's state.
pub(crate) struct Writer<V> {
    pub(crate) jobs: Receiver<Box<dyn Job<V>>>,
    pub(crate) shared: Arc<Shared<V>>,
    pub(crate) disk: Box<dyn Disk<V>>,
    pub(crate) history: History,
    pub(crate) revisions: Revisions,
    /// Rows of the log that a restart left behind.
    pub(crate) leftover: Vec<(u64, u32)>,
    pub(crate) pace: Pace,
}

impl<V: Send + Sync + 'static> Writer<V> {
    /// Works until every handle of the store is gone.
    pub(crate) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(TIDY_INTERVAL) {
                Ok(first) => {
                    let jobs = self.gather(first);
                    self.group(jobs);
                }
                Err(RecvTimeoutError::Timeout) => self.tidy(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.close();
    }

    /// The first job and what is queued behind it; waits for more when that pays.
    fn gather(&mut self, first: Box<dyn Job<V>>) -> Vec<Box<dyn Job<V>>> {
        let mut jobs = vec![first];
        let queued = self.jobs.try_iter().take(GROUP_LIMIT - 1);
        jobs.extend(queued);
        let patience = self.pace.patience(jobs.len());
        if patience.is_zero() {
            return jobs;
        }
        let deadline = clock::now() + patience;
        while jobs.len() < self.pace.expected() {
            let left = deadline.saturating_duration_since(clock::now());
            match self.jobs.recv_timeout(left) {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        jobs
    }

    fn group(&mut self, jobs: Vec<Box<dyn Job<V>>>) {
        if let Err(reason) = self.shared.writable() {
            jobs.into_iter()
                .for_each(|job| finish(job, Err(reason.clone())));
            return;
        }
        let size = jobs.len();
        let start = clock::now();
        let mut group = Group::new(self.shared.snapshot());
        let mut waiting = Vec::with_capacity(size);
        for mut job in jobs {
            let outcome = self.run_plan(&mut group, job.as_mut(), start);
            match group.records.is_empty() {
                true => finish(job, outcome),
                false => waiting.push((job, outcome)),
            }
        }
        if waiting.is_empty() {
            return;
        }
        let committed = self.commit(group, start);
        for (job, outcome) in waiting {
            finish(job, committed.clone().and(outcome));
        }
        self.pace
            .observe(size, clock::now().saturating_duration_since(start));
    }

    fn run_plan(
        &mut self,
        group: &mut Group<V>,
        job: &mut dyn Job<V>,
        now: Instant,
    ) -> Result<u64, String> {
        let revision = self.revisions.next();
        let planned = catch_unwind(AssertUnwindSafe(|| job.plan(&group.state, revision)));
        let ops = planned.map_err(|_| "the plan panicked".to_owned())?;
        if ops.is_empty() {
            return Ok(group.state.revision());
        }
        group.apply(ops, revision, now)?;
        self.revisions.used(revision);
        Ok(revision)
    }

    /// Steps 2 to 4, but for the answers.
    fn commit(&mut self, group: Group<V>, now: Instant) -> Result<(), String> {
        let Group { state, records } = group;
        let revision = state.revision();
        let forgotten = self.forgettable(now, FORGET_BASE + 2 * records.len());
        self.flush(&records, revision, &forgotten)?;
        self.shared.publish(state, records, &forgotten);
        self.shared.announce(revision);
        Ok(())
    }

    /// One transaction, one fsync. After a failure the store is read-only.
    fn flush(
        &mut self,
        records: &[Record<V>],
        revision: u64,
        forgotten: &Forgotten,
    ) -> Result<(), String> {
        let reserved = self.revisions.reservation();
        let batch = Batch {
            revision,
            reserved,
            records,
            forgotten,
        };
        let result = catch_unwind(AssertUnwindSafe(|| self.disk.commit(&batch)));
        let result = result.unwrap_or_else(|_| Err("the commit panicked".to_owned()));
        match result {
            Ok(()) => {
                self.revisions.reserved = reserved;
                Ok(())
            }
            Err(reason) => Err(self.shared.fail(&reason)),
        }
    }

    fn forgettable(&mut self, now: Instant, limit: usize) -> Forgotten {
        let mut forgotten = self.shared.excess(&self.history, now, limit);
        let rest = self.leftover.len().saturating_sub(limit);
        forgotten.changes.extend(self.leftover.drain(rest..));
        forgotten
    }

    /// Compacts the log while nobody writes.
    fn tidy(&mut self) {
        let forgotten = self.forgettable(clock::now(), FORGET_IDLE);
        if forgotten.changes.is_empty() || self.shared.writable().is_err() {
            return;
        }
        let revision = self.shared.snapshot().revision();
        if self.flush(&[], revision, &forgotten).is_ok() {
            self.shared.forget(&forgotten);
        }
    }

    /// Gives back what is left of the reservation, so that a clean restart goes on with the next revision.
    fn close(&mut self) {
        if self.shared.writable().is_err() || !self.revisions.release() {
            return;
        }
        let revision = self.shared.snapshot().revision();
        drop(self.flush(&[], revision, &Forgotten::default())); // logged; the next start skips some revisions
    }
}

/// Answers a plan; a callback that panics harms nobody else.
fn finish<V>(job: Box<dyn Job<V>>, outcome: Result<u64, String>) {
    if catch_unwind(AssertUnwindSafe(|| job.finish(outcome))).is_err() {
        tracing::error!("a completion callback panicked");
    }
}

/// Hands out revisions, each once: never one that the disk has not reserved before.
pub(crate) struct Revisions {
    last: u64,
    reserved: u64,
    closing: bool,
}

impl Revisions {
    /// After a start: the disk has reserved up to `reserved`, and nothing after `last` was handed out since.
    pub(crate) fn new(last: u64, reserved: u64) -> Self {
        Self {
            last,
            reserved,
            closing: false,
        }
    }

    fn next(&self) -> u64 {
        self.last + 1
    }

    fn used(&mut self, revision: u64) {
        self.last = revision;
    }

    /// What the next commit reserves.
    fn reservation(&self) -> u64 {
        match self.reserved - self.last {
            _ if self.closing => self.last,
            left if left < RESERVE / 2 => self.last + RESERVE,
            _ => self.reserved,
        }
    }

    /// Makes the next commit give back what is left; whether there is anything.
    fn release(&mut self) -> bool {
        self.closing = true;
        self.reserved != self.last
    }
}

/// When to wait a moment for more plans: clients that were just answered together will be back together.
#[derive(Default)]
pub(crate) struct Pace {
    last_group: usize,
    commit: Duration,
}

impl Pace {
    /// How long to wait with `queued` plans at hand.
    fn patience(&self, queued: usize) -> Duration {
        match queued < self.expected() {
            true => MAX_WAIT.min(self.commit / 2),
            false => Duration::ZERO,
        }
    }

    /// The group size that ends the wait.
    fn expected(&self) -> usize {
        self.last_group.min(GROUP_LIMIT)
    }

    fn observe(&mut self, size: usize, took: Duration) {
        self.last_group = size;
        self.commit = (self.commit * 7 + took) / 8;
    }
}

/// How many revisions a commit reserves; two groups must fit into half of it.
pub(crate) const RESERVE: u64 = 1024;
const _: () = assert!(RESERVE / 2 > 2 * GROUP_LIMIT as u64);
/// The longest wait for more plans.
const MAX_WAIT: Duration = Duration::from_millis(1);
/// How often an idle store looks for log records to forget.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);
/// How many log records a commit forgets beside twice its own.
const FORGET_BASE: usize = 32;
/// How many an idle store forgets in one go.
const FORGET_IDLE: usize = 4096;

#[cfg(test)]
mod tests;
