//! What a lab of namespaces can build and see, out of everything that can be drawn.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::decide::Arrival;
use daymark_model::input::Detector;
use daymark_model::{Change, Options, Packet, Slice, World};

use super::Random;
use super::objects::{home, node_1};

/// The change, as far as it can be built: one node that stays as it is, every endpoint a Pod on the
/// node of its CIDR.
pub(super) fn change(change: Change) -> Option<Change> {
    match change {
        Change::Node(_) | Change::MachineAddresses(_) => None,
        Change::Slice(key, Some(slice)) => {
            let mut slice: Slice = slice.as_ref().clone();
            slice.endpoints.retain(|endpoint| is_pod(endpoint.address));
            for endpoint in &mut slice.endpoints {
                endpoint.node = Some(home(&endpoint.address.to_string()).into());
            }
            Some(Change::Slice(key, Some(Arc::new(slice))))
        }
        Change::ServiceCidr(..) | Change::Service(..) | Change::Slice(..) => Some(change),
    }
}

/// The settings, as far as they can be built: a Pod's link has one name, and packets come from anywhere.
pub(super) fn options(options: &mut Options) {
    if let Detector::Interface(_) = options.detector {
        options.detector = Detector::NodeCidr;
    }
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
            packet.interface = None;
            if kept.len() < count && can_be_sent(world, &packet) && !kept.contains(&packet) {
                kept.push(packet);
            }
        }
    }
    kept
}

/// Whether a lab can send the packet and tell what became of it: the node sends from its own
/// address, everybody else from one that is not the node's, and nobody gets a packet that claims to
/// come from himself.
fn can_be_sent(world: &World, packet: &Packet) -> bool {
    let desired = world.desired();
    let own = node_1().addresses;
    let backends = || desired.pools.values().flat_map(|pool| &pool.backends);
    let hairpin_elsewhere = !desired.local_backends.contains(&packet.source)
        && backends().any(|backend| backend.address == packet.source);
    let from = match packet.arrival {
        Arrival::Node => own.contains(&packet.source),
        Arrival::Link => !own.contains(&packet.source) && !hairpin_elsewhere,
    };
    let to = packet.destination;
    from && !to.is_loopback() && to.to_string() != "172.30.0.12" && to.to_string() != "fd00:30::12"
}

pub(super) fn is_pod(address: IpAddr) -> bool {
    let text = address.to_string();
    text.starts_with("10.244.") || text.starts_with("fd00:10:244:")
}

/// More than half of what is drawn can be sent.
const DRAWS: usize = 6;
