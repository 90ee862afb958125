//! The lab's network: one segment, nodes on it, routed Pods behind them.
//!
//! ```text
//!   fabric namespace:  br0  172.30.0.1  (the API server; default gateway of every node)
//!        |            |            |            |
//!      eth0         eth0         eth0         eth0
//!     node-1       node-2       node-3       outside  172.30.0.100
//!    .11 / ::11   .12 / ::12   .13 / ::13
//!     |    |
//!   pod1  pod2      a veth each, routed: Pod /32 behind 169.254.1.1, /128 behind fe80::1
//!   eth0  eth0
//! ```
//!
//! Pods never share a bridge: whether NAT sees bridged packets depends on a setting of the machine
//! (bridge-nf-call-iptables), routed ones always pass the node's hooks.

mod error;
mod pod;
mod prefix;
mod routes;
mod segment;
mod sysctl;
#[cfg(test)]
mod tests;

pub use error::NetError;
pub use pod::{PodAddresses, PodLink};
pub use prefix::{ParsePrefixError, Prefix};
pub use routes::RouteSocket;
pub use segment::{Cable, Host, Segment, Via};
pub(crate) use sysctl::lift_icmp_limits;
