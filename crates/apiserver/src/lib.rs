//! The embedded Kubernetes API: HTTP in front of the registry, the registry in front of the store.
//!
//! A write is a pure function of the old object, the input, the options and a snapshot of the store; its result is
//! the new object, further store operations of the same transaction and warnings, or a [`Status`]. Objects are JSON
//! throughout. A request passes, in this order, [`tls`] (who is it), `http` (what is asked, in which form), `auth`
//! (may they), `registry` (the rules of the kind), and the store, which answers after its fsync.

pub mod tls;

mod auth;
mod discovery;
mod http;
mod openapi;
mod table;

mod patch;
mod read;
pub mod registry;
mod schema;
mod selector;

mod bootstrap;
mod metrics;
mod server;

mod clock;
mod json;
mod object;
pub mod status;

#[cfg(test)]
mod outside_bytes;

pub use auth::grant::{Grant, Use};
pub use object::Object;
pub use server::{ApiServer, Config, StartError};
pub use status::Status;
