//! The embedded store: revisioned objects, a change log to watch, and an answer only after the fsync.
//!
//! The state is in memory, as persistent maps: a reader takes a [`Snapshot`] and shares it for as long as it likes. One
//! writer thread runs the plans of [`Store::submit`] one by one, each on the state its predecessors left, and commits
//! up to [`GROUP_LIMIT`] of them with one fsync. Only then does anybody see them: readers, watchers ([`Store::changes`])
//! and those who asked.
//!
//! What holds, whatever the machine does:
//! - a write that was answered is there after a crash;
//! - no reader and no watcher saw a write that is not;
//! - a revision is handed out once, also when the write that got it failed;
//! - a failed disk makes the store read-only ([`Health`]); reads and watches go on;
//! - a damaged file is reported with its path and the remedy, and never emptied.
//!
//! Values are opaque bytes behind [`Value`]; how long an object lives is the business of whoever writes it.

pub mod bench;
mod clock;
mod disk;
mod error;
mod group;
mod history;
mod record;
mod shared;
mod snapshot;
mod store;
mod submission;
pub mod tools;
mod value;
mod writer;

pub use error::{Health, HistoryError, OpenError, SubmitError};
pub use history::History;
pub use snapshot::Snapshot;
pub use store::{Options, Store};
pub use value::{Change, Committed, Entry, Key, Op, Plan, Raw, Value, What};
pub use writer::GROUP_LIMIT;
