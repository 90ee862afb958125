//! What can go wrong on the way to the kernel.

use daymark_netlink::nft::{Blame, TableId};
use thiserror::Error;

use crate::nft::program::Refused;

/// Why a transaction was not committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommitError {
    /// The kernel refused a message.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Another process owns the table.
    #[error(
        "table {table} belongs to another process, netlink port {port}: stop the other daymark agent in this network namespace"
    )]
    Owned {
        /// The table.
        table: TableId,
        /// The netlink port of its owner; most often the number of its process.
        port: u32,
    },
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(String),
    /// The message could not be encoded.
    #[error("a transaction could not be built: {0}")]
    Encode(String),
}

/// Why the tables could not be brought up.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StartError {
    /// The kernel said no.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A dump that does not fit together.
    #[error("the tables that were read do not fit together: {0}")]
    Dump(#[from] Refused),
    /// A table of our name that we did not make.
    #[error(
        "table {0} is there and is not daymark's: rename it, or remove it with `nft delete table {0}`"
    )]
    Foreign(TableId),
}

/// A transaction that the kernel refused because of what is in it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the kernel refused `{shown}`: {reason}")]
pub struct Refusal {
    /// The first message that was refused as `nft` would print it, one element if it was one.
    pub shown: String,
    /// The error text of the system.
    pub reason: String,
    /// The error number of the first; zero if it did not come from a kernel.
    pub errno: i32,
    /// Every message that was refused, by its place among those of [`super::Kernel::commit`]; none if the kernel
    /// named none.
    pub blame: Vec<Blame>,
    /// How much of the messages is in the kernel all the same, in transactions before.
    pub committed: Committed,
}

/// How far the messages of a commit came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// So many messages, whole.
    pub messages: usize,
    /// And so many elements of the next.
    pub elements: usize,
}
