//! What the controllers are told at start.

use std::time::Duration;

/// Whether Pods without a node are given one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// Somebody else binds Pods.
    #[default]
    Off,
    /// Bind each Pod to the ready node that has the fewest.
    On,
}

/// Who else does what kube-controller-manager does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beside {
    /// Nobody: all controllers run.
    #[default]
    Nobody,
    /// kube-controller-manager: here only Pods are bound, if [`Scheduler::On`] says so.
    KubeControllerManager,
}

/// Settings of [`crate::run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// See [`Scheduler`].
    pub scheduler: Scheduler,
    /// See [`Beside`].
    pub beside: Beside,
    /// How long a node may be silent before it is not ready any more, and how long Pods of a node that was deleted are
    /// kept. Pods bound to a name that no Node has are kept for ten times that, or 40 s if these are less, and never
    /// for less than this. Upstream's default is 50 s; the lab uses 3 s.
    pub node_grace: Duration,
    /// How long an Event is kept.
    pub event_ttl: Duration,
    /// How many Events are kept; the oldest go first.
    pub event_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scheduler: Scheduler::Off,
            beside: Beside::Nobody,
            node_grace: Duration::from_secs(50),
            event_ttl: Duration::from_secs(3600),
            event_limit: 10_000,
        }
    }
}
