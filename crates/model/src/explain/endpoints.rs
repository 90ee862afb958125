//! Each endpoint that was considered, and what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::decide::{SourceSeen, Verdict};
use crate::desired::List;
use crate::endpoints::{Choice, LeftOut, PassedOver, Why};
use crate::input::Endpoint;

/// An endpoint of the Service's slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Its address.
    pub address: IpAddr,
    /// The port there; none if its slice does not name the Service's port.
    pub port: Option<u16>,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// The slice, of the Service's namespace.
    pub slice: Arc<str>,
    /// What became of it.
    pub standing: Standing,
}

/// What became of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The packet may go there, and is seen with this source.
    Used(SourceSeen),
    /// The list has it, but the packet does not come so far.
    Eligible,
    /// The list leaves it out.
    LeftOut(LeftOut),
    /// It is no candidate for this port.
    PassedOver(Why),
}

/// A slice that says nothing about the port in this family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The slice, of the Service's namespace.
    pub slice: Arc<str>,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// Why.
    pub why: Why,
}

impl Standing {
    /// One word for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Used(_) => "used",
            Self::Eligible => "eligible",
            Self::LeftOut(LeftOut::NotReady) => "not-ready",
            Self::LeftOut(LeftOut::Terminating) => "terminating",
            Self::LeftOut(LeftOut::Draining) => "draining",
            Self::LeftOut(LeftOut::OtherNode) => "other-node",
            Self::LeftOut(LeftOut::HintElsewhere) => "hint-elsewhere",
            Self::PassedOver(why) => why.code(),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Used(SourceSeen::Kept) => "used, sees the client's address",
            Self::Used(SourceSeen::Masqueraded) => "used, sees the node's address",
            Self::Eligible => "would be used",
            Self::LeftOut(LeftOut::NotReady) => "left out: not ready",
            Self::LeftOut(LeftOut::Terminating) => "left out: terminating, and serves no more",
            Self::LeftOut(LeftOut::Draining) => "left out: terminating, and others are ready",
            Self::LeftOut(LeftOut::OtherNode) => "left out: not on this node",
            Self::LeftOut(LeftOut::HintElsewhere) => "left out: its hints name others",
            Self::PassedOver(why) => return write!(out, "left out: {why}"),
        })
    }
}

impl Why {
    /// One word for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::OtherFamily => "other-family",
            Self::Hidden => "hidden-slice",
            Self::PortNotNamed => "port-not-named",
            Self::ForeignAddress => "foreign-address",
            Self::Special => "special-address",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::OtherFamily => "of the other family",
            Self::Hidden => "hidden from proxies by the label service.kubernetes.io/headless",
            Self::PortNotNamed => "without a port of this name and protocol",
            Self::ForeignAddress => "its address is of another family than its slice",
            Self::Special => "its address is loopback, link-local, multicast or unspecified",
            Self::Duplicate => "another copy of the same address counts",
        })
    }
}

/// Every endpoint of the slices with what became of it, and the slices that were skipped as a whole.
pub(super) fn account(
    choice: &Choice,
    passed: &[PassedOver],
    list: List,
    verdict: &Verdict,
) -> (Vec<Considered>, Vec<Skipped>) {
    let seen = sources_seen(verdict);
    let candidates = choice.candidates().iter().map(|candidate| {
        let standing = match choice.standing(candidate, list) {
            Err(why) => Standing::LeftOut(why),
            Ok(()) => {
                let at = (candidate.endpoint.address, candidate.port);
                seen.get(&at)
                    .copied()
                    .map_or(Standing::Eligible, Standing::Used)
            }
        };
        let port = Some(candidate.port);
        considered(
            candidate.endpoint,
            port,
            &candidate.slice.key.name,
            standing,
        )
    });
    let over = passed.iter().filter_map(|over| {
        let standing = Standing::PassedOver(over.why);
        Some(considered(
            over.endpoint?,
            None,
            &over.slice.key.name,
            standing,
        ))
    });
    let mut all: Vec<Considered> = candidates.chain(over).collect();
    all.sort_by(|a, b| (a.address, a.port, &a.slice).cmp(&(b.address, b.port, &b.slice)));
    let skipped = passed.iter().filter(|over| over.endpoint.is_none());
    let skipped = skipped.map(|over| Skipped {
        slice: over.slice.key.name.clone(),
        endpoints: over.slice.endpoints.len(),
        why: over.why,
    });
    (all, skipped.collect())
}

fn sources_seen(verdict: &Verdict) -> BTreeMap<(IpAddr, u16), SourceSeen> {
    let Verdict::Forward(targets) = verdict else {
        return BTreeMap::new();
    };
    let seen = targets.iter().map(|t| ((t.address, t.port), t.source));
    seen.collect()
}

fn considered(
    endpoint: &Endpoint,
    port: Option<u16>,
    slice: &Arc<str>,
    standing: Standing,
) -> Considered {
    Considered {
        address: endpoint.address,
        port,
        node: endpoint.node.clone(),
        slice: slice.clone(),
        standing,
    }
}
