//! New connections of Service ports are counted in the kernel, and where there is no room to count they are served all the same.
//! Real packets.

mod narrow;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Kernel, Plane};
use daymark_dataplane::nft::counts;
use daymark_dataplane::nft::layout::set;
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol};
use daymark_model::{Family, World};
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;

use narrow::Narrow;
use traffic::{ip, kernel, lab};

/// Twelve Services, each with its number in its address, the first six with affinity.
fn world() -> World {
    let node = "node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64\n";
    let service = |number: u8| {
        let affinity = if number < 6 { " affinity=ClientIP" } else { "" };
        format!(
            "service s-{number} ClusterIP 80->8080/TCP cluster=10.96.0.{number},fd00:10:96::{number:x}{affinity}\n\
             endpoint 10.244.1.1 ready on node-1\nendpoint 10.244.1.2 ready on node-1\n\
             endpoint fd00:10:244:1::1 ready on node-1\n"
        )
    };
    let text = node.to_owned() + &(0..SERVICES).map(service).collect::<String>();
    let case = Case::parse("inline", &text).expect("a case");
    let mut world = World::default();
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

const SERVICES: u8 = 12;

/// How many ports the kernel of one test may count.
const ROOM: u32 = 4;

/// `times` connections to each Service by each family, from a Pod that is no endpoint. All are served.
fn connect(lab: &BareLab, times: usize) {
    let mut probes = Vec::new();
    for number in 0..SERVICES {
        for address in [
            format!("10.96.0.{number}"),
            format!("fd00:10:96::{number:x}"),
        ] {
            let probe = Probe {
                from: Place::Pod("pod-9".to_owned()),
                source: None,
                to: (ip(&address), 80).into(),
                protocol: Protocol::Tcp,
            };
            probes.extend(std::iter::repeat_n(probe, times));
        }
    }
    for outcome in lab.probe_all(&probes, Duration::from_secs(5)) {
        assert!(matches!(outcome, Ok(Outcome::Reached(_))), "{outcome:?}");
    }
}

/// What is counted for the Services of a family, by their names.
fn counted<K: Kernel>(lab: &BareLab, plane: &Plane<K>, family: Family) -> BTreeMap<String, u64> {
    let ns = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
    let socket = ns.within(NfSocket::open).expect("on the node");
    let compiler = plane.compiler();
    let table = compiler.words(family).table();
    let counts = counts::connections(&mut socket.expect("a socket"), &table).expect("counters");
    let names: BTreeMap<u32, String> = compiler
        .ports(family)
        .map(|(number, name)| (number, name.service.name.to_string()))
        .collect();
    let named = |(number, count): (&u32, &u64)| (names[number].clone(), *count);
    counts.iter().map(named).collect()
}

#[test]
fn each_connection_is_counted_once_with_affinity_and_without() {
    isolated_test(
        "each_connection_is_counted_once_with_affinity_and_without",
        || {
            let lab = lab();
            let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
            plane.reconcile(world().desired().clone()).expect("a load");
            assert_eq!(counted(&lab, &plane, Family::V4), BTreeMap::new());
            connect(&lab, 3);
            connect(&lab, 2);
            for family in Family::BOTH {
                let counts = counted(&lab, &plane, family);
                let all = (0..SERVICES).map(|number| (format!("s-{number}"), 5));
                assert_eq!(counts, all.collect(), "{family}");
            }
            assert_eq!(
                plane.verify().expect("a look"),
                0,
                "what packets write is no difference"
            );
        },
    );
}

#[test]
fn where_there_is_no_room_to_count_connections_are_served_all_the_same() {
    isolated_test(
        "where_there_is_no_room_to_count_connections_are_served_all_the_same",
        || {
            let lab = lab();
            let narrow = Narrow {
                kernel: kernel(&lab),
                set: set::HITS,
                size: ROOM,
            };
            let (mut plane, _) = Plane::start(narrow, TableFlags::NONE).expect("a plane");
            plane.reconcile(world().desired().clone()).expect("a load");
            connect(&lab, 3);
            for family in Family::BOTH {
                let counts = counted(&lab, &plane, family);
                assert!(!counts.is_empty(), "{family}: some are counted");
                let all = counts.len();
                assert!(
                    all < usize::from(SERVICES),
                    "{family}: {all}, or it was not full"
                );
            }
        },
    );
}
