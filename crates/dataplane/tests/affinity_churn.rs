//! Endpoints come and go a hundred times a second while clients with affinity connect all the time: no connection fails, none
//! reaches an endpoint of another Service, and a client stays where it is as long as its endpoint is there. Real packets.
//!
//! A packet asks the frontend, then what the client kept, then whether that is still a member: a commit between two of these
//! questions is what this looks for, by a flood: datagrams in frames, each a new connection. `agreement/commits.rs` puts one
//! between any two of them, which no flood does for sure.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daymark_case::Case;
use daymark_case::random::Random;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::counts;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol, Spec};
use daymark_model::{Change, Slice, World};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;
use daymark_sys::packet::{self, PacketSocket, Traffic};

use traffic::{datagram, forget_datagrams, ip, kernel, lab_of, lead, neighbour, node};

const CHANGES: usize = 1_200;
/// At most so many a second.
const PACE: Duration = Duration::from_millis(10);
/// Of each Service's Pods the first ones stay; the others come and go.
const STAYING: u8 = 3;
/// Below a second: then the kernel would send a lost SYN again, unseen (RFC 6298, section 2.1).
const PATIENCE: Duration = Duration::from_millis(950);
const CLIENTS: u16 = 200;
/// New connections of each flooding client before their entries are taken off the kernel's table.
const ROUNDS: u16 = 20;
/// Datagrams before the Pods' sockets are read: they have room for more.
const UNREAD: usize = 100;

const NODE: &str = "node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64\n";

/// A Service of six Pods.
struct Service {
    line: &'static str,
    /// Where they run: those of the first node are in more sets of the tables than others.
    node: u8,
    /// The first of them.
    pods: u8,
    /// Where its endpoints listen.
    port: u16,
    /// Where it is asked.
    address: &'static str,
}

impl Service {
    fn pods(&self) -> std::ops::Range<u8> {
        self.pods..self.pods + 6
    }

    fn stays(&self, pod: u8) -> bool {
        pod < self.pods + STAYING
    }

    fn text(&self) -> String {
        let node = self.node;
        let endpoints = self.pods().map(|pod| {
            let four = format!("endpoint 10.244.{node}.{pod} ready on node-{node}\n");
            let six = format!("endpoint fd00:10:244:{node}::{pod} ready on node-{node}\n");
            if self.line.contains("fd00") {
                four + &six
            } else {
                four
            }
        });
        format!("{}\n{}", self.line, endpoints.collect::<String>())
    }
}

/// Flooded: one with its own lists of this node, one of the whole cluster with the source translated.
const FLOODED: [Service; 2] = [
    Service {
        line: "service near LoadBalancer 53->8053/UDP cluster=10.96.0.21 lb=172.30.0.251 external-policy=Local affinity=ClientIP",
        node: 1,
        pods: 1,
        port: 8053,
        address: "172.30.0.251",
    },
    Service {
        line: "service far LoadBalancer 53->8054/UDP cluster=10.96.0.22 lb=172.30.0.252 affinity=ClientIP",
        node: 2,
        pods: 7,
        port: 8054,
        address: "172.30.0.252",
    },
];
/// Asked by whole connections.
const WEB: Service = Service {
    line: "service web LoadBalancer 80->8080/TCP cluster=10.96.0.20,fd00:10:96::20 lb=172.30.0.250,fd00:30::250 affinity=ClientIP",
    node: 1,
    pods: 1,
    port: 8080,
    address: "172.30.0.250",
};

fn world() -> World {
    let services = FLOODED.iter().chain([&WEB]).map(Service::text);
    let case = Case::parse("inline", &(NODE.to_owned() + &services.collect::<String>()));
    let mut world = World::default();
    world.apply(case.expect("a case").steps[0].changes.iter().cloned());
    world
}

fn tcp_clients() -> Vec<IpAddr> {
    let of = |number| {
        [
            ip(&format!("172.30.0.{number}")),
            ip(&format!("fd00:30::1:{number}")),
        ]
    };
    (100..125).flat_map(of).collect()
}

fn lab() -> BareLab {
    let mut lab = lab_of(Spec {
        nodes: vec![node(1, 1..=6), node(2, 7..=12)],
        outside: tcp_clients(),
        ports: vec![WEB.port],
    });
    lead(
        &mut lab,
        &[
            "172.30.0.250",
            "172.30.0.251",
            "172.30.0.252",
            "fd00:30::250",
        ],
    );
    lab
}

/// In the slices of a Service the Pods that stay, and of the others each or not.
fn changed(random: &mut Random, whole: &[Arc<Slice>]) -> Vec<Change> {
    let service = whole[random.below(whole.len())].service.clone();
    let of_service = whole.iter().filter(|slice| slice.service == service);
    let change = |slice: &Arc<Slice>| {
        let mut slice = Slice::clone(slice);
        let mut number = 0;
        slice.endpoints.retain(|_| {
            number += 1;
            number <= usize::from(STAYING) || random.below(2) == 0
        });
        Change::Slice(slice.key.clone(), Some(Arc::new(slice)))
    };
    of_service.map(change).collect()
}

fn churn(plane: &mut Plane<Netlink>, mut world: World) {
    let whole = world.inputs().slices_in_order();
    let mut random = Random::new(1);
    let mut next = now();
    for _ in 0..CHANGES {
        let delta = world.apply(changed(&mut random, &whole));
        plane.update(&delta).expect("a commit");
        next = (next + PACE).max(now());
        std::thread::sleep(next - now());
    }
}

/// Who was seen where.
#[derive(Default)]
struct Seen {
    /// Clients whose endpoint stays, since which of their connections.
    settled: BTreeMap<(&'static str, Vec<u8>), (u8, u64)>,
    connections: usize,
    wrong: Vec<String>,
}

impl Seen {
    /// The connection `number` of a client ended at a Pod. One that comes out of order says nothing of those after it.
    fn arrival(&mut self, service: &Service, client: &[u8], number: u64, pod: u8) {
        self.connections += 1;
        let who = || format!("connection {number} of {client:?} to {}", service.address);
        if !service.pods().contains(&pod) {
            self.wrong
                .push(format!("{} reached pod-{pod}, of another Service", who()));
            return;
        }
        let key = (service.address, client.to_vec());
        match self.settled.get(&key) {
            Some(&(at, since)) if at != pod && number > since => {
                self.wrong.push(format!(
                    "{} reached pod-{pod}, though pod-{at} stays",
                    who()
                ));
            }
            Some(_) => {}
            None if service.stays(pod) => {
                self.settled.insert(key, (pod, number));
            }
            None => {}
        }
    }
}

/// Many clients' datagrams, and the sockets of the Pods where they arrive.
struct Flood {
    wire: PacketSocket,
    to: [u8; 6],
    /// By Service and Pod.
    sockets: Vec<(usize, u8, UdpSocket)>,
    tracked: NfSocket,
    sent: u64,
}

impl Flood {
    fn new(lab: &BareLab) -> Self {
        let outside = lab.ns(&Place::Outside).expect("a client");
        let eth0 = 2;
        let wire = outside.within(|| packet::open(eth0, Traffic::Neighbours));
        let listen = |pod: u8, port: u16| {
            let name = if pod < 7 {
                format!("pod-{pod}")
            } else {
                format!("pod-2-{pod}")
            };
            let ns = lab.ns(&Place::Pod(name)).expect("a Pod");
            let socket = ns.within(|| UdpSocket::bind(("0.0.0.0", port)));
            let socket = socket.expect("in the Pod").expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            socket
        };
        let services = FLOODED.iter().enumerate();
        // Every Pod listens for every Service, so that what goes astray is seen.
        let sockets = services.flat_map(|(index, service)| {
            (1..=12).map(move |pod| (index, pod, listen(pod, service.port)))
        });
        let node = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let tracked = node.within(NfSocket::open).expect("on the node");
        Self {
            wire: wire.expect("outside").expect("a packet socket"),
            to: neighbour(outside, "172.30.0.11"),
            sockets: sockets.collect(),
            tracked: tracked.expect("a socket"),
            sent: 0,
        }
    }

    /// Some connections of every client, each from another port.
    fn burst(&mut self, seen: &mut Seen) {
        let mut unread = 0;
        for port in 0..ROUNDS {
            for client in 0..CLIENTS {
                for service in 0..FLOODED.len() {
                    self.send(service, client, 4_000 + port);
                    unread += 1;
                    if unread == UNREAD {
                        self.read(seen);
                        unread = 0;
                    }
                }
            }
        }
        self.read(seen);
        forget_datagrams(&mut self.tracked);
    }

    fn send(&mut self, service: usize, client: u16, port: u16) {
        self.sent += 1;
        let mut body = vec![service as u8];
        body.extend(client.to_be_bytes());
        body.extend(self.sent.to_be_bytes());
        let from = Ipv4Addr::from(Ipv4Addr::new(10, 128, 0, 0).to_bits() + u32::from(client));
        let to = FLOODED[service].address.parse().expect("an address");
        let (from, to) = (SocketAddrV4::new(from, port), SocketAddrV4::new(to, 53));
        let frame = datagram(self.to, from, to, &body);
        self.wire.send(&frame).expect("sent");
    }

    fn read(&self, seen: &mut Seen) {
        let mut buffer = [0; 64];
        for (listening, pod, socket) in &self.sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                let (meant, rest) = buffer[..length].split_first().expect("a Service");
                let (client, number) = rest.split_at(2);
                let number = u64::from_be_bytes(number.try_into().expect("a number"));
                let service = &FLOODED[usize::from(*meant)];
                seen.arrival(service, client, number, *pod);
                if usize::from(*meant) != *listening {
                    seen.wrong.push(format!(
                        "{} was led to the port of the other Service",
                        service.address
                    ));
                }
            }
        }
    }
}

/// One connection of every client of TCP.
fn connect(lab: &BareLab, number: u64, seen: &mut Seen) {
    let probe = |source: &IpAddr| Probe {
        from: Place::Outside,
        source: Some(*source),
        to: match source {
            IpAddr::V4(_) => (ip("172.30.0.250"), 80).into(),
            IpAddr::V6(_) => (ip("fd00:30::250"), 80).into(),
        },
        protocol: Protocol::Tcp,
    };
    let clients = tcp_clients();
    let probes: Vec<Probe> = clients.iter().map(probe).collect();
    for (client, outcome) in clients.iter().zip(lab.probe_all(&probes, PATIENCE)) {
        match outcome {
            Ok(Outcome::Reached(answer)) => {
                let name = answer.place.to_string();
                let pod = name.rsplit('-').next().and_then(|pod| pod.parse().ok());
                let pod = pod.unwrap_or_else(|| panic!("{name} is no Pod"));
                seen.arrival(&WEB, client.to_string().as_bytes(), number, pod);
            }
            // A busy machine is late; a connection that something dropped or refused is counted, and asked for in the end.
            Ok(Outcome::Timeout) => {}
            other => seen
                .wrong
                .push(format!("connection {number} of {client}: {other:?}")),
        }
    }
}

/// Says that the changes are over, also when they panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_client_keeps_its_endpoint_while_others_come_and_go() {
    isolated_test(
        "a_client_keeps_its_endpoint_while_others_come_and_go",
        || {
            let lab = lab();
            let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
            let world = world();
            plane.reconcile(world.desired().clone()).expect("a load");
            let mut seen = Seen::default();
            connect(&lab, 0, &mut seen);
            let mut flood = Flood::new(&lab);
            let done = AtomicBool::new(false);
            let took = std::thread::scope(|scope| {
                let changing = scope.spawn(|| {
                    let _done = Done(&done);
                    let started = now();
                    churn(&mut plane, world);
                    now() - started
                });
                let mut number = 0;
                while !done.load(Ordering::Acquire) {
                    number += 1;
                    flood.burst(&mut seen);
                    connect(&lab, number, &mut seen);
                }
                changing.join().expect("every commit went through")
            });
            let rate = CHANGES as f64 / took.as_secs_f64();
            let (connections, sent) = (seen.connections, flood.sent);
            let wrong = &seen.wrong;
            assert!(
                wrong.is_empty(),
                "{} of {connections}: {:#?}",
                wrong.len(),
                &wrong[..wrong.len().min(5)]
            );
            let settled: BTreeSet<u8> = seen.settled.values().map(|(pod, _)| *pod).collect();
            assert_eq!(
                settled,
                BTreeSet::from([1, 2, 3, 7, 8, 9]),
                "clients spread"
            );
            assert!(
                seen.settled.len() >= usize::from(CLIENTS) * 2,
                "all clients found one that stays"
            );
            assert!(
                connections as u64 >= sent / 2,
                "only {connections} of {sent} arrived"
            );
            let counted = counts::read(&mut flood.tracked).expect("counters");
            let counted: Vec<_> = counted
                .iter()
                .filter(|(_, packets)| **packets > 0)
                .collect();
            assert!(
                counted.is_empty(),
                "packets that no endpoint got, or whose choice was not kept: {counted:?}"
            );
            // Past the harness's capture.
            let said = format!("{rate:.0} changes a second, {connections} connections");
            let _ = writeln!(std::io::stderr(), "{said}");
        },
    );
}

#[allow(clippy::disallowed_methods, reason = "a test that measures a rate")]
fn now() -> Instant {
    Instant::now()
}
