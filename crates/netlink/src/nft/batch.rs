//! Transactions: batches of messages that fit the socket buffer, and the way back from an error.
//!
//! The kernel takes a transaction in one piece, so that it must fit the send buffer of the socket (212,992 bytes
//! on a stock kernel, and no privilege raises that in a user namespace). Splitting costs nothing: several small
//! transactions load faster than one large one. What must not be split is up to the caller:
//!
//! - messages between two [`Batch::border`]s are a group; a group that fits goes into one transaction;
//! - one list of elements that is a group by itself and does not fit is divided between elements;
//! - any other group that does not fit is an error.

use thiserror::Error;

use super::message::Message;
use super::wire::{Chunk, part_at, put_chunk};
use crate::attr::Writer;
use crate::frame::{self, Header};

/// Builds transactions.
#[derive(Debug)]
pub struct Batch {
    limit: usize,
    generation: Option<u32>,
    messages: usize,
    group: Wire,
    open: Wire,
    done: Vec<Transaction>,
}

/// Why a batch cannot be built.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BatchError {
    /// One message has an attribute of more than 65,535 bytes.
    #[error(
        "message {message} has an attribute longer than 65,535 bytes: shorten the rule, set or element"
    )]
    TooLong {
        /// Which, counted from 0 over the whole batch.
        message: usize,
    },
    /// A group does not fit a transaction.
    #[error(
        "messages {first} to {last} must be one transaction but have {bytes} bytes, more than {limit}: add borders"
    )]
    Indivisible {
        /// The first message of the group.
        first: usize,
        /// The last message of the group.
        last: usize,
        /// How long the group is.
        bytes: usize,
        /// How long a transaction may be.
        limit: usize,
    },
}

/// One transaction, ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    bytes: Vec<u8>,
    first_seq: u32,
    spans: Vec<Span>,
}

/// Which message the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blame {
    /// Its index, counted from 0 over the whole batch.
    pub message: usize,
    /// Which part of it.
    pub part: Part,
}

/// Which part of a message the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it, or the kernel did not say.
    Whole,
    /// This element of its list, counted from 0.
    Element(usize),
    /// This expression of its rule, counted from 0.
    Expression(usize),
}

/// One netlink message among the bytes: a message, or a part of its elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    message: usize,
    first_element: usize,
    start: usize,
}

/// Netlink messages and what they stand for.
#[derive(Debug, Default)]
struct Wire {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Batch {
    /// The limit that fits the default send buffer of a stock kernel, and is as fast as any.
    pub const LIMIT: usize = 200_000;

    /// An empty batch whose transactions have at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            generation: None,
            messages: 0,
            group: Wire::default(),
            open: Wire::default(),
            done: Vec::new(),
        }
    }

    /// The same, refused with `ERESTART` unless the first transaction commits on top of this generation, the
    /// second on top of the next, and so on.
    #[must_use]
    pub fn on_top_of(mut self, generation: u32) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Appends a message to the current group; returns its index.
    ///
    /// # Errors
    /// [`BatchError::TooLong`].
    pub fn push(&mut self, message: &Message) -> Result<usize, BatchError> {
        let index = self.messages;
        let mut out = Writer::new();
        let mut next = Some(0);
        while let Some(first) = next {
            let start = self.group.bytes.len() + out.bytes().len();
            self.group.spans.push(Span {
                message: index,
                first_element: first,
                start,
            });
            next = put_chunk(
                &mut out,
                message,
                0,
                Chunk {
                    first,
                    bytes: self.chunk(),
                },
            );
        }
        if out.overflowed() {
            return Err(BatchError::TooLong { message: index });
        }
        self.group.bytes.append(&mut out.into_bytes());
        self.messages += 1;
        Ok(index)
    }

    /// Ends the group: a transaction may end here.
    ///
    /// # Errors
    /// [`BatchError::Indivisible`] if the group does not fit a transaction.
    pub fn border(&mut self) -> Result<(), BatchError> {
        let group = std::mem::take(&mut self.group);
        let (Some(first), Some(last)) = (group.spans.first(), group.spans.last()) else {
            return Ok(());
        };
        let room = self.limit.saturating_sub(FRAME);
        if group.bytes.len() > room && first.message != last.message {
            return Err(BatchError::Indivisible {
                first: first.message,
                last: last.message,
                bytes: group.bytes.len(),
                limit: self.limit,
            });
        }
        if group.bytes.len() > room {
            return self.divide(&group, room);
        }
        self.append(&group, 0..group.spans.len(), room);
        Ok(())
    }

    /// The transactions that are full; the rest stays.
    pub fn drain_full(&mut self) -> impl Iterator<Item = Transaction> + use<'_> {
        self.done.drain(..)
    }

    /// All transactions, in order.
    ///
    /// # Errors
    /// [`BatchError::Indivisible`] if the last group does not fit a transaction.
    pub fn finish(mut self) -> Result<Vec<Transaction>, BatchError> {
        self.border()?;
        self.close();
        Ok(self.done)
    }

    /// One list of elements over as many transactions as it takes.
    fn divide(&mut self, group: &Wire, room: usize) -> Result<(), BatchError> {
        for index in 0..group.spans.len() {
            let bytes = group.range(index..index + 1).len();
            if bytes > room {
                let message = group.spans[index].message;
                let limit = self.limit;
                return Err(BatchError::Indivisible {
                    first: message,
                    last: message,
                    bytes,
                    limit,
                });
            }
            self.append(group, index..index + 1, room);
        }
        Ok(())
    }

    fn append(&mut self, group: &Wire, spans: std::ops::Range<usize>, room: usize) {
        let range = group.range(spans.clone());
        if self.open.bytes.len() + range.len() > room {
            self.close();
        }
        let base = self.open.bytes.len();
        let moved = group.spans[spans].iter().map(|span| Span {
            start: span.start - range.start + base,
            ..*span
        });
        self.open.spans.extend(moved);
        self.open.bytes.extend_from_slice(&group.bytes[range]);
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.spans.is_empty() {
            return;
        }
        let transaction = Transaction::frame(open, FIRST_SEQ, self.generation);
        self.generation = self.generation.map(following);
        self.done.push(transaction);
    }

    /// Four lists of 24 % each, with their headers and names, fill a transaction to its end.
    fn chunk(&self) -> usize {
        (self.limit / 100 * 24).min(usize::from(u16::MAX) - 4)
    }
}

impl Transaction {
    /// One transaction of these messages, however long it becomes.
    ///
    /// # Errors
    /// [`BatchError::TooLong`].
    pub fn of(messages: &[Message]) -> Result<Self, BatchError> {
        let mut batch = Batch::new(usize::MAX);
        for message in messages {
            batch.push(message)?;
        }
        Ok(Self::frame(batch.group, FIRST_SEQ, None))
    }

    /// The bytes to send in one piece.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The indexes of the messages inside; of a divided list the same index stands in several transactions.
    pub fn messages(&self) -> impl Iterator<Item = usize> {
        let mut last = None;
        self.spans.iter().filter_map(move |span| {
            (last.replace(span.message) != Some(span.message)).then_some(span.message)
        })
    }

    /// Where it begins: at which message, and at which element of a divided list. All before that is in
    /// transactions before this one.
    #[must_use]
    pub fn first(&self) -> (usize, usize) {
        let first = self.spans.first();
        first.map_or((0, 0), |span| (span.message, span.first_element))
    }

    /// The message that an error is about; `None` for an error about the whole transaction, such as
    /// `ERESTART` or `EPERM`.
    #[must_use]
    pub fn blame(&self, seq: u32, offset: Option<u32>) -> Option<Blame> {
        let index = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        let span = self.spans.get(index)?;
        let end = self
            .spans
            .get(index + 1)
            .map_or(self.bytes.len(), |next| next.start);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        let part = match offset.map(|offset| part_at(&self.bytes[span.start..end], offset)) {
            Some(Part::Element(element)) => Part::Element(span.first_element + element),
            Some(other) => other,
            None => Part::Whole,
        };
        Some(Blame {
            message: span.message,
            part,
        })
    }

    /// Puts begin and end around messages and numbers them.
    fn frame(wire: Wire, first_seq: u32, generation: Option<u32>) -> Self {
        let mut out = Writer::new();
        put_control(&mut out, NFNL_MSG_BATCH_BEGIN, generation);
        let base = out.bytes().len();
        out.raw(&wire.bytes);
        put_control(&mut out, NFNL_MSG_BATCH_END, None);
        let mut spans = wire.spans;
        for (seq, span) in (first_seq..).zip(&mut spans) {
            span.start += base;
            out.patch(span.start + SEQ, &seq.to_ne_bytes());
        }
        Self {
            bytes: out.into_bytes(),
            first_seq,
            spans,
        }
    }
}

impl Wire {
    /// The bytes of these spans.
    fn range(&self, spans: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let at = |index: usize| {
            self.spans
                .get(index)
                .map_or(self.bytes.len(), |span| span.start)
        };
        at(spans.start)..at(spans.end)
    }
}

/// Begin or end. Their sequence number is 0, so that an error about the whole transaction names no message.
fn put_control(out: &mut Writer, kind: u16, generation: Option<u32>) {
    let header = Header {
        kind,
        flags: frame::NLM_F_REQUEST,
        seq: 0,
        port: 0,
    };
    let start = frame::start(out, header, 0, frame::SUBSYS_NFTABLES);
    if let Some(generation) = generation {
        out.be32(NFNL_BATCH_GENID, generation);
    }
    frame::finish(out, start);
}

/// The kernel counts up and leaves out 0 (`nf_tables_commit`).
fn following(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Begin with a generation, and end.
const FRAME: usize = 48;
const FIRST_SEQ: u32 = 1;
/// Where `nlmsg_seq` stands in a header.
const SEQ: usize = 8;

// `linux/netfilter/nfnetlink.h`.
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;

#[cfg(test)]
mod tests;
