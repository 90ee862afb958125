//! The rules of Services: defaults, allocation, validation, warnings.
//!
//! The order of steps decides which of several mistakes a user is told, so it is upstream's
//! (`pkg/registry/core/service/storage/storage.go` of Kubernetes):
//! 1. defaults;
//! 2. on update, allocated values that the client left out come from the old object, and fields that the new type has
//!    no use for and that the client did not touch are dropped;
//! 3. `clusterIP` and `clusterIPs` are brought into line;
//! 4. families and their policy;
//! 5. addresses, then node ports, then the health check's port;
//! 6. validation of the result;
//! 7. warnings.
//!
//! What is taken and given back is written in the transaction that writes the Service.

pub mod bootstrap;

mod allocate;
mod change;
mod defaults;
mod families;
mod normalise;
mod ports;
mod status;
mod strategy;
mod validate;
mod view;
mod warnings;

#[cfg(test)]
mod tests;

pub use self::strategy::ServiceStrategy;
