//! Owned and persistent tables: nobody else edits them, and the next agent takes them over.

use std::io::Write;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Found, Kernel, Plane, StartError};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{Words, set};
use daymark_model::Family;
use daymark_netlink::nft::{Message, Ruleset};
use daymark_sys::ns::isolated_test;

use crate::common::every_plan;
use crate::setup::{canonical, held, owned, plane, plane_of};

#[test]
fn an_owned_table_refuses_others_and_outlives_its_agent() {
    let test = "owner::an_owned_table_refuses_others_and_outlives_its_agent";
    isolated_test(test, || {
        let Some(flags) = owned() else {
            return skipped(test, "needs Linux 6.9");
        };
        let world = every_plan();
        let first = plane_of(&world, flags);
        let before = held();
        others_are_refused();
        assert_eq!(held(), before);
        assert_second_agent_is_told(flags);
        drop(first);
        assert_eq!(
            ownerless(held()),
            ownerless(before),
            "the tables outlive their agent"
        );
        let (mut second, found) = plane(flags);
        assert_eq!(found, Found::Adopted);
        let update = second
            .reconcile(world.desired().clone())
            .expect("no change");
        assert!(update == 0, "{update}");
        others_are_refused();
        assert_eq!(held(), canonical(second.compiler().program()));
    });
}

/// A table without an owner loses that flag, and nothing else.
fn ownerless(mut tables: Vec<Ruleset>) -> Vec<Ruleset> {
    for ruleset in &mut tables {
        ruleset.table.flags = TableFlags::PERSIST;
    }
    tables
}

fn others_are_refused() {
    let mut other = Netlink::open().expect("a netfilter socket");
    for family in Family::BOTH {
        let table = Words::of(family).table();
        let flush = Message::FlushSet {
            table: table.clone(),
            set: set::SLOTS.into(),
        };
        for message in [flush, Message::DelTable { table }] {
            let refused = other.commit(std::slice::from_ref(&message));
            assert!(
                matches!(refused, Err(CommitError::Owned { .. })),
                "{message:?}: {refused:?}"
            );
        }
    }
}

/// It hears who has the tables, not just that something is not permitted.
fn assert_second_agent_is_told(flags: TableFlags) {
    let other = Netlink::open().expect("a netfilter socket");
    let error = Plane::start(other, flags).expect_err("the first agent lives");
    assert!(
        matches!(error, StartError::Commit(CommitError::Owned { .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains("belongs to another process"),
        "{error}"
    );
}

fn skipped(test: &str, why: &str) {
    // Not the print macros, which libtest swallows for a test that passes.
    let _ = writeln!(std::io::stderr(), "test {test} ... SKIPPED: {why}");
}
