//! What the kernel does not give up or does not take: flows that a flowtable forwards, and a table of connections that is full.
//!
//! Both are a kernel's of its own: `kernels/test` says with `DAYMARK_OWN_KERNEL` that the limit of tracked connections, which is
//! one of the whole machine, may be changed, and that its kernel has flowtables.

mod common;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::conntrack::{Forgotten, Walk, Which, forget};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Place, Spec};
use daymark_model::flows::{self, Verdicts};
use daymark_model::{Change, World};
use daymark_netlink::ct::{Filter, Flow, Status, Tuple};
use daymark_sys::netlink::{NfSocket, QueryError};
use daymark_sys::ns::{NetNs, isolated_test};

use traffic::{kernel, lab_of, node};

const CASE: &str = "\
node node-1 172.30.0.11 pods=10.244.1.0/24
service dns ClusterIP 53/UDP cluster=10.96.0.10
endpoint 10.244.1.5 ready on node-1
service many ClusterIP 53/UDP cluster=10.96.0.20
endpoint 10.244.1.7 ready on node-1
step another Pod takes over
remove endpoint 10.244.1.5 of dns
endpoint 10.244.1.6 ready on node-1 of dns
step those of the other Service leave
remove endpoint 10.244.1.7 of many
";

/// A node with its plane and what it knows.
struct Site {
    lab: BareLab,
    plane: Plane<Netlink>,
    socket: NfSocket,
    world: World,
    steps: std::vec::IntoIter<Vec<Change>>,
}

impl Site {
    fn new() -> Self {
        let lab = lab_of(Spec {
            nodes: vec![node(1, [5, 6, 9])],
            outside: Vec::new(),
            ports: vec![53],
        });
        let socket = of_node(&lab).within(NfSocket::open).expect("on the node");
        let (plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
        let case = Case::parse("inline", CASE).expect("a case");
        let steps: Vec<_> = case.steps.into_iter().map(|step| step.changes).collect();
        let mut site = Self {
            lab,
            plane,
            socket: socket.expect("a netfilter socket"),
            world: World::default(),
            steps: steps.into_iter(),
        };
        site.step();
        site
    }

    /// The next step, committed, and what has become of flows.
    fn step(&mut self) -> Verdicts {
        let changes = self.steps.next().expect("one more step");
        let suspects = flows::suspects(&self.world, &changes);
        self.plane
            .update(&self.world.apply(changes))
            .expect("a commit");
        suspects.judge(&self.world)
    }

    fn forget(&mut self, verdicts: &Verdicts) -> Forgotten {
        let told = &mut |_: Walk| {};
        forget(&mut self.socket, verdicts, Which::Datagrams, told).expect("no failure")
    }

    /// What the kernel of the node says of packets for which there was no room.
    fn dropped(&self) -> u64 {
        let read = || std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack");
        let text = of_node(&self.lab).within(read).expect("on the node");
        let text = text.expect("counters");
        let mut lines = text.lines().map(str::split_whitespace);
        let names = lines.next().expect("names");
        let column = names.clone().position(|name| name == "drop").expect("drop");
        let of_line = |mut line: std::str::SplitWhitespace<'_>| {
            u64::from_str_radix(line.nth(column).expect("a number"), 16).expect("hexadecimal")
        };
        lines.map(of_line).sum()
    }

    fn client(&self, port: u16) -> Client {
        let ns = self.lab.ns(&Place::Pod("pod-9".to_owned())).expect("a Pod");
        let bound = ns.within(|| UdpSocket::bind(("10.244.1.9", port)));
        let socket = bound.expect("in the Pod").expect("a socket");
        let patience = Some(Duration::from_millis(300));
        socket.set_read_timeout(patience).expect("a timeout");
        Client(socket)
    }
}

fn of_node(lab: &BareLab) -> &NetNs {
    lab.ns(&Place::Node("node-1".to_owned())).expect("a node")
}

/// Asks the Service from one port.
struct Client(UdpSocket);

impl Client {
    /// Which Pod answers.
    fn ask(&self) -> Option<String> {
        let service: SocketAddr = ([10, 96, 0, 10], 53).into();
        let asked = || -> io::Result<String> {
            let mut buffer = [0; 512];
            self.0.send_to(b"?", service)?;
            let (len, _) = self.0.recv_from(&mut buffer)?;
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            Ok(text.split(' ').next().unwrap_or_default().to_owned())
        };
        asked().ok()
    }
}

fn skipped(test: &str, why: &str) {
    // Not the print macros, which libtest swallows for a test that passes.
    let _ = writeln!(io::stderr(), "test {test} ... SKIPPED: {why}");
}

#[allow(
    clippy::disallowed_methods,
    reason = "what the caller says of the kernel"
)]
fn is_own_kernel() -> bool {
    std::env::var_os("DAYMARK_OWN_KERNEL").is_some()
}

/// A ruleset that is not ours puts every UDP flow between these devices into a flowtable. Why not, if that cannot be.
fn flowtable() -> Result<(), String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("devices");
    let names = text.lines().filter_map(|line| line.split_once(':'));
    let names: Vec<&str> = names
        .map(|(name, _)| name.trim())
        .filter(|name| *name != "lo")
        .collect();
    let devices = names.join(", ");
    let ruleset = format!(
        "add table ip other\n\
         add flowtable ip other f {{ hook ingress priority 0; devices = {{ {devices} }}; }}\n\
         add chain ip other forward {{ type filter hook forward priority 0; }}\n\
         add rule ip other forward ip protocol udp flow add @f\n"
    );
    let ran = Command::new("nft").arg(ruleset).output();
    let output = ran.map_err(|_| "nft is not installed".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!is_own_kernel(), "{said}");
    Err(format!("this kernel has no flowtables: {said}"))
}

/// For as long as the agent waits before it looks once more.
const LATER: Duration = Duration::from_secs(35);

#[test]
fn a_client_whose_flow_a_flowtable_forwards_follows_its_service() {
    let test = "a_client_whose_flow_a_flowtable_forwards_follows_its_service";
    isolated_test(test, || {
        let mut site = Site::new();
        let forwards = of_node(&site.lab).within(flowtable).expect("on the node");
        if let Err(why) = forwards {
            return skipped(test, &why);
        }
        let client = site.client(4053);
        // The first packet makes the flow, the second is one of it.
        let answers = [(); 4].map(|()| client.ask());
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_deref() == Some("pod/pod-5")),
            "{answers:?}"
        );
        let tracked = site.socket.flows(&Filter::default()).expect("flows");
        let forwarded = tracked
            .iter()
            .filter(|flow| flow.status.contains(Status::OFFLOAD));
        assert_eq!(forwarded.count(), 1, "{tracked:?}");
        let verdicts = site.step();
        assert_eq!(
            client.ask().as_deref(),
            Some("pod/pod-5"),
            "until it is forgotten"
        );
        let mut forgotten = site.forget(&verdicts);
        if forgotten.offloaded > 0 {
            // A kernel that gives none up before the flowtable has.
            assert_eq!(forgotten.flows, [0, 0]);
            assert_eq!(client.ask().as_deref(), Some("pod/pod-5"), "past conntrack");
            sleep(LATER);
            forgotten = site.forget(&verdicts);
        }
        assert_eq!((forgotten.flows, forgotten.offloaded), ([1, 0], 0));
        assert_eq!(client.ask().as_deref(), Some("pod/pod-6"), "a new flow");
    });
}

/// The most that may be tracked in a network namespace, made small for a while.
struct Limit(String);

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const SMALL: usize = 400;

impl Limit {
    fn lower() -> Option<Self> {
        let before = std::fs::read_to_string(LIMIT).ok()?;
        // Only the kernel's first network namespace may.
        std::fs::write(LIMIT, SMALL.to_string()).ok()?;
        Some(Self(before))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = std::fs::write(LIMIT, &self.0);
    }
}

/// An answered flow of the Service `many` that no packet made, and that the kernel drops for no other.
fn filler(number: usize) -> Flow {
    let number = u16::try_from(number).expect("some hundreds");
    let client = ([10, 244, 1, 8].into(), 10_000 + number);
    let at = |ip: [u8; 4]| (IpAddr::from(ip), 53);
    Flow {
        original: Tuple::new(17, client, at([10, 96, 0, 20])),
        reply: Tuple::new(17, at([10, 244, 1, 7]), client),
        zone: 0,
        status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED | Status::DST_NAT,
        mark: 0,
        timeout: Some(600),
        id: None,
        tcp: None,
    }
}

/// There is no room (`nf_conntrack_alloc`).
const ENOMEM: i32 = 12;

/// Fills the table; how many flows that took.
fn fill(socket: &mut NfSocket) -> usize {
    for number in 0..2 * SMALL {
        match socket.add_flow(&filler(number)) {
            Ok(()) => {}
            Err(QueryError::Refused(refusal)) if refusal.errno == ENOMEM => {
                return number;
            }
            Err(other) => panic!("flow {number}: {other}"),
        }
    }
    panic!("{} flows, and it is not full", 2 * SMALL)
}

#[test]
fn a_full_table_costs_new_clients_alone_and_what_is_forgotten_makes_room() {
    let test = "a_full_table_costs_new_clients_alone_and_what_is_forgotten_makes_room";
    let _limit = is_own_kernel().then(Limit::lower);
    isolated_test(test, || {
        let limit = std::fs::read_to_string(LIMIT).ok();
        if limit.and_then(|text| text.trim().parse().ok()) != Some(SMALL) {
            assert!(!is_own_kernel(), "the limit could not be changed");
            return skipped(
                test,
                "the table's size is the whole machine's: needs a kernel of its own (make test-kernels)",
            );
        }
        let mut site = Site::new();
        let (old, new) = (site.client(4053), site.client(4054));
        assert_eq!(old.ask().as_deref(), Some("pod/pod-5"));
        // A flow of UDP is worth more to the kernel than a new one (assured) if it lasts for two seconds (`nf_conntrack_udp_packet`).
        sleep(Duration::from_millis(2500));
        assert_eq!(old.ask().as_deref(), Some("pod/pod-5"));

        let filled = fill(&mut site.socket);
        assert!((SMALL / 2..SMALL).contains(&filled), "{filled} flows");
        let before = site.dropped();
        for _ in 0..5 {
            assert_eq!(new.ask(), None, "there is no room for it");
            assert_eq!(old.ask().as_deref(), Some("pod/pod-5"), "it stands");
        }
        // By which the agent tells that it is full.
        assert!(site.dropped() >= before + 5, "{before}, {}", site.dropped());
        // What must be forgotten is, and a look costs what it does else; the clients that stand have the places that they need.
        let verdicts = site.step();
        let forgotten = site.forget(&verdicts);
        assert_eq!((forgotten.flows, forgotten.walks), ([1, 0], 1));
        assert_eq!(old.ask().as_deref(), Some("pod/pod-6"), "in its own place");

        let verdicts = site.step();
        let forgotten = site.forget(&verdicts);
        assert_eq!((forgotten.flows, forgotten.walks), ([filled, 0], 1));
        for client in [&old, &new] {
            assert_eq!(client.ask().as_deref(), Some("pod/pod-6"));
        }
    });
}
