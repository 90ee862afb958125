//! Why the netfilter socket did not do what it was asked for.

use std::io;

use daymark_netlink::attr::DecodeError;
use daymark_netlink::frame::Refusal;
use daymark_netlink::nft::BatchError;
use rustix::io::Errno;
use thiserror::Error;

/// Why a netfilter socket cannot be opened.
#[derive(Debug, Error)]
#[error(
    "netfilter netlink socket: {step}: {source} (kernel module nfnetlink, and a namespace that this thread may use, are needed)"
)]
pub struct OpenError {
    /// The call that failed.
    pub step: &'static str,
    /// What it said.
    pub source: io::Error,
}

/// Why a transaction did not happen. In every case nothing of it did.
#[derive(Debug, Error)]
pub enum TransactError {
    /// The kernel refused one or more of its messages.
    #[error("{}", refused(.refusals))]
    Refused {
        /// Each once, in the order of the messages. Sequence number 0 stands for the transaction as a whole:
        /// EPERM without `CAP_NET_ADMIN`, ERESTART if another program committed in between.
        refusals: Vec<Refusal>,
        /// Whether there were more than the receive buffer holds.
        complete: Completeness,
    },
    /// It does not fit the send buffer.
    #[error(
        "a transaction of {bytes} bytes does not fit the send buffer of {buffer}: split it (Batch::LIMIT)"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// `SO_SNDBUF`.
        buffer: usize,
    },
    /// A message is longer than netlink allows.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The socket failed.
    #[error("netfilter netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel answered something that this program does not understand.
    #[error("answer of the kernel: {0}")]
    Answer(#[from] DecodeError),
}

/// Whether all refusals are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completeness {
    /// All of them.
    Complete,
    /// Some did not fit the receive buffer.
    Lost,
}

/// Why a question was not answered.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The kernel refused it: ENOENT if there is no such table.
    #[error("{0}")]
    Refused(Refusal),
    /// The ruleset changed again and again while it was read.
    #[error("the ruleset changed during each of {tries} attempts to read it")]
    Unsteady {
        /// How often it was tried.
        tries: usize,
    },
    /// The answer ended before its end.
    #[error("the kernel's answer has no end")]
    Cut,
    /// The socket failed.
    #[error("netfilter netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel answered something that this program does not understand.
    #[error("answer of the kernel: {0}")]
    Answer(#[from] DecodeError),
}

impl QueryError {
    /// Whether the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.errno == Errno::NOENT.raw_os_error())
    }
}

fn refused(refusals: &[Refusal]) -> String {
    match refusals {
        [] => "the kernel refused a transaction with more errors than its answers hold".into(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}
