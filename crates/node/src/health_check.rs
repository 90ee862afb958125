//! The ports at which load balancers ask a node whether it has endpoints of a Service (`healthCheckNodePort`).
//!
//! What they are and say is the model's ([`daymark_model::listeners`]). When endpoints go, the answer changes *before* the
//! kernel is told; when they come, afterwards: a load balancer is never invited to a node that would refuse. Each port has
//! a socket at each address that serves node ports, followed as addresses come and go; one that cannot be opened is told as
//! an Event on the Service and tried again.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daymark_model::listeners::{HealthCheck, HealthCheckKey};
use daymark_model::{Delta, Desired, ServiceKey};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::clock;
use crate::events::{Notice, Notices, Scope, Severity};
use crate::health::Health;
use crate::sockets::{self, Again, Sockets};

/// The health checks of this node as they are answered now.
#[derive(Debug)]
pub struct HealthChecks {
    state: Mutex<State>,
    /// Told when sockets have to be opened or closed.
    changed: watch::Sender<()>,
    unopened: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    checks: BTreeMap<HealthCheckKey, Arc<HealthCheck>>,
    addresses: BTreeSet<IpAddr>,
    /// Services that the kernel refused: their endpoints here are none to others.
    refused: BTreeSet<ServiceKey>,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            unopened: AtomicUsize::new(0),
        }
    }
}

impl HealthChecks {
    /// What a check says now; `None` if it is gone.
    fn of(&self, at: HealthCheckKey) -> Option<Arc<HealthCheck>> {
        let state = self.state();
        let check = state.checks.get(&at)?;
        if !state.refused.contains(&check.service) {
            return Some(Arc::clone(check));
        }
        Some(Arc::new(HealthCheck {
            endpoints: Vec::new(),
            service: check.service.clone(),
        }))
    }

    /// The sockets to be held, each with its check.
    fn wanted(&self) -> BTreeMap<SocketAddr, HealthCheckKey> {
        let state = self.state();
        let mut wanted = BTreeMap::new();
        for at in state.checks.keys() {
            let addresses = state.addresses.iter().copied();
            let of_family = addresses.filter(|ip| daymark_model::Family::of(*ip) == at.family);
            wanted.extend(of_family.map(|ip| (SocketAddr::new(ip, at.port), *at)));
        }
        wanted
    }

    /// How many sockets are wanted and cannot be opened.
    pub(crate) fn unopened(&self) -> usize {
        self.unopened.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plane's end: what is answered follows what the kernel holds, except that bad news go first.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    shared: Arc<HealthChecks>,
    /// Those that changed and are told once the kernel has what is behind them.
    waiting: BTreeSet<HealthCheckKey>,
}

impl Teller {
    pub(crate) fn shared(&self) -> Arc<HealthChecks> {
        Arc::clone(&self.shared)
    }

    /// Before a change goes to the kernel: what has fewer endpoints than were told, or is gone, says so.
    pub(crate) fn before(&mut self, delta: &Delta) {
        if delta.health_checks.is_empty() {
            return;
        }
        let mut state = self.shared.state();
        let mut closed = false;
        for (at, new) in &delta.health_checks {
            let Some(told) = state.checks.get(at).map(|told| told.endpoints.len()) else {
                self.waiting.insert(*at);
                continue;
            };
            match new {
                None => {
                    state.checks.remove(at);
                    closed = true;
                }
                Some(new) if new.endpoints.len() < told => {
                    state.checks.insert(*at, new.clone());
                }
                Some(_) => {
                    self.waiting.insert(*at);
                }
            }
        }
        drop(state);
        if closed {
            self.shared.changed.send_replace(());
        }
    }

    /// Once the kernel holds `desired` but for the Services that it refused.
    pub(crate) fn after(&mut self, desired: &Desired, refused: BTreeSet<ServiceKey>) {
        let mut state = self.shared.state();
        state.refused = refused;
        let mut opened = state.addresses != desired.health_check_addresses;
        if opened {
            state.addresses.clone_from(&desired.health_check_addresses);
        }
        for at in std::mem::take(&mut self.waiting) {
            let old = match desired.health_checks.get(&at) {
                Some(check) => state.checks.insert(at, check.clone()),
                None => state.checks.remove(&at),
            };
            opened |= old.is_some() != desired.health_checks.contains_key(&at);
        }
        drop(state);
        if opened {
            self.shared.changed.send_replace(());
        }
    }
}

/// How the proxy is, asked for each answer.
pub type AskHealth = Arc<dyn Fn() -> Health + Send + Sync>;

/// Answers health checks, for ever: dropping it closes all sockets. Of a socket that cannot be opened there is one notice until
/// it was open.
pub async fn serve(checks: Arc<HealthChecks>, health: AskHealth, notices: Notices) {
    let mut changed = checks.changed.subscribe();
    let mut sockets = Sockets::none();
    let mut ended = None;
    loop {
        changed.mark_unchanged();
        let wanted = checks.wanted();
        let start = |at: &HealthCheckKey, listener| {
            answer::listen(listener, *at, Arc::clone(&checks), Arc::clone(&health))
        };
        let failures = sockets.keep(clock::now(), &wanted, start).await;
        for failure in ended.take().into_iter().chain(failures) {
            let Some(check) = checks.of(failure.what) else {
                continue;
            };
            let (service, at, why) = (&check.service, failure.at, &failure.why);
            if failure.again == Again::Repeated {
                debug!(%service, %at, %why, "no health check yet");
                continue;
            }
            warn!(%service, %at, %why, "no health check; tried again");
            notices.put(unopened(service, at, why));
        }
        checks.unopened.store(sockets.unopened(), Ordering::Relaxed);
        debug!(sockets = wanted.len(), "health checks");
        tokio::select! {
            // The sender lives in `checks`.
            _ = changed.changed() => {}
            () = sockets::until(sockets.due()) => {}
            failure = sockets.ended() => ended = Some(failure),
        }
    }
}

/// The reason is kube-proxy's.
fn unopened(service: &ServiceKey, at: SocketAddr, why: &io::Error) -> Notice {
    Notice {
        about: service.clone().into(),
        scope: Scope::Node,
        severity: Severity::Warning,
        reason: "FailedToStartServiceHealthcheck",
        message: format!(
            "node cannot answer health checks of Service {service} at {at} (spec.healthCheckNodePort): {why}; it is tried \
             again: free the port on this node, or give the Service another one"
        ),
    }
}

#[cfg(test)]
mod tests;
