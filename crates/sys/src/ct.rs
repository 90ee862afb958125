//! Connections that the kernel tracks: listed, removed, added.

use std::io;

use daymark_netlink::attr::Writer;
use daymark_netlink::ct::{Filter, Flow, Request};
use daymark_netlink::frame::Refusal;
use rustix::io::Errno;

use crate::netlink::{Answer, Completeness, NfSocket, QueryError, TransactError};

/// What became of connections that were to be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Removed now.
    pub removed: usize,
    /// Gone before.
    pub gone: usize,
    /// Not removed: the kernel forwards them by a flowtable, past conntrack, and gives them up only when that has let them go
    /// (EBUSY, `ctnetlink_del_conntrack` before Linux 6.4 and 6.1.32; newer ones remove them, and the flowtable lets go at the next packet).
    pub offloaded: usize,
}

/// What the kernel answered to deletions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    gone: usize,
    offloaded: usize,
    others: Vec<Refusal>,
}

impl Refused {
    fn of(refusals: Vec<Refusal>) -> Self {
        let mut out = Self::default();
        for refusal in refusals {
            match Errno::from_raw_os_error(refusal.errno) {
                Errno::NOENT => out.gone += 1,
                Errno::BUSY => out.offloaded += 1,
                _ => out.others.push(refusal),
            }
        }
        out
    }
}

impl NfSocket {
    /// Every connection of this network namespace that a filter matches.
    ///
    /// The kernel's table changes while it is listed: a connection that begins meanwhile may be missing, one
    /// that lasts is there.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn flows(&mut self, filter: &Filter) -> Result<Vec<Flow>, QueryError> {
        self.flows_that(filter, |_| true)
    }

    /// The same, but only those that `keep` wants are held: a busy node tracks more than one would have in memory.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn flows_that(
        &mut self,
        filter: &Filter,
        keep: impl Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, QueryError> {
        let request = Request::Dump(filter.clone());
        let wanted = |flow: &Flow| filter.matches(flow) && keep(flow);
        self.exchange(
            Answer::Dump,
            |out, seq| request.encode(out, seq),
            |frame| Ok(Some(Flow::decode(frame)?).filter(wanted)),
        )
    }

    /// Removes these very connections; one that is gone is no error, and one that a flowtable has is none.
    ///
    /// # Errors
    /// [`TransactError::Refused`] with all other refusals; the connections they are not about are removed.
    pub fn remove_flows(&mut self, flows: &[Flow]) -> Result<Removed, TransactError> {
        let mut out = Removed::default();
        let mut refused = Vec::new();
        for chunk in flows.chunks(CHUNK) {
            let mut answer = self.remove_chunk(chunk)?;
            let kept = answer.gone + answer.offloaded + answer.others.len();
            out.gone += answer.gone;
            out.offloaded += answer.offloaded;
            out.removed += chunk.len() - kept;
            refused.append(&mut answer.others);
        }
        if refused.is_empty() {
            return Ok(out);
        }
        let complete = Completeness::Complete;
        Err(TransactError::Refused {
            refusals: refused,
            complete,
        })
    }

    fn remove_chunk(&mut self, flows: &[Flow]) -> Result<Refused, TransactError> {
        let mut out = Writer::new();
        for (seq, flow) in (1..).zip(flows) {
            Request::delete(flow).encode(&mut out, seq);
        }
        match self.transact(out.bytes()) {
            Ok(()) => Ok(Refused::default()),
            Err(TransactError::Refused {
                refusals,
                complete: Completeness::Complete,
            }) => Ok(Refused::of(refusals)),
            Err(other) => Err(other),
        }
    }

    /// Adds a connection that no packet made.
    ///
    /// # Errors
    /// [`QueryError::Refused`] with EEXIST if there is one of a tuple already.
    pub fn add_flow(&mut self, flow: &Flow) -> Result<(), QueryError> {
        let request = Request::Insert(flow.clone());
        self.exchange(
            Answer::Ack,
            |out, seq| request.encode(out, seq),
            |_| Ok(Some(())),
        )
        .map(drop)
    }
}

impl From<QueryError> for io::Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Socket(source) => source,
            QueryError::Refused(refusal) => refusal.error(),
            other => Self::other(other),
        }
    }
}

/// As many refusals fit the receive buffer, should every connection be gone.
const CHUNK: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a message with this number.
    fn refusal(seq: u32, errno: Errno) -> Refusal {
        Refusal {
            seq,
            errno: errno.raw_os_error(),
            offset: None,
            message: None,
        }
    }

    #[test]
    fn what_is_gone_and_what_is_offloaded_is_no_failure() {
        let answers = [Errno::NOENT, Errno::BUSY, Errno::PERM, Errno::BUSY];
        let numbered = (1..).zip(answers);
        let refused = Refused::of(numbered.map(|(seq, errno)| refusal(seq, errno)).collect());
        let expected = Refused {
            gone: 1,
            offloaded: 2,
            others: vec![refusal(3, Errno::PERM)],
        };
        assert_eq!(refused, expected);
    }
}
