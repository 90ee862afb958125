//! One element that the kernel refuses costs one Service; all others are served.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::rc::Rc;

use daymark_case::random::{Manner, Size, case};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::compile::{Of, Subject};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{backend, frontend_key, set};
use daymark_model::desired::PortName;
use daymark_model::{Delta, Desired, World};
use daymark_netlink::nft::{Data, Ruleset, SetElem, Value};
use daymark_sys::ns::isolated_test;

use crate::common::{compiled_desired, sizes, world_of};
use crate::narrow::Narrow;
use crate::picky::{Dislike, Picky, Tells};
use crate::setup::{canonical, held};

/// Bytes of which the kernel of a test dislikes some, the same whatever numbers pools have.
fn essence(name: &str, elem: &SetElem) -> Vec<u8> {
    match (&elem.value, name) {
        (Value::Data(data), set::SLOTS) => data.to_vec(),
        (_, set::MEMBERS) => elem.key[4..].to_vec(),
        _ => elem.key.to_vec(),
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(1_099_511_628_211) ^ u64::from(*byte);
    bytes.iter().fold(14_695_981_039_346_656_037, add) >> 7
}

/// Dislikes one of some dozens, in every set but those that only the whole node can miss.
fn moody(seed: u64) -> Dislike {
    Rc::new(move |name, elem| {
        let of_all = [
            set::OWN_PODS,
            set::OWN_INTERFACES,
            set::SERVICE_NETWORKS,
            set::ENDPOINT_PORTS,
            set::PLANS,
        ];
        let spared = of_all.contains(&name);
        !spared && (sum(&essence(name, elem)) ^ seed).is_multiple_of(9)
    })
}

/// Whether something of a subject is disliked, as the state wants it.
fn is_disliked(subject: &Subject, wanted: &Desired, dislikes: &Dislike) -> bool {
    let of_port = |port: &PortName| {
        let mut frontends = wanted.frontends.iter();
        let mut pools = wanted.pools.iter();
        let by_frontend = frontends.any(|(at, frontend)| {
            let elem = SetElem::key(frontend_key(at));
            let ranges = compiled_ranges(wanted, at);
            *frontend.port == *port
                && (dislikes(set::FRONTENDS[0], &elem)
                    || ranges.iter().any(|elem| dislikes(set::RANGES[0], elem)))
        });
        let by_backend = pools.any(|(key, pool)| {
            *key.port == *port
                && pool.backends.iter().any(|to| {
                    let data = backend(to.address, to.port);
                    let slot = SetElem::data(Data::new(&[0; 8]), data);
                    dislikes(set::SLOTS, &slot)
                })
        });
        by_frontend || by_backend
    };
    match subject {
        Subject::Port(port) => of_port(port),
        Subject::Address(of, ip) => {
            let (name, key) = match of {
                Of::Services => (set::SERVICE_ADDRESSES, Data::addr(*ip)),
                Of::NodePorts => (set::NODE_PORT_ADDRESSES, Data::addr(*ip)),
                Of::Outer => (set::OUTER_ADDRESSES, Data::addr(*ip)),
                Of::Spared => (set::SPARED_ADDRESSES, Data::addr(*ip)),
                Of::LocalBackend => {
                    let twice = [&*Data::addr(*ip), &*Data::addr(*ip)].concat();
                    (set::LOCAL_BACKENDS, Data::new(&twice))
                }
            };
            dislikes(name, &SetElem::key(key))
        }
    }
}

/// The ranges of a frontend, as the compiler writes them.
fn compiled_ranges(wanted: &Desired, at: &daymark_model::FrontendKey) -> Vec<SetElem> {
    let only = Desired {
        frontends: wanted
            .frontends
            .get_key_value(at)
            .map(|(at, frontend)| (*at, frontend.clone()))
            .into_iter()
            .collect(),
        ..Desired::default()
    };
    let program = compiled_desired(&only);
    let tables = program.tables();
    tables
        .flat_map(|table| table.elements(set::RANGES[0]).collect::<Vec<_>>())
        .collect()
}

/// `wanted` without what is left out.
fn without(wanted: &Desired, left_out: &BTreeSet<Subject>) -> Desired {
    let port = |port| left_out.contains(&Subject::Port(port));
    let mut rest = wanted.clone();
    rest.frontends
        .retain(|_, frontend| !port(frontend.port.clone()));
    rest.pools.retain(|key, _| !port(key.port.clone()));
    let address = |of, ip: &std::net::IpAddr| !left_out.contains(&Subject::Address(of, *ip));
    rest.service_addresses
        .retain(|ip| address(Of::Services, ip));
    rest.local_backends
        .retain(|ip| address(Of::LocalBackend, ip));
    rest.outer_addresses.retain(|ip| address(Of::Outer, ip));
    rest.spared_addresses.retain(|ip| address(Of::Spared, ip));
    rest.node_port_addresses
        .retain(|ip| address(Of::NodePorts, ip));
    rest
}

/// The kernel holds what is wanted, but for what it dislikes, and the plane says what that is. Returns how much it is.
fn assert_only_the_disliked_is_missing(
    plane: &Plane<Picky<Netlink>>,
    wanted: &Desired,
    dislikes: &Dislike,
    what: &str,
) -> usize {
    let left_out: BTreeSet<Subject> = plane
        .withheld()
        .iter()
        .map(|(one, _)| one.clone())
        .collect();
    for subject in &left_out {
        assert!(
            is_disliked(subject, wanted, dislikes),
            "{what}: {subject} is left out for no reason"
        );
    }
    let program = plane.compiler().program();
    assert_eq!(held(), canonical(program), "{what}");
    let rest = without(wanted, &left_out);
    assert_eq!(*plane.compiler().desired(), rest, "{what}");
    assert_eq!(sizes(program), sizes(&compiled_desired(&rest)), "{what}");
    left_out.len()
}

const SIZE: Size = Size {
    manner: Manner::Anything,
    start: 40,
    steps: 5,
    changes: 8,
    packets: 0,
};

fn refused_here_and_there(tells: Tells) {
    let mut left_out = 0;
    for seed in 0..8 {
        let case = case(7_000 + seed, SIZE);
        let refused = Rc::new(Cell::new(0));
        let picky = Picky {
            kernel: Netlink::open().expect("a netfilter socket"),
            dislikes: moody(seed),
            tells,
            refused: Rc::clone(&refused),
        };
        let dislikes = moody(seed);
        let (mut plane, _) = Plane::start(picky, TableFlags::NONE).expect("a plane");
        let mut world = World::new(case.options.clone());
        for (number, step) in case.steps.iter().enumerate() {
            let delta = world.apply(step.changes.iter().cloned());
            let done = match number {
                0 => plane.reconcile(world.desired().clone()),
                _ => plane.update(&delta).map_err(Into::into),
            };
            let what = format!("seed {seed}, step {number}");
            done.unwrap_or_else(|error| panic!("{what}: {error}"));
            left_out +=
                assert_only_the_disliked_is_missing(&plane, world.desired(), &dislikes, &what);
        }
        // Reading everything back changes nothing: what is left out stays out, and is not forgotten.
        let idle = plane.verify().expect("read");
        assert_eq!(idle, 0, "seed {seed}");
        let before = refused.get();
        let all = plane.withheld().iter().map(|(one, _)| one.clone());
        let all: BTreeSet<Subject> = all.collect();
        plane.retry(&all).expect("tried");
        assert!(all.is_empty() || refused.get() > before, "seed {seed}");
        let again = plane.withheld().iter().map(|(one, _)| one.clone());
        assert_eq!(again.collect::<BTreeSet<_>>(), all, "seed {seed}");
        plane.kernel().dislikes = Rc::new(|_, _| false);
        plane.retry(&all).expect("taken");
        assert_eq!(plane.withheld().iter().count(), 0);
        assert_eq!(plane.compiler().desired(), world.desired(), "seed {seed}");
        assert_eq!(held(), canonical(plane.compiler().program()));
        plane.reconcile(Desired::default()).expect("emptied");
    }
    assert!(left_out > 40, "only {left_out} things were refused");
}

#[test]
fn each_refused_element_costs_what_it_belongs_to_and_nothing_else() {
    let test = "isolation::each_refused_element_costs_what_it_belongs_to_and_nothing_else";
    isolated_test(test, || refused_here_and_there(Tells::Elements));
}

#[test]
fn a_kernel_that_names_no_element_is_asked_by_halves() {
    let test = "isolation::a_kernel_that_names_no_element_is_asked_by_halves";
    isolated_test(test, || refused_here_and_there(Tells::Messages));
}

/// So many Services with three endpoints each.
fn services(count: usize) -> World {
    let mut text = "node node-1 172.30.0.11 pods=10.244.1.0/24\n".to_owned();
    for number in 0..count {
        let (high, low) = (number / 200, number % 200);
        let _ = writeln!(
            text,
            "service s{number:04} ClusterIP 80->8080/TCP cluster=10.96.{high}.{low}"
        );
        for endpoint in 1..=3 {
            let _ = writeln!(
                text,
                "endpoint 10.244.{endpoint}{high}.{low} ready on node-{endpoint}"
            );
        }
    }
    world_of(&text)
}

/// Without the size that makes the set narrow.
fn unsized_sets(mut held: Vec<Ruleset>) -> Vec<Ruleset> {
    let sets = held.iter_mut().flat_map(|ruleset| &mut ruleset.sets);
    sets.filter(|of| *of.name == *set::SLOTS)
        .for_each(|of| of.size = None);
    held
}

#[test]
fn what_finds_no_room_in_a_full_set_is_left_out_until_there_is_some() {
    let test = "isolation::what_finds_no_room_in_a_full_set_is_left_out_until_there_is_some";
    isolated_test(test, || {
        let narrow = Narrow {
            kernel: Netlink::open().expect("a netfilter socket"),
            set: set::SLOTS,
            size: 1_500,
        };
        let (mut plane, _) = Plane::start(narrow, TableFlags::NONE).expect("a plane");
        let world = services(1_200);
        plane
            .reconcile(world.desired().clone())
            .expect("as much as there is room for");
        let count = |plane: &Plane<Narrow<Netlink>>| plane.compiler().desired().frontends.len();
        assert_eq!(count(&plane), 500, "three slots each");
        assert_eq!(plane.withheld().iter().count(), 700);
        assert!(
            plane
                .withheld()
                .iter()
                .all(|(_, why)| why.reason.contains("os error 23")),
            "ENFILE"
        );
        assert_eq!(unsized_sets(held()), canonical(plane.compiler().program()));
        // Fewer Services: all that are left find room once they are tried again.
        let fewer = services(450);
        let delta = Delta::between(world.desired(), fewer.desired());
        plane.update(&delta).expect("a commit");
        assert_eq!((count(&plane), plane.withheld().is_empty()), (450, true));
        let more = services(501);
        let delta = Delta::between(fewer.desired(), more.desired());
        plane.update(&delta).expect("a commit");
        assert_eq!((count(&plane), plane.withheld().iter().count()), (500, 1));
        let fewer = services(501);
        let mut delta = Delta::between(more.desired(), fewer.desired());
        let first = fewer.desired().frontends.keys().next().expect("a frontend");
        delta.frontends.insert(*first, None);
        plane.update(&delta).expect("a commit");
        let all: BTreeSet<Subject> = plane
            .withheld()
            .iter()
            .map(|(one, _)| one.clone())
            .collect();
        plane.retry(&all).expect("there is room now");
        assert!(plane.withheld().is_empty());
        assert_eq!(count(&plane), 500);
        assert_eq!(unsized_sets(held()), canonical(plane.compiler().program()));
    });
}
