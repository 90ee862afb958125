//! What the kernel holds is read back, place by place and as a whole, and what differs is named.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Kernel, Plane};
use daymark_dataplane::nft::compare::{self, Holding};
use daymark_dataplane::nft::inspect::{Agreement, Held, Object};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{FrontendValue, TABLES, Words, backend, set};
use daymark_model::{Family, FrontendKey};
use daymark_netlink::nft::{Data, Elements, Exists, Message, SetElem, Table, Victim};
use daymark_sys::ns::isolated_test;
use daymark_sys::probe::Release;

use crate::common::every_plan;
use crate::setup::{owned, plane_of};

/// Every object of every place of a family.
fn objects(plane: &mut Plane<Netlink>, family: Family) -> Vec<Held> {
    let frontends = plane.compiler().desired().frontends.clone();
    let of_family = frontends.iter().filter(|(at, _)| at.family() == family);
    let inspected = of_family.map(|(at, frontend)| {
        let found = plane.inspect(at, &frontend.port).expect("readable");
        assert!(found.withheld.is_empty());
        found.objects
    });
    inspected.flatten().collect()
}

fn held_by_kernel() -> Holding {
    let mut kernel = Netlink::open().expect("a netfilter socket");
    compare::read(&mut kernel).expect("readable")
}

fn assert_agrees(plane: &mut Plane<Netlink>) {
    for family in Family::BOTH {
        let all = objects(plane, family);
        let differ: Vec<_> = all
            .iter()
            .filter(|o| o.agreement != Agreement::Same)
            .collect();
        assert!(differ.is_empty(), "{differ:?}");
    }
    let found = plane.compiler().compare(&held_by_kernel(), 10);
    assert_eq!((found.total, found.differences), (0, vec![]));
}

#[test]
fn what_was_loaded_is_what_is_read_back() {
    isolated_test("inspect::what_was_loaded_is_what_is_read_back", || {
        let flags = owned().unwrap_or(TableFlags::NONE);
        let mut plane = plane_of(&every_plan(), flags);
        assert_agrees(&mut plane);
        let seen: BTreeSet<String> = objects(&mut plane, Family::V6)
            .iter()
            .map(|held| held.object.to_string())
            .collect();
        for name in [
            set::FRONTENDS[0],
            set::NODE_PORTS[0],
            set::PLANS,
            set::SLOTS,
            set::MEMBERS,
            set::RANGES[0],
            set::SERVICE_ADDRESSES,
            set::NODE_PORT_ADDRESSES,
            set::LOCAL_BACKENDS,
            "chain to-3",
            "chain dropped-checked",
        ] {
            assert!(seen.contains(name), "{name} is not in {seen:?}");
        }
    });
}

#[test]
fn what_another_socket_removed_is_missing_and_nothing_else_is() {
    let test = "inspect::what_another_socket_removed_is_missing_and_nothing_else_is";
    isolated_test(test, || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        let mut other = Netlink::open().expect("a netfilter socket");
        let words = Words::of(Family::V4);
        // A place that is mended may move to the other map: the maps are first.
        for name in [
            set::NODE_PORTS[0],
            set::FRONTENDS[0],
            set::PLANS,
            set::SLOTS,
            set::MEMBERS,
            set::RANGES[0],
            set::SERVICE_ADDRESSES,
            set::NODE_PORT_ADDRESSES,
            set::LOCAL_BACKENDS,
        ] {
            let table = plane.compiler().program().table(&words.table());
            let count = table.expect("our table").elements(name).count();
            let flush = Message::FlushSet {
                table: words.table(),
                set: name.into(),
            };
            other.commit(&[flush]).expect("flushed");
            let all = objects(&mut plane, Family::V4);
            let (missing, rest): (Vec<_>, Vec<_>) = all
                .iter()
                .partition(|held| held.object == Object::Element(name.into()));
            assert!(!missing.is_empty(), "{name}");
            for held in missing {
                assert_eq!(held.agreement, Agreement::Missing, "{held:?}");
                assert!(held.held.is_empty() && held.wanted.len() == 1, "{held:?}");
            }
            for held in rest {
                assert_eq!(held.agreement, Agreement::Same, "{name}: {held:?}");
            }
            let found = plane.compiler().compare(&held_by_kernel(), 3);
            assert_eq!(
                (found.total, found.differences.len()),
                (count, count.min(3))
            );
            for difference in &found.differences {
                assert_eq!(difference.agreement, Agreement::Missing);
                assert_eq!(difference.object, Some(Object::Element(name.into())));
                assert_eq!(difference.table, words.table());
                assert!(!difference.about.is_empty(), "{difference:?}");
            }
            let counted = found.counts.iter();
            let mut counted = counted.filter(|c| *c.of == *name && c.table == words.table());
            let counted = counted.next().expect("every set is counted");
            assert_eq!(
                (counted.wanted, counted.held),
                (Some(count), Some(0)),
                "{name}"
            );
            plane.verify().expect("mended");
            assert_agrees(&mut plane);
        }
    });
}

#[test]
fn what_another_socket_changed_or_added_is_named() {
    let test = "inspect::what_another_socket_changed_or_added_is_named";
    isolated_test(test, || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        let mut other = Netlink::open().expect("a netfilter socket");
        let words = Words::of(Family::V4);
        let table = words.table();
        // The rules of a plan are deleted, and a place gets a second value in the map that is asked behind the first.
        let at = FrontendKey::Address {
            ip: "10.96.0.20".parse().expect("an address"),
            protocol: daymark_model::Protocol::Tcp,
            port: 80,
        };
        let key = daymark_dataplane::nft::layout::frontend_key(&at);
        let elems = vec![SetElem::data(key, Data::new(&[0; 20]))];
        let second = Elements {
            set: set::FRONTENDS[1].into(),
            elems,
        };
        let edits = [
            Message::DelRule {
                table: table.clone(),
                chain: "to-3".into(),
                which: Victim::All,
            },
            Message::NewElems {
                table: table.clone(),
                elements: second,
                exists: Exists::Refuse,
            },
        ];
        other.commit(&edits).expect("edited");
        let port = plane.compiler().desired().frontends[&at].port.clone();
        let found = plane.inspect(&at, &port).expect("readable");
        let differ: Vec<(String, Agreement)> = found
            .objects
            .iter()
            .filter(|held| held.agreement != Agreement::Same)
            .map(|held| (held.object.to_string(), held.agreement))
            .collect();
        let expected = [
            (set::FRONTENDS[1].to_owned(), Agreement::Unexpected),
            ("chain to-3".to_owned(), Agreement::Missing),
        ];
        assert_eq!(differ, expected);
        assert!(!found.agrees());
        let found = plane.compiler().compare(&held_by_kernel(), 10);
        let named: Vec<_> = found.differences.iter().map(|d| d.agreement).collect();
        assert_eq!(named, [Agreement::Different, Agreement::Unexpected]);
        plane.verify().expect("mended");
        assert_agrees(&mut plane);
        // Mended tables may have the other name.
        let table = plane.compiler().words(Family::V4).table();
        let names = TABLES.map(|name| words.named(name).table());
        let other_name = names.into_iter().find(|name| *name != table);
        let other_name = other_name.expect("there is more than one name");
        let second = Message::NewTable {
            table: Table::new(other_name.clone()),
            exists: Exists::Refuse,
        };
        other.commit(&[second]).expect("created");
        let found = plane.compiler().compare(&held_by_kernel(), 10);
        assert_eq!((found.total, &found.differences[0].object), (1, &None));
        assert_eq!(found.differences[0].agreement, Agreement::Unexpected);
        assert_eq!(found.differences[0].table, other_name);
        let gone = Message::DelTable { table: other_name };
        other.commit(&[gone]).expect("deleted");
        let drop = Message::DelTable { table };
        other.commit(&[drop]).expect("deleted");
        let found = plane.compiler().compare(&held_by_kernel(), 10);
        assert_eq!(found.differences[0].object, None);
        assert_eq!(found.differences[0].agreement, Agreement::Missing);
    });
}

#[test]
fn the_backend_that_a_client_keeps_is_told_with_its_time() {
    let test = "inspect::the_backend_that_a_client_keeps_is_told_with_its_time";
    isolated_test(test, || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        let mut other = Netlink::open().expect("a netfilter socket");
        let words = Words::of(Family::V4);
        let at = FrontendKey::NodePort {
            family: Family::V4,
            protocol: daymark_model::Protocol::Udp,
            port: 30002,
        };
        let client: IpAddr = "192.0.2.7".parse().expect("an address");
        assert_eq!(plane.kept(&at, client).expect("readable"), None);
        let program = plane.compiler().program().table(&words.table());
        let key = daymark_dataplane::nft::layout::frontend_key(&at);
        let value = program.and_then(|table| table.data(set::NODE_PORTS[0], &key));
        let value = FrontendValue::decode(&value.expect("an element")).expect("a value");
        let address = Data::addr(client);
        let key = Data::concat(&[&address, &value.port.to_ne_bytes()]);
        let to: SocketAddr = "10.244.2.6:8080".parse().expect("an address");
        let elem = SetElem::data(key, backend(to.ip(), to.port())).with_timeout(60_000);
        let kept = Message::NewElems {
            table: words.table(),
            elements: Elements {
                set: set::STICKY.into(),
                elems: vec![elem],
            },
            exists: Exists::Refuse,
        };
        other.commit(&[kept]).expect("kept");
        let found = plane.kept(&at, client).expect("readable").expect("kept");
        assert_eq!(found.backend, to);
        let expires = found.expires.expect("a time");
        assert!(expires > Duration::from_secs(50) && expires <= Duration::from_secs(60));
        // What packets write is no difference.
        assert_agrees(&mut plane);
    });
}

#[test]
fn a_hundred_thousand_clients_are_counted_and_not_read() {
    let test = "inspect::a_hundred_thousand_clients_are_counted_and_not_read";
    isolated_test(test, || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        let words = Words::of(Family::V4);
        let kept = |number: u32| {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number);
            let key = Data::concat(&[&address.octets(), &7_u32.to_ne_bytes()]);
            let to = backend(Ipv4Addr::new(10, 244, 2, 6).into(), 8080);
            SetElem::data(key, to).with_timeout(60_000)
        };
        let flood = Message::NewElems {
            table: words.table(),
            elements: Elements {
                set: set::STICKY.into(),
                elems: (0..CLIENTS).map(kept).collect(),
            },
            exists: Exists::Refuse,
        };
        plane.kernel().commit(&[flood]).expect("room");
        let held = held_by_kernel();
        let sticky = held
            .program
            .tables()
            .flat_map(|table| table.elements(set::STICKY));
        assert_eq!(sticky.count(), 0, "clients were read");
        let found = plane.compiler().compare(&held, 10);
        assert_eq!((found.total, found.differences), (0, vec![]));
        let mut counts = found.counts.iter();
        let of_v4 = counts.find(|count| count.table == words.table() && *count.of == *set::STICKY);
        let count = of_v4
            .map(|count| (count.wanted, count.held))
            .expect("a row");
        // Linux 6.17 and newer say how many.
        let known = Release::running()
            .is_some_and(|release| release >= Release::parse("6.17").expect("one"));
        let clients = usize::try_from(CLIENTS).expect("a count");
        let told = count.1.is_some() || known;
        assert_eq!(count, (None, told.then_some(clients)));
    });
}

const CLIENTS: u32 = 100_000;
