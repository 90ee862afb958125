//! What is sent is what is read back.

use daymark_netlink::nft::*;
use daymark_sys::netlink::{NfSocket, QueryError, TransactError};

use crate::Outcome;
use crate::everything::everything;

pub(crate) fn table_id() -> TableId {
    TableId::new(Family::Inet, "daymark-test")
}

pub(crate) fn socket() -> NfSocket {
    NfSocket::open().expect("netfilter netlink is there")
}

pub(crate) fn every_object() -> Outcome {
    let mut socket = socket();
    let sent = everything();
    socket
        .commit(&Message::create(&sent, Exists::Refuse))
        .expect("the kernel takes all of it");
    let snapshot = socket
        .snapshot(&table_id())
        .expect("it can be read")
        .expect("it is there");
    let read = snapshot.ruleset().canonical();
    let sent = sent.canonical();
    assert_eq!(read.table, sent.table);
    assert_eq!(read.objects, sent.objects);
    assert_eq!(read.sets, sent.sets);
    assert_eq!(read.chains, sent.chains);
    for (read, sent) in read.rules.iter().zip(&sent.rules) {
        assert_eq!(read, sent);
    }
    for (read, sent) in read.elements.iter().zip(&sent.elements) {
        assert_eq!(read, sent);
    }
    assert_eq!(read, sent);
    let affinity = snapshot
        .elements
        .iter()
        .find(|list| &*list.set == "affinity")
        .expect("it has one");
    let expires = affinity.elems[0].expires().expect("it has a timeout");
    assert!((50_000..=60_000).contains(&expires), "{expires} ms");
    Outcome::Passed
}

pub(crate) fn owned_table() -> Outcome {
    let flags = TableFlags::OWNER | TableFlags::PERSIST;
    let table = Table {
        flags,
        ..Table::new(table_id())
    };
    let create = [Message::NewTable {
        table,
        exists: Exists::Keep,
    }];
    let mut first = socket();
    match first.commit(&create) {
        Err(TransactError::Refused { refusals, .. }) if refusals[0].errno == libc::EOPNOTSUPP => {
            return Outcome::Skipped("the kernel has no persistent tables (Linux 6.9)".into());
        }
        other => other.expect("an owned table is created"),
    }
    let mut second = socket();
    let refused = second
        .commit(&[Message::DelTable { table: table_id() }])
        .expect_err("it has an owner");
    let TransactError::Refused { refusals, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(refusals[0].errno, libc::EPERM);
    let held = second
        .snapshot(&table_id())
        .expect("anybody may read")
        .expect("it is there");
    assert_eq!(held.owner, Some(first.port()));
    assert_eq!(held.table.object.flags, flags);
    drop(first);
    let orphan = second
        .snapshot(&table_id())
        .expect("anybody may read")
        .expect("it outlives its owner");
    assert_eq!(orphan.owner, None);
    second.commit(&create).expect("it is adopted");
    let adopted = second
        .snapshot(&table_id())
        .expect("anybody may read")
        .expect("it is there");
    assert_eq!(adopted.owner, Some(second.port()));
    Outcome::Passed
}

pub(crate) fn missing_table() -> Outcome {
    let mut socket = socket();
    assert!(
        socket
            .snapshot(&table_id())
            .expect("a question is allowed")
            .is_none()
    );
    let error = socket
        .query(&Query::Table(table_id()))
        .expect_err("there is none");
    assert!(error.is_not_found(), "{error}");
    assert!(matches!(error, QueryError::Refused(_)));
    Outcome::Passed
}
