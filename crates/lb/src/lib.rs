//! Load balancers: outside traffic gets an address, and a node that answers for it.
//!
//! ```text
//! Service, IPAddressPool --allocate--> status.loadBalancer.ingress            (`controller`, once a cluster)
//! Service, EndpointSlice, L2Advertisement, Lease --elect--> this node or not  (`announcer`, on every node)
//!                                                  `--> ARP and NDP answers   (`l2`)
//! ```
//!
//! Read in this order: [`pool`] and [`mod@allocate`] (who gets which address), [`usable`], [`membership`] and
//! [`election`] (which node answers), [`view`] (the same from feed batches), [`l2`] (how it answers). Those are
//! pure: they are handed the time and do no IO. [`controller`] and [`announcer`] are the tasks around them.
//!
//! The addresses are on no interface. The data plane captures packets to them, and neighbours learn by
//! ARP and neighbour discovery which node to send them to.

pub mod allocate;
pub mod announcer;
mod clock;
pub mod controller;
pub mod election;
mod events;
pub mod l2;
pub mod membership;
mod metrics;
pub mod moment;
pub mod pool;
mod refusal;
pub mod reserved;
#[cfg(test)]
mod testing;
pub mod usable;
pub mod view;

pub use metrics::Metrics;
