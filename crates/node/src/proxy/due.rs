//! What is due after a wait: a commit that failed, again; a look after the commits of others.

use std::time::{Duration, Instant};

use daymark_dataplane::nft::apply::{CommitError, Kernel, StartError};
use daymark_feed::trouble::{REMIND, Tell};
use tracing::{debug, warn};

use super::{Proxy, State, whole};
use crate::clock;

pub(super) const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After somebody else's commit the tables are read at most so often.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// And there are so many times as long between two looks as the first of them took.
const SHARE: u32 = 4;

impl<K: Kernel> Proxy<K> {
    /// A commit failed, of changes that have waited since `begun`: it may have taken long.
    pub(super) fn fall_behind(&mut self, error: &StartError, begun: Instant) {
        let now = clock::now();
        let (wait, since) = match self.state {
            State::Behind { wait, since, .. } => (wait, since),
            State::Waiting | State::InStep => {
                self.metrics.set_behind(Some(begun));
                (FIRST_WAIT, begun)
            }
        };
        if self.trouble.again(&error.to_string(), now, REMIND) == Tell::Now {
            tell_failure(error, wait);
        } else {
            debug!(%error, ?wait, "a commit failed again");
        }
        self.metrics.failed();
        self.last_error = Some(error.to_string());
        let due = now + wait;
        let wait = (wait * 2).min(LONGEST_WAIT);
        self.state = State::Behind { wait, due, since };
    }

    /// What is due after a wait: a failed state again, or a look after somebody else's commit.
    pub(super) fn catch_up(&mut self) {
        let started = clock::now();
        if let State::Behind { due, since, .. } = self.state
            && started >= due
        {
            let outcome = self.reconcile();
            self.settle(outcome, whole(), started, since);
        }
        let now = clock::now();
        let ripe = self.isolated.ripe(now);
        if !ripe.is_empty() && self.state == State::InStep {
            let outcome = self.plane.retry(&ripe).map_err(StartError::from);
            self.settle(outcome, whole(), now, now);
        }
        let now = clock::now();
        let due = self.foreign.due(now);
        if self.state == State::InStep && due.is_some_and(|due| due <= now) {
            self.look_after_others(now);
        }
    }

    /// Reads the tables back, and mends them.
    fn look_after_others(&mut self, now: Instant) {
        self.foreign.pending = false;
        let verified = self.plane.verify();
        self.moment += 1;
        let ended = clock::now();
        // A table of a large cluster takes long to read: others who commit often must not keep the thread from its work.
        self.foreign.rest = Some(ended + LOOK_AGAIN.max((ended - now) * SHARE));
        match verified {
            Ok(0) => {
                debug!("another process committed; the tables are unchanged")
            }
            Ok(changed) => {
                self.tell_isolated();
                self.metrics.repaired();
                warn!(
                    elements = changed,
                    "another process had changed the tables; they are mended"
                );
            }
            Err(error) => self.fall_behind(&error, now),
        }
    }
}

fn tell_failure(error: &StartError, wait: Duration) {
    if let StartError::Commit(CommitError::Refused(refusal)) = error {
        warn!(
            shown = refusal.shown,
            reason = refusal.reason,
            ?wait,
            "the kernel refused a change; the whole state is tried again and again"
        );
    } else {
        warn!(%error, ?wait, "a commit failed; the whole state is tried again and again");
    }
}

/// Commits of other processes that nobody has looked at yet.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    pub(super) pending: bool,
    /// Not before this is the next look.
    rest: Option<Instant>,
}

impl Foreign {
    /// When somebody has to look; `None` if there is nothing to look for.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.pending.then(|| self.rest.unwrap_or(now))
    }
}
