//! Clients that chose an endpoint before it left follow their Service to another: real packets.

mod common;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::conntrack::{Walk, Which, forget};
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
