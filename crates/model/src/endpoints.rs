//! Which endpoints a Service port may use on this node.
//!
//! Two lists, each decided by itself (kubernetes `pkg/proxy/topology.go`, `CategorizeEndpoints`):
//! - *Cluster*: the ready endpoints that topology hints allow here; if there is none at all, every
//!   endpoint that still serves while terminating, hints ignored (KEP-1669).
//! - *Local*: the ready endpoints on this node; if there is none, those here that still serve while
//!   terminating. Hints never apply.
//!
//! Hints are taken all or nothing: every ready endpoint must carry them and one must name this node
//! (or else its zone), otherwise they are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::Family;
use crate::audience;
use crate::desired::{Backend, Place};
use crate::input::{Endpoint, Hints, Node, ServicePort, Slice};

/// What one Service port may use on this node, in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// For traffic that may go anywhere in the cluster.
    pub cluster: Vec<Backend>,
    /// For traffic that must stay on this node.
    pub local: Vec<Backend>,
    /// Whether any usable endpoint exists anywhere: tells "refuse" from "drop".
    pub anywhere: Presence,
}

/// Whether a thing exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It does not.
    #[default]
    Absent,
    /// It does.
    Present,
}

/// Sorts the endpoints that `slices` give for a port into the two lists.
#[must_use]
pub fn select<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    port: &ServicePort,
    family: Family,
    node: &Node,
) -> Lists {
    let candidates = gather(slices, port, family);
    let ready: Vec<Candidate> = candidates
        .iter()
        .copied()
        .filter(|c| c.endpoint.conditions.is_ready())
        .collect();
    let fading: Vec<Candidate> = candidates
        .iter()
        .copied()
        .filter(|c| c.is_fading())
        .collect();
    let near: Vec<Candidate> = ready.iter().copied().filter(|c| c.is_on(node)).collect();
    let near_fading: Vec<Candidate> = fading.iter().copied().filter(|c| c.is_on(node)).collect();

    let cluster = if ready.is_empty() {
        fading.clone()
    } else {
        Topology::of(&ready, node).filter(&ready, node)
    };
    let local = if near.is_empty() { near_fading } else { near };
    Lists {
        cluster: backends(&cluster, node),
        local: backends(&local, node),
        anywhere: if ready.is_empty() && fading.is_empty() {
            Presence::Absent
        } else {
            Presence::Present
        },
    }
}

/// Every endpoint of a port that still answers, wherever it is: ready, or serving while it terminates. For
/// flows that are under way; new ones go by [`select`].
#[must_use]
pub fn serving<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    port: &ServicePort,
    family: Family,
) -> BTreeSet<SocketAddr> {
    let candidates = gather(slices, port, family);
    let answers = candidates
        .iter()
        .filter(|c| c.endpoint.conditions.is_ready() || c.is_fading());
    answers
        .map(|c| SocketAddr::new(c.endpoint.address, c.port))
        .collect()
}

/// An endpoint with the number that the Service port has there.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    endpoint: &'a Endpoint,
    port: u16,
}

impl Candidate<'_> {
    fn is_fading(&self) -> bool {
        let conditions = self.endpoint.conditions;
        !conditions.is_ready() && conditions.is_serving() && conditions.is_terminating()
    }

    fn is_on(&self, node: &Node) -> bool {
        self.endpoint.node.as_ref() == Some(&node.name)
    }
}

/// All endpoints of a port, one for each address and number. Where two slices disagree, the copy
/// that is not terminating wins, then the ready one, so that the order of slices does not matter.
fn gather<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    port: &ServicePort,
    family: Family,
) -> Vec<Candidate<'a>> {
    let mut found: BTreeMap<(IpAddr, u16), &Endpoint> = BTreeMap::new();
    for slice in slices {
        if slice.family != family || !audience::proxy_reads_slice(slice) {
            continue;
        }
        let numbers = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for number in numbers.map(|p| p.port) {
            for endpoint in slice
                .endpoints
                .iter()
                .filter(|e| Family::of(e.address) == family)
            {
                found
                    .entry((endpoint.address, number))
                    .and_modify(|known| *known = better(known, endpoint))
                    .or_insert(endpoint);
            }
        }
    }
    found
        .into_iter()
        .map(|((_, port), endpoint)| Candidate { endpoint, port })
        .collect()
}

fn better<'a>(one: &'a Endpoint, other: &'a Endpoint) -> &'a Endpoint {
    let rank = |e: &Endpoint| {
        let c = e.conditions;
        (
            !c.is_terminating(),
            c.is_ready(),
            c.is_serving(),
            e.node.clone(),
            e.hints.clone(),
        )
    };
    if rank(other) > rank(one) { other } else { one }
}

/// The hints in force for one Service port on one node.
enum Topology {
    SameNode,
    SameZone,
    Anywhere,
}

impl Topology {
    fn of(ready: &[Candidate], node: &Node) -> Self {
        let agreed = |named: fn(&Hints) -> &[Arc<str>], wanted: &Arc<str>| {
            !wanted.is_empty()
                && ready.iter().all(|c| !hinted(c, named).is_empty())
                && ready.iter().any(|c| hinted(c, named).contains(wanted))
        };
        if agreed(|h| &h.nodes, &node.name) {
            Self::SameNode
        } else if agreed(|h| &h.zones, &node.zone) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    fn filter<'a>(&self, ready: &[Candidate<'a>], node: &Node) -> Vec<Candidate<'a>> {
        let fits = |c: &Candidate| match self {
            Self::SameNode => hinted(c, |h| &h.nodes).contains(&node.name),
            Self::SameZone => hinted(c, |h| &h.zones).contains(&node.zone),
            Self::Anywhere => true,
        };
        ready.iter().copied().filter(fits).collect()
    }
}

fn hinted<'a>(candidate: &Candidate<'a>, named: fn(&Hints) -> &[Arc<str>]) -> &'a [Arc<str>] {
    candidate.endpoint.hints.as_deref().map_or(&[], named)
}

fn backends(candidates: &[Candidate], node: &Node) -> Vec<Backend> {
    let place = |c: &Candidate| {
        if c.is_on(node) {
            Place::Here
        } else {
            Place::Elsewhere
        }
    };
    candidates
        .iter()
        .map(|c| Backend {
            address: c.endpoint.address,
            port: c.port,
            place: place(c),
        })
        .collect()
}
