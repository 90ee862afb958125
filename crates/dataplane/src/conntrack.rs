//! Forgets flows whose endpoint answers no more, whatever plane translated them.
//!
//! Which flows those are says the model ([`daymark_model::flows`]); here the kernel's flows are listed,
//! once a family, and held against it.

use std::net::SocketAddr;

use daymark_model::flows::{self, Stage, Verdicts};
use daymark_model::{Family, Protocol};
use daymark_netlink::ct::{Filter, Flow, Ports, Status, Tuple, TupleFilter};
use daymark_netlink::nft;
use daymark_sys::netlink::{NfSocket, QueryError, TransactError};
use thiserror::Error;

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
    /// TCP connections and SCTP associations that nobody has answered. One whose answer is on its way is among them for
    /// as long as a round trip takes: look that much after the endpoint has left.
    Openings,
}

/// Forgets every flow that the verdicts call stale. Returns how many those were, by family in the order of [`Family::BOTH`].
///
/// # Errors
/// [`ForgetError`]; it is safe to try again.
pub fn forget(
    socket: &mut NfSocket,
    verdicts: &Verdicts,
    which: Which,
) -> Result<[usize; 2], ForgetError> {
    let mut stale = Vec::new();
    let mut counts = [0; 2];
    for (family, protocol) in which.dumps(verdicts) {
        let seen = |flow: &Flow| as_the_model_sees(protocol, flow);
        let is_stale = |flow: &Flow| seen(flow).is_some_and(|flow| verdicts.is_stale(&flow));
        let listed = socket.flows_that(&filter(family, protocol), is_stale);
        let listed = listed.map_err(|source| ForgetError::List { family, source })?;
        let place = Family::BOTH.into_iter().position(|known| known == family);
        counts[place.expect("one of both")] += listed.len();
        stale.extend(listed);
    }
    socket.remove_flows(&stale)?;
    Ok(counts)
}

impl Which {
    /// One walk of the kernel's table each.
    fn dumps(self, verdicts: &Verdicts) -> impl Iterator<Item = (Family, Protocol)> {
        let protocols: &[Protocol] = match self {
            Self::Datagrams => &[Protocol::Udp],
            Self::Openings => &[Protocol::Tcp, Protocol::Sctp],
        };
        let concerned = protocols.iter().filter(|one| verdicts.concern(**one));
        concerned.flat_map(|one| Family::BOTH.map(|family| (family, *one)))
    }
}

fn filter(family: Family, protocol: Protocol) -> Filter {
    Filter {
        family: Some(match family {
            Family::V4 => nft::Family::Ip,
            Family::V6 => nft::Family::Ip6,
        }),
        original: TupleFilter {
            protocol: Some(protocol.number()),
            ..TupleFilter::default()
        },
        without: match protocol {
            Protocol::Udp => Status::NONE,
            Protocol::Tcp | Protocol::Sctp => Status::SEEN_REPLY,
        },
        ..Filter::default()
    }
}

/// Where a flow was sent to, and who answers: the source of its reply direction.
fn as_the_model_sees(protocol: Protocol, flow: &Flow) -> Option<flows::Flow> {
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
