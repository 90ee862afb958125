//! A port for health or metrics that may be taken, and what is told of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::Place;

/// The port for health, or that for metrics.
#[derive(Debug)]
pub struct Port {
    pub(super) place: Place,
    pub(super) kind: Kind,
    trouble: Mutex<Option<String>>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Health,
    Metrics,
}

impl Kind {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Health => "health checks",
            Self::Metrics => "metrics",
        }
    }

    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Health => "--healthz-bind-address",
            Self::Metrics => "--metrics-bind-address",
        }
    }
}

impl Port {
    /// That for health.
    #[must_use]
    pub fn health(place: Place) -> Arc<Self> {
        Self::new(place, Kind::Health)
    }

    /// That for metrics.
    #[must_use]
    pub fn metrics(place: Place) -> Arc<Self> {
        Self::new(place, Kind::Metrics)
    }

    fn new(place: Place, kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            place,
            kind,
            trouble: Mutex::new(None),
        })
    }

    /// What it is called in a status.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Health => "health port",
            Kind::Metrics => "metrics port",
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Why it is not open; nothing while it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The reason of the Event on the Node that tells [`Self::trouble`], kube-proxy's own.
    /// (kubernetes `pkg/proxy/healthcheck/proxy_health.go` and `cmd/kube-proxy/app/server.go`.)
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            Kind::Health => "FailedToStartProxierHealthcheck",
            Kind::Metrics => "FailedToStartMetricServer",
        }
    }

    pub(super) fn set(&self, trouble: Option<String>) {
        let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *held = trouble;
    }
}
