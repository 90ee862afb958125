//! Cluster DNS.
//!
//! ```text
//! feed --Batch--> [`zone`] records, kept change by change; answers one question, no IO
//!                    |
//! UDP, TCP -->  `wire` -> `server` -> zone, or [`forward`] for every other name -> upstreams
//! ```
//!
//! The zone follows the specification of DNS-based service discovery 1.1.0 (kubernetes/dns) and what
//! CoreDNS does beyond it; README.md lists where it differs on purpose. Nothing is cached in front of
//! the zone: an answer is as fresh as the watch. The name of a new cluster IP waits until the node's
//! data plane has it, at most [`Config::hold`].

mod clock;
mod config;
pub mod forward;

mod metrics;
mod server;
mod wire;

pub mod zone;

pub use config::{Config, PodNames, Tcp};
pub use metrics::Metrics;
pub use server::{BindError, Server, Sockets, StartError};
