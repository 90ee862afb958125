//! The source ranges of a Service are exchanged for others that overlap them, as fast as can be, while clients connect: who
//! is always in them is always served, and who never is never arrives. A flood of datagrams in frames, each a new connection.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::counts::{self, Reason};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Place, Spec};
use daymark_model::{Change, Cidr, Family, World};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;
use daymark_sys::packet::{self, PacketSocket, Traffic};

use crate::traffic::{datagram, forget_datagrams, ip, kernel, lab_of, lead, neighbour, node};
use crate::{Done, now};

const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service talk LoadBalancer 53->8053/UDP cluster=10.96.0.21 lb=172.30.0.251 ranges=10.200.0.0/16
endpoint 10.244.1.1 ready on node-1
";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 251);

/// How long the ranges are exchanged for each kind of client.
const TIME: Duration = Duration::from_secs(4);
/// The more ranges change at once, the longer the commit.
const OTHERS: u8 = 100;
/// Clients before the kernel forgets their flows.
const CLIENTS: u16 = 2_000;

/// Who floods.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Clients that are in every list.
    Allowed,
    /// Clients that are in none.
    Stranger,
}

impl Who {
    fn network(self) -> Ipv4Addr {
        match self {
            Self::Allowed => Ipv4Addr::new(10, 200, 0, 0),
            Self::Stranger => Ipv4Addr::new(11, 200, 0, 0),
        }
    }
}

fn lab() -> BareLab {
    let mut lab = lab_of(Spec {
        nodes: vec![node(1, 1..=1)],
        outside: vec![ip("172.30.0.100")],
        ports: Vec::new(),
    });
    lead(&mut lab, &["172.30.0.251"]);
    lab
}

/// The lists that follow each other: each range overlaps one of every other list.
fn list(number: u8) -> Vec<Cidr> {
    let length = number % 3;
    let mut list =
        vec![["10.0.0.0/8", "10.128.0.0/9", "10.200.0.0/16"][usize::from(length)].to_owned()];
    list.extend((0..OTHERS).map(|other| format!("198.18.{other}.0/{}", 24 + length)));
    let read = |text: &String| Cidr::parse(text).expect("a range");
    list.iter().map(read).collect()
}

/// Exchanges the ranges for as long as it takes; how often that was.
fn exchange(plane: &mut Plane<Netlink>, world: &mut World) -> usize {
    let services = world.inputs().services.iter();
    let (key, service) = services.last().expect("the Service");
    let (key, service) = (key.clone(), Arc::clone(service));
    let started = now();
    let mut exchanges = 0;
    while now() - started < TIME {
        let mut service = (*service).clone();
        service.source_ranges = list((exchanges % 3) as u8);
        let delta = world.apply([Change::Service(key.clone(), Some(Arc::new(service)))]);
        plane.update(&delta).expect("a commit");
        exchanges += 1;
    }
    exchanges
}

/// Many clients' datagrams, and the endpoint's socket.
struct Flood {
    wire: PacketSocket,
    to: [u8; 6],
    endpoint: UdpSocket,
    tracked: NfSocket,
    sent: u64,
    arrived: u64,
}

impl Flood {
    fn new(lab: &BareLab) -> Self {
        let outside = lab.ns(&Place::Outside).expect("a client");
        let eth0 = 2;
        let wire = outside.within(|| packet::open(eth0, Traffic::Neighbours));
        // Refused, but the node is a neighbour then.
        let refused = outside.within(|| TcpStream::connect(("172.30.0.11", 9)));
        assert!(refused.expect("outside").is_err(), "nobody listens there");
        let pod = lab.ns(&Place::Pod("pod-1".to_owned())).expect("a Pod");
        let endpoint = pod.within(|| UdpSocket::bind(("0.0.0.0", 8053)));
        let endpoint = endpoint.expect("in the Pod").expect("a socket");
        endpoint.set_nonblocking(true).expect("a socket");
        let node = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let tracked = node.within(NfSocket::open).expect("on the node");
        Self {
            wire: wire.expect("outside").expect("a packet socket"),
            to: neighbour(outside, "172.30.0.11"),
            endpoint,
            tracked: tracked.expect("a socket"),
            sent: 0,
            arrived: 0,
        }
    }

    /// One connection of each client.
    fn burst(&mut self, who: Who) {
        for client in 0..CLIENTS {
            let from = Ipv4Addr::from(who.network().to_bits() + u32::from(client));
            let (from, to) = (
                SocketAddrV4::new(from, 4_000),
                SocketAddrV4::new(ADDRESS, 53),
            );
            self.wire
                .send(&datagram(self.to, from, to, b"?"))
                .expect("sent");
            self.sent += 1;
            self.read();
        }
        forget_datagrams(&mut self.tracked);
    }

    fn read(&mut self) {
        while self.endpoint.recv(&mut [0; 8]).is_ok() {
            self.arrived += 1;
        }
    }

    /// What was dropped so far because of the ranges.
    fn dropped(&mut self) -> u64 {
        let counted = counts::read(&mut self.tracked).expect("counters");
        let reason = (Family::V4, Reason::SourceRange);
        counted.get(&reason).copied().unwrap_or_default()
    }
}

/// A flood while ranges are exchanged: how often they were, and the flood afterwards.
fn flooded(who: Who) -> (usize, Flood) {
    let lab = lab();
    let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
    let case = Case::parse("inline", CASE).expect("a case");
    let mut world = World::default();
    world.apply(case.steps[0].changes.iter().cloned());
    plane.reconcile(world.desired().clone()).expect("a load");
    let mut flood = Flood::new(&lab);
    let done = AtomicBool::new(false);
    let exchanges = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let _done = Done(&done);
            exchange(&mut plane, &mut world)
        });
        while !done.load(Ordering::Acquire) {
            flood.burst(who);
        }
        changing.join().expect("every commit went through")
    });
    flood.read();
    (exchanges, flood)
}

#[test]
fn ranges_that_overlap_change_places_and_no_client_in_both_is_dropped() {
    let test = "ranges::ranges_that_overlap_change_places_and_no_client_in_both_is_dropped";
    isolated_test(test, || {
        let (exchanges, mut flood) = flooded(Who::Allowed);
        let (sent, arrived, dropped) = (flood.sent, flood.arrived, flood.dropped());
        let said = format!("{exchanges} exchanges, {sent} connections, {arrived} arrived");
        assert_eq!(dropped, 0, "clients that every list allows: {said}");
        assert!(exchanges >= 10 && arrived > sent / 2, "{said}");
    });
}

#[test]
fn ranges_change_places_and_no_client_in_neither_arrives() {
    let test = "ranges::ranges_change_places_and_no_client_in_neither_arrives";
    isolated_test(test, || {
        let (exchanges, mut flood) = flooded(Who::Stranger);
        let (sent, arrived, dropped) = (flood.sent, flood.arrived, flood.dropped());
        let said = format!("{exchanges} exchanges, {sent} connections, {dropped} dropped");
        assert_eq!(arrived, 0, "clients that no list allows: {said}");
        assert!(exchanges >= 10 && dropped > sent / 2, "{said}");
    });
}
