//! Allocation of Service addresses and node ports.
//!
//! Nothing is kept between requests. What is taken is in the store, one object for each number, so that "is it free"
//! is one key lookup at any number of Services, and the answer includes earlier writes of the same group commit:
//!
//! - an address is taken when an IPAddress object of that name exists (as on any Kubernetes cluster);
//! - a node port is taken when an object of that number exists under the hidden kind [`NODE_PORTS`]. It is written in
//!   the transaction that writes its Service, so the two agree after a crash, and a group that fails to commit leaves
//!   neither behind. A map in memory would have to learn of both from elsewhere. [`reconcile`] rebuilds the kind from
//!   the Services, for stores that were filled by an import.

pub mod address;
pub mod band;
pub mod port;

pub mod reconcile;

pub use self::address::{AddressError, Addresses, IP_ADDRESSES, SERVICE_CIDRS};
pub use self::port::{NODE_PORTS, PortError, Ports};
pub use self::reconcile::reconcile;

/// The Service that something is allocated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The Service's namespace.
    pub namespace: &'a str,
    /// The Service's name.
    pub name: &'a str,
}

#[cfg(test)]
pub(crate) mod testing;
