//! Whatever another program does to tables without an owner is found and mended.

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Kernel;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{Words, chain, set};
use daymark_dataplane::nft::program::Program;
use daymark_model::Family;
use daymark_netlink::nft::{Data, Elements, Exists, Message, SetElem, Victim};
use daymark_sys::ns::isolated_test;

use crate::common::every_plan;
use crate::setup::{canonical, held, plane_of, words};

/// An edit: what somebody else sends to the table of a family.
type Edit = fn(&Program, &Words) -> Vec<Message>;

/// In words, and what is sent. Element edits take the first element that is there.
const EDITS: &[(&str, Edit)] = &[
    ("a slot is deleted", |p, w| first_of(p, w, set::SLOTS)),
    ("a frontend is deleted", |p, w| {
        first_of(p, w, set::FRONTENDS[0])
    }),
    ("a node port is deleted", |p, w| {
        first_of(p, w, set::NODE_PORTS[0])
    }),
    ("a member is deleted", |p, w| first_of(p, w, set::MEMBERS)),
    ("a plan loses its number", |p, w| first_of(p, w, set::PLANS)),
    ("a range is deleted", |p, w| first_of(p, w, set::RANGES[0])),
    ("an own-Pod boundary is deleted", |p, w| {
        first_of(p, w, set::OWN_PODS)
    }),
    ("all slots are flushed", |_, w| flush(w, set::SLOTS)),
    ("all frontends are flushed", |_, w| {
        flush(w, set::FRONTENDS[0])
    }),
    ("all plans are flushed", |_, w| flush(w, set::PLANS)),
    ("all ranges are flushed", |_, w| flush(w, set::RANGES[0])),
    ("own Pods are flushed", |_, w| flush(w, set::OWN_PODS)),
    ("Service addresses are flushed", |_, w| {
        flush(w, set::SERVICE_ADDRESSES)
    }),
    ("node-port addresses are flushed", |_, w| {
        flush(w, set::NODE_PORT_ADDRESSES)
    }),
    ("local backends are flushed", |_, w| {
        flush(w, set::LOCAL_BACKENDS)
    }),
    ("a Service address is added", |_, w| {
        let ip = if w.family == Family::V4 {
            "10.96.9.9"
        } else {
            "fd00:10:96::99"
        };
        let elem = SetElem::key(Data::addr(ip.parse().expect("an address")));
        vec![new_elem(w, set::SERVICE_ADDRESSES, elem)]
    }),
    ("a slot of no pool is added", |_, w| {
        let backend = Data::new(&vec![7; w.len as usize + 4]);
        let key = Data::concat(&[&900_u32.to_ne_bytes(), &0_u32.to_ne_bytes()]);
        vec![new_elem(w, set::SLOTS, SetElem::data(key, backend))]
    }),
    ("the rules of a base chain are deleted", |_, w| {
        rules(w, chain::INSIDE)
    }),
    ("the rules of a hook are deleted", |_, w| {
        rules(w, chain::PREROUTING)
    }),
    ("the rules of a plan are deleted", |_, w| rules(w, "to-3")),
    ("the table is deleted", |_, w| {
        vec![Message::DelTable { table: w.table() }]
    }),
];

fn first_of(program: &Program, words: &Words, name: &str) -> Vec<Message> {
    let table = program.table(&words.table()).expect("our table");
    let elem = table.elements(name).next().expect("an element");
    let elements = Elements {
        set: name.into(),
        elems: vec![elem],
    };
    vec![Message::DelElems {
        table: words.table(),
        elements,
    }]
}

fn new_elem(words: &Words, name: &str, elem: SetElem) -> Message {
    Message::NewElems {
        table: words.table(),
        elements: Elements {
            set: name.into(),
            elems: vec![elem],
        },
        exists: Exists::Refuse,
    }
}

fn flush(words: &Words, name: &str) -> Vec<Message> {
    vec![Message::FlushSet {
        table: words.table(),
        set: name.into(),
    }]
}

fn rules(words: &Words, name: &str) -> Vec<Message> {
    vec![Message::DelRule {
        table: words.table(),
        chain: name.into(),
        which: Victim::All,
    }]
}

#[test]
fn an_edit_by_another_socket_is_mended() {
    isolated_test("edits::an_edit_by_another_socket_is_mended", || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        let mut other = Netlink::open().expect("a netfilter socket");
        for (what, edit) in EDITS {
            for family in Family::BOTH {
                let messages = edit(
                    plane.compiler().program(),
                    &words(plane.compiler().program(), family),
                );
                other
                    .commit(&messages)
                    .unwrap_or_else(|error| panic!("{what}, {family}: {error}"));
                assert_ne!(
                    held(),
                    canonical(plane.compiler().program()),
                    "{what}, {family}: nothing was edited"
                );
                let update = plane.verify().expect("mended");
                assert!(update > 0, "{what}, {family}: not noticed");
                assert_eq!(
                    held(),
                    canonical(plane.compiler().program()),
                    "{what}, {family}"
                );
                let idle = plane.verify().expect("read");
                assert!(idle == 0, "{what}, {family}: {idle}");
                assert_counts_like_new(plane.compiler().program(), what);
            }
        }
    });
}

#[test]
fn a_flushed_ruleset_is_built_again() {
    isolated_test("edits::a_flushed_ruleset_is_built_again", || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        let mut other = Netlink::open().expect("a netfilter socket");
        let tables = Family::BOTH.map(|family| Words::of(family).table());
        other
            .commit(&tables.map(|table| Message::DelTable { table }))
            .expect("both tables deleted");
        assert!(held().is_empty());
        plane.verify().expect("mended");
        assert_eq!(held().len(), 2);
        assert_eq!(held(), canonical(plane.compiler().program()));
    });
}

/// A mended table holds as many elements as a fresh one: nothing is lost, nothing left over.
fn assert_counts_like_new(program: &Program, what: &str) {
    let fresh = crate::common::compiled(&every_plan());
    assert_eq!(
        crate::common::sizes(program),
        crate::common::sizes(&fresh),
        "{what}"
    );
}
