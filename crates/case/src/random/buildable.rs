//! What a lab of namespaces can build and see, out of everything that can be drawn.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::decide::Arrival;
use daymark_model::input::Detector;
use daymark_model::{Change, Interface, Packet, Slice, World};

use super::Random;
use super::objects::{home, ip, node_1};

/// The change, as far as it can be built: every endpoint a Pod on the node of its CIDR, and one node under test, which
/// keeps its name. Its addresses, its zone and its prefixes may be others, and the Node object may go: the lab's node
/// has every address of every step all the time, which is nothing that the program asks the kernel.
pub(super) fn change(change: Change) -> Option<Change> {
    match change {
        Change::Node(Some(node)) => {
            let mut node = node.as_ref().clone();
            node.name = node_1().name;
            Some(Change::Node(Some(Arc::new(node))))
        }
        Change::Slice(key, Some(slice)) => {
            let mut slice: Slice = slice.as_ref().clone();
            slice.endpoints.retain(|endpoint| is_pod(endpoint.address));
            for endpoint in &mut slice.endpoints {
                endpoint.node = Some(home(&endpoint.address.to_string()).into());
            }
            Some(Change::Slice(key, Some(Arc::new(slice))))
        }
        Change::Node(None)
        | Change::MachineAddresses(_)
        | Change::ServiceCidr(..)
        | Change::Service(..)
        | Change::Slice(..) => Some(change),
    }
}

/// The addresses of Pods on the node under test, with the one interface at which a lab has their packets come in: a link
/// is a Pod, which has an address of each family at most. Some names are those of the detectors, some miss them narrowly.
const LINKS: [([&str; 2], &str); 6] = [
    (["10.244.1.5", "fd00:10:244:1::5"], "cni0"),
    (["10.244.1.6", "fd00:10:244:1::6"], "cni01"),
    (["10.244.1.7", "fd00:10:244:1::7"], "veth7"),
    (["10.244.1.9", "fd00:10:244:1::9"], "veth9"),
    (["10.244.1.200", "fd00:10:244:1::200"], "vet200"),
    (["10.244.9.9", "fd00:10:244:9::9"], "eth9"),
];

/// Where a packet comes in, if the settings ask: by its Pod's link, or from the nodes' network.
fn interface(world: &World, packet: &Packet) -> Option<Interface> {
    let asks = matches!(world.here().options.detector, Detector::Interface(_));
    if !asks || packet.arrival == Arrival::Node {
        return None;
    }
    let source = packet.source.to_string();
    let link = LINKS.iter().find(|(ips, _)| ips.contains(&source.as_str()));
    Interface::parse(link.map_or("eth0", |(_, link)| link))
}

/// The node that all buildable cases have, and its interfaces.
pub(super) fn start() -> [Change; 2] {
    let addresses = node_1().addresses;
    [
        Change::Node(Some(Arc::new(node_1()))),
        Change::MachineAddresses(addresses.into()),
    ]
}

/// So many packets that a lab can send, no two alike. There are fewer only where the world does not have more.
pub(super) fn packets(random: &mut Random, world: &World, count: usize) -> Vec<Packet> {
    let mut kept: Vec<Packet> = Vec::new();
    for _ in 0..DRAWS {
        for mut packet in super::packets(random, world, count) {
            packet.interface = interface(world, &packet);
            if kept.len() < count && can_be_sent(world, &packet) && !kept.contains(&packet) {
                kept.push(packet);
            }
        }
    }
    kept
}

/// Whether a lab can send the packet and tell what became of it: the node sends from an address of its
/// own, everybody else from one that is not the node's, and nobody gets a packet that claims to
/// come from himself.
fn can_be_sent(world: &World, packet: &Packet) -> bool {
    let desired = world.desired();
    let mut own = node_1().addresses.into_iter().chain(SECOND.map(ip));
    let is_own = own.any(|ip| ip == packet.source);
    let backends = || desired.pools.values().flat_map(|pool| &pool.backends);
    let hairpin_elsewhere = !desired.local_backends.contains(&packet.source)
        && backends().any(|backend| backend.address == packet.source);
    let from = match packet.arrival {
        Arrival::Node => is_own,
        Arrival::Link => !is_own && !hairpin_elsewhere,
    };
    let to = packet.destination;
    from && !to.is_loopback() && to.to_string() != "172.30.0.12" && to.to_string() != "fd00:30::12"
}

pub(super) fn is_pod(address: IpAddr) -> bool {
    let text = address.to_string();
    text.starts_with("10.244.") || text.starts_with("fd00:10:244:")
}

/// Addresses that the node may have besides.
const SECOND: [&str; 2] = ["172.30.0.111", "fd00:30::111"];

/// More than half of what is drawn can be sent.
const DRAWS: usize = 6;
