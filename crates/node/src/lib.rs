//! The agent of a node: what the API says, brought to the kernel.
//!
//! ```text
//! feed --Batch--> [task] --Order--> [thread `plane`] World -> Delta -> Update -> netlink
//! rtnetlink addresses -----^                            \-> PlaneStatus: DNS and announcers wait for it
//! ```
//!
//! The kernel is spoken to from one thread that owns the tables; whatever waits for it is taken at
//! once, so that a burst is one batch and a single change goes out at once. There is no period to tune.
//!
//! - [`proxy`]: the thread's state, one batch in, one commit out;
//! - [`agent`]: the tasks around it;
//! - [`ask`]: what it answers on its socket: where packets go and why, and how it is;
//! - [`addresses`]: which addresses the machine has;
//! - [`events`]: what is told about Services and the Node;
//! - [`claim`]: one agent in a network namespace;
//! - [`conntrack`]: UDP flows of endpoints that left;
//! - [`foreign`]: other processes' commits;
//! - [`health`]: `/healthz`, `/livez`, `/metrics`;
//! - [`health_check`]: the ports at which load balancers ask for endpoints;
//! - [`loopback`]: node ports on loopback;
//! - [`metrics`]: what is counted;
//! - [`sysctls`]: kernel settings;
//! - [`leftovers`]: what kube-proxy left.

pub mod addresses;
pub mod agent;
pub mod ask;
pub mod claim;
mod clock;
pub mod conntrack;
pub mod events;
pub mod foreign;
pub mod full;
pub mod health;
pub mod health_check;
pub mod leftovers;
pub mod loopback;
pub mod metrics;
pub mod panics;
pub mod proxy;
mod sockets;
pub mod sysctls;
