//! A cluster out of network namespaces.
//!
//! [`net`] wires namespaces together; everything above it is processes and packets. [`bare`] judges data planes.

pub mod bare;
mod clock;
pub mod cluster;
pub mod echo;
mod etc;
pub mod kubelet;
pub mod net;
