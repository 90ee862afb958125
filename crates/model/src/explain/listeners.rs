//! What the node answers by itself for a Service.

use std::fmt;
use std::net::SocketAddr;

use crate::desired::Lost;
use crate::input::ServiceKey;
use crate::listeners::HealthCheckKey;
use crate::world::World;

/// A port of this node at which the agent answers, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// `healthCheckNodePort`.
    HealthCheck {
        /// Where it is asked.
        at: HealthCheckKey,
        /// How many ready endpoints are here.
        endpoints: usize,
    },
    /// `healthCheckNodePort`, which another Service has.
    HealthCheckLost {
        /// Where it would be asked.
        at: HealthCheckKey,
        /// The Service that has it.
        held_by: ServiceKey,
        /// By which right.
        why: Lost,
    },
    /// A node port on loopback.
    Loopback {
        /// The address.
        at: SocketAddr,
        /// To how many endpoints connections are passed on.
        endpoints: usize,
    },
}

/// Every listener of a Service on this node.
#[must_use]
pub fn listeners(world: &World, service: &ServiceKey) -> Vec<Listener> {
    let desired = world.desired();
    let checks = desired.health_checks.iter();
    let checks = checks.filter(|(_, check)| check.service == *service);
    let checks = checks.map(|(at, check)| Listener::HealthCheck {
        at: *at,
        endpoints: check.endpoints.len(),
    });
    let lost = world.health_check_refusals().into_iter();
    let lost = lost.filter(|refusal| refusal.service == *service);
    let lost = lost.map(|refusal| Listener::HealthCheckLost {
        at: refusal.at,
        held_by: refusal.held_by,
        why: refusal.why,
    });
    let loopback = desired.local_listeners.iter();
    let loopback = loopback.filter(|(_, listener)| listener.port.service == *service);
    let loopback = loopback.map(|(at, listener)| Listener::Loopback {
        at: SocketAddr::new(at.ip(), at.port),
        endpoints: listener.pool.backends.len(),
    });
    checks.chain(lost).chain(loopback).collect()
}

impl Listener {
    /// The field that asks for it.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::HealthCheck { .. } | Self::HealthCheckLost { .. } => "spec.healthCheckNodePort",
            Self::Loopback { .. } => "nodePortAddresses",
        }
    }

    /// Its place.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::HealthCheck { at, .. } | Self::HealthCheckLost { at, .. } => {
                format!("health check {} ({})", at.port, at.family)
            }
            Self::Loopback { at, .. } => format!("{at}/TCP"),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HealthCheck { endpoints: 0, .. } => out
                .write_str("no ready endpoint is here: load balancers are told to send elsewhere"),
            Self::HealthCheck { endpoints: 1, .. } => out.write_str("one ready endpoint is here"),
            Self::HealthCheck { endpoints, .. } => {
                write!(out, "{endpoints} ready endpoints are here")
            }
            Self::HealthCheckLost { held_by, why, .. } => {
                write!(
                    out,
                    "not answered: {held_by} has the port, because it {why}"
                )
            }
            Self::Loopback { endpoints: 1, .. } => out.write_str("passed on to one endpoint"),
            Self::Loopback { endpoints, .. } => write!(out, "passed on to {endpoints} endpoints"),
        }
    }
}
