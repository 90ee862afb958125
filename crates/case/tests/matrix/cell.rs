//! A cell of the matrix, and those that a packet meets.

use std::fmt;

use daymark_model::decide::{Client, decision};
use daymark_model::desired::{Origin, Reason};
use daymark_model::endpoints::named;
use daymark_model::{Family, Packet, Service, World, decide};

use crate::rule::{self, Rule};

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) rule: Rule,
    pub(crate) kind: Origin,
    pub(crate) source: Source,
    pub(crate) family: Family,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A Pod of the node that is no endpoint of the Service.
    Pod,
    /// The node itself.
    Node,
    /// Anybody else.
    Outside,
    /// A Pod of the node that is an endpoint of the Service, in whatever condition.
    Itself,
}

impl Source {
    pub(crate) const ALL: [Self; 4] = [Self::Pod, Self::Node, Self::Outside, Self::Itself];

    /// The column's name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Node => "node",
            Self::Outside => "outside",
            Self::Itself => "itself",
        }
    }
}

/// The kinds of addresses.
pub(crate) const KINDS: [Origin; 4] = [
    Origin::ClusterIp,
    Origin::ExternalIp,
    Origin::LoadBalancerIp,
    Origin::NodePort,
];

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, kind, source) = (self.rule.words(), self.kind.words(), self.source.word());
        write!(out, "{rule}, {kind}, from {source}, {}", self.family)
    }
}

/// Every combination, in the order of the table.
pub(crate) fn cells() -> impl Iterator<Item = Cell> {
    let kinds = Rule::ALL
        .into_iter()
        .flat_map(|rule| KINDS.map(|kind| (rule, kind)));
    let families = kinds.flat_map(|(rule, kind)| Family::BOTH.map(|family| (rule, kind, family)));
    families.flat_map(|(rule, kind, family)| {
        Source::ALL.map(|source| Cell {
            rule,
            kind,
            source,
            family,
        })
    })
}

/// The cells that a packet meets: one for each rule that plays a part in its verdict.
pub(crate) fn met(world: &World, packet: &Packet) -> impl Iterator<Item = Cell> {
    let decision = decision(world.desired(), packet);
    let owner = match decision.caught {
        Some((_, frontend)) => {
            let service = world.inputs().services.get(&frontend.port.service);
            service.map(|service| (&**service, frontend.origin))
        }
        None => owner(world, packet),
    };
    let family = Family::of(packet.destination);
    let found = owner.map(|(service, kind)| {
        let source = source(world, service, packet, decision.client);
        (rule::met(world, service, packet), kind, source)
    });
    let unallocated = || {
        let verdict = decide(world.desired(), packet);
        let is = verdict == daymark_model::Verdict::Drop(Reason::Unallocated);
        let source = plain(decision.client);
        is.then(|| (vec![Rule::Unallocated], Origin::ClusterIp, source))
    };
    let found = found.or_else(unallocated).into_iter();
    found.flat_map(move |(rules, kind, source)| {
        rules.into_iter().map(move |rule| Cell {
            rule,
            kind,
            source,
            family,
        })
    })
}

/// The Service that serves the destination at other ports.
fn owner<'a>(world: &'a World, packet: &Packet) -> Option<(&'a Service, Origin)> {
    let frontends = world.desired().frontends.iter();
    let mut at = frontends.filter(|(at, _)| {
        matches!(at, daymark_model::FrontendKey::Address { ip, .. } if *ip == packet.destination)
    });
    let (_, frontend) = at.next()?;
    let service = world.inputs().services.get(&frontend.port.service)?;
    Some((service, frontend.origin))
}

fn plain(client: Client) -> Source {
    match client {
        Client::Node => Source::Node,
        Client::OwnPod => Source::Pod,
        Client::Outside => Source::Outside,
    }
}

fn source(world: &World, service: &Service, packet: &Packet, client: Client) -> Source {
    let family = Family::of(packet.destination);
    let slices = || world.slices_of(&service.key);
    let endpoints = service
        .ports
        .iter()
        .flat_map(|port| named(slices(), port, family));
    let is_endpoint = endpoints.into_iter().any(|at| at.ip() == packet.source);
    match plain(client) {
        Source::Pod if is_endpoint => Source::Itself,
        other => other,
    }
}
