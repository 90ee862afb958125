//! The embedded Kubernetes API: HTTP in front of the registry, the registry in front of the store.
//!
//! A write is a pure function of the old object, the input, the options and a snapshot of the store; its result is
//! the new object, further store operations of the same transaction and warnings, or a [`Status`].

pub mod registry;
pub mod status;

pub use status::Status;
