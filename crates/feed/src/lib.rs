//! Kubernetes watch streams to compact records, handed out as batches.
//!
//! ```text
//! API server --watch, one per kind--> decode --> Hub (caches, differences) --> Batch --> proxy
//!              (`watch`)            (`decode`)   (`hub`)                            \-> DNS, load balancer
//! ```
//!
//! [`Feed::start`] opens one watch of each kind that [`Config`] wants. Each part of an agent takes
//! a [`Subscription`]; its first batch is the whole state and comes once every list is complete, each
//! later batch holds whatever was ready at once, with no timer in between while changes come slower than fifty a second. Which Services a
//! part looks at is `model::audience`'s decision; the feed filters nothing, but does not ask for what no part of its agent looks at ([`Selection`]).
//!
//! Objects are decoded straight from the response's bytes into `model` records; no API object and no
//! list is ever held whole. A value that cannot be read is left out, counted, logged with its
//! object and field, and handed out as [`Findings`] for those who tell people; it never stops the stream. When the API goes away the last state stands, the
//! watch is resumed where it broke, and a fresh list yields the difference, deletions included.

mod config;
mod event;
mod feed;
mod findings;
mod hub;
pub mod one;
mod pauses;
mod plane;
pub mod record;
mod reference;
pub mod trouble;
mod watch;

mod decode;
mod intern;
mod metrics;

mod clock;

pub use config::{Config, Kind, Nodes, Retry, Selection, Wanted};
pub use event::{Batch, Event, Scope};
pub use feed::Feed;
pub use findings::{Findings, Reason, Whose};
pub use hub::Subscription;
pub use metrics::{KindMetrics, Metrics};
pub use pauses::Pauses;
pub use plane::{PlaneReceiver, PlaneSender, PlaneStatus, plane_channel};
pub use reference::reference;

#[cfg(test)]
mod tests;
