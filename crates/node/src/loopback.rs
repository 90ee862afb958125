//! Node ports on loopback, which the kernel cannot translate: a listener passes the bytes on (KEP-6032).
//!
//! Which ports there are, and to which endpoints they lead, is the model's ([`daymark_model::listeners`]). Each has one socket
//! at 127.0.0.1 or ::1. A connection goes to a random endpoint, or to the one that the port keeps to; the endpoint sees the
//! node as its client. An endpoint that goes takes no connection with it that stands; a port that goes takes all.
//!
//! What is bounded: connections of a port and of all ports together ([`BOUNDS`]), beyond which a client has the place of one that is
//! idle, or waits until there is one; bytes under way in each direction of each ([`BUFFER`]).

mod pass;
mod pin;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daymark_model::desired::PortName;
use daymark_model::listeners::{LocalListener, LocalListenerKey, LocalListeners};
use daymark_model::{Delta, Desired};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::clock;
use crate::events::{Notice, Notices, Scope, Severity};
use crate::metrics::Metrics;
use crate::sockets::room::{Bounds, Room, Share};
use crate::sockets::{self, Again, Sockets, accept};
use pass::pass;
use pin::Pin;

/// The most connections of one port, and of all ports: two descriptors each.
const BOUNDS: Bounds = Bounds {
    of_each: 512,
    of_all: 2048,
    idle: Duration::from_secs(10),
};
/// The most bytes that wait in one direction of one connection.
const BUFFER: usize = 16 * 1024;

/// The ports as they are served now.
#[derive(Debug)]
pub struct Loopback {
    ports: Mutex<LocalListeners>,
    /// Told when one of them changes.
    changed: watch::Sender<()>,
    unopened: AtomicUsize,
}

impl Default for Loopback {
    fn default() -> Self {
        Self {
            ports: Mutex::default(),
            changed: watch::Sender::new(()),
            unopened: AtomicUsize::new(0),
        }
    }
}

/// What a socket is for: another Service at the same number is another socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Purpose {
    at: LocalListenerKey,
    port: Arc<PortName>,
}

impl Loopback {
    /// Where a port leads now; `None` if it is gone, or another Service's.
    fn of(&self, purpose: &Purpose) -> Option<Arc<LocalListener>> {
        let ports = self.ports();
        let listener = ports.get(&purpose.at)?;
        (listener.port == purpose.port).then(|| Arc::clone(listener))
    }

    fn wanted(&self) -> BTreeMap<SocketAddr, Purpose> {
        let wanted = |(at, listener): (&LocalListenerKey, &Arc<LocalListener>)| {
            let purpose = Purpose {
                at: *at,
                port: Arc::clone(&listener.port),
            };
            (SocketAddr::new(at.ip(), at.port), purpose)
        };
        self.ports().iter().map(wanted).collect()
    }

    /// How many sockets are wanted and cannot be opened.
    pub(crate) fn unopened(&self) -> usize {
        self.unopened.load(Ordering::Relaxed)
    }

    fn ports(&self) -> MutexGuard<'_, LocalListeners> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plane's end. What no kernel has to hold does not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    shared: Arc<Loopback>,
    waiting: BTreeSet<LocalListenerKey>,
}

impl Teller {
    pub(crate) fn shared(&self) -> Arc<Loopback> {
        Arc::clone(&self.shared)
    }

    /// Takes a change in.
    pub(crate) fn note(&mut self, delta: &Delta) {
        self.waiting.extend(delta.local_listeners.keys());
    }

    /// Tells what was noted: the state is whole.
    pub(crate) fn tell(&mut self, desired: &Desired) {
        if self.waiting.is_empty() {
            return;
        }
        let mut ports = self.shared.ports();
        for at in std::mem::take(&mut self.waiting) {
            match desired.local_listeners.get(&at) {
                Some(listener) => ports.insert(at, Arc::clone(listener)),
                None => ports.remove(&at),
            };
        }
        drop(ports);
        self.shared.changed.send_replace(());
    }
}

/// Serves node ports on loopback, for ever: dropping it closes all sockets and ends all connections. Of a socket that cannot be
/// opened there is one notice until it was open.
pub async fn serve(loopback: Arc<Loopback>, metrics: Arc<Metrics>, notices: Notices) {
    let mut changed = loopback.changed.subscribe();
    let mut sockets = Sockets::none();
    let mut ended = None;
    let room = Room::new(BOUNDS);
    loop {
        changed.mark_unchanged();
        let start = |purpose: &Purpose, listener| {
            listen(
                listener,
                purpose.clone(),
                Arc::clone(&loopback),
                room.share(),
            )
        };
        let wanted = loopback.wanted();
        let failures = sockets.keep(clock::now(), &wanted, start).await;
        for failure in ended.take().into_iter().chain(failures) {
            metrics.loopback_failed(failure.what.at.family);
            let (port, at, why) = (&failure.what.port, failure.at, &failure.why);
            if failure.again == Again::Repeated {
                debug!(%port, %at, %why, "no listener yet");
                continue;
            }
            warn!(%port, %at, %why, "no listener; tried again");
            notices.put(unopened(port, at, why));
        }
        loopback
            .unopened
            .store(sockets.unopened(), Ordering::Relaxed);
        metrics.set_loopback(sockets.open().map(|purpose| purpose.at.family));
        tokio::select! {
            // The sender lives in `loopback`.
            _ = changed.changed() => {}
            () = sockets::until(sockets.due()) => {}
            failure = sockets.ended() => ended = Some(failure),
        }
    }
}

fn unopened(port: &PortName, at: SocketAddr, why: &io::Error) -> Notice {
    Notice {
        about: port.service.clone().into(),
        scope: Scope::Node,
        severity: Severity::Warning,
        reason: "FailedToStartLocalhostNodePort",
        message: format!(
            "node cannot serve the node port of {port} at {at} (spec.ports[].nodePort; loopback is named in \
             nodePortAddresses): {why}; it is tried again: free the port on this node, or give the Service another one"
        ),
    }
}

/// Accepts and passes on until it is dropped, and its connections with it.
async fn listen(listener: TcpListener, purpose: Purpose, loopback: Arc<Loopback>, share: Share) {
    let mut pin = Pin::default();
    let mut connections = JoinSet::new();
    debug!(port = %purpose.port, at = %purpose.at.ip(), number = purpose.at.port, "serving a node port on loopback");
    loop {
        let client = accept(&listener).await;
        let place = share.place().await;
        while connections.try_join_next().is_some() {}
        let to = loopback.of(&purpose);
        let to = to.and_then(|to| pin.choose(clock::now(), &to, random));
        let Some(to) = to else { continue };
        connections.spawn(async move {
            let client = place.stream(client);
            match place.hold(pass(client, to)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => debug!(%to, %error, "a connection from loopback ended"),
                None => debug!(%to, "an idle connection from loopback made room for another"),
            }
        });
    }
}

fn random(count: usize) -> usize {
    rand::random_range(0..count)
}

#[cfg(test)]
mod tests;
