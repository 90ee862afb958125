//! Connections of which one side has taken leave, after their endpoint has left its Service: real packets.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::conntrack::{HalfClosed, forget_abandoned};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Place, Spec};
use daymark_lab::net::Cable;
use daymark_model::{World, flows};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;

use traffic::{kernel, lab_of, node};

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
        let lab = lab_of(Spec {
            nodes: vec![node(1, [5, 6, 9]), node(2, [5])],
            outside: Vec::new(),
            ports: vec![53],
        });
        let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let socket = ns.within(NfSocket::open).expect("on the node");
        let socket = socket.expect("a netfilter socket");
        let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
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
