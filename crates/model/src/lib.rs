//! What a Kubernetes Service means on one node: the one place that says so.
//!
//! ```text
//! Service, Slice, Node  --World::apply-->  Frontend -> Action -> Pool   --decide-->  Verdict
//! (records, `input`)                       (`desired`)                              (for one packet)
//! ```
//!
//! Read in this order:
//! 1. [`input`]: the records that the API's objects are reduced to; [`rules`]: the choices that have a switch;
//! 2. [`audience`]: which Services each part of daymark looks at;
//! 3. [`endpoints`]: which endpoints a Service port may use on this node;
//! 4. [`node_ports`]: at which addresses node ports answer;
//! 5. [`listeners`]: what the node answers by itself;
//! 6. [`desired`]: what the kernel should do: an address and port, and what happens to a new connection there;
//! 7. [`mod@desire`]: the rules that turn records into that;
//! 8. [`world`]: the same, kept up to date change by change;
//! 9. [`mod@decide`]: the reference verdict for one packet, the judge of every data plane;
//! 10. [`mod@explain`]: how a verdict came about, in words;
//! 11. [`flows`]: which tracked flows may stay when endpoints go;
//! 12. [`laxity`]: what passes under kube-proxy's rules and would not under daymark's own.
//!
//! Nothing here does IO, reads a clock, draws a random number or fails: bad input becomes a value
//! with a reason ([`desired::Refusal`]). The crate uses the standard library alone.

pub mod address;
pub mod audience;
mod claims;
pub mod decide;
pub mod desire;
pub mod desired;
pub mod endpoints;
pub mod explain;
pub mod flows;
pub mod input;
pub mod interface;
pub mod laxity;
pub mod listeners;
pub mod node_ports;
pub mod rules;
mod uid;
pub mod world;

pub use address::{Cidr, Family, Protocol};
pub use decide::{Packet, Target, Verdict, decide};
pub use desired::{Action, Delta, Desired, Frontend, FrontendKey, Pool, PoolKey};
pub use explain::explain;
pub use input::{
    Change, Endpoint, Node, Options, Service, ServiceCidr, ServiceKey, Slice, SliceKey,
};
pub use interface::{Interface, InterfacePattern};
pub use rules::{Mode, Rules};
pub use uid::Uid;
pub use world::World;
