//! The rules of the matrix, and those that play a part in a packet's verdict.

use daymark_model::decide::{SourceSeen, decision};
use daymark_model::desire::Policy;
use daymark_model::desired::{Action, List, Reason, Sources};
use daymark_model::endpoints::{Choice, Taken, Topology};
use daymark_model::input::{Affinity, Detector, MasqueradeAll, TrafficPolicy};
use daymark_model::{Family, Packet, Protocol, Service, Verdict, World};

/// A rule that looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    Anywhere,
    Here,
    ShortCircuit,
    NoEndpoint,
    NoLocalEndpoint,
    Elsewhere,
    LastResort,
    LastResortHere,
    Hints,
    Affinity,
    Kept,
    Masqueraded,
    MasqueradeAll,
    NoDetector,
    Admitted,
    NotAdmitted,
    UnknownPort,
    Unallocated,
    Udp,
    Sctp,
}

impl Rule {
    pub(crate) const ALL: [Self; 20] = [
        Self::Anywhere,
        Self::Here,
        Self::ShortCircuit,
        Self::NoEndpoint,
        Self::NoLocalEndpoint,
        Self::Elsewhere,
        Self::LastResort,
        Self::LastResortHere,
        Self::Hints,
        Self::Affinity,
        Self::Kept,
        Self::Masqueraded,
        Self::MasqueradeAll,
        Self::NoDetector,
        Self::Admitted,
        Self::NotAdmitted,
        Self::UnknownPort,
        Self::Unallocated,
        Self::Udp,
        Self::Sctp,
    ];

    /// What the table calls it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Anywhere => "policy Cluster: any endpoint of the cluster",
            Self::Here => "policy Local: an endpoint of this node",
            Self::ShortCircuit => "policy Local, clients inside: the short circuit",
            Self::NoEndpoint => "no endpoint anywhere: refused",
            Self::NoLocalEndpoint => "policy Local, endpoints elsewhere alone: dropped",
            Self::Elsewhere => "the same with `without-local=cluster`: sent elsewhere",
            Self::LastResort => "only endpoints that terminate, any in the cluster",
            Self::LastResortHere => "only endpoints that terminate, policy Local",
            Self::Hints => "topology hints",
            Self::Affinity => "session affinity",
            Self::Kept => "the source is kept",
            Self::Masqueraded => "the source is masqueraded",
            Self::MasqueradeAll => "`masqueradeAll`",
            Self::NoDetector => "own Pods cannot be told (`detector=none`)",
            Self::Admitted => "source ranges: the client is in one",
            Self::NotAdmitted => "source ranges: the client is in none",
            Self::UnknownPort => "a port that the Service does not name",
            Self::Unallocated => "an address of a ServiceCIDR that nobody has",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// The rules that play a part in the verdict of a packet to a Service's address.
pub(crate) fn met(world: &World, service: &Service, packet: &Packet) -> Vec<Rule> {
    let decision = decision(world.desired(), packet);
    let Some((_, frontend)) = decision.caught else {
        return vec![Rule::UnknownPort];
    };
    let mut rules = Vec::new();
    if frontend.sources != Sources::Any {
        rules.push(match decision.action {
            Some(_) => Rule::Admitted,
            None => Rule::NotAdmitted,
        });
    }
    match packet.protocol {
        Protocol::Tcp => {}
        Protocol::Udp => rules.push(Rule::Udp),
        Protocol::Sctp => rules.push(Rule::Sctp),
    }
    let policy = Policy::of(service, frontend.origin, decision.client);
    match decision.action {
        Some(Action::Forward(list)) => {
            rules.extend(chosen(world, service, packet, policy, list));
        }
        Some(Action::Reject(Reason::NoEndpoint)) => rules.push(Rule::NoEndpoint),
        Some(Action::Drop(Reason::NoLocalEndpoint)) => rules.push(Rule::NoLocalEndpoint),
        _ => {}
    }
    if let Verdict::Forward(targets) = &decision.verdict {
        rules.extend(seen(world, targets.iter().map(|target| target.source)));
        if frontend.affinity != Affinity::None {
            rules.push(Rule::Affinity);
        }
    }
    rules
}

/// By which rules endpoints were chosen.
fn chosen(
    world: &World,
    service: &Service,
    packet: &Packet,
    policy: Policy,
    list: List,
) -> Vec<Rule> {
    let short = policy == Policy::ShortCircuit && service.external_policy == TrafficPolicy::Local;
    let mut rules = vec![match (list, policy.list()) {
        (List::Local, _) => Rule::Here,
        (List::Cluster, List::Local) => Rule::Elsewhere,
        (List::Cluster, List::Cluster) if short => Rule::ShortCircuit,
        (List::Cluster, List::Cluster) => Rule::Anywhere,
    }];
    let frontend = decision(world.desired(), packet).caught;
    let (_, frontend) = frontend.expect("it was forwarded");
    let port = service
        .ports
        .iter()
        .find(|port| port.name == frontend.port.port && port.protocol == frontend.port.protocol);
    let port = port.expect("the Service has the port that was caught");
    let family = Family::of(packet.destination);
    let slices = world.slices_of(&service.key);
    let choice = Choice::of(slices, port, family, &world.here().node, |_| ());
    match (choice.taken(list), list, choice.topology()) {
        (Taken::Draining, List::Cluster, _) => rules.push(Rule::LastResort),
        (Taken::Draining, List::Local, _) => rules.push(Rule::LastResortHere),
        (Taken::Ready, List::Cluster, Topology::SameNode | Topology::SameZone) => {
            rules.push(Rule::Hints);
        }
        _ => {}
    }
    rules
}

/// Whose source the endpoints see, and by which setting.
fn seen(world: &World, sources: impl Iterator<Item = SourceSeen>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = sources
        .map(|source| match source {
            SourceSeen::Kept => Rule::Kept,
            SourceSeen::Masqueraded => Rule::Masqueraded,
        })
        .collect();
    rules.sort_unstable();
    rules.dedup();
    let options = world.options();
    if options.masquerade_all == MasqueradeAll::Yes {
        rules.push(Rule::MasqueradeAll);
    }
    if options.detector == Detector::None {
        rules.push(Rule::NoDetector);
    }
    rules
}
