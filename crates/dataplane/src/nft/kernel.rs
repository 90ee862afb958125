//! The kernel itself, by netlink.

use std::collections::BTreeMap;

use daymark_netlink::nft::{
    Batch, BatchError, Message, Name, Part, Query, Reply, Rule, Ruleset, Set, SetElem, SetFlags,
    Table, TableId, Transaction,
};
use daymark_sys::netlink::{NfSocket, OpenError, QueryError, Refusal, TransactError};

use super::apply::{self, Borders, CommitError, Committed, Kernel};

/// A netfilter socket of one network namespace. Tables with an owner belong to it: they can be changed
/// through no other socket, and lose their owner, not their rules, when it closes.
#[derive(Debug)]
pub struct Netlink {
    socket: NfSocket,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// If the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self {
            socket: NfSocket::open()?,
        })
    }

    /// The netlink port, by which the owner of a table and the sender of a commit are known.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// The socket, for settings and questions.
    pub fn socket(&mut self) -> &mut NfSocket {
        &mut self.socket
    }
}

impl Kernel for Netlink {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let encode = |error: BatchError| CommitError::Encode(error.to_string());
        let mut batch = Batch::new(self.limit()?);
        let borders = Borders::of(messages);
        for (index, message) in messages.iter().enumerate() {
            batch.push(message).map_err(encode)?;
            if borders.behind(index) {
                batch.border().map_err(encode)?;
            }
            // What is full goes at once: a first load is not held twice.
            for transaction in batch.drain_full() {
                self.send(&transaction, messages)?;
            }
        }
        for transaction in batch.finish().map_err(encode)? {
            self.send(&transaction, messages)?;
        }
        Ok(())
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        let snapshot = self.socket.snapshot(table);
        let snapshot = snapshot.map_err(|error| unread(table, error))?;
        Ok(snapshot.map(|snapshot| snapshot.ruleset()))
    }

    fn read_program(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        let by_us = |set: &Set| !set.flags.contains(SetFlags::DYNAMIC);
        let snapshot = self.socket.snapshot_with(table, by_us);
        let snapshot = snapshot.map_err(|error| unread(table, error))?;
        Ok(snapshot.map(|snapshot| snapshot.ruleset()))
    }

    fn counts(&mut self, table: &TableId) -> Result<BTreeMap<Name, usize>, CommitError> {
        let counts = self.socket.counts(table);
        counts.map_err(|error| unread(table, error))
    }

    fn element(
        &mut self,
        table: &TableId,
        set: &Name,
        key: &SetElem,
    ) -> Result<Option<SetElem>, CommitError> {
        let found = self.socket.element(table, set, key);
        found.map_err(|error| unread(table, error))
    }

    fn rules(&mut self, table: &TableId, chain: &Name) -> Result<Vec<Rule>, CommitError> {
        let found = self.socket.chain_rules(table, chain);
        found.map_err(|error| unread(table, error))
    }

    fn header(&mut self, table: &TableId) -> Result<Option<Table>, CommitError> {
        match self.socket.query(&Query::Table(table.clone())) {
            Ok(replies) => Ok(replies.into_iter().find_map(|reply| match reply {
                Reply::Table { held, .. } => Some(held.object),
                _ => None,
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(unread(table, error)),
        }
    }
}

fn unread(table: &TableId, error: QueryError) -> CommitError {
    match error {
        QueryError::Socket(error) => CommitError::Socket(error.to_string()),
        other => CommitError::Socket(format!("reading table {table}: {other}")),
    }
}

impl Netlink {
    fn limit(&self) -> Result<usize, CommitError> {
        self.socket
            .transaction_limit()
            .map_err(|error| CommitError::Socket(error.to_string()))
    }

    fn send(&mut self, transaction: &Transaction, messages: &[Message]) -> Result<(), CommitError> {
        self.socket.transact(transaction.bytes()).map_err(|error| {
            let owned = self.owned_by_another(&error, messages);
            owned.unwrap_or_else(|| explain(&error, transaction, messages))
        })
    }

    /// The kernel refuses both a table of another owner and a process without privilege by `EPERM`.
    fn owned_by_another(
        &mut self,
        error: &TransactError,
        messages: &[Message],
    ) -> Option<CommitError> {
        let TransactError::Refused { refusals, .. } = error else {
            return None;
        };
        if !refusals.iter().any(|refusal| refusal.errno == PERMISSION) {
            return None;
        }
        let table = messages.first()?.table().clone();
        let replies = self.socket.query(&Query::Table(table.clone())).ok()?;
        let owner = replies.iter().find_map(|reply| match reply {
            Reply::Table { owner, .. } => *owner,
            _ => None,
        });
        owner
            .filter(|owner| *owner != self.port())
            .map(|port| CommitError::Owned { table, port })
    }
}

fn explain(error: &TransactError, transaction: &Transaction, messages: &[Message]) -> CommitError {
    let TransactError::Refused { refusals, .. } = error else {
        return CommitError::Socket(error.to_string());
    };
    let Some(first) = refusals.first() else {
        return CommitError::Socket(error.to_string());
    };
    let blame = |refusal: &Refusal| transaction.blame(refusal.seq, refusal.offset);
    let shown = match blame(first) {
        Some(blame) => show(&messages[blame.message], blame.part),
        None => "the transaction".to_owned(),
    };
    let (messages, elements) = transaction.first();
    CommitError::Refused(Box::new(apply::Refusal {
        shown,
        reason: reason(first),
        errno: first.errno,
        blame: refusals.iter().filter_map(blame).collect(),
        committed: Committed { messages, elements },
    }))
}

fn reason(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    if refusal.errno == PERMISSION {
        return format!("{text}: CAP_NET_ADMIN is needed in this network namespace");
    }
    text
}

/// `EPERM`.
const PERMISSION: i32 = 1;

fn show(message: &Message, part: Part) -> String {
    match (message, part) {
        (
            Message::NewElems { elements, .. } | Message::DelElems { elements, .. },
            Part::Element(index),
        ) => {
            format!(
                "element {:?} of {}",
                elements.elems.get(index),
                elements.set
            )
        }
        _ => format!("{message:?}"),
    }
}
