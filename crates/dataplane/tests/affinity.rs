//! A full map of affinity: clients that find no room in it keep their endpoint all the same, and are counted. Real packets.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Kernel, Plane};
use daymark_dataplane::nft::counts::{self, Reason};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::set;
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol, Spec};
use daymark_model::{Family, World};
use daymark_netlink::nft::{Message, Ruleset, TableId};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;

use traffic::{ip, kernel, lab_of, lead, node};

/// The kernel, with room for few clients.
struct Narrow(Netlink);

impl Kernel for Narrow {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            if let Message::NewSet { set, .. } = message
                && *set.name == *set::STICKY
            {
                set.size = Some(ROOM);
            }
        }
        self.0.commit(&messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.0.read(table)
    }
}

const ROOM: u32 = 8;
/// The kernel may have room for some more than it was asked for.
const CLIENTS: u8 = 60;
const PODS: u8 = 5;
const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web LoadBalancer 80->8080/TCP cluster=10.96.0.20,fd00:10:96::20 lb=172.30.0.250,fd00:30::250 affinity=ClientIP
";

fn clients(family: Family) -> Vec<IpAddr> {
    let one = |number| match family {
        Family::V4 => ip(&format!("172.30.0.{}", 100 + number)),
        Family::V6 => ip(&format!("fd00:30::{:x}", 0x100 + u16::from(number))),
    };
    (0..CLIENTS).map(one).collect()
}

fn lab() -> BareLab {
    let mut lab = lab_of(Spec {
        nodes: vec![node(1, 1..=PODS)],
        outside: Family::BOTH.into_iter().flat_map(clients).collect(),
        ports: vec![8080],
    });
    lead(&mut lab, &["172.30.0.250", "fd00:30::250"]);
    lab
}

/// Where each client's connection ends.
fn places(lab: &BareLab) -> BTreeMap<IpAddr, Place> {
    let probe = |source: IpAddr| Probe {
        from: Place::Outside,
        source: Some(source),
        to: match Family::of(source) {
            Family::V4 => (ip("172.30.0.250"), 80).into(),
            Family::V6 => (ip("fd00:30::250"), 80).into(),
        },
        protocol: Protocol::Tcp,
    };
    let all: Vec<IpAddr> = Family::BOTH.into_iter().flat_map(clients).collect();
    let probes: Vec<Probe> = all.iter().copied().map(probe).collect();
    let outcomes = lab.probe_all(&probes, Duration::from_secs(5));
    let reached = outcomes.into_iter().map(|outcome| match outcome {
        Ok(Outcome::Reached(answer)) => answer.place,
        other => panic!("{other:?}"),
    });
    all.into_iter().zip(reached).collect()
}

#[test]
fn a_full_map_takes_nobodys_endpoint_away() {
    isolated_test("a_full_map_takes_nobodys_endpoint_away", || {
        let lab = lab();
        let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
        let kernel = Narrow(kernel(&lab));
        let (mut plane, _) = Plane::start(kernel, TableFlags::NONE).expect("a plane");
        let endpoints = (1..=PODS).map(|number| {
            format!(
                "endpoint 10.244.1.{number} ready on node-1\n\
                 endpoint fd00:10:244:1::{number} ready on node-1\n"
            )
        });
        let text = CASE.to_owned() + &endpoints.collect::<String>();
        let case = Case::parse("inline", &text).expect("a case");
        let mut world = World::default();
        world.apply(case.steps[0].changes.iter().cloned());
        plane.reconcile(world.desired().clone()).expect("a load");
        let first = places(&lab);
        for _ in 0..3 {
            assert_eq!(places(&lab), first);
        }
        // Not all at one, in either family.
        for family in Family::BOTH {
            let of_family = first.iter().filter(|(ip, _)| Family::of(**ip) == family);
            let used: std::collections::BTreeSet<&Place> = of_family.map(|(_, at)| at).collect();
            assert_eq!(used.len(), usize::from(PODS), "{family}");
        }
        let socket = ns.within(NfSocket::open).expect("on the node");
        let counts = counts::read(&mut socket.expect("a socket")).expect("counters");
        for family in Family::BOTH {
            let unkept = counts.get(&(family, Reason::Unkept)).copied();
            assert!(
                unkept >= Some(20),
                "{family}: {unkept:?}, or the map was not full"
            );
        }
    });
}
