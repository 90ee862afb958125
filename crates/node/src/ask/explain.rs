//! From what the model and the plane say to what is sent.

use std::net::{IpAddr, SocketAddr};

use daymark_dataplane::nft::apply::{CommitError, Kernel, Plane};
use daymark_dataplane::nft::inspect::{Asking, Held, Inspection, Kept, More};
use daymark_model::decide::{Arrival, decision};
use daymark_model::desired::Origin;
use daymark_model::explain::{self, Asker, PortAsked, Question, Sender, Step};
use daymark_model::{Family, Packet, ServiceKey, Verdict, World};

use super::wire;

/// The answer to a question, with what the kernel holds for each place.
pub(crate) fn explained<K: Kernel>(
    world: &World,
    plane: &mut Plane<K>,
    asked: &wire::Explain,
) -> wire::Explained {
    let client = client(world, &asked.from);
    let question = Question {
        service: ServiceKey::new(&asked.namespace, &asked.name),
        port: asked.port.as_deref().map(port),
        address: asked.address,
        client: client.clone(),
    };
    let (cause, answers, untold) = match explain::answers(world, &question) {
        Ok(answers) => {
            let (told, untold) = tell(world, plane, answers);
            (None, told, untold)
        }
        Err(cause) => (Some(self::cause(&cause)), Vec::new(), 0),
    };
    let listeners = explain::listeners(world, &question.service);
    let absent = asked.address.is_none();
    let absent = absent.then(|| explain::without_ingress(world, &question.service));
    wire::Explained {
        node: world.here().node.name.to_string(),
        service: question.service.to_string(),
        client: client.addresses,
        stale: None,
        cause,
        answers,
        untold,
        absent: absent
            .flatten()
            .map(|cause| without_ingress(world, &asked.from, &cause)),
        listeners: listeners.iter().map(listener).collect(),
    }
}

/// An address of a load balancer that is not there. Clients of the cluster have the cluster IP all the same.
fn without_ingress(world: &World, from: &wire::From, why: &explain::Cause) -> wire::Absent {
    let own = world.here().own_pods().prefixes;
    let is_own = |ip: &IpAddr| own.iter().any(|cidr| cidr.contains(*ip));
    let needed = match from {
        wire::From::Outside => true,
        wire::From::Addresses(ips) => !ips.iter().any(is_own),
        wire::From::Node | wire::From::OwnPod | wire::From::Pod { .. } => false,
    };
    wire::Absent {
        kind: Origin::LoadBalancerIp.words().to_owned(),
        field: Origin::LoadBalancerIp.field().to_owned(),
        needed,
        cause: cause(why),
    }
}

/// The first answers, and how many are left: the plane waits meanwhile, and a Service may have 65,536 places, and as many endpoints
/// as it likes behind each.
fn tell<K: Kernel>(
    world: &World,
    plane: &mut Plane<K>,
    mut answers: explain::Answers,
) -> (Vec<wire::Answer>, usize) {
    let mut asking = Asking::default();
    let (mut looked_at, mut listed) = (0, 0);
    let mut told = Vec::new();
    while told.len() < MOST_PLACES && (told.is_empty() || looked_at < MOST_LOOKED_AT) {
        let Some(found) = answers.next() else { break };
        looked_at += found.endpoints.len();
        let most = if found.endpoints.len() <= MOST_LISTED - listed {
            usize::MAX
        } else {
            FIRST
        };
        let kernel = found.packet.as_ref();
        let kernel = kernel.and_then(|packet| kernel_of(world, plane, packet, &mut asking));
        let answer = wire::Answer {
            kernel,
            ..answer(&found, most)
        };
        listed = (listed + answer.endpoints.len()).min(MOST_LISTED);
        told.push(answer);
    }
    (told, answers.len())
}

/// The most places of one answer.
pub(super) const MOST_PLACES: usize = 100;
/// With so many endpoints looked at, a place each time anew, no further place is.
pub(super) const MOST_LOOKED_AT: usize = 200_000;
/// The most endpoints that are listed one by one, of all places together.
pub(super) const MOST_LISTED: usize = 20_000;
/// Beyond that, how many of each standing are listed of a place.
pub(super) const FIRST: usize = 20;

fn listener(listener: &explain::Listener) -> wire::Listener {
    wire::Listener {
        at: listener.place(),
        field: listener.field().to_owned(),
        text: listener.to_string(),
    }
}

fn port(word: &str) -> PortAsked {
    match word.parse() {
        Ok(number) => PortAsked::Number(number),
        Err(_) => PortAsked::Name(word.into()),
    }
}

fn client(world: &World, from: &wire::From) -> Asker {
    let here = world.here();
    let (sender, addresses) = match from {
        wire::From::Node => {
            let own = here.node.addresses.iter().chain(&*here.machine_addresses);
            let first = |family| own.clone().copied().find(|ip| Family::of(*ip) == family);
            let both = Family::BOTH.into_iter().filter_map(first);
            (Sender::Node, both.collect())
        }
        wire::From::OwnPod => {
            // The last address of a prefix is hardly ever a Pod's. Where Pods are not known by their addresses, those of
            // the Node are theirs all the same.
            let mut own = here.own_pods().prefixes;
            if own.is_empty() {
                own.clone_from(&here.node.pod_cidrs);
            }
            let last: Vec<IpAddr> = own.iter().map(|cidr| cidr.last()).collect();
            let nobodys = last.is_empty().then_some(OUTSIDE).into_iter().flatten();
            (Sender::OwnPod, last.into_iter().chain(nobodys).collect())
        }
        wire::From::Outside => (Sender::Somebody, OUTSIDE.to_vec()),
        wire::From::Addresses(ips) => (Sender::Somebody, ips.clone()),
        wire::From::Pod { addresses, node } => {
            let is_here = node.as_deref() == Some(&*here.node.name);
            let sender = if is_here {
                Sender::OwnPod
            } else {
                Sender::Somebody
            };
            (sender, addresses.clone())
        }
    };
    Asker { sender, addresses }
}

/// Addresses that nobody has.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

fn cause(cause: &explain::Cause) -> wire::Cause {
    wire::Cause {
        code: cause.code().to_owned(),
        text: cause.to_string(),
        remedy: cause.remedy().to_owned(),
    }
}

/// An answer with so many endpoints of each standing.
fn answer(found: &explain::Answer, most: usize) -> wire::Answer {
    let name = &found.port;
    let (standings, endpoints) = endpoints(&found.endpoints, most);
    wire::Answer {
        port: if name.port.is_empty() {
            name.protocol.to_string()
        } else {
            format!("{}/{}", name.port, name.protocol)
        },
        kind: found.origin.words().to_owned(),
        field: found.origin.field().to_owned(),
        at: found.at.to_string(),
        packet: found.packet.as_ref().map(packet),
        forwarded: found.is_forwarded(),
        verdict: found.verdict.as_ref().map(|v| verdict(v).to_owned()),
        causes: found.causes.iter().map(cause).collect(),
        steps: found.steps.iter().map(step).collect(),
        standings,
        endpoints,
        skipped: found.skipped.iter().map(skipped).collect(),
        kernel: None,
    }
}

fn packet(packet: &Packet) -> wire::Packet {
    wire::Packet {
        source: packet.source,
        destination: SocketAddr::new(packet.destination, packet.port),
        protocol: packet.protocol.to_string(),
        arrival: match packet.arrival {
            Arrival::Node => "node".to_owned(),
            Arrival::Link => "link".to_owned(),
        },
    }
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Forward(_) => "forward",
        Verdict::Reject(_) => "reject",
        Verdict::Drop(_) => "drop",
        Verdict::Untouched => "untouched",
    }
}

fn step(step: &Step) -> wire::Step {
    wire::Step {
        rule: step.rule().to_owned(),
        outcome: step.to_string(),
        field: step.field().to_owned(),
    }
}

/// How many there are of each standing, and the first of each.
fn endpoints(
    all: &[explain::Considered],
    most: usize,
) -> (Vec<wire::Standing>, Vec<wire::Endpoint>) {
    let mut standings: Vec<wire::Standing> = Vec::new();
    let mut listed = Vec::new();
    for considered in all {
        let code = considered.standing.code();
        let known = standings.iter().position(|known| known.standing == code);
        let known = known.unwrap_or_else(|| {
            standings.push(wire::Standing {
                standing: code.to_owned(),
                text: considered.standing.to_string(),
                endpoints: 0,
            });
            standings.len() - 1
        });
        let count = &mut standings[known].endpoints;
        if *count < most {
            listed.push(endpoint(considered));
        }
        *count += 1;
    }
    (standings, listed)
}

fn endpoint(considered: &explain::Considered) -> wire::Endpoint {
    wire::Endpoint {
        address: considered.address,
        port: considered.port,
        node: considered.node.as_ref().map(ToString::to_string),
        slice: considered.slice.to_string(),
        standing: considered.standing.code().to_owned(),
        text: considered.standing.to_string(),
    }
}

fn skipped(skipped: &explain::Skipped) -> wire::Skipped {
    // An empty slice names no port either, which is not what is wrong with it.
    let (why, text) = match skipped.endpoints {
        0 => ("empty", "it has no endpoint".to_owned()),
        _ => (skipped.why.code(), skipped.why.to_string()),
    };
    wire::Skipped {
        slice: skipped.slice.to_string(),
        endpoints: skipped.endpoints,
        why: why.to_owned(),
        text,
    }
}

/// What the tables hold for the place that catches a packet.
fn kernel_of<K: Kernel>(
    world: &World,
    plane: &mut Plane<K>,
    packet: &Packet,
    asking: &mut Asking,
) -> Option<wire::Kernel> {
    let (at, frontend) = decision(world.desired(), packet).caught?;
    let held = plane.inspect_as_part(&at, &frontend.port, asking);
    let kept = plane.kept(&at, packet.source);
    let counted = plane.connections(&at);
    Some(match held.and_then(|held| Ok((held, kept?, counted?))) {
        Ok((held, kept, connections)) => wire::Kernel {
            connections,
            ..told(&held, kept)
        },
        Err(error) => {
            let table = plane.compiler().words(at.family()).table();
            unread(&table.to_string(), &error)
        }
    })
}

fn unread(table: &str, error: &CommitError) -> wire::Kernel {
    wire::Kernel {
        table: table.to_owned(),
        agrees: false,
        unread: Some(error.to_string()),
        objects: Vec::new(),
        more: Vec::new(),
        unasked: 0,
        refused: Vec::new(),
        kept: None,
        connections: None,
    }
}

fn told(held: &Inspection, kept: Option<Kept>) -> wire::Kernel {
    let refused = held.withheld.iter().map(|(subject, why)| wire::Refused {
        subject: subject.to_string(),
        shown: why.shown.clone(),
        reason: why.reason.clone(),
    });
    wire::Kernel {
        table: held.table.to_string(),
        agrees: held.agrees() && held.withheld.is_empty(),
        unread: None,
        objects: held.objects.iter().map(object).collect(),
        more: held.more.iter().map(more).collect(),
        unasked: held.unasked,
        refused: refused.collect(),
        kept: kept.map(|kept| wire::Kept {
            endpoint: kept.backend,
            seconds: kept.expires.map(|expires| expires.as_secs()),
        }),
        connections: None,
    }
}

fn more(more: &More) -> wire::More {
    wire::More {
        object: more.set.to_string(),
        same: more.same,
        differing: more.differing,
    }
}

fn object(held: &Held) -> wire::Object {
    wire::Object {
        object: held.object.to_string(),
        meaning: held.meaning.clone(),
        agreement: held.agreement.word().to_owned(),
        wanted: held.wanted.clone(),
        held: held.held.clone(),
    }
}
