//! HTTP in front of the registry: paths, queries, content negotiation, answers and watches.

mod collection;
mod handle;
mod input;
mod negotiate;
mod path;
mod query;
mod reply;
mod watch;

pub(crate) use handle::handle;
pub(crate) use path::Target;
#[cfg(test)]
pub(crate) use path::{Route, route};
pub(crate) use query::Query;
pub(crate) use watch::Watchers;
