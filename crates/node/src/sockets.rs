//! Listening sockets that are kept as they are wanted: opened, tried again where that fails, closed.

pub(crate) mod room;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};

use crate::clock;
use crate::panics::words;

/// The sockets of one part of the agent. Dropping them closes all, with what they accepted.
#[derive(Debug)]
pub(crate) struct Sockets<What> {
    open: BTreeMap<SocketAddr, (What, JoinSet<()>)>,
    failed: BTreeMap<SocketAddr, Failed>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    /// The next wait, should it fail again.
    wait: Duration,
    due: Instant,
}

/// A socket that could not be opened, the first of so many times.
#[derive(Debug)]
pub(crate) struct BindFailure<What> {
    /// What it was wanted for.
    pub(crate) what: What,
    /// Its address.
    pub(crate) at: SocketAddr,
    /// Why; also of one that was open, whose task ended.
    pub(crate) why: io::Error,
    /// Whether it was told before, and has failed since.
    pub(crate) again: Again,
}

/// Whether a failure is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    First,
    Repeated,
}

impl<What: Clone + PartialEq> Sockets<What> {
    /// Without sockets.
    pub(crate) fn none() -> Self {
        Self {
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Closes what is not wanted any more, opens what is, and returns what could not be opened. `start` makes the task that
    /// accepts connections; it ends when the socket is closed, and what it holds must end with it.
    pub(crate) async fn keep<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        now: Instant,
        wanted: &BTreeMap<SocketAddr, What>,
        start: impl Fn(&What, TcpListener) -> F,
    ) -> Vec<BindFailure<What>> {
        let unwanted = self
            .open
            .extract_if(.., |at, (what, _)| wanted.get(at) != Some(what));
        for (_, (_, mut task)) in unwanted.collect::<Vec<_>>() {
            // Waited for: an address that takes its place may have the same port.
            task.shutdown().await;
        }
        self.failed.retain(|at, _| wanted.contains_key(at));
        let mut failures = Vec::new();
        for (at, what) in wanted {
            let waits = self.failed.get(at).is_some_and(|failed| failed.due > now);
            if waits || self.open.contains_key(at) {
                continue;
            }
            match listen(*at) {
                Ok(listener) => {
                    let mut task = JoinSet::new();
                    task.spawn(start(what, listener));
                    self.open.insert(*at, (what.clone(), task));
                    self.failed.remove(at);
                }
                Err(why) => failures.push(BindFailure {
                    what: what.clone(),
                    at: *at,
                    why,
                    again: self.fail(*at, now),
                }),
            }
        }
        failures
    }

    /// Waits until the task of a socket ends, which it should not: the socket is closed with it, and is opened anew as one that could not
    /// be opened.
    pub(crate) async fn ended(&mut self) -> BindFailure<What> {
        let (at, ended) = std::future::poll_fn(|context| {
            for (at, (_, task)) in &mut self.open {
                if let Poll::Ready(Some(ended)) = task.poll_join_next(context) {
                    return Poll::Ready((*at, ended));
                }
            }
            Poll::Pending
        })
        .await;
        let (what, _) = self.open.remove(&at).expect("it was there");
        let why = match ended.map_err(JoinError::try_into_panic) {
            Err(Ok(panic)) => format!("it panicked: {}", words(&*panic)),
            Ok(()) | Err(Err(_)) => "it ended".to_owned(),
        };
        BindFailure {
            what,
            at,
            why: io::Error::other(format!("who accepted there accepts no more, {why}")),
            again: self.fail(at, clock::now()),
        }
    }

    fn fail(&mut self, at: SocketAddr, now: Instant) -> Again {
        let before = self.failed.get(&at).map(|failed| failed.wait);
        let wait = before.unwrap_or(FIRST_WAIT);
        let failed = Failed {
            wait: (wait * 2).min(LONGEST_WAIT),
            due: now + wait,
        };
        self.failed.insert(at, failed);
        before.map_or(Again::First, |_| Again::Repeated)
    }

    /// What the open sockets are for.
    pub(crate) fn open(&self) -> impl Iterator<Item = &What> {
        self.open.values().map(|(what, _)| what)
    }

    /// How many sockets are wanted and not open.
    pub(crate) fn unopened(&self) -> usize {
        self.failed.len()
    }

    /// When a socket is to be tried again; `None` if none is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.failed.values().map(|failed| failed.due).min()
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Waits until `due`; for ever if there is no such time.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// A TCP listener of one family: all zeros of IPv6 do not mean IPv4 too.
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As Go's net.Listen has it: connections that linger in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    // An IPv6 address that has just come is tentative, and nobody else may bind to it.
    match at {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 1024;

/// Accepts connections for ever. After an error (no file descriptor is free) it waits a little.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(FIRST_WAIT).await,
        }
    }
}

#[cfg(test)]
mod tests;
