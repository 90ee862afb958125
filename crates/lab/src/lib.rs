//! A cluster out of network namespaces.
//!
//! [`net`] wires namespaces together; everything above it is processes and packets.

pub mod net;
