//! Clients that chose an endpoint before it left follow their Service to another: real packets.

mod common;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::conntrack::{HalfClosed, Walk, Which, forget, forget_abandoned};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Place, Spec};
use daymark_lab::net::Cable;
use daymark_model::{Family, World, flows};
use daymark_netlink::ct::{Filter, Flow, Status, Tuple};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;

use traffic::{kernel, lab_of, node};

const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service dns ClusterIP 53/UDP cluster=10.96.0.10,fd00:10:96::a
endpoint 10.244.1.5 ready on node-1
endpoint fd00:10:244:1::5 ready on node-1
step another Pod takes over
remove endpoint 10.244.1.5 of dns
remove endpoint fd00:10:244:1::5 of dns
endpoint 10.244.1.6 ready on node-1 of dns
endpoint fd00:10:244:1::6 ready on node-1 of dns
step nobody is left
remove endpoint 10.244.1.6 of dns
remove endpoint fd00:10:244:1::6 of dns
";

fn lab() -> BareLab {
    lab_of(Spec {
        nodes: vec![node(1, [5, 6, 9]), node(2, [5])],
        outside: Vec::new(),
        ports: vec![53],
    })
}

/// The plane of the first node, and a socket there for what is tracked.
fn plane_of_node(lab: &BareLab) -> (Plane<Netlink>, NfSocket) {
    let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
    let socket = ns.within(NfSocket::open).expect("on the node");
    let (plane, _) = Plane::start(kernel(lab), TableFlags::NONE).expect("a plane");
    (plane, socket.expect("a netfilter socket"))
}

/// Asks over and over from one port.
struct Client {
    socket: UdpSocket,
    service: SocketAddr,
}

impl Client {
    fn of(lab: &BareLab, from: &str, service: &str) -> Self {
        let ns = lab.ns(&Place::Pod("pod-9".to_owned())).expect("a Pod");
        let socket = ns.within(|| UdpSocket::bind(from)).expect("in the Pod");
        let socket = socket.expect("a socket");
        let patience = Some(Duration::from_millis(300));
        socket.set_read_timeout(patience).expect("a timeout");
        Self {
            socket,
            service: service.parse().expect("an address and port"),
        }
    }

    /// Which Pod answers: its name stands first in the answer.
    fn ask(&self) -> io::Result<String> {
        let mut buffer = [0; 512];
        self.socket.send_to(b"?", self.service)?;
        let (len, _) = self.socket.recv_from(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }
}

#[test]
fn a_client_with_one_port_follows_its_service() {
    isolated_test("a_client_with_one_port_follows_its_service", || {
        let lab = lab();
        let (mut plane, mut socket) = plane_of_node(&lab);
        let clients = [
            Client::of(&lab, "10.244.1.9:4053", "10.96.0.10:53"),
            Client::of(&lab, "[fd00:10:244:1::9]:4053", "[fd00:10:96::a]:53"),
        ];
        let case = Case::parse("inline", CASE).expect("a case");
        let mut world = World::default();
        for (step, expected) in case
            .steps
            .iter()
            .zip([Some("pod/pod-5"), Some("pod/pod-6"), None])
        {
            let before: Vec<_> = clients.iter().map(Client::ask).map(Result::ok).collect();
            let suspects = flows::suspects(&world, &step.changes);
            plane
                .update(&world.apply(step.changes.iter().cloned()))
                .expect("a commit");
            if step.line > 1 {
                // The kernel still knows the flow: this is what has to be mended.
                let now: Vec<_> = clients.iter().map(Client::ask).map(Result::ok).collect();
                assert_eq!(now, before, "{}", step.name);
            }
            forget(
                &mut socket,
                &suspects.judge(&world),
                Which::Datagrams,
                &mut |_| {},
            )
            .expect("forgotten");
            for client in &clients {
                let answered = client.ask().ok();
                assert_eq!(answered.as_deref(), expected, "{}", step.name);
            }
        }
    });
}

const ONE_FAMILY: &str = "\
service old ClusterIP 53/UDP cluster=10.96.0.20
endpoint 10.244.1.6 ready on node-1
service new ClusterIP 53/UDP 80/TCP cluster=fd00:10:96::14
endpoint fd00:10:244:1::6 ready on node-1
step one family changes
remove endpoint fd00:10:244:1::6 of new
";

/// What is told of each walk is what a metric counts: a family that nothing changed of is not walked, and none is told.
#[test]
fn the_families_that_changed_are_walked_and_told_and_no_others() {
    let name = "the_families_that_changed_are_walked_and_told_and_no_others";
    isolated_test(name, || {
        let mut socket = NfSocket::open().expect("a socket");
        let case = Case::parse("inline", ONE_FAMILY).expect("a case");
        let mut world = World::default();
        let (mut judged, mut told) = (Vec::new(), Vec::new());
        for step in &case.steps {
            let suspects = flows::suspects(&world, &step.changes);
            world.apply(step.changes.iter().cloned());
            judged.push(suspects.judge(&world));
        }
        let verdicts = judged.last().expect("two steps");
        for which in [Which::Datagrams, Which::Connections] {
            let forgotten = forget(&mut socket, verdicts, which, &mut |walk| told.push(walk));
            assert_eq!(forgotten.expect("forgotten").walks, 1, "{which:?}");
        }
        let walk = Walk {
            family: Family::V6,
            stale: 0,
        };
        assert_eq!(told, [walk, walk]);
    });
}

/// A client's flow to the cluster IP that was translated to nowhere, in a zone.
fn untranslated(zone: u16) -> Flow {
    let client = ([10, 244, 1, 9].into(), 4053);
    let original = Tuple::new(17, client, ([10, 96, 0, 10].into(), 53));
    Flow {
        original,
        reply: original.reversed(),
        zone,
        status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED,
        mark: 0,
        timeout: Some(120),
        id: None,
        tcp: None,
    }
}

#[test]
fn flows_of_other_zones_are_left_alone() {
    isolated_test("flows_of_other_zones_are_left_alone", || {
        let mut socket = NfSocket::open().expect("a netfilter socket");
        for zone in [0, 7] {
            socket.add_flow(&untranslated(zone)).expect("added");
        }
        let case = Case::parse("inline", CASE).expect("a case");
        let mut world = World::default();
        let changes = case.steps[0].changes.clone();
        let suspects = flows::suspects(&world, &changes);
        world.apply(changes);
        let verdicts = suspects.judge(&world);
        forget(&mut socket, &verdicts, Which::Datagrams, &mut |_| {}).expect("forgotten");
        let left = socket.flows(&Filter::default()).expect("listed");
        let zones: Vec<u16> = left.iter().map(|flow| flow.zone).collect();
        assert_eq!(zones, [7]);
    });
}

const OPENING: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web ClusterIP 53/TCP cluster=10.96.0.20,fd00:10:96::14
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:2::5 ready on node-2
step its node is found dead, and another Pod is ready
endpoint 10.244.2.5 not-ready on node-2 of web
endpoint fd00:10:244:2::5 not-ready on node-2 of web
endpoint 10.244.1.6 ready on node-1 of web
endpoint fd00:10:244:1::6 ready on node-1 of web
";

#[test]
fn a_connection_that_nobody_answers_reaches_another_endpoint() {
    let name = "a_connection_that_nobody_answers_reaches_another_endpoint";
    isolated_test(name, || {
        let mut lab = lab();
        let (mut plane, mut socket) = plane_of_node(&lab);
        let case = Case::parse("inline", OPENING).expect("a case");
        let mut world = World::default();
        let [before, after] = &case.steps[..] else {
            panic!("two steps")
        };
        let first = world.apply(before.changes.iter().cloned());
        plane.update(&first).expect("a commit");
        lab.set_cable("node-2", Cable::Cut).expect("a cable");
        let pod = lab.ns(&Place::Pod("pod-9".to_owned())).expect("a Pod");
        let connect = |service: &str| {
            let (pod, service) = (pod.clone(), service.parse().expect("an address and port"));
            std::thread::spawn(move || {
                let connect = || TcpStream::connect_timeout(&service, Duration::from_secs(10));
                pod.within(connect).expect("in the Pod")
            })
        };
        let clients = ["10.96.0.20:53", "[fd00:10:96::14]:53"].map(connect);
        // The first SYN is on its way, to nobody.
        std::thread::sleep(Duration::from_millis(200));
        let suspects = flows::suspects(&world, &after.changes);
        let second = world.apply(after.changes.iter().cloned());
        plane.update(&second).expect("a commit");
        let verdicts = suspects.judge(&world);
        let removed =
            forget(&mut socket, &verdicts, Which::Connections, &mut |_| {}).expect("forgotten");
        assert_eq!(removed.flows, [1, 1], "one flow a family");
        assert_eq!(removed.walks, 2, "and one walk");
        for client in clients {
            client
                .join()
                .expect("a client")
                .expect("its next SYN goes to the Pod that is ready");
        }
    });
}

const LATE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
step the Service comes
service dns NodePort 53/UDP@30053 cluster=10.96.0.10,fd00:10:96::a
endpoint 10.244.1.5 ready on node-1
endpoint fd00:10:244:1::5 ready on node-1
step nobody is left
remove endpoint 10.244.1.5 of dns
remove endpoint fd00:10:244:1::5 of dns
step somebody is there again
endpoint 10.244.1.6 ready on node-1 of dns
endpoint fd00:10:244:1::6 ready on node-1 of dns
step the Service goes
remove service dns
step and comes again, with an address more, and finds its slice
service dns NodePort 53/UDP@30054 cluster=10.96.0.10,fd00:10:96::a external=172.30.0.53,fd00:30::53
";

#[test]
fn a_client_that_sent_before_its_service_was_there_reaches_it_and_follows_it_all_along() {
    let name =
        "a_client_that_sent_before_its_service_was_there_reaches_it_and_follows_it_all_along";
    isolated_test(name, || {
        let lab = lab();
        let (mut plane, mut socket) = plane_of_node(&lab);
        let clients = [
            Client::of(&lab, "10.244.1.9:4053", "10.96.0.10:53"),
            Client::of(&lab, "[fd00:10:244:1::9]:4053", "[fd00:10:96::a]:53"),
            Client::of(&lab, "10.244.1.9:4054", "172.30.0.11:30054"),
            Client::of(&lab, "10.244.1.9:4055", "172.30.0.53:53"),
            Client::of(&lab, "[fd00:10:244:1::9]:4055", "[fd00:30::53]:53"),
        ];
        // By step, who answers at the cluster IPs, the node port and the external IPs. The router of the lab answers at every
        // address that nobody translates.
        let (router, first, second) = (Some("fabric"), Some("pod/pod-5"), Some("pod/pod-6"));
        let expected = [
            [router, None, router],
            [first, None, router],
            [None, None, router],
            [second, None, router],
            [router, None, router],
            [second, second, second],
        ];
        // A flow that is no Service's: to the same port of a Pod, beside the node port.
        let stranger = Client::of(&lab, "10.244.1.9:4056", "10.244.1.6:53");
        let case = Case::parse("inline", LATE).expect("a case");
        let mut world = World::default();
        assert_eq!(case.steps.len(), expected.len());
        for (step, expected) in case.steps.iter().zip(expected) {
            let suspects = flows::suspects(&world, &step.changes);
            let delta = world.apply(step.changes.iter().cloned());
            plane.update(&delta).expect("a commit");
            assert_eq!(stranger.ask().ok().as_deref(), Some("pod/pod-6"));
            let forgotten = forget(
                &mut socket,
                &suspects.judge(&world),
                Which::Datagrams,
                &mut |_| {},
            );
            assert!(forgotten.expect("forgotten").walks <= 2, "{}", step.name);
            for (client, kind) in clients.iter().zip([0, 0, 1, 2, 2]) {
                let answered = client.ask().ok();
                let (to, expected) = (client.service, expected[kind]);
                assert_eq!(answered.as_deref(), expected, "{}: {to}", step.name);
            }
            let flows = socket.flows(&Filter::default()).expect("listed");
            let is_strangers = |flow: &&Flow| flow.original.dst == stranger.service.ip();
            assert_eq!(flows.iter().filter(is_strangers).count(), 1);
        }
    });
}

const STANDING: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web ClusterIP 80->9090/TCP cluster=10.96.0.20,fd00:10:96::14
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:2::5 ready on node-2
service other ClusterIP 80->9090/TCP cluster=10.96.0.21,fd00:10:96::15
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:2::5 ready on node-2
step its Pod is gone; one Service has another, one has none
remove endpoint 10.244.2.5 of web
remove endpoint fd00:10:244:2::5 of web
endpoint 10.244.1.6 ready on node-1 of web
endpoint fd00:10:244:1::6 ready on node-1 of web
remove endpoint 10.244.2.5 of other
remove endpoint fd00:10:244:2::5 of other
";

/// What becomes of connections that stand when their Pod is gone, at the client's next packet.
fn standing(options: &str) -> Vec<io::Result<usize>> {
    let mut lab = lab();
    let (mut plane, mut socket) = plane_of_node(&lab);
    let case = Case::parse("inline", &format!("{options}{STANDING}")).expect("a case");
    let mut world = World::new(case.options.clone());
    let [before, after] = &case.steps[..] else {
        panic!("two steps")
    };
    let first = world.apply(before.changes.iter().cloned());
    plane.update(&first).expect("a commit");
    let away = lab.ns(&Place::Pod("pod-2-5".to_owned())).expect("a Pod");
    let listener = away.within(|| TcpListener::bind("[::]:9090"));
    let listener = listener.expect("in the Pod").expect("a listener");
    let pod = lab.ns(&Place::Pod("pod-9".to_owned())).expect("a Pod");
    let services = [
        "10.96.0.20:80",
        "[fd00:10:96::14]:80",
        "10.96.0.21:80",
        "[fd00:10:96::15]:80",
    ];
    let mut held = Vec::new();
    let clients = services.map(|service| {
        let service: SocketAddr = service.parse().expect("an address and port");
        let connect = || TcpStream::connect_timeout(&service, Duration::from_secs(1));
        let mut stream = pod.within(connect).expect("in the Pod").expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        server.write_all(b"welcome").expect("sent");
        stream.read_exact(&mut [0; 7]).expect("it stands");
        held.push(server);
        stream
    });
    lab.set_cable("node-2", Cable::Cut).expect("a cable");
    let suspects = flows::suspects(&world, &after.changes);
    let second = world.apply(after.changes.iter().cloned());
    plane.update(&second).expect("a commit");
    let verdicts = suspects.judge(&world);
    forget(&mut socket, &verdicts, Which::Connections, &mut |_| {}).expect("forgotten");
    let next = |mut stream: TcpStream| {
        stream.write_all(b"are you there?")?;
        stream.set_read_timeout(Some(Duration::from_millis(900)))?;
        stream.read(&mut [0; 8])
    };
    clients.into_iter().map(next).collect()
}

#[test]
fn a_connection_to_a_pod_that_is_gone_is_reset_if_that_is_asked_for() {
    let name = "a_connection_to_a_pod_that_is_gone_is_reset_if_that_is_asked_for";
    isolated_test(name, || {
        for read in standing("options gone-endpoints=reset\n") {
            let kind = read.as_ref().map_err(io::Error::kind);
            assert_eq!(kind, Err(io::ErrorKind::ConnectionReset));
        }
        for read in standing("") {
            let kind = read.as_ref().map_err(io::Error::kind);
            assert_eq!(kind, Err(io::ErrorKind::WouldBlock), "it waits");
        }
    });
}

const ABANDONED: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web ClusterIP 80->9090/TCP cluster=10.96.0.20,fd00:10:96::14
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:2::5 ready on node-2
service other ClusterIP 80->9090/TCP cluster=10.96.0.21,fd00:10:96::15
endpoint 10.244.1.5 ready on node-1
endpoint fd00:10:244:1::5 ready on node-1
step one Pod is dead, another lives on without its Service, and a third is ready
remove endpoint 10.244.2.5 of web
remove endpoint fd00:10:244:2::5 of web
endpoint 10.244.1.6 ready on node-1 of web
endpoint fd00:10:244:1::6 ready on node-1 of web
remove endpoint 10.244.1.5 of other
remove endpoint fd00:10:244:1::5 of other
endpoint 10.244.1.6 ready on node-1 of other
endpoint fd00:10:244:1::6 ready on node-1 of other
";

/// A connection from a port that the client chose. The client is the Pod 9.
fn connect_from(lab: &BareLab, port: u16, service: &str) -> io::Result<TcpStream> {
    let service: SocketAddr = service.parse().expect("an address and port");
    let pod = lab.ns(&Place::Pod("pod-9".to_owned())).expect("a Pod");
    let connect = || {
        let kind = socket2::Domain::for_address(service);
        let socket = socket2::Socket::new(kind, socket2::Type::STREAM, None)?;
        let any: SocketAddr = match service {
            SocketAddr::V4(_) => ([0; 4], port).into(),
            SocketAddr::V6(_) => ([0; 16], port).into(),
        };
        socket.set_reuse_address(true)?;
        socket.bind(&any.into())?;
        socket.connect_timeout(&service.into(), Duration::from_millis(900))?;
        Ok(TcpStream::from(socket))
    };
    pod.within(connect).expect("in the Pod")
}

/// A listener of a Pod, where Services lead to.
fn listen(lab: &BareLab, pod: &str) -> TcpListener {
    let pod = lab.ns(&Place::Pod(pod.to_owned())).expect("a Pod");
    let bound = pod.within(|| TcpListener::bind("[::]:9090"));
    bound.expect("in the Pod").expect("a listener")
}

/// The client's end of a connection, and the endpoint's.
type Ends = (TcpStream, TcpStream);

fn connected(lab: &BareLab, port: u16, service: &str, listener: &TcpListener) -> Ends {
    let client = connect_from(lab, port, service).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (client, server)
}

/// One side takes leave, and the other hears it.
fn take_leave(who: &TcpStream, mut other: &TcpStream) {
    who.shutdown(std::net::Shutdown::Write).expect("closed");
    other.read_to_end(&mut Vec::new()).expect("its last");
}

/// The case of abandoned connections, before its Pod is dead.
struct Abandoned {
    lab: BareLab,
    plane: Plane<Netlink>,
    socket: NfSocket,
    world: World,
    case: Case,
}

impl Abandoned {
    fn begin() -> Self {
        let lab = lab();
        let (mut plane, socket) = plane_of_node(&lab);
        let case = Case::parse("inline", ABANDONED).expect("a case");
        let mut world = World::default();
        let first = world.apply(case.steps[0].changes.iter().cloned());
        plane.update(&first).expect("a commit");
        // So that the client's own memory of a closed connection is no reason for what is seen.
        let client = lab.ns(&Place::Pod("pod-9".to_owned())).expect("a Pod");
        for (sysctl, value) in [("tcp_fin_timeout", "1"), ("tcp_orphan_retries", "1")] {
            let set = || std::fs::write(format!("/proc/sys/net/ipv4/{sysctl}"), value);
            let set = client.within(set).expect("in the Pod");
            set.expect("a sysctl of the Pod");
        }
        Self {
            lab,
            plane,
            socket,
            world,
            case,
        }
    }

    /// The endpoints leave.
    fn leave(&mut self) -> flows::Verdicts {
        let after = &self.case.steps[1];
        let suspects = flows::suspects(&self.world, &after.changes);
        let second = self.world.apply(after.changes.iter().cloned());
        self.plane.update(&second).expect("a commit");
        let verdicts = suspects.judge(&self.world);
        assert!(verdicts.concern_abandoned() && !verdicts.concern_standing());
        verdicts
    }
}

const FAMILIES: [(&str, &str); 2] = [
    ("10.96.0.20:80", "10.96.0.21:80"),
    ("[fd00:10:96::14]:80", "[fd00:10:96::15]:80"),
];

#[test]
fn a_half_closed_connection_to_a_pod_that_is_gone_gives_its_port_free() {
    let name = "a_half_closed_connection_to_a_pod_that_is_gone_gives_its_port_free";
    isolated_test(name, || {
        let mut test = Abandoned::begin();
        let dead = listen(&test.lab, "pod-2-5");
        let leaver = listen(&test.lab, "pod-5");
        let _ready = listen(&test.lab, "pod-6");
        let (mut ended, mut lasting) = (Vec::new(), Vec::new());
        for (web, other) in FAMILIES {
            // Of one the Pod took leave, of the other its client will once the Pod is dead.
            let (client, server) = connected(&test.lab, 4077, web, &dead);
            take_leave(&server, &client);
            ended.push((client, server));
            ended.push(connected(&test.lab, 4079, web, &dead));
            // Of this one the Pod has too, and its client sends on.
            let (client, server) = connected(&test.lab, 4078, other, &leaver);
            take_leave(&server, &client);
            lasting.push((client, server));
        }
        test.lab.set_cable("node-2", Cable::Cut).expect("a cable");
        // Their last is sent again for as long as that, and then the client forgets.
        let held: Vec<TcpStream> = ended.into_iter().map(|(_, server)| server).collect();
        std::thread::sleep(Duration::from_millis(2_500));
        let verdicts = test.leave();
        let ports = || {
            let ports = |(web, _)| [(4077, web), (4079, web)];
            FAMILIES.into_iter().flat_map(ports)
        };
        for (port, web) in ports() {
            let error = connect_from(&test.lab, port, web).expect_err("what the kernel kept");
            assert!(matches!(error.kind(), io::ErrorKind::TimedOut), "{error}");
        }
        let nothing = HalfClosed::default();
        let look = |socket: &mut NfSocket, before: &HalfClosed, seconds| {
            let since = Duration::from_secs(seconds);
            forget_abandoned(socket, &verdicts, (before, since), &mut |_| {})
        };
        let (seen, forgotten) = look(&mut test.socket, &nothing, 3).expect("a look");
        assert_eq!((forgotten.flows, forgotten.walks), ([0, 0], 2));
        // Of two that live something is heard, of the others nothing.
        std::thread::sleep(Duration::from_secs(2));
        let talk = |lasting: &mut Vec<Ends>| {
            for (client, server) in lasting {
                client.write_all(b"still").expect("sent");
                server.read_exact(&mut [0; 5]).expect("it stands");
            }
        };
        talk(&mut lasting);
        std::thread::sleep(Duration::from_secs(1));
        let (seen, forgotten) = look(&mut test.socket, &seen, 3).expect("a look");
        assert_eq!(forgotten.flows, [2, 2], "those of which nothing was heard");
        assert!(!seen.is_empty(), "the others are watched on");
        talk(&mut lasting);
        for (port, web) in ports() {
            connect_from(&test.lab, port, web).expect("the Pod that is ready");
        }
        drop(held);
    });
}

/// The client's request is whole, and its Pod, which its Service has let go, works on the answer.
#[test]
fn a_client_that_took_leave_gets_its_answer_however_long_it_waits() {
    let name = "a_client_that_took_leave_gets_its_answer_however_long_it_waits";
    isolated_test(name, || {
        let mut test = Abandoned::begin();
        let leaver = listen(&test.lab, "pod-5");
        let connect = |(_, other)| {
            let (client, server) = connected(&test.lab, 4078, other, &leaver);
            (&client).write_all(b"a question").expect("sent");
            take_leave(&client, &server);
            (client, server)
        };
        let waiting = FAMILIES.map(connect);
        let verdicts = test.leave();
        let mut seen = HalfClosed::default();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(1));
            let since = Duration::from_secs(1);
            let look = forget_abandoned(&mut test.socket, &verdicts, (&seen, since), &mut |_| {});
            let (found, forgotten) = look.expect("a look");
            assert_eq!((forgotten.flows, forgotten.walks), ([0, 0], 2));
            assert!(found.is_empty(), "they need no watch: {found:?}");
            seen = found;
        }
        for (mut client, mut server) in waiting {
            server.write_all(b"an answer").expect("sent");
            drop(server);
            let patience = Some(Duration::from_secs(2));
            client.set_read_timeout(patience).expect("a timeout");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("to its end");
            assert_eq!(answer, "an answer");
        }
    });
}
