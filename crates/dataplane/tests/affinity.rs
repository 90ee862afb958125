//! A full map of affinity: clients that find no room in it keep their endpoint all the same, and are counted. Real packets.

mod narrow;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Kernel, Plane};
use daymark_dataplane::nft::counts::{self, Reason};
use daymark_dataplane::nft::layout::{STICKY_SIZE, Words, backend, set};
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol, Spec};
use daymark_model::{Family, World};
use daymark_netlink::nft::{Data, Elements, Exists, Message, SetElem};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;
use daymark_sys::packet::{self, Traffic};

use narrow::Narrow;
use traffic::{checksum, ip, kernel, lab_of, lead, neighbour, node};

/// In the other test the map has the room that it has on every node.
const ROOM: u32 = 8;
/// The kernel may have room for some more than it was asked for.
const CLIENTS: u8 = 60;
const PODS: u8 = 5;
const NODE: &str = "node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64\n";
const WEB: &str = "service web LoadBalancer 80->8080/TCP cluster=10.96.0.20,fd00:10:96::20 lb=172.30.0.250,fd00:30::250 affinity=ClientIP\n";
/// The same again, for clients that come later.
const LATE: &str = "service late LoadBalancer 81->8080/TCP cluster=10.96.0.21,fd00:10:96::21 lb=172.30.0.250,fd00:30::250 affinity=ClientIP\n";
/// And the one that is flooded.
const FLOODED: &str = "service flooded LoadBalancer 53->8053/UDP cluster=10.96.0.22 lb=172.30.0.251 affinity=ClientIP\n";

/// The endpoints of the Service before: every Pod.
fn endpoints() -> String {
    let line = |number| {
        format!(
            "endpoint 10.244.1.{number} ready on node-1\n\
             endpoint fd00:10:244:1::{number} ready on node-1\n"
        )
    };
    (1..=PODS).map(line).collect()
}

fn world(services: &[&str]) -> World {
    let services = services
        .iter()
        .map(|service| format!("{service}{}", endpoints()));
    let text = NODE.to_owned() + &services.collect::<String>();
    let case = Case::parse("inline", &text).expect("a case");
    let mut world = World::default();
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

fn clients(family: Family) -> Vec<IpAddr> {
    let one = |number| match family {
        Family::V4 => ip(&format!("172.30.0.{}", 100 + number)),
        Family::V6 => ip(&format!("fd00:30::{:x}", 0x100 + u16::from(number))),
    };
    (0..CLIENTS).map(one).collect()
}

fn lab() -> BareLab {
    let mut lab = lab_of(Spec {
        nodes: vec![node(1, 1..=PODS)],
        outside: Family::BOTH.into_iter().flat_map(clients).collect(),
        ports: vec![8080],
    });
    lead(&mut lab, &["172.30.0.250", "172.30.0.251", "fd00:30::250"]);
    lab
}

/// Where each client's connection to a port of the load balancer's addresses ends.
fn places(lab: &BareLab, port: u16) -> BTreeMap<IpAddr, Place> {
    let probe = |source: IpAddr| Probe {
        from: Place::Outside,
        source: Some(source),
        to: match Family::of(source) {
            Family::V4 => (ip("172.30.0.250"), port).into(),
            Family::V6 => (ip("fd00:30::250"), port).into(),
        },
        protocol: Protocol::Tcp,
    };
    let all: Vec<IpAddr> = Family::BOTH.into_iter().flat_map(clients).collect();
    let probes: Vec<Probe> = all.iter().copied().map(probe).collect();
    let outcomes = lab.probe_all(&probes, Duration::from_secs(5));
    let reached = outcomes.into_iter().map(|outcome| match outcome {
        Ok(Outcome::Reached(answer)) => answer.place,
        other => panic!("{other:?}"),
    });
    all.into_iter().zip(reached).collect()
}

#[test]
fn a_full_map_takes_nobodys_endpoint_away() {
    isolated_test("a_full_map_takes_nobodys_endpoint_away", || {
        let lab = lab();
        let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let kernel = Narrow {
            kernel: kernel(&lab),
            set: set::STICKY,
            size: ROOM,
        };
        let (mut plane, _) = Plane::start(kernel, TableFlags::NONE).expect("a plane");
        let world = world(&[WEB]);
        plane.reconcile(world.desired().clone()).expect("a load");
        let first = places(&lab, 80);
        for _ in 0..3 {
            assert_eq!(places(&lab, 80), first);
        }
        // Not all at one, in either family.
        for family in Family::BOTH {
            let of_family = first.iter().filter(|(ip, _)| Family::of(**ip) == family);
            let used: BTreeSet<&Place> = of_family.map(|(_, at)| at).collect();
            assert_eq!(used.len(), usize::from(PODS), "{family}");
        }
        let socket = ns.within(NfSocket::open).expect("on the node");
        let counts = counts::read(&mut socket.expect("a socket")).expect("counters");
        for family in Family::BOTH {
            let unkept = counts.get(&(family, Reason::Unkept)).copied();
            assert!(
                unkept >= Some(20),
                "{family}: {unkept:?}, or the map was not full"
            );
        }
    });
}

/// Source addresses of the one who floods.
const SOURCES: u32 = 100_000;

fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number)
}

/// A datagram to the flooded Service in an Ethernet frame; without checksum, which UDP may.
fn datagram(to: [u8; 6], source: Ipv4Addr) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0];
    header.extend(source.octets());
    header.extend([172, 30, 0, 251]);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [&4_000_u16.to_be_bytes()[..], &[0, 53, 0, 9, 0, 0], b"?"].concat();
    [&to[..], &[2, 0, 0, 0, 0, 9, 8, 0], &header, &udp].concat()
}

/// How many clients the map of IPv4 holds.
fn held(socket: &mut NfSocket) -> u32 {
    let table = Words::of(Family::V4).table();
    let elements = socket.elements(&table, &set::STICKY.into());
    u32::try_from(elements.expect("readable").len()).expect("a count")
}

/// Fills the map up as packets from so many more addresses would.
fn fill(kernel: &mut impl Kernel, room: u32) {
    let kept = |number| {
        let key = [
            &source(SOURCES + number).octets()[..],
            &999_u32.to_ne_bytes(),
        ]
        .concat();
        SetElem::data(Data::new(&key), backend(ip("10.244.1.1"), 8053))
    };
    let elements = Elements {
        set: set::STICKY.into(),
        elems: (0..room).map(kept).collect(),
    };
    let message = Message::NewElems {
        table: Words::of(Family::V4).table(),
        elements,
        exists: Exists::Keep,
    };
    kernel.commit(&[message]).expect("room");
}

#[test]
fn a_client_with_a_hundred_thousand_addresses_harms_nobody_else() {
    let test = "a_client_with_a_hundred_thousand_addresses_harms_nobody_else";
    isolated_test(test, || {
        let lab = lab();
        let node = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
        let world = world(&[WEB, LATE, FLOODED]);
        plane.reconcile(world.desired().clone()).expect("a load");
        let first = places(&lab, 80);
        let outside = lab.ns(&Place::Outside).expect("a client");
        let eth0 = 2;
        let flood = outside.within(|| packet::open(eth0, Traffic::Neighbours));
        let flood = flood.expect("outside").expect("a packet socket");
        let to = neighbour(outside, "172.30.0.11");
        for number in 0..SOURCES {
            flood.send(&datagram(to, source(number))).expect("sent");
        }
        let socket = node.within(NfSocket::open).expect("on the node");
        let mut socket = socket.expect("a socket");
        let flooded = held(&mut socket);
        // Others too use the machine's table of connections, and what finds no room there comes no further.
        assert!(flooded >= SOURCES / 2, "only {flooded} came through");
        assert_eq!(places(&lab, 80), first, "there is room left");
        fill(plane.kernel(), STICKY_SIZE - flooded);
        let unkept = |socket: &mut NfSocket| {
            let counts = counts::read(socket).expect("counters");
            let of = |family| counts.get(&(family, Reason::Unkept)).copied();
            Family::BOTH.map(|family| of(family).unwrap_or_default())
        };
        let before = unkept(&mut socket);
        assert_eq!(places(&lab, 80), first, "who was there before stays");
        assert_eq!(unkept(&mut socket), before);
        // Who comes now finds no room in the flooded family, is served, and by one endpoint.
        let late = places(&lab, 81);
        assert_eq!(places(&lab, 81), late);
        for family in Family::BOTH {
            let of_family = late.iter().filter(|(ip, _)| Family::of(**ip) == family);
            let used: BTreeSet<&Place> = of_family.map(|(_, at)| at).collect();
            assert_eq!(used.len(), usize::from(PODS), "{family}");
        }
        let now = unkept(&mut socket);
        assert!(now[0] >= before[0] + 2 * u64::from(CLIENTS), "{now:?}");
        assert_eq!(now[1], before[1], "the other family has room of its own");
        // The next agent does not take the flood for its own.
        drop(plane);
        let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
        let changed = plane.reconcile(world.desired().clone());
        assert_eq!(changed, Ok(0));
        let mut tables = plane.compiler().program().tables();
        assert!(tables.all(|table| table.elements(set::STICKY).next().is_none()));
        assert_eq!(places(&lab, 80), first);
    });
}
