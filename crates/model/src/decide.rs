//! The reference verdict for one packet: what must happen to the first packet of a connection.
//!
//! In order, stopping at the first that applies:
//! 1. the frontend at the destination address and port; else, at a node-port address, the node port;
//! 2. no frontend: an address of a Service refuses (a load balancer's or external one to clients outside alone), one of a
//!    ServiceCIDR that nobody has drops, everything else is not ours;
//! 3. a client outside the frontend's ranges is dropped;
//! 4. clients inside (the node, its own Pods) follow one action, all others the other;
//! 5. forwarded packets keep their source unless the frontend's masquerade rule takes it, or the
//!    chosen backend is the client itself, on this node. A backend at an address of the machine is the
//!    exception: what comes from a link for it is delivered before a source would be taken.

use std::net::IpAddr;

use crate::address::{Family, Protocol};
use crate::desired::{
    Action, Desired, Frontend, FrontendKey, List, Masquerade, OnLoopback, PoolKey, Reason, Sources,
};
use crate::interface::Interface;

/// The first packet of a connection, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Where it comes from.
    pub arrival: Arrival,
    /// The interface that it arrives at, where that is known; only a detector by interface asks.
    pub interface: Option<Interface>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
}

/// How a packet enters the node's network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arrival {
    /// From a link: a Pod's or the network's.
    Link,
    /// Sent by the node itself, host-network Pods included.
    Node,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to exactly one of these, each equally likely; sorted, never empty.
    Forward(Vec<Target>),
    /// It is refused with a TCP reset, or ICMP port unreachable for UDP and SCTP.
    Reject(Reason),
    /// It is dropped in silence.
    Drop(Reason),
    /// It is none of daymark's business.
    Untouched,
}

/// One possible outcome of a forwarded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// What the endpoint sees as source.
    pub source: SourceSeen,
}

/// The source address that an endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceSeen {
    /// The client's own.
    Kept,
    /// An address of this node.
    Masqueraded,
}

/// The client's place, as the frontend's rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The node itself, host-network Pods included.
    Node,
    /// A Pod of this node.
    OwnPod,
    /// Everybody else.
    Outside,
}

/// How a verdict came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What caught the packet, and where; `None`: no port of any Service is there.
    pub caught: Option<(FrontendKey, &'a Frontend)>,
    /// Who sent it.
    pub client: Client,
    /// What the frontend has for such a client; `None` if the packet did not come so far.
    pub action: Option<Action>,
    /// The verdict.
    pub verdict: Verdict,
}

/// What must happen to `packet` on the node that `desired` describes.
#[must_use]
pub fn decide(desired: &Desired, packet: &Packet) -> Verdict {
    decision(desired, packet).verdict
}

/// What must happen to `packet`, and by which steps.
#[must_use]
pub fn decision<'a>(desired: &'a Desired, packet: &Packet) -> Decision<'a> {
    let client = client(desired, packet);
    let caught = caught(desired, packet);
    let stopped = |verdict| Decision {
        caught,
        client,
        action: None,
        verdict,
    };
    let Some((_, frontend)) = caught else {
        return stopped(astray(desired, packet, client));
    };
    if !frontend.sources.admit(packet.source) {
        return stopped(Verdict::Drop(Reason::SourceRange));
    }
    let action = if client == Client::Outside {
        frontend.outside
    } else {
        frontend.inside
    };
    let verdict = match action {
        Action::Forward(list) => Verdict::Forward(targets(desired, frontend, list, client, packet)),
        Action::Reject(reason) => Verdict::Reject(reason),
        Action::Drop(reason) => Verdict::Drop(reason),
    };
    Decision {
        action: Some(action),
        ..stopped(verdict)
    }
}

/// What becomes of a packet that no frontend catches.
fn astray(desired: &Desired, packet: &Packet, client: Client) -> Verdict {
    let to = packet.destination;
    let is_unallocated = || {
        let mut networks = desired.service_networks.iter();
        !desired.spared_addresses.contains(&to) && networks.any(|network| network.contains(to))
    };
    if desired.service_addresses.contains(&to) {
        Verdict::Reject(Reason::UnknownPort)
    } else if is_unallocated() {
        Verdict::Drop(Reason::Unallocated)
    } else if client == Client::Outside && desired.outer_addresses.contains(&to) {
        Verdict::Reject(Reason::UnknownPort)
    } else if to.is_loopback() && is_refused_on_loopback(desired, packet) {
        Verdict::Reject(Reason::Loopback)
    } else {
        Verdict::Untouched
    }
}

fn is_refused_on_loopback(desired: &Desired, packet: &Packet) -> bool {
    let frontend = desired.frontends.get(&FrontendKey::NodePort {
        family: Family::of(packet.destination),
        protocol: packet.protocol,
        port: packet.port,
    });
    frontend.is_some_and(|frontend| frontend.loopback == OnLoopback::Refuse)
}

/// The frontend that catches a packet, if any: the one at its very address first, then a node port.
#[must_use]
pub fn frontend<'a>(desired: &'a Desired, packet: &Packet) -> Option<&'a Frontend> {
    caught(desired, packet).map(|(_, frontend)| frontend)
}

fn caught<'a>(desired: &'a Desired, packet: &Packet) -> Option<(FrontendKey, &'a Frontend)> {
    let Packet {
        destination: ip,
        protocol,
        port,
        ..
    } = *packet;
    let address = FrontendKey::Address { ip, protocol, port };
    let node_port = FrontendKey::NodePort {
        family: Family::of(ip),
        protocol,
        port,
    };
    let at = |key| {
        let frontend = desired.frontends.get(&key)?;
        Some((key, &**frontend))
    };
    at(address).or_else(|| {
        let served = desired.node_port_addresses.contains(&ip);
        served.then(|| at(node_port)).flatten()
    })
}

impl Masquerade {
    /// Whether it takes the source of such a client.
    #[must_use]
    pub fn takes(self, client: Client) -> bool {
        match self {
            Self::Never => false,
            Self::NodeOnly => client == Client::Node,
            Self::UnlessOwnPod => client != Client::OwnPod,
            Self::Always => true,
        }
    }
}

impl Sources {
    /// Whether a client may come.
    #[must_use]
    pub fn admit(&self, source: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(source)),
        }
    }
}

fn client(desired: &Desired, packet: &Packet) -> Client {
    let own = &desired.own_pods;
    let by_address = || own.prefixes.iter().any(|p| p.contains(packet.source));
    let by_interface = || {
        let both = own.interfaces.zip(packet.interface);
        both.is_some_and(|(pattern, interface)| pattern.fits(interface))
    };
    match packet.arrival {
        Arrival::Node => Client::Node,
        Arrival::Link if by_address() || by_interface() => Client::OwnPod,
        Arrival::Link => Client::Outside,
    }
}

fn targets(
    desired: &Desired,
    frontend: &Frontend,
    list: List,
    client: Client,
    packet: &Packet,
) -> Vec<Target> {
    let key = PoolKey {
        port: frontend.port.clone(),
        family: Family::of(packet.destination),
        list,
    };
    let masquerade = frontend.masquerade.takes(client);
    let hairpin =
        |address| address == packet.source && desired.local_backends.contains(&packet.source);
    // What comes from a link for the node itself is delivered before sources are replaced (postrouting).
    let delivered =
        |address| packet.arrival == Arrival::Link && desired.own_addresses.contains(&address);
    let seen = |address| {
        if (masquerade || hairpin(address)) && !delivered(address) {
            SourceSeen::Masqueraded
        } else {
            SourceSeen::Kept
        }
    };
    let backends = desired
        .pools
        .get(&key)
        .map_or(&[][..], |pool| &pool.backends);
    backends
        .iter()
        .map(|b| Target {
            address: b.address,
            port: b.port,
            source: seen(b.address),
        })
        .collect()
}
