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

mod survey;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::address::{Family, is_special};
use crate::audience;
use crate::desired::{Backend, List, Place};
use crate::input::{Conditions, Endpoint, Hints, Node, ServicePort, Slice, SlicePort};

pub(crate) use survey::{Looks, Named, Ranked, Survey};
pub use survey::{anywhere, local_by_node};

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
    node: &'a Node,
) -> Lists {
    Choice::of(slices, port, family, node, |_| ()).lists()
}

/// Every endpoint of a port that still answers, wherever it is: ready, or serving while it terminates. For
/// flows that are under way; new ones go by [`select`].
#[must_use]
pub fn serving<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    port: &ServicePort,
    family: Family,
) -> BTreeSet<SocketAddr> {
    let candidates = gather(slices, port, family, |_| ());
    let answers = candidates.iter().filter(|c| c.health().answers());
    answers
        .map(|c| SocketAddr::new(c.endpoint.address, c.port))
        .collect()
}

/// Every endpoint that `slices` name for a port, in whatever condition.
#[must_use]
pub fn named<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    port: &ServicePort,
    family: Family,
) -> BTreeSet<SocketAddr> {
    let candidates = gather(slices, port, family, |_| ());
    candidates
        .iter()
        .map(|c| SocketAddr::new(c.endpoint.address, c.port))
        .collect()
}

/// The endpoints of one Service port in one family, and which of them each list takes: what [`select`] decides by,
/// open to be read.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    node: &'a Node,
    candidates: Vec<Candidate<'a>>,
    cluster: Taken,
    local: Taken,
    topology: Topology,
}

/// Whom a list takes, where it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The ready ones.
    Ready,
    /// Those that serve while they terminate, because none is ready.
    Draining,
}

/// Why a list does not take a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// It is not ready.
    NotReady,
    /// It terminates and serves no more.
    Terminating,
    /// The list is that of this node, and it is on another, or nobody knows where.
    OtherNode,
    /// It serves while it terminates, but others are ready.
    Draining,
    /// Hints are in force, and its own name others.
    HintElsewhere,
}

impl<'a> Choice<'a> {
    /// Looks the slices through. `passed_over` hears of every endpoint that is no candidate.
    pub fn of(
        slices: impl IntoIterator<Item = &'a Arc<Slice>>,
        port: &ServicePort,
        family: Family,
        node: &'a Node,
        passed_over: impl FnMut(PassedOver<'a>),
    ) -> Self {
        Self::among(gather(slices, port, family, passed_over), node)
    }

    fn among(candidates: Vec<Candidate<'a>>, node: &'a Node) -> Self {
        let ready = || candidates.iter().filter(|c| c.health() == Health::Ready);
        let taken = |any_ready| {
            if any_ready {
                Taken::Ready
            } else {
                Taken::Draining
            }
        };
        Self {
            cluster: taken(ready().next().is_some()),
            local: taken(ready().any(|c| c.is_on(node))),
            topology: Topology::of(ready, node),
            node,
            candidates,
        }
    }

    /// All candidates, sorted by address and port.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate<'a>] {
        &self.candidates
    }

    /// Whom a list takes.
    #[must_use]
    pub fn taken(&self, list: List) -> Taken {
        match list {
            List::Cluster => self.cluster,
            List::Local => self.local,
        }
    }

    /// The hints in force for the ready ones of the Cluster list.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Whether a list takes a candidate.
    ///
    /// # Errors
    /// Why not.
    pub fn standing(&self, candidate: &Candidate, list: List) -> Result<(), LeftOut> {
        let health = candidate.health();
        match health {
            Health::NotReady => return Err(LeftOut::NotReady),
            Health::Terminating => return Err(LeftOut::Terminating),
            Health::Ready | Health::Draining => {}
        }
        if list == List::Local && !candidate.is_on(self.node) {
            return Err(LeftOut::OtherNode);
        }
        match (self.taken(list), health) {
            (Taken::Ready, Health::Draining) => Err(LeftOut::Draining),
            (Taken::Ready, _)
                if list == List::Cluster && !self.topology.allows(candidate, self.node) =>
            {
                Err(LeftOut::HintElsewhere)
            }
            _ => Ok(()),
        }
    }

    /// Whether any usable endpoint exists anywhere.
    #[must_use]
    pub fn anywhere(&self) -> Presence {
        if self.candidates.iter().any(|c| c.health().answers()) {
            Presence::Present
        } else {
            Presence::Absent
        }
    }

    /// The two lists.
    #[must_use]
    pub fn lists(&self) -> Lists {
        Lists {
            cluster: self.backends(List::Cluster),
            local: self.backends(List::Local),
            anywhere: self.anywhere(),
        }
    }

    fn backends(&self, list: List) -> Vec<Backend> {
        let taken = self.candidates.iter();
        let taken = taken.filter(|c| self.standing(c, list).is_ok());
        taken.map(|c| c.backend(self.node)).collect()
    }
}

/// An endpoint with the number that the Service port has there.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The slice that it was taken from.
    pub slice: &'a Slice,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The number.
    pub port: u16,
}

impl Candidate<'_> {
    /// Whether it can be sent anything.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(self.endpoint.conditions)
    }

    fn is_on(&self, node: &Node) -> bool {
        self.endpoint.node.as_ref() == Some(&node.name)
    }

    fn backend(&self, node: &Node) -> Backend {
        let place = if self.is_on(node) {
            Place::Here
        } else {
            Place::Elsewhere
        };
        Backend {
            address: self.endpoint.address,
            port: self.port,
            place,
        }
    }
}

/// What the conditions of an endpoint come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Takes new connections, even if it terminates (`publishNotReadyAddresses` says so).
    Ready,
    /// Serves while it terminates: the last resort (KEP-1669).
    Draining,
    /// Terminates and serves no more.
    Terminating,
    /// Not ready, and not about to go.
    NotReady,
}

impl Health {
    /// That of conditions.
    #[must_use]
    pub fn of(conditions: Conditions) -> Self {
        if conditions.is_ready() {
            Self::Ready
        } else if !conditions.is_terminating() {
            Self::NotReady
        } else if conditions.is_serving() {
            Self::Draining
        } else {
            Self::Terminating
        }
    }

    fn answers(self) -> bool {
        matches!(self, Self::Ready | Self::Draining)
    }
}

/// An endpoint of the Service's slices that is no candidate for a port.
#[derive(Clone, Copy, Debug)]
pub struct PassedOver<'a> {
    /// Its slice.
    pub slice: &'a Slice,
    /// The endpoint; `None`: all of the slice.
    pub endpoint: Option<&'a Endpoint>,
    /// Why it is none.
    pub why: Why,
}

/// Why an endpoint, or a whole slice, gives a port no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The slice is of the other family.
    OtherFamily,
    /// The label `service.kubernetes.io/headless` hides the slice from proxies.
    Hidden,
    /// The slice has no port of that name and protocol.
    PortNotNamed,
    /// The endpoint's address is of the other family than its slice.
    ForeignAddress,
    /// The endpoint's address is special ([`is_special`]): what went there would go to the node itself, or to its link.
    Special,
    /// Another copy of the same address and port counts.
    Duplicate,
}

/// All endpoints of a port, one for each address and number. Where two slices disagree, the copy
/// that is not terminating wins, then the ready one, so that the order of slices does not matter.
fn gather<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    port: &ServicePort,
    family: Family,
    mut passed_over: impl FnMut(PassedOver<'a>),
) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for slice in slices {
        let slice: &'a Slice = slice;
        if let Err(why) = reads(slice, port, family) {
            passed_over(PassedOver {
                slice,
                endpoint: None,
                why,
            });
            continue;
        }
        for number in numbers(slice, port) {
            take(&mut all, slice, number, family, &mut passed_over);
        }
    }
    distinct(all, &mut passed_over)
}

/// Takes the endpoints of a slice in, at one number.
fn take<'a>(
    all: &mut Vec<Candidate<'a>>,
    slice: &'a Slice,
    port: u16,
    family: Family,
    passed_over: &mut impl FnMut(PassedOver<'a>),
) {
    all.reserve(slice.endpoints.len());
    for endpoint in &slice.endpoints {
        let why = if Family::of(endpoint.address) != family {
            Why::ForeignAddress
        } else if is_special(endpoint.address) {
            Why::Special
        } else {
            all.push(Candidate {
                slice,
                endpoint,
                port,
            });
            continue;
        };
        passed_over(PassedOver {
            slice,
            endpoint: Some(endpoint),
            why,
        });
    }
}

/// Sorts them by address and number, and leaves one of each: of the greatest the first.
fn distinct<'a>(
    mut all: Vec<Candidate<'a>>,
    passed_over: &mut impl FnMut(PassedOver<'a>),
) -> Vec<Candidate<'a>> {
    let at = |c: &Candidate| (c.endpoint.address, c.port);
    all.sort_by_key(at);
    all.dedup_by(|new, kept| {
        let is_copy = at(new) == at(kept);
        if is_copy {
            if rank(new.endpoint) > rank(kept.endpoint) {
                std::mem::swap(new, kept);
            }
            passed_over(PassedOver {
                slice: new.slice,
                endpoint: Some(new.endpoint),
                why: Why::Duplicate,
            });
        }
        is_copy
    });
    all
}

/// Whether a slice has anything to say about a port.
fn reads(slice: &Slice, port: &ServicePort, family: Family) -> Result<(), Why> {
    reads_family(slice, family)?;
    if numbers(slice, port).next().is_none() {
        return Err(Why::PortNotNamed);
    }
    Ok(())
}

/// Whether it has anything to say about any port in a family.
fn reads_family(slice: &Slice, family: Family) -> Result<(), Why> {
    if slice.family != family {
        Err(Why::OtherFamily)
    } else if !audience::proxy_reads_slice(slice) {
        Err(Why::Hidden)
    } else {
        Ok(())
    }
}

/// The numbers that a Service port has at a slice's endpoints: one, most often.
fn numbers(slice: &Slice, port: &ServicePort) -> impl Iterator<Item = u16> {
    let same = |p: &&SlicePort| p.name == port.name && p.protocol == port.protocol;
    slice.ports.iter().filter(same).map(|p| p.port)
}

/// Of two copies of an endpoint the greater one counts.
fn rank(endpoint: &Endpoint) -> impl Ord + '_ {
    let c = endpoint.conditions;
    (
        !c.is_terminating(),
        c.is_ready(),
        c.is_serving(),
        &endpoint.node,
        &endpoint.hints,
    )
}

/// The hints in force for one Service port on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Those that name this node.
    SameNode,
    /// Those that name its zone.
    SameZone,
    /// None.
    Anywhere,
}

impl Topology {
    fn of<'c, I: Iterator<Item = &'c Candidate<'c>>>(ready: impl Fn() -> I, node: &Node) -> Self {
        let agreed = |named: fn(&Hints) -> &[Arc<str>], wanted: &Arc<str>| {
            !wanted.is_empty()
                && ready().all(|c| !hinted(c, named).is_empty())
                && ready().any(|c| hinted(c, named).contains(wanted))
        };
        if agreed(|h| &h.nodes, &node.name) {
            Self::SameNode
        } else if agreed(|h| &h.zones, &node.zone) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    fn allows(self, candidate: &Candidate, node: &Node) -> bool {
        match self {
            Self::SameNode => hinted(candidate, |h| &h.nodes).contains(&node.name),
            Self::SameZone => hinted(candidate, |h| &h.zones).contains(&node.zone),
            Self::Anywhere => true,
        }
    }
}

fn hinted<'a>(candidate: &Candidate<'a>, named: fn(&Hints) -> &[Arc<str>]) -> &'a [Arc<str>] {
    candidate.endpoint.hints.as_deref().map_or(&[], named)
}
