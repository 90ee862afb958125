//! An endpoint's packet outside of the window must not end its connection (kubernetes 74839): connection tracking
//! calls it invalid and does not translate it, so that whoever gets it takes it for a stranger's and answers with a reset.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Place, Spec};
use daymark_model::World;
use daymark_sys::ns::{NetNs, isolated_test};
use daymark_sys::packet::{self, Traffic};

use traffic::{checksum, ip, kernel, lab_of, lead, node};

const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web LoadBalancer 80->8080/TCP cluster=10.96.0.20,fd00:10:96::20 lb=172.30.0.200,fd00:30::200
endpoint 10.244.1.5 ready on node-1
endpoint fd00:10:244:1::5 ready on node-1
";

fn lab() -> BareLab {
    let mut lab = lab_of(Spec {
        nodes: vec![node(1, [5, 9])],
        outside: ["172.30.0.100", "fd00:30::100"].map(ip).into(),
        ports: Vec::new(),
    });
    lead(&mut lab, &["172.30.0.200", "fd00:30::200"]);
    lab
}

fn plane(lab: &BareLab, options: &str) -> Plane<Netlink> {
    let (mut plane, _) = Plane::start(kernel(lab), TableFlags::NONE).expect("a plane");
    let case = Case::parse("inline", &format!("{options}{CASE}")).expect("a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    plane.reconcile(world.desired().clone()).expect("a load");
    plane
}

/// How many resets the namespace's hosts have sent.
fn resets(ns: &NetNs) -> u64 {
    let read = || fs::read_to_string("/proc/thread-self/net/snmp");
    let text = ns
        .within(read)
        .expect("in the namespace")
        .expect("counters");
    let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:"));
    let names = tcp.next().expect("names").split(' ');
    let mut both = names.zip(tcp.next().expect("numbers").split(' '));
    let (_, count) = both.find(|(name, _)| *name == "OutRsts").expect("resets");
    count.parse().expect("a number")
}

/// A TCP segment with data in an Ethernet frame to the Pod's gateway.
fn frame(from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    // Five words of header, ACK, a window, no checksum yet, no urgent data.
    tcp.extend([5 << 4, 0x10, 1, 0, 0, 0, 0, 0]);
    tcp.extend(b"what?!");
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (source, destination) = (octets(from.ip()), octets(to.ip()));
    let length = u16::try_from(tcp.len()).expect("a short segment");
    let pseudo = [&source[..], &destination, &[0, 6], &length.to_be_bytes()].concat();
    let sum = checksum(&[&pseudo[..], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&[0xee; 6][..], &[2, 0, 0, 0, 0, 5]].concat();
    if from.is_ipv4() {
        let total = (length + 20).to_be_bytes();
        let mut header = vec![0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 6, 0, 0];
        header.extend([source, destination].concat());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend([8, 0]);
        frame.extend(header);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([6, 64]);
        frame.extend([source, destination].concat());
    }
    frame.extend(tcp);
    frame
}

/// What became of a connection whose endpoint sent packets outside of the window.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Reset,
    Living,
}

fn try_one(lab: &BareLab, client: &Place, service: &str, endpoint: &str) -> Became {
    let service: SocketAddr = service.parse().expect("an address and port");
    let endpoint: SocketAddr = endpoint.parse().expect("an address and port");
    let pod = lab.ns(&Place::Pod("pod-5".to_owned())).expect("a Pod");
    let from = lab.ns(client).expect("a client");
    let node = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
    let listener = pod.within(|| TcpListener::bind(endpoint)).expect("in it");
    let listener = listener.expect("a listener");
    let connect = || TcpStream::connect_timeout(&service, Duration::from_secs(2));
    let mut inside = from.within(connect).expect("in it").expect("connected");
    let (mut served, peer) = listener.accept().expect("a connection");
    let before = resets(from) + resets(node);
    let eth0 = 2;
    let socket = pod.within(|| packet::open(eth0, Traffic::Neighbours));
    let socket = socket.expect("in the Pod").expect("a packet socket");
    // Wherever the connection is, all but one of these are far outside.
    for quarter in 0..4_u32 {
        let frame = frame(endpoint, peer, quarter << 30);
        socket.send(&frame).expect("sent");
    }
    std::thread::sleep(Duration::from_millis(200));
    if resets(from) + resets(node) > before {
        return Became::Reset;
    }
    let mut got = [0; 5];
    let patience = Some(Duration::from_secs(2));
    inside.set_read_timeout(patience).expect("a timeout");
    served.write_all(b"still").expect("sent");
    inside.read_exact(&mut got).expect("the connection lives");
    Became::Living
}

/// Each client's way: from an own Pod with its source kept, from outside masqueraded.
fn try_all(lab: &BareLab) -> Vec<Became> {
    let pod = Place::Pod("pod-9".to_owned());
    let [four, six] = ["10.244.1.5:8080", "[fd00:10:244:1::5]:8080"];
    vec![
        try_one(lab, &pod, "10.96.0.20:80", four),
        try_one(lab, &pod, "[fd00:10:96::20]:80", six),
        try_one(lab, &Place::Outside, "172.30.0.200:80", four),
        try_one(lab, &Place::Outside, "[fd00:30::200]:80", six),
    ]
}

#[test]
fn packets_outside_of_the_window_end_no_connection() {
    isolated_test("packets_outside_of_the_window_end_no_connection", || {
        let lab = lab();
        let plane = plane(&lab, "");
        for became in try_all(&lab) {
            assert_eq!(became, Became::Living);
        }
        drop(plane);
    });
}

#[test]
fn let_through_they_end_every_connection() {
    isolated_test("let_through_they_end_every_connection", || {
        let lab = lab();
        let plane = plane(&lab, "options invalid=let-through\n");
        for became in try_all(&lab) {
            assert_eq!(became, Became::Reset);
        }
        drop(plane);
    });
}
