//! Where a packet goes and why, in words: the same as [`mod@crate::decide`], open to be read.
//!
//! A [`Question`] names a Service and a client. Each place that the Service names is answered by itself, in
//! this order, stopping at the first that says no:
//! 1. *place*: whether nodes serve it at all, and whether another Service has it;
//! 2. *sources*: `loadBalancerSourceRanges`;
//! 3. *client*: the node, one of its Pods, or anybody else;
//! 4. *policy*: which traffic policy such a client follows, or the short circuit;
//! 5. *endpoints*: each one of the Service's slices, taken or left out, and why;
//! 6. *affinity* and *source*: what holds for a connection that is forwarded.
//!
//! No rule is written here. The verdict is [`decision`]'s, places are [`places`]', policies are [`Policy`]'s and
//! endpoints [`Choice`]'s: what decides is asked what it did.

mod cause;
mod endpoints;
mod listeners;
mod step;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Family;
use crate::audience;
use crate::decide::{Arrival, Decision, Packet, Verdict, decision};
use crate::desire::{Named, NotServed, Policy, places};
use crate::desired::{Action, FrontendKey, Lost, Origin, PortName};
use crate::endpoints::Choice;
use crate::input::{Detector, Service, ServiceKey, ServicePort, ServiceType};
use crate::interface::Interface;
use crate::world::World;

pub use cause::Cause;
pub use endpoints::{Considered, Skipped, Standing};
pub use listeners::{Listener, listeners};
pub use step::Step;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The Service.
    pub service: ServiceKey,
    /// One of its ports; `None`: all.
    pub port: Option<PortAsked>,
    /// One of its addresses, or an address of this node for its node ports; `None`: all.
    pub address: Option<IpAddr>,
    /// Who sends.
    pub client: Asker,
}

/// How a port is named in a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortAsked {
    /// By its number at the Service's addresses, or by its node port.
    Number(u16),
    /// By `spec.ports[].name`.
    Name(Arc<str>),
}

/// What a client is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The node itself.
    Node,
    /// A Pod of this node. Where Pods are known by their interface, its packets come in at one.
    OwnPod,
    /// Whoever comes by a link. Where Pods are known by their interface, it is one if the Node's prefixes have its address.
    Somebody,
}

impl Sender {
    /// How its packets come in.
    #[must_use]
    pub fn arrival(self) -> Arrival {
        match self {
            Self::Node => Arrival::Node,
            Self::OwnPod | Self::Somebody => Arrival::Link,
        }
    }
}

/// Who sends the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// What it is to this node.
    pub sender: Sender,
    /// Its addresses; the first of each family counts. Of the node itself none means its own.
    pub addresses: Vec<IpAddr>,
}

/// What becomes of the client's packets at one place of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The Service port.
    pub port: Arc<PortName>,
    /// Which field names the place.
    pub origin: Origin,
    /// The place.
    pub at: FrontendKey,
    /// The packet that was judged; none if the client cannot send one there.
    pub packet: Option<Packet>,
    /// What catches the packet; another place than `at` where an address goes before a node port.
    pub caught: Option<FrontendKey>,
    /// The rules that were asked, in order.
    pub steps: Vec<Step>,
    /// The endpoints that were considered, sorted by address.
    pub endpoints: Vec<Considered>,
    /// Slices that gave none.
    pub skipped: Vec<Skipped>,
    /// The verdict, if there is a packet.
    pub verdict: Option<Verdict>,
    /// Why the Service does not forward the packet, the most telling first; empty if it does.
    pub causes: Vec<Cause>,
}

impl Answer {
    /// Whether this Service forwards the packet.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.causes.is_empty() && matches!(self.verdict, Some(Verdict::Forward(_)))
    }
}

/// Answers a question: an answer for each place that it asks about, never none.
///
/// # Errors
/// Why there is no place to answer for.
pub fn explain(world: &World, question: &Question) -> Result<Vec<Answer>, Cause> {
    answers(world, question).map(Iterator::collect)
}

/// As [`explain`], an answer at a time: a Service may have tens of thousands of places, and each costs a look at every
/// endpoint.
///
/// # Errors
/// Why there is no place to answer for.
pub fn answers<'a>(world: &'a World, question: &'a Question) -> Result<Answers<'a>, Cause> {
    let service = world.inputs().services.get(&question.service);
    let service = service.ok_or_else(|| Cause::NoService(question.service.clone()))?;
    audience::proxy(service).map_err(|why| Cause::not_proxied(why, service))?;
    let scene = Scene {
        world,
        service,
        question,
    };
    let mut named = scene.named()?;
    let known = question.address.map(|asked| (asked, scene.known(&named)));
    named.retain(|(_, named)| scene.is_asked(named.at));
    match known {
        Some((asked, known)) if named.is_empty() => Err(Cause::NoSuchAddress { asked, known }),
        _ => Ok(Answers {
            scene,
            named: named.into_iter(),
        }),
    }
}

/// The answers to a question, in the order of ports and fields. Each is made when it is taken.
pub struct Answers<'a> {
    scene: Scene<'a>,
    named: std::vec::IntoIter<(&'a ServicePort, Named)>,
}

impl Iterator for Answers<'_> {
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        let (port, named) = self.named.next()?;
        Some(self.scene.answer(port, &named))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.named.size_hint()
    }
}

impl ExactSizeIterator for Answers<'_> {}

/// Why a Service of type LoadBalancer has no address to answer for where clients outside expect one; `None` if it has one, or is
/// of another type, or the proxy leaves it alone.
#[must_use]
pub fn without_ingress(world: &World, service: &ServiceKey) -> Option<Cause> {
    let service = world.inputs().services.get(service)?;
    let wants = service.kind == ServiceType::LoadBalancer && audience::proxy(service).is_ok();
    let request = service.load_balancer.as_ref();
    (wants && service.ingress.is_empty())
        .then(|| Cause::NoIngress(request.and_then(|request| request.class.clone())))
}

/// What all answers to a question have in common.
struct Scene<'a> {
    world: &'a World,
    service: &'a Service,
    question: &'a Question,
}

impl<'a> Scene<'a> {
    /// The places of the ports that are asked about, each once.
    fn named(&self) -> Result<Vec<(&'a ServicePort, Named)>, Cause> {
        let ports = self.service.ports.iter();
        if ports.len() == 0 {
            return Err(Cause::NoPorts);
        }
        let mut named: Vec<(&ServicePort, Named)> = Vec::new();
        // Two fields may name one place of a port.
        let mut known: BTreeSet<(usize, FrontendKey)> = BTreeSet::new();
        for (index, port) in ports.enumerate() {
            for family in Family::BOTH {
                let rules = &self.world.here().options.rules;
                let all = places(self.service, port, family, rules);
                for place in all.filter(|named| self.names(port, named)) {
                    if known.insert((index, place.at)) {
                        named.push((port, place));
                    }
                }
            }
        }
        if named.is_empty() {
            let asked = self.question.port.clone();
            let known = self.service.ports.clone();
            return Err(asked.map_or(Cause::NoPorts, |asked| Cause::NoSuchPort { asked, known }));
        }
        Ok(named)
    }

    /// Whether the question is about a place. One number names node ports of both families: that of a family in which
    /// the Service is not is told when its address is asked for.
    fn names(&self, port: &ServicePort, named: &Named) -> bool {
        let by_the_way =
            named.origin == Origin::NodePort && named.served == Err(NotServed::NoClusterIp);
        if by_the_way && self.question.address.is_none() {
            return false;
        }
        match &self.question.port {
            None => true,
            Some(PortAsked::Name(name)) => *name == port.name,
            Some(PortAsked::Number(number)) => {
                *number == port.port || named.at.protocol_port().1 == *number
            }
        }
    }

    /// The addresses of all places, sorted.
    fn known(&self, named: &[(&ServicePort, Named)]) -> Vec<IpAddr> {
        let all = named
            .iter()
            .flat_map(|(_, named)| self.destinations(named.at));
        let all: BTreeSet<IpAddr> = all.collect();
        all.into_iter().collect()
    }

    fn is_asked(&self, at: FrontendKey) -> bool {
        let asked = self.question.address;
        asked.is_none_or(|asked| self.destinations(at).contains(&asked))
    }

    /// The addresses of a place.
    fn destinations(&self, at: FrontendKey) -> Vec<IpAddr> {
        match at {
            FrontendKey::Address { ip, .. } => vec![ip],
            FrontendKey::NodePort { family, .. } => {
                let serving = self.world.desired().node_port_addresses.iter().copied();
                serving.filter(|ip| Family::of(*ip) == family).collect()
            }
        }
    }

    fn packet(&self, at: FrontendKey) -> Result<Packet, Cause> {
        let family = at.family();
        let destinations = self.destinations(at);
        let asked = self.question.address;
        let destination = asked.or_else(|| destinations.first().copied());
        let destination = destination.ok_or(Cause::NoNodePortAddress(family))?;
        let (protocol, port) = at.protocol_port();
        let source = self.source(family).ok_or(Cause::ClientWithout(family))?;
        Ok(Packet {
            arrival: self.question.client.sender.arrival(),
            interface: self.interface(source),
            source,
            destination,
            protocol,
            port,
        })
    }

    /// Where a client's packets arrive is not known; an own Pod's, as the detector says.
    fn interface(&self, source: IpAddr) -> Option<Interface> {
        let here = self.world.here();
        let Detector::Interface(pattern) = here.options.detector else {
            return None;
        };
        let own = &here.node.pod_cidrs;
        let is_own = match self.question.client.sender {
            Sender::Node => false,
            Sender::OwnPod => true,
            Sender::Somebody => own.iter().any(|cidr| cidr.contains(source)),
        };
        is_own.then(|| pattern.least())
    }

    fn source(&self, family: Family) -> Option<IpAddr> {
        let Asker { sender, addresses } = &self.question.client;
        let here = self.world.here();
        let own = here.node.addresses.iter().chain(&*here.machine_addresses);
        let own = own.filter(|_| *sender == Sender::Node && addresses.is_empty());
        let mut all = addresses.iter().chain(own).copied();
        all.find(|ip| Family::of(*ip) == family)
    }

    fn answer(&self, port: &ServicePort, named: &Named) -> Answer {
        let mut answer = Answer {
            port: Arc::new(PortName {
                service: self.service.key.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            }),
            origin: named.origin,
            at: named.at,
            packet: None,
            caught: None,
            steps: Vec::new(),
            endpoints: Vec::new(),
            skipped: Vec::new(),
            verdict: None,
            causes: Vec::new(),
        };
        let packet = match self.packet(named.at) {
            Ok(packet) => packet,
            Err(cause) => {
                answer.causes.push(cause);
                return answer;
            }
        };
        let decision = decision(self.world.desired(), &packet);
        answer.packet = Some(packet);
        answer.caught = decision.caught.map(|(at, _)| at);
        answer.verdict = Some(decision.verdict.clone());
        match self.holder(&answer.port, named, &decision) {
            Err(cause) => {
                answer
                    .steps
                    .push(Step::Place(named.origin, Err(cause.clone())));
                answer.causes.push(cause);
            }
            Ok(()) => self.go_through(port, &decision, &mut answer),
        }
        answer
    }

    /// Whether the packet is this port's at all.
    fn holder(&self, own: &PortName, named: &Named, decision: &Decision) -> Result<(), Cause> {
        let caught = decision.caught;
        // A place that is not served may be one that the port has by another field.
        if caught.is_some_and(|(_, frontend)| *frontend.port == *own) {
            return Ok(());
        }
        named.served.map_err(Cause::NotServed)?;
        // A place that is served has a frontend, unless its Service has too many; one that has catches nothing where no
        // address serves node ports.
        let nowhere = if self.world.desired().frontends.contains_key(&named.at) {
            Cause::NoNodePortAddress(named.at.family())
        } else {
            Cause::NotServed(NotServed::TooMany)
        };
        let (at, frontend) = caught.ok_or(nowhere)?;
        let holder = self.world.inputs().services.get(&frontend.port.service);
        let why = if at == named.at {
            let created = holder.map_or(0, |holder| holder.created);
            let lost = (named.origin, self.service.created);
            Lost::between((frontend.origin, created), lost)
        } else {
            Lost::ToAddress
        };
        Err(Cause::HeldBy {
            port: frontend.port.clone(),
            why,
        })
    }

    /// The steps of a packet that is this port's.
    fn go_through(&self, port: &ServicePort, decision: &Decision, answer: &mut Answer) {
        let (Some((_, frontend)), Some(packet)) = (decision.caught, answer.packet) else {
            return;
        };
        let policy = Policy::of(self.service, frontend.origin, decision.client);
        let list = match decision.action {
            Some(Action::Forward(list)) => list,
            _ => policy.list(),
        };
        let here = self.world.here();
        let mut passed = Vec::new();
        let choice = Choice::of(
            self.world.slices_of(&self.service.key),
            port,
            packet_family(&packet),
            &here.node,
            |over| passed.push(over),
        );
        (answer.endpoints, answer.skipped) =
            endpoints::account(&choice, &passed, list, &decision.verdict);
        answer.steps = step::steps(&step::Seen {
            here,
            service: self.service,
            frontend,
            packet: &packet,
            decision,
            policy,
            choice: &choice,
            list,
        });
        answer.causes = cause::causes(&cause::Seen {
            here,
            port,
            packet: &packet,
            frontend,
            verdict: &decision.verdict,
            policy,
            endpoints: &answer.endpoints,
            skipped: &answer.skipped,
            slices: &self.world.slices_of(&self.service.key).collect::<Vec<_>>(),
        });
    }
}

fn packet_family(packet: &Packet) -> Family {
    Family::of(packet.destination)
}
