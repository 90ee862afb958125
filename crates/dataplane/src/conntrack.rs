//! Forgets UDP flows whose endpoint answers no more, whatever plane translated them.
//!
//! Which flows those are says the model ([`daymark_model::flows`]); here the kernel's flows are listed,
//! once a family, and held against it.

use std::net::SocketAddr;

use daymark_model::flows::{self, Verdicts};
use daymark_model::{Family, Protocol};
use daymark_netlink::ct::{Filter, Flow, Ports, Tuple, TupleFilter};
use daymark_netlink::nft;
use daymark_sys::ct::Removed;
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

/// Forgets every flow that the verdicts call stale.
///
/// # Errors
/// [`ForgetError`]; it is safe to try again.
pub fn forget(socket: &mut NfSocket, verdicts: &Verdicts) -> Result<Removed, ForgetError> {
    let mut stale = Vec::new();
    for family in Family::BOTH {
        let listed = socket.flows(&udp(family));
        let mut flows = listed.map_err(|source| ForgetError::List { family, source })?;
        flows.retain(|flow| as_the_model_sees(flow).is_some_and(|flow| verdicts.is_stale(&flow)));
        stale.append(&mut flows);
    }
    Ok(socket.remove_flows(&stale)?)
}

fn udp(family: Family) -> Filter {
    Filter {
        family: Some(match family {
            Family::V4 => nft::Family::Ip,
            Family::V6 => nft::Family::Ip6,
        }),
        original: TupleFilter {
            protocol: Some(Protocol::Udp.number()),
            ..TupleFilter::default()
        },
        ..Filter::default()
    }
}

/// Where a flow was sent to, and who answers: the source of its reply direction.
fn as_the_model_sees(flow: &Flow) -> Option<flows::Flow> {
    let (_, to) = ports(&flow.original)?;
    let (from, _) = ports(&flow.reply)?;
    Some(flows::Flow {
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
