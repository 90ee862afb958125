//! Clients that chose an endpoint before it left follow their Service to another: real packets.

mod common;

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::conntrack::{Which, forget};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Node, Place, Pod, Spec};
use daymark_lab::net::{Cable, PodAddresses};
use daymark_model::{World, flows};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;

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
    let pod = |number: u8| Pod {
        name: format!("pod-{number}"),
        addresses: PodAddresses {
            v4: Some([10, 244, 1, number].into()),
            v6: Some([0xfd00, 0x10, 0x244, 1, 0, 0, 0, u16::from(number)].into()),
        },
    };
    let node = Node {
        name: "node-1".to_owned(),
        addresses: ["172.30.0.11", "fd00:30::11"]
            .map(|ip| ip.parse().expect("an address"))
            .into(),
        pods: vec![pod(5), pod(6), pod(9)],
    };
    let away = Node {
        name: "node-2".to_owned(),
        addresses: ["172.30.0.12", "fd00:30::12"]
            .map(|ip| ip.parse().expect("an address"))
            .into(),
        pods: vec![Pod {
            name: "pod-away".to_owned(),
            addresses: PodAddresses {
                v4: Some([10, 244, 2, 5].into()),
                v6: Some([0xfd00, 0x10, 0x244, 2, 0, 0, 0, 5].into()),
            },
        }],
    };
    BareLab::new(&Spec {
        nodes: vec![node, away],
        outside: Vec::new(),
        ports: vec![53],
    })
    .expect("a lab")
}

/// The plane of the first node, and a socket there for what is tracked.
fn plane_of_node(lab: &BareLab) -> (Plane<Netlink>, NfSocket) {
    let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
    let kernel = ns.within(Netlink::open).expect("on the node");
    let socket = ns.within(NfSocket::open).expect("on the node");
    let kernel = kernel.expect("a netfilter socket");
    let (plane, _) = Plane::start(kernel, TableFlags::NONE).expect("a plane");
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
            forget(&mut socket, &suspects.judge(&world), Which::Datagrams).expect("forgotten");
            for client in &clients {
                let answered = client.ask().ok();
                assert_eq!(answered.as_deref(), expected, "{}", step.name);
            }
        }
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
        let removed = forget(&mut socket, &verdicts, Which::Openings).expect("forgotten");
        assert_eq!(removed, [1, 1], "one flow a family");
        for client in clients {
            client
                .join()
                .expect("a client")
                .expect("its next SYN goes to the Pod that is ready");
        }
    });
}
