//! A thread beside the plane that forgets flows of endpoints that left.
//!
//! It is told after each commit and works off the commit's path: listing the flows of a busy node takes longer than a
//! commit. UDP flows are looked at at once, and where changes follow each other, at their end ([`datagrams`]). Connections that nobody has answered are looked at once the answer of
//! an endpoint that was alive would have come ([`SETTLE`]), and before the client sends its SYN again (a second after the
//! first). What comes meanwhile is one more look, not one each: there are at least [`PACE`] between two, and they take at
//! most a twentieth of a core while a look takes less than a tenth of a second. Looks for openings that find nothing become rarer
//! while changes never pause ([`pace`]). Half-closed connections to endpoints that no slice names any more have looks of their own
//! ([`abandoned`]), which take at most a hundredth. What the kernel will not give up is looked for once more, later ([`again`]).

mod abandoned;
mod again;
mod datagrams;
mod keep;
mod pace;
mod pending;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use daymark_dataplane::conntrack::{Forgotten, Walk, Which, forget, forget_abandoned};
use daymark_feed::trouble::{Before, REMIND, Tell, Trouble};
use daymark_model::flows::Verdicts;
use daymark_sys::netlink::{NfSocket, OpenError};
use thiserror::Error;
use tracing::{debug, info, warn};

use crate::clock;
use crate::metrics::Metrics;
use crate::proxy::Order;
use abandoned::Abandoned;
use again::Again;
use keep::keep;
use pace::Pace;
use pending::Pending;

/// Why flows cannot be followed.
#[derive(Debug, Error)]
pub enum CleanerError {
    /// No socket.
    #[error("conntrack: {0}")]
    Open(#[from] OpenError),
    /// No thread.
    #[error("cannot start the thread that forgets stale flows: {0}")]
    Thread(#[source] io::Error),
}

/// What a commit has just made true.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it was committed.
    pub at: Instant,
    /// Which flows are stale since.
    pub verdicts: Verdicts,
}

/// Starts the thread in the network namespace of the caller. It ends with the last sender; after a panic it goes on, and orders the plane
/// to judge every frontend anew.
///
/// # Errors
/// If the socket or the thread cannot be had.
pub fn start(metrics: Arc<Metrics>, orders: Sender<Order>) -> Result<Sender<Told>, CleanerError> {
    let mut opened = Some(NfSocket::open()?);
    let (sender, inbox) = channel();
    thread::Builder::new()
        .name("conntrack".to_owned())
        .spawn(move || {
            keep(&inbox, (&orders, &metrics), |inbox, looks| {
                // One that was left in the middle of an answer is of no use.
                let socket = opened.take().map_or_else(NfSocket::open, Ok);
                let mut socket = socket.map_err(|error| error.to_string())?;
                run(&mut socket, inbox, looks, &metrics);
                Ok(())
            });
        })
        .map_err(CleanerError::Thread)?;
    Ok(sender)
}

/// Looks until nobody tells anything any more.
fn run(socket: &mut NfSocket, inbox: &Receiver<Told>, looks: &mut Looks, metrics: &Metrics) {
    let mut pace = Pace::default();
    let mut failures = Failures::default();
    while gather(inbox, looks).is_ok() {
        let Looks {
            pending,
            abandoned,
            again,
        } = &mut *looks;
        let before = clock::thread_time();
        let since = pending.since();
        let mut openings = None;
        let looked = pending.look(clock::now(), |verdicts, which| {
            let forgotten = forget(socket, verdicts, which, &mut telling(metrics))?;
            if forgotten.offloaded > 0 {
                again.keep(clock::now(), verdicts);
            }
            // Connections that stand are reset as soon as can be, where that is asked for.
            if which == Which::Connections && !verdicts.concern_standing() {
                openings = Some(forgotten.flows.iter().sum());
            }
            Ok(())
        });
        if let Some(forgotten) = openings {
            pending.rest(clock::now(), pace.after(since, forgotten));
        }
        let looked = looked.and(again.look(clock::now(), |verdicts, which| {
            let forgotten = forget(socket, verdicts, which, &mut telling(metrics))?;
            tell_offloaded(forgotten);
            Ok(())
        }));
        // Looks for abandoned connections have rests of their own.
        let worked = clock::thread_time().saturating_sub(before);
        let looked = looked.and(abandoned.look(clock::now(), |verdicts, before, since| {
            let before_work = clock::thread_time();
            let told = &mut telling(metrics);
            let (left, _) = forget_abandoned(socket, verdicts, (before, since), told)?;
            Ok((left, clock::thread_time().saturating_sub(before_work)))
        }));
        let failure = looked.as_ref().err().map(ToString::to_string);
        metrics.set_conntrack_failure(failure);
        let wait = match looked {
            Ok(()) => failures.none(),
            Err(error) => failures.another(&error),
        };
        // Asleep, not listening: while changes come without end, none of them wakes the thread.
        thread::sleep(wait.max(rest_after(worked)));
    }
}

/// Everything that waits for a look.
#[derive(Debug, Default)]
struct Looks {
    pending: Pending,
    abandoned: Abandoned,
    again: Again,
}

impl Looks {
    /// Takes in what a commit has made true.
    fn add(&mut self, told: Told) {
        self.abandoned.add(told.at, &told.verdicts);
        self.again.soften(&told.verdicts);
        self.pending.add(told);
    }

    /// The same from the beginning: what waits for a look, of all that is left.
    fn anew(self, now: Instant) -> Self {
        // Verdicts that met a flowtable are older than those that wait for their first look.
        let mut verdicts = self.again.into_verdicts();
        verdicts.extend(self.pending.into_verdicts());
        let mut looks = Self::default();
        looks.add(Told { at: now, verdicts });
        looks
    }

    /// When the next is due; `None` if there is nothing to look for.
    fn due(&self) -> Option<Instant> {
        let all = [self.pending.due(), self.abandoned.due(), self.again.due()];
        all.into_iter().flatten().min()
    }
}

/// Takes in what commits made true, until a look is due.
fn gather(inbox: &Receiver<Told>, looks: &mut Looks) -> Result<(), RecvError> {
    loop {
        for told in inbox.try_iter() {
            looks.add(told);
        }
        let due = looks.due();
        let now = clock::now();
        let wait = due.map(|due| due.saturating_duration_since(now));
        // Asleep, as after a look: what is to come wakes nobody.
        if let Some(sleep) = looks.pending.sleeps(now)
            && wait > Some(Duration::ZERO)
        {
            thread::sleep(wait.map_or(sleep, |wait| sleep.min(wait)));
            continue;
        }
        let told = match wait {
            None => inbox.recv()?,
            Some(Duration::ZERO) => return Ok(()),
            Some(wait) => match inbox.recv_timeout(wait) {
                Ok(told) => told,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
            },
        };
        looks.add(told);
    }
}

/// How long the thread rests after so much work.
fn rest_after(worked: Duration) -> Duration {
    (worked * SHARE).min(LONGEST_REST).max(PACE)
}

/// Counts each walk with the time since the one before it, or since now.
fn telling(metrics: &Metrics) -> impl FnMut(Walk) + '_ {
    let mut begun = clock::now();
    move |walk| {
        let done = clock::now();
        metrics.kube_proxy.walked(walk, done - begun);
        begun = done;
        let Walk { family, stale } = walk;
        debug!(%family, stale, "forgot flows of endpoints that left");
    }
}

/// Those that the kernel keeps for good.
fn tell_offloaded(Forgotten { offloaded, .. }: Forgotten) {
    if offloaded > 0 {
        warn!(
            offloaded,
            "stale flows stay for as long as their clients send: a flowtable forwards them past conntrack"
        );
    }
}

/// Longer waits, the more looks fail in a row.
#[derive(Default)]
struct Failures {
    wait: Option<Duration>,
    trouble: Trouble,
}

impl Failures {
    fn none(&mut self) -> Duration {
        self.wait = None;
        if self.trouble.is_over() == Before::Failures {
            info!("stale flows are forgotten again");
        }
        Duration::ZERO
    }

    fn another(&mut self, error: &daymark_dataplane::conntrack::ForgetError) -> Duration {
        let wait = self
            .wait
            .map_or(FIRST_WAIT, |wait| (wait * 2).min(LONGEST_WAIT));
        self.wait = Some(wait);
        match self.trouble.again(&error.to_string(), clock::now(), REMIND) {
            Tell::Now => warn!(%error, ?wait, "stale flows stay; tried again and again"),
            Tell::Lately => debug!(%error, ?wait, "stale flows stay"),
        }
        wait
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After a look the thread rests so many times as long as it worked, waits for a processor aside.
const SHARE: u32 = 20;
/// But not longer than this: however large the table is, clients of a UDP endpoint that left wait for the next look.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// And for as long as this: a walk costs some milliseconds even if the table is empty. Together with [`SETTLE`] it is less
/// than a client waits before it sends its SYN again.
const PACE: Duration = Duration::from_millis(600);
/// How long after a commit an opening that is still unanswered counts as one that will not be.
const SETTLE: Duration = Duration::from_millis(300);
