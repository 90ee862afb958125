//! A UDP client that never changes its port follows its Service to another Pod: real packets.

mod common;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::conntrack::forget;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Node, Place, Pod, Spec};
use daymark_lab::net::PodAddresses;
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
    BareLab::new(&Spec {
        nodes: vec![node],
        outside: Vec::new(),
        ports: vec![53],
    })
    .expect("a lab")
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
        let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let kernel = ns.within(Netlink::open).expect("on the node");
        let mut socket = ns
            .within(NfSocket::open)
            .expect("on the node")
            .expect("a netfilter socket");
        let kernel = kernel.expect("a netfilter socket");
        let (mut plane, _) = Plane::start(kernel, TableFlags::NONE).expect("a plane");
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
            forget(&mut socket, &suspects.judge(&world)).expect("forgotten");
            for client in &clients {
                let answered = client.ask().ok();
                assert_eq!(answered.as_deref(), expected, "{}", step.name);
            }
        }
    });
}
