//! Real traffic through a Service while something happens to its plane: none of it may be lost.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daymark_case::Case;
use daymark_case::random::Random;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Node, Outcome, Place, Pod, Probe, Protocol, Spec};
use daymark_lab::net::{PodAddresses, Prefix};
use daymark_model::{Change, Family, Slice, World};
use daymark_netlink::ct::{Filter, TupleFilter};
use daymark_netlink::nft;
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::NetNs;

/// Endpoints; one Pod more is the client.
const PODS: u8 = 8;
/// Below a second: then the kernel would send a lost SYN again, unseen (RFC 6298, section 2.1).
const PATIENCE: Duration = Duration::from_millis(950);
/// Where the Pods listen to connections that last.
const HELD: u16 = 9090;

const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web NodePort 80->8080/TCP@30080 cluster=10.96.0.20,fd00:10:96::20
ENDPOINTS
service talk NodePort 80->8080/UDP@30081 cluster=10.96.0.21,fd00:10:96::21
ENDPOINTS
service held ClusterIP 80->9090/TCP cluster=10.96.0.22,fd00:10:96::22
ENDPOINTS
";

pub(crate) fn lab() -> BareLab {
    lab_of(Spec {
        nodes: vec![node(1, 1..=PODS + 1)],
        outside: ["172.30.0.100", "fd00:30::100"].map(ip).into(),
        ports: vec![8080],
    })
}

pub(crate) fn lab_of(spec: Spec) -> BareLab {
    BareLab::new(&spec).expect("a lab")
}

/// Leads these addresses to the first node, for clients outside.
pub(crate) fn lead(lab: &mut BareLab, addresses: &[&str]) {
    for address in addresses {
        let to = Prefix::host(ip(address));
        lab.route(&Place::Outside, to, "node-1").expect("a route");
    }
}

/// A node, and Pods with these numbers at the end of their addresses: on the first node they are called by their number alone.
pub(crate) fn node(number: u8, pods: impl IntoIterator<Item = u8>) -> Node {
    let pod = |pod: u8| Pod {
        name: match number {
            1 => format!("pod-{pod}"),
            _ => format!("pod-{number}-{pod}"),
        },
        addresses: PodAddresses {
            v4: Some([10, 244, number, pod].into()),
            v6: Some([0xfd00, 0x10, 0x244, number.into(), 0, 0, 0, pod.into()].into()),
        },
        link: None,
    };
    Node {
        name: format!("node-{number}"),
        addresses: vec![
            [172, 30, 0, 10 + number].into(),
            ip(&format!("fd00:30::1{number}")),
        ],
        pods: pods.into_iter().map(pod).collect(),
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// RFC 1071.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum: u32 = words
        .map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("folded twice")
}

/// A UDP datagram of IPv4 without checksum, which UDP may, as a frame to a neighbour. The body is short.
pub(crate) fn datagram(
    neighbour: [u8; 6],
    from: SocketAddrV4,
    to: SocketAddrV4,
    body: &[u8],
) -> Vec<u8> {
    let udp = u8::try_from(8 + body.len()).expect("a short body");
    let mut header = vec![0x45, 0, 0, 20 + udp, 0, 1, 0, 0, 64, 17, 0, 0];
    header.extend([from.ip(), to.ip()].map(Ipv4Addr::octets).concat());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let ports = [from.port(), to.port()].map(u16::to_be_bytes).concat();
    let ethernet = [&neighbour[..], &[2, 0, 0, 0, 0, 9, 8, 0]].concat();
    [&ethernet[..], &header, &ports, &[0, udp, 0, 0], body].concat()
}

/// The hardware address that the neighbours of a namespace have for an address.
pub(crate) fn neighbour(ns: &NetNs, address: &str) -> [u8; 6] {
    let read = || std::fs::read_to_string("/proc/thread-self/net/arp");
    let table = ns.within(read).expect("in it").expect("a table");
    let mut lines = table.lines();
    let line = lines.find(|line| line.split_whitespace().next() == Some(address));
    let mac = line.and_then(|line| line.split_whitespace().nth(3));
    let mut bytes = mac.expect("a neighbour").split(':');
    [0; 6].map(|_: u8| u8::from_str_radix(bytes.next().expect("six"), 16).expect("a byte"))
}

/// A netfilter socket of the node.
pub(crate) fn kernel(lab: &BareLab) -> Netlink {
    let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
    let kernel = ns.within(Netlink::open).expect("on the node");
    kernel.expect("a netfilter socket")
}

/// The Services, with every Pod as endpoint.
pub(crate) fn everybody() -> World {
    let endpoints = (1..=PODS).map(|number| {
        format!(
            "endpoint 10.244.1.{number} ready on node-1\n\
             endpoint fd00:10:244:1::{number} ready on node-1\n"
        )
    });
    let text = CASE.replace("ENDPOINTS\n", &endpoints.collect::<String>());
    let case = Case::parse("inline", &text).expect("a case");
    let mut world = World::default();
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

/// Some of the Pods in each slice, at least one: of those that the slices of everybody name.
pub(crate) fn some(random: &mut Random, whole: &[Arc<Slice>]) -> Vec<Change> {
    let change = |slice: &Arc<Slice>| {
        let mut slice = Slice::clone(slice);
        let kept = 1 + random.below(slice.endpoints.len());
        while slice.endpoints.len() > kept {
            slice.endpoints.remove(random.below(slice.endpoints.len()));
        }
        Change::Slice(slice.key.clone(), Some(Arc::new(slice)))
    };
    whole.iter().map(change).collect()
}

/// What was sent while something happened.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// New connections and datagrams of new flows.
    pub(crate) new: usize,
    /// Exchanges over flows that stood.
    pub(crate) standing: usize,
    /// What went wrong.
    pub(crate) lost: Vec<String>,
}

impl Seen {
    /// Nothing was lost, and there was something to lose.
    pub(crate) fn assert_whole(&self, what: &str) {
        let (new, standing) = (self.new, self.standing);
        assert!(
            self.lost.is_empty(),
            "{what}: {} lost of {new} new and {standing} standing: {:?}",
            self.lost.len(),
            self.lost.first()
        );
        assert!(
            new > 100 && standing > 100,
            "{what}: {new} new, {standing} standing"
        );
    }
}

/// Sends all the time while `act` acts: new connections from a Pod and from outside, and over flows that stand.
pub(crate) fn during<R: Send>(lab: &BareLab, act: impl FnOnce() -> R + Send) -> (R, Seen) {
    during_of(lab, &Family::BOTH, act)
}

/// The same, in these families alone.
pub(crate) fn during_of<R: Send>(
    lab: &BareLab,
    families: &[Family],
    act: impl FnOnce() -> R + Send,
) -> (R, Seen) {
    let is_of = |to: &&str| families.contains(&family(to));
    let done = AtomicBool::new(false);
    let pod = Place::Pod(format!("pod-{}", PODS + 1));
    let servers = servers(lab);
    let mut talks: Vec<(String, Talk)> = Vec::new();
    let datagrams = [
        (&pod, "10.96.0.21:80"),
        (&pod, "[fd00:10:96::21]:80"),
        (&Place::Outside, "172.30.0.11:30081"),
        (&Place::Outside, "[fd00:30::11]:30081"),
    ];
    for (from, to) in datagrams.into_iter().filter(|(_, to)| is_of(to)) {
        talks.push((
            format!("UDP {from} to {to}"),
            Talk::datagrams(lab, from, to),
        ));
    }
    let connections = ["10.96.0.22:80", "[fd00:10:96::22]:80"];
    for to in connections.into_iter().filter(is_of) {
        talks.push((
            format!("TCP {pod} to {to}"),
            Talk::connection(lab, &pod, to),
        ));
    }
    let (result, seen) = std::thread::scope(|scope| {
        let done = &done;
        let acting = scope.spawn(move || {
            let _ended = Ended(done);
            act()
        });
        let talking: Vec<_> = talks
            .into_iter()
            .map(|(name, talk)| scope.spawn(move || talk.go_on(&name, done)))
            .collect();
        let mut seen = Seen::default();
        while !done.load(Ordering::Acquire) {
            let probes = probes(&pod, families);
            for (probe, outcome) in probes.iter().zip(lab.probe_all(&probes, PATIENCE)) {
                seen.new += 1;
                let reached = matches!(&outcome, Ok(Outcome::Reached(answer)) if answer.arrived_at.port() == 8080);
                seen.lost
                    .extend((!reached).then(|| format!("{probe:?}: {outcome:?}")));
            }
        }
        for one in talking {
            let (exchanged, lost) = one.join().expect("a client");
            seen.standing += exchanged;
            seen.lost.extend(lost);
        }
        (acting.join().expect("what was to happen"), seen)
    });
    drop(servers);
    (result, seen)
}

/// Ends the traffic, also when what acts panics.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn family(to: &str) -> Family {
    let to: SocketAddr = to.parse().expect("an address and port");
    Family::of(to.ip())
}

fn probes(pod: &Place, families: &[Family]) -> Vec<Probe> {
    let to = |from: &Place, service: &str, protocol| Probe {
        from: from.clone(),
        source: None,
        to: service.parse().expect("an address and port"),
        protocol,
    };
    let all = [
        to(pod, "10.96.0.20:80", Protocol::Tcp),
        to(pod, "[fd00:10:96::20]:80", Protocol::Tcp),
        to(pod, "10.96.0.21:80", Protocol::Udp),
        to(pod, "[fd00:10:96::21]:80", Protocol::Udp),
        to(&Place::Outside, "172.30.0.11:30080", Protocol::Tcp),
        to(&Place::Outside, "[fd00:30::11]:30080", Protocol::Tcp),
    ];
    let of_families = |probe: &&Probe| families.contains(&Family::of(probe.to.ip()));
    let all: Vec<_> = all.iter().filter(of_families).collect();
    all.iter().cycle().take(48).copied().cloned().collect()
}

/// Servers in every Pod that send each byte back, until they are dropped.
struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

fn servers(lab: &BareLab) -> Servers {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for number in 1..=PODS {
        let ns = lab.ns(&Place::Pod(format!("pod-{number}"))).expect("a Pod");
        let listener = ns.within(|| TcpListener::bind(("::", HELD)));
        let listener = listener.expect("in the Pod").expect("a listener");
        listener.set_nonblocking(true).expect("a listener");
        let stop = Arc::clone(&stop);
        threads.push(std::thread::spawn(move || echo(&listener, &stop)));
    }
    Servers { stop, threads }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn echo(listener: &TcpListener, stop: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Acquire) {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a stream");
            open.push(stream);
        }
        for stream in &mut open {
            if let Ok(len) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..len]);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A flow that stands.
enum Talk {
    Datagrams(UdpSocket),
    Connection(TcpStream),
}

impl Talk {
    fn datagrams(lab: &BareLab, from: &Place, to: &str) -> Self {
        let to: SocketAddr = to.parse().expect("an address and port");
        let any: IpAddr = match to {
            SocketAddr::V4(_) => [0; 4].into(),
            SocketAddr::V6(_) => [0; 16].into(),
        };
        let open = || {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            io::Result::Ok(socket)
        };
        let socket = lab.ns(from).expect("a place").within(open);
        let talk = Self::Datagrams(socket.expect("there").expect("a socket"));
        { talk }.begun()
    }

    fn connection(lab: &BareLab, from: &Place, to: &str) -> Self {
        let to: SocketAddr = to.parse().expect("an address and port");
        let open = || {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_nodelay(true)?;
            // A segment that is lost is sent again after 200 ms, and doubling (RFC 6298): three times at most.
            stream.set_read_timeout(Some(Duration::from_millis(1_500)))?;
            io::Result::Ok(stream)
        };
        let stream = lab.ns(from).expect("a place").within(open);
        let talk = Self::Connection(stream.expect("there").expect("a connection"));
        { talk }.begun()
    }

    /// Both directions were seen.
    fn begun(mut self) -> Self {
        self.exchange().expect("the first exchange");
        self
    }

    fn exchange(&mut self) -> io::Result<()> {
        let mut buffer = [0; 512];
        match self {
            Self::Datagrams(socket) => {
                socket.send(b"?")?;
                socket.recv(&mut buffer)?;
            }
            Self::Connection(stream) => {
                stream.write_all(b"12345678")?;
                stream.read_exact(&mut buffer[..8])?;
            }
        }
        Ok(())
    }

    /// How many exchanges went well, and the first that did not.
    fn go_on(mut self, name: &str, done: &AtomicBool) -> (usize, Option<String>) {
        let mut exchanged = 0;
        while !done.load(Ordering::Acquire) {
            if let Err(error) = self.exchange() {
                return (
                    exchanged,
                    Some(format!("{name}, after {exchanged}: {error}")),
                );
            }
            exchanged += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        (exchanged, None)
    }
}

/// Forgets what is tracked of datagrams of IPv4: the next connections are new ones again, and the kernel's table does not fill.
pub(crate) fn forget_datagrams(tracked: &mut NfSocket) {
    let filter = Filter {
        family: Some(nft::Family::Ip),
        original: TupleFilter {
            protocol: Some(17),
            ..TupleFilter::default()
        },
        ..Filter::default()
    };
    let flows = tracked.flows(&filter).expect("listed");
    tracked.remove_flows(&flows).expect("removed");
}
