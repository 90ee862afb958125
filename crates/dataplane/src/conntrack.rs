//! Forgets flows whose endpoint answers no more, whatever plane translated them.
//!
//! Which flows those are says the model ([`daymark_model::flows`]); here the kernel's flows are listed,
//! once a family, and held against it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use daymark_model::flows::{self, Leave, Stage, Verdicts};
use daymark_model::{Family, Protocol};
use daymark_netlink::ct::{
    Filter, Flow, Ports, Status, Tcp, TcpFlags, TcpState, Tuple, TupleFilter,
};
use daymark_netlink::nft;
use daymark_sys::ct::Removed;
use daymark_sys::netlink::{NfSocket, QueryError, TransactError};
use thiserror::Error;

/// Who holds the flows: the kernel, through a socket.
pub trait Table {
    /// Those that a filter matches and `keep` wants.
    ///
    /// # Errors
    /// [`QueryError`]
    fn list(
        &mut self,
        filter: &Filter,
        keep: &dyn Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, QueryError>;

    /// Removes these very ones.
    ///
    /// # Errors
    /// [`TransactError`]
    fn remove(&mut self, flows: &[Flow]) -> Result<Removed, TransactError>;
}

impl Table for NfSocket {
    fn list(
        &mut self,
        filter: &Filter,
        keep: &dyn Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, QueryError> {
        self.flows_that(filter, keep)
    }

    fn remove(&mut self, flows: &[Flow]) -> Result<Removed, TransactError> {
        self.remove_flows(flows)
    }
}

/// Why flows were not forgotten.
#[derive(Debug, Error)]
pub enum ForgetError {
    /// They could not be listed.
    #[error("cannot list the {family} flows of this network namespace: {source}")]
    List {
        /// Which flows.
        family: Family,
        /// What the kernel said.
        source: QueryError,
    },
    /// They could not be removed.
    #[error("cannot remove flows of endpoints that left: {0}")]
    Remove(#[from] TransactError),
}

/// Which flows are looked at: what may be stale differs, and so does when to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of UDP.
    Datagrams,
    /// TCP connections and SCTP associations that nobody has answered, and those that were if the verdicts are about them
    /// too. One whose answer is on its way is unanswered for as long as a round trip takes: look that much after the endpoint
    /// has left.
    Connections,
}

/// One walk of the kernel's table, for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Whose flows were looked at.
    pub family: Family,
    /// How many of them were stale, and are removed or were gone by themselves.
    pub stale: usize,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many flows were stale, and are gone, by family in the order of [`Family::BOTH`].
    pub flows: [usize; 2],
    /// How many were stale and are there still: a flowtable has them ([`Removed::offloaded`]). To look again is worth it once that
    /// has let them go.
    pub offloaded: usize,
    /// How often the kernel's table was walked.
    pub walks: usize,
}

impl Forgotten {
    /// Removes what a walk found.
    fn add(
        &mut self,
        table: &mut impl Table,
        (family, stale): (Family, &[Flow]),
        walked: &mut dyn FnMut(Walk),
    ) -> Result<(), TransactError> {
        let offloaded = table.remove(stale)?.offloaded;
        let stale = stale.len().saturating_sub(offloaded);
        self.offloaded += offloaded;
        self.walks += 1;
        for (of, count) in Family::BOTH.into_iter().zip(&mut self.flows) {
            *count += if of == family { stale } else { 0 };
        }
        walked(Walk { family, stale });
        Ok(())
    }
}

/// Forgets every flow that the verdicts call stale. The kernel's table is walked once for each family that they are about,
/// however many places these are: an empty table costs as much as its buckets, some milliseconds. Each walk is told as
/// soon as it is done, so that the caller can tell how long it took; also if another one fails.
///
/// # Errors
/// [`ForgetError`]; it is safe to try again.
pub fn forget(
    table: &mut impl Table,
    verdicts: &Verdicts,
    which: Which,
    walked: &mut dyn FnMut(Walk),
) -> Result<Forgotten, ForgetError> {
    let mut forgotten = Forgotten::default();
    let families = Family::BOTH.into_iter();
    for family in families.filter(|family| which.concerns(verdicts, *family)) {
        let is_stale = |flow: &Flow| {
            let seen = as_the_model_sees(flow).filter(|seen| which.includes(seen.protocol));
            seen.is_some_and(|flow| verdicts.is_stale(&flow))
        };
        let stale = list(table, family, &which.filter(family, verdicts), is_stale)?;
        forgotten.add(table, (family, &stale), walked)?;
    }
    Ok(forgotten)
}

fn list(
    table: &mut impl Table,
    family: Family,
    filter: &Filter,
    keep: impl Fn(&Flow) -> bool,
) -> Result<Vec<Flow>, ForgetError> {
    let listed = table.list(filter, &keep);
    listed.map_err(|source| ForgetError::List { family, source })
}

/// Half-closed connections that would be stale if they were silent, as a look found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HalfClosed {
    flows: HashMap<Identity, Seen>,
}

/// By what an entry is known again: its number, and how the first packet came in.
type Identity = (Option<u32>, Tuple);

/// How far the connection had come, and its timeout.
type Seen = (Option<Tcp>, Option<u32>);

fn identity(flow: &Flow) -> Identity {
    (flow.id, flow.original)
}

impl HalfClosed {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether a flow was among them and no packet has come for it in the time since. A packet sets the timeout anew, to one of
    /// several values: a timeout that is higher than it would be, or much lower, was set anew.
    fn is_silent(&self, flow: &Flow, since: Duration) -> bool {
        let Some((tcp, Some(then))) = self.flows.get(&identity(flow)) else {
            return false;
        };
        let Some(now) = flow.timeout.filter(|_| *tcp == flow.tcp) else {
            return false;
        };
        let expected = u64::from(*then).saturating_sub(since.as_secs());
        // Whole seconds, cut off at both ends; and a walk takes its time.
        (expected.saturating_sub(WALK)..=expected + 1).contains(&u64::from(now))
    }
}

/// Seconds between the looks at two flows of one walk, at most.
const WALK: u64 = 5;

/// Forgets the connections that the verdicts call stale once they are silent: those that are half-closed, in a way that tells that
/// nothing is to come ([`Leave::abandons`]), and of which nothing was heard since a look `since` before, which is
/// [`flows::SILENCE`] or longer. Returns what this look found and left, for the next one. One walk for each family that they are
/// about, told as by [`forget`].
///
/// # Errors
/// [`ForgetError`]; it is safe to try again.
pub fn forget_abandoned(
    table: &mut impl Table,
    verdicts: &Verdicts,
    (before, since): (&HalfClosed, Duration),
    walked: &mut dyn FnMut(Walk),
) -> Result<(HalfClosed, Forgotten), ForgetError> {
    let (mut left, mut forgotten) = (HalfClosed::default(), Forgotten::default());
    let families = Family::BOTH.into_iter();
    for family in families.filter(|family| verdicts.concern_in(*family, Protocol::Tcp)) {
        let would_be_stale = |flow: &Flow| {
            let seen = as_the_model_sees(flow).zip(leave(flow));
            let silent = seen.map(|(seen, leave)| flows::Flow {
                stage: Stage::Silent(leave),
                ..seen
            });
            silent.is_some_and(|flow| verdicts.is_stale(&flow))
        };
        let listed = list(table, family, &translated_tcp(family), would_be_stale)?;
        let (silent, others): (Vec<_>, Vec<_>) = listed
            .into_iter()
            .partition(|flow| before.is_silent(flow, since));
        forgotten.add(table, (family, &silent), walked)?;
        let seen = |flow: Flow| (identity(&flow), (flow.tcp, flow.timeout));
        left.flows.extend(others.into_iter().map(seen));
    }
    Ok((left, forgotten))
}

/// What the kernel copies of a look for abandoned connections: those of TCP that were answered from where a rule sent them.
fn translated_tcp(family: Family) -> Filter {
    Filter {
        family: Some(as_nft(family)),
        original: TupleFilter {
            protocol: Some(Protocol::Tcp.number()),
            ..TupleFilter::default()
        },
        status: Status::SEEN_REPLY | Status::DST_NAT,
        zone: Some(ZONE),
        ..Filter::default()
    }
}

const fn as_nft(family: Family) -> nft::Family {
    match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    }
}

impl Which {
    fn includes(self, protocol: Protocol) -> bool {
        (self == Self::Datagrams) == (protocol == Protocol::Udp)
    }

    fn concerns(self, verdicts: &Verdicts, family: Family) -> bool {
        let mut included = Protocol::ALL.into_iter().filter(|one| self.includes(*one));
        included.any(|protocol| verdicts.concern_in(family, protocol))
    }

    /// What the kernel does not have to copy.
    fn filter(self, family: Family, verdicts: &Verdicts) -> Filter {
        let protocol = (self == Self::Datagrams).then(|| Protocol::Udp.number());
        let openings_alone = self == Self::Connections && !verdicts.concern_standing();
        Filter {
            family: Some(as_nft(family)),
            original: TupleFilter {
                protocol,
                ..TupleFilter::default()
            },
            without: if openings_alone {
                Status::SEEN_REPLY
            } else {
                Status::NONE
            },
            zone: Some(ZONE),
            ..Filter::default()
        }
    }
}

/// The conntrack zone of what the rules here translate. Flows of others are somebody else's, whatever their addresses: a network
/// plugin may track what Pods send in zones of its own, before it comes to the node's rules.
const ZONE: u16 = 0;

/// Who took leave first of a connection that is half-closed, and whether that was heard; `None` if it is not, or nobody knows
/// who: of a connection that the kernel came to know late.
///
/// A `FIN` is a byte like others to whoever counts what was acknowledged (`tcp_in_window` of `nf_conntrack_proto_tcp.c`). That of a
/// client counts as unheard only if the state says so too: any acknowledgement after it, of either side, is a CLOSE_WAIT.
fn leave(flow: &Flow) -> Option<Leave> {
    let tcp = flow.tcp.filter(|tcp| tcp.state.is_half_closed())?;
    let is_first = |side: TcpFlags| side.contains(TcpFlags::CLOSE_INIT);
    let is_heard = |side: TcpFlags| !side.contains(TcpFlags::DATA_UNACKNOWLEDGED);
    match (is_first(tcp.original), is_first(tcp.reply)) {
        (false, false) => None,
        (true, _) if is_heard(tcp.original) || tcp.state == TcpState::CLOSE_WAIT => {
            Some(Leave::ClientHeard)
        }
        (true, _) => Some(Leave::ClientUnheard),
        (false, true) if is_heard(tcp.reply) => Some(Leave::EndpointHeard),
        (false, true) => Some(Leave::EndpointUnheard),
    }
}

/// Where a flow was sent to, and who answers: the source of its reply direction.
fn as_the_model_sees(flow: &Flow) -> Option<flows::Flow> {
    let number = flow.original.protocol;
    let mut known = Protocol::ALL.into_iter();
    let protocol = known.find(|protocol| protocol.number() == number)?;
    let (_, to) = ports(&flow.original)?;
    let (from, _) = ports(&flow.reply)?;
    let answered = flow.status.contains(Status::SEEN_REPLY);
    Some(flows::Flow {
        protocol,
        stage: if answered {
            Stage::Answered
        } else {
            Stage::Opening
        },
        original: SocketAddr::new(flow.original.dst, to),
        answers: SocketAddr::new(flow.reply.src, from),
    })
}

/// Source and destination port.
fn ports(tuple: &Tuple) -> Option<(u16, u16)> {
    match tuple.ports {
        Ports::Pair { src, dst } => Some((src, dst)),
        Ports::Icmp { .. } | Ports::None => None,
    }
}

#[cfg(test)]
mod tests;
