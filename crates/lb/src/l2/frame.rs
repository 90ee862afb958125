//! Frames of ARP and neighbour discovery: read with every check of the RFCs, written whole.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::{NdpOptionSlice, NdpOptionsIterator, NeighborAdvertisementHeader};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType, Ethernet2Header, Ethernet2Slice,
    Icmpv6Header, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv6Header, Ipv6HeaderSlice,
};

use super::Mac;
use super::responder::Drop;

/// Everybody on the link (ARP).
pub(super) const BROADCAST: Mac = [0xff; 6];
/// Every IPv6 node on the link, ff02::1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Who has `target`? Asked by ARP.
    ArpRequest {
        sender: Ipv4Addr,
        sender_mac: Mac,
        target: Ipv4Addr,
    },
    /// `sender` is at `sender_mac`: a reply, or a gratuitous request.
    ArpClaim { sender: Ipv4Addr, sender_mac: Mac },
    /// Who has `target`? Asked by a neighbour that wants to send to it.
    Solicitation {
        sender: Ipv6Addr,
        sender_mac: Mac,
        target: Ipv6Addr,
    },
    /// Does anybody have `target`? Asked by a neighbour that wants it for itself (RFC 4862).
    DuplicateProbe { target: Ipv6Addr },
    /// Somebody has `target`: an answer, or an unsolicited announcement.
    Advertisement { target: Ipv6Addr },
}

/// Reads a frame that arrived at an interface with hardware address `own`.
pub(super) fn read(frame: &[u8], own: Mac) -> Result<Message, Drop> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| Drop::Truncated)?;
    if ethernet.source() == own {
        return Err(Drop::Own);
    }
    let to = ethernet.destination();
    if to != own && !is_group(to) {
        return Err(Drop::NotForUs);
    }
    match ethernet.ether_type() {
        EtherType::ARP => read_arp(ethernet.payload_slice()),
        EtherType::IPV6 => read_ndp(ethernet.payload_slice(), ethernet.source()),
        _ => Err(Drop::NotAQuestion),
    }
}

fn read_arp(packet: &[u8]) -> Result<Message, Drop> {
    let packet = ArpPacket::from_slice(packet).map_err(|_| Drop::Truncated)?;
    let packet = packet.try_eth_ipv4().map_err(|_| Drop::Malformed)?;
    let (sender, target) = (packet.sender_ipv4_addr(), packet.target_ipv4_addr());
    let sender_mac = packet.sender_mac;
    if is_group(sender_mac) || sender_mac == [0; 6] {
        return Err(Drop::Malformed);
    }
    match packet.operation {
        ArpOperation::REQUEST if sender != target => Ok(Message::ArpRequest {
            sender,
            sender_mac,
            target,
        }),
        ArpOperation::REQUEST | ArpOperation::REPLY => Ok(Message::ArpClaim { sender, sender_mac }),
        _ => Err(Drop::NotAQuestion),
    }
}

/// RFC 4861 sections 7.1.1 and 7.1.2, check by check.
fn read_ndp(packet: &[u8], from: Mac) -> Result<Message, Drop> {
    let header = Ipv6HeaderSlice::from_slice(packet).map_err(|_| Drop::Truncated)?;
    let payload = &packet[Ipv6Header::LEN..];
    let payload = payload
        .get(..header.payload_length().into())
        .ok_or(Drop::Truncated)?;
    if header.next_header() != IpNumber::IPV6_ICMP {
        return Err(Drop::NotAQuestion);
    }
    let icmp = Icmpv6Slice::from_slice(payload).map_err(|_| Drop::Truncated)?;
    let kind = icmp.type_u8();
    if kind != NEIGHBOUR_SOLICITATION && kind != NEIGHBOUR_ADVERTISEMENT {
        return Err(Drop::NotAQuestion);
    }
    if header.hop_limit() != 255 {
        return Err(Drop::Routed);
    }
    if !icmp.is_checksum_valid(header.source(), header.destination()) {
        return Err(Drop::Checksum);
    }
    let (target, options) = icmp
        .payload()
        .split_first_chunk::<16>()
        .ok_or(Drop::Truncated)?;
    let target = Ipv6Addr::from(*target);
    if icmp.code_u8() != 0 || target.is_multicast() {
        return Err(Drop::Malformed);
    }
    if kind == NEIGHBOUR_ADVERTISEMENT {
        return Ok(Message::Advertisement { target });
    }
    let source_mac = source_link_layer(options)?;
    let (sender, to) = (header.source_addr(), header.destination_addr());
    if !sender.is_unspecified() {
        let sender_mac = source_mac.unwrap_or(from);
        return if is_group(sender_mac) || sender.is_multicast() {
            Err(Drop::Malformed)
        } else {
            Ok(Message::Solicitation {
                sender,
                sender_mac,
                target,
            })
        };
    }
    if source_mac.is_some() || to != solicited_node(target) {
        return Err(Drop::Malformed);
    }
    Ok(Message::DuplicateProbe { target })
}

fn source_link_layer(options: &[u8]) -> Result<Option<Mac>, Drop> {
    let mut found = None;
    for option in NdpOptionsIterator::from_slice(options) {
        if let NdpOptionSlice::SourceLinkLayerAddress(option) =
            option.map_err(|_| Drop::Malformed)?
        {
            // Six bytes on Ethernet (RFC 2464 section 6).
            let mac = option
                .link_layer_address()
                .try_into()
                .map_err(|_| Drop::Malformed)?;
            found = Some(mac);
        }
    }
    Ok(found)
}

/// The multicast group in which an address is looked for (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The hardware address of an IPv6 multicast group (RFC 2464 section 7).
fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Broadcast or multicast: the lowest bit of the first byte.
fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// The reply to an ARP request: `address` is at `own`.
pub(super) fn arp_reply(own: Mac, address: Ipv4Addr, to: Mac, asker: Ipv4Addr) -> Vec<u8> {
    arp(
        to,
        ArpEthIpv4Packet {
            operation: ArpOperation::REPLY,
            sender_mac: own,
            sender_ipv4: address.octets(),
            target_mac: to,
            target_ipv4: asker.octets(),
        },
    )
}

/// The two unsolicited announcements of an IPv4 address, to everybody.
///
/// Linux takes the request at once, whatever it knew before. A reply it takes at once only if the target
/// hardware address is the sender's own: one with the broadcast address there is ignored within a second
/// of the last change of the entry (net/ipv4/arp.c, `arp_is_garp`). Other systems heed one of the two.
pub(super) fn arp_announcements(own: Mac, address: Ipv4Addr) -> [Vec<u8>; 2] {
    let packet = |operation, target_mac| ArpEthIpv4Packet {
        operation,
        sender_mac: own,
        sender_ipv4: address.octets(),
        target_mac,
        target_ipv4: address.octets(),
    };
    [
        arp(BROADCAST, packet(ArpOperation::REQUEST, [0; 6])),
        arp(BROADCAST, packet(ArpOperation::REPLY, own)),
    ]
}

/// Does anybody have `address`? Whoever hears it learns nothing of `own` (RFC 5227 section 2.1.1).
pub(super) fn arp_probe(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(
        BROADCAST,
        ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: own,
            sender_ipv4: [0; 4],
            target_mac: [0; 6],
            target_ipv4: address.octets(),
        },
    )
}

fn arp(to: Mac, packet: ArpEthIpv4Packet) -> Vec<u8> {
    let mut frame = ethernet(to, packet.sender_mac, EtherType::ARP);
    frame.extend_from_slice(&packet.to_bytes());
    frame
}

/// The answer to a solicitation: `address` is at `own` (RFC 4861 section 7.2.4).
pub(super) fn advertisement(own: Mac, address: Ipv6Addr, to: Mac, asker: Ipv6Addr) -> Vec<u8> {
    ndp(own, address, to, asker, Solicited::Yes)
}

/// The answer to a duplicate probe, and the unsolicited announcement: to all nodes.
///
/// The Override flag makes neighbours replace what they know; without it Linux never does.
pub(super) fn unsolicited_advertisement(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    ndp(own, address, group_mac(ALL_NODES), ALL_NODES, Solicited::No)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Solicited {
    Yes,
    No,
}

fn ndp(own: Mac, address: Ipv6Addr, mac: Mac, to: Ipv6Addr, solicited: Solicited) -> Vec<u8> {
    let mut body = address.octets().to_vec();
    body.extend_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]); // One unit of eight bytes.
    body.extend_from_slice(&own);
    let flags = NeighborAdvertisementHeader {
        router: false,
        solicited: solicited == Solicited::Yes,
        r#override: true,
    };
    icmp6(
        [own, mac],
        [address, to],
        Icmpv6Type::NeighborAdvertisement(flags),
        &body,
    )
}

/// Does anybody have `address`? Asked as a duplicate probe (RFC 4862 section 5.4.2): nobody learns of `own`.
pub(super) fn duplicate_probe(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(address);
    icmp6(
        [own, group_mac(group)],
        [Ipv6Addr::UNSPECIFIED, group],
        Icmpv6Type::NeighborSolicitation,
        &address.octets(),
    )
}

fn icmp6(
    [own, mac]: [Mac; 2],
    [source, destination]: [Ipv6Addr; 2],
    kind: Icmpv6Type,
    body: &[u8],
) -> Vec<u8> {
    let (source, destination) = (source.octets(), destination.octets());
    let icmp = Icmpv6Header::with_checksum(kind, source, destination, body).expect("a short body");
    let icmp = icmp.to_bytes();
    let header = Ipv6Header {
        traffic_class: 0,
        flow_label: Default::default(),
        payload_length: u16::try_from(icmp.len() + body.len()).expect("32 bytes"),
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 255,
        source,
        destination,
    };
    let mut frame = ethernet(mac, own, EtherType::IPV6);
    frame.extend_from_slice(&header.to_bytes());
    frame.extend_from_slice(&icmp);
    frame.extend_from_slice(body);
    frame
}

fn ethernet(destination: Mac, source: Mac, ether_type: EtherType) -> Vec<u8> {
    Ethernet2Header {
        source,
        destination,
        ether_type,
    }
    .to_bytes()
    .to_vec()
}

/// RFC 4861 section 4.3.
const NEIGHBOUR_SOLICITATION: u8 = 135;
/// RFC 4861 section 4.4.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 4861 section 4.6.1.
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
