//! System calls that need unsafe or a capability.
//!
//! Each function wraps one call with a safe signature; file descriptors are owned. Nothing here knows
//! what a Service is.

pub mod ns;

pub mod mount;

pub mod boot;

pub mod process;

pub mod packet;

pub mod netlink;

pub mod ct;

pub mod ipvs;

pub mod ipset;

pub mod sysctl;

pub mod probe;
