//! What the tables counted: packets that no endpoint got, by the reason that the counting rule stands for.
//!
//! What is refused or dropped passes a counter of its rule; of connections that are served the first packet is counted, by the
//! Service port, in the set `hits`.

use std::collections::BTreeMap;

use daymark_model::{Family, Protocol};
use daymark_netlink::nft::{Expr, Query, Reject, Reply, Rule, SetElem, TableId, Verdict};
use daymark_sys::netlink::{NfSocket, QueryError};

use super::layout::{TABLES, Words, chain, set};
use super::plan::Plan;

/// Why a packet reached no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Refused: the Service has no endpoint to send to.
    NoEndpoint(Answer),
    /// Refused: a Service has the address, and not the port.
    UnknownPort(Answer),
    /// Refused: a node port's number on loopback, where this protocol is not served.
    RefusedOnLoopback(Protocol),
    /// Dropped: the policy says Local, and no endpoint is here.
    NoLocalEndpoint,
    /// Dropped: the client is in none of `loadBalancerSourceRanges`.
    SourceRange,
    /// Dropped: what a Service captures, and was not translated.
    NotTranslated,
    /// Dropped: an address of a ServiceCIDR that nobody has.
    Unallocated,
    /// Dropped: an endpoint's packet outside of the window.
    Invalid,
    /// Not dropped: its choice was not kept, because the map of affinity is full.
    Unkept,
    /// Dropped for another reason, which the rule's chain names.
    Other,
}

/// How a packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// By a TCP reset.
    Reset,
    /// By ICMP: port unreachable.
    Icmp,
}

/// Packets by family and reason, since the tables were made. Tables that replace others while both are there count together.
///
/// # Errors
/// [`QueryError`]; a table that is not there counts nothing.
pub fn read(socket: &mut NfSocket) -> Result<BTreeMap<(Family, Reason), u64>, QueryError> {
    let mut counts = BTreeMap::new();
    for family in Family::BOTH {
        for name in TABLES {
            let table = Words::of(family).named(name).table();
            let replies = match socket.query(&Query::Rules(table.clone())) {
                Err(error) if error.is_not_found() => continue,
                replies => replies?,
            };
            for reply in replies {
                if let Reply::Rule(held) = reply
                    && held.table == table
                    && let Some((reason, packets)) = count(&held.object)
                {
                    *counts.entry((family, reason)).or_default() += packets;
                }
            }
        }
    }
    Ok(counts)
}

/// New connections by the number of their Service port, in a table; of ports that had none for a day nothing is known. Packets
/// add to the set while it is read: of a set that grows just then some ports may be missing, and are there the next time.
///
/// # Errors
/// [`QueryError`]; a table that is not there counts nothing.
pub fn connections(
    socket: &mut NfSocket,
    table: &TableId,
) -> Result<BTreeMap<u32, u64>, QueryError> {
    let elems = match socket.elements_at_once(table, &set::HITS.into()) {
        Err(error) if error.is_not_found() => return Ok(BTreeMap::new()),
        elems => elems?,
    };
    let counted = |elem: &SetElem| Some((elem.key.host_word(0)?, packets(elem)?));
    Ok(elems.iter().filter_map(counted).collect())
}

/// What the counter of an element says.
pub(super) fn packets(elem: &SetElem) -> Option<u64> {
    elem.exprs().iter().find_map(|expr| match expr {
        Expr::Counter(counter) => Some(counter.packets),
        _ => None,
    })
}

/// What a rule counted; nothing if it does not count.
fn count(rule: &Rule) -> Option<(Reason, u64)> {
    let counted = |expr: &Expr| match expr {
        Expr::Counter(counter) => Some(counter.packets),
        _ => None,
    };
    let packets = rule.exprs.iter().find_map(counted)?;
    let asks_ranges =
        |expr: &Expr| matches!(expr, Expr::Lookup(lookup) if set::RANGES.contains(&&*lookup.set));
    if *rule.chain == *chain::REFUSE_LOOPBACK {
        return Some((Reason::RefusedOnLoopback(of_protocol(rule)?), packets));
    }
    let reason = match rule.exprs.last()? {
        Expr::Nat(_) => Reason::Unkept,
        Expr::Reject(reject) if *rule.chain == *chain::REFUSE => Reason::NoEndpoint(reject.into()),
        Expr::Reject(reject) if *rule.chain == *chain::REFUSE_PORT => {
            Reason::UnknownPort(reject.into())
        }
        Expr::Verdict(Verdict::Drop) if rule.exprs.iter().any(asks_ranges) => Reason::SourceRange,
        Expr::Verdict(Verdict::Drop) if Plan::of_chain(&rule.chain).is_some() => {
            Reason::NoLocalEndpoint
        }
        Expr::Verdict(Verdict::Drop) if *rule.chain == *chain::LOST => Reason::NotTranslated,
        Expr::Verdict(Verdict::Drop) if *rule.chain == *chain::UNALLOCATED => Reason::Unallocated,
        Expr::Verdict(Verdict::Drop) if *rule.chain == *chain::INVALID => Reason::Invalid,
        _ => Reason::Other,
    };
    Some((reason, packets))
}

impl From<&Reject> for Answer {
    fn from(reject: &Reject) -> Self {
        match reject {
            Reject::TcpReset => Self::Reset,
            _ => Self::Icmp,
        }
    }
}

/// The protocol that a rule asks for.
fn of_protocol(rule: &Rule) -> Option<Protocol> {
    let asked = rule.exprs.iter().find_map(|expr| match expr {
        Expr::Cmp(cmp) => cmp.data.first().copied(),
        _ => None,
    })?;
    let mut all = Protocol::ALL.into_iter();
    all.find(|protocol| protocol.number() == asked)
}
