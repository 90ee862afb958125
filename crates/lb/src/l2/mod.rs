//! Layer 2: this node answers for addresses that are on none of its interfaces.
//!
//! ```text
//! frame --> Responder::receive --> reply, or the reason why there is none     (pure, `responder`)
//!           Responder::due     --> unsolicited announcements after a take-over
//!   ^                                     |
//!   +---- Port: one thread and two packet sockets an interface, no capability (`port`)
//!         links: which interface is on the link of which address              (`links`)
//! ```
//!
//! Protocols: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861, RFC 4862 section 5.4).

pub(crate) mod frame;
pub mod links;
pub(crate) mod port;
pub mod responder;

pub use links::Link;
pub use responder::{Drop, Responder};

/// A hardware address of an Ethernet-like interface.
pub type Mac = [u8; 6];
