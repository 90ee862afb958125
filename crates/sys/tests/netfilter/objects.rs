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

pub(crate) fn one_by_one() -> Outcome {
    let mut socket = socket();
    let sent = everything();
    socket
        .commit(&Message::create(&sent, Exists::Refuse))
        .expect("the kernel takes all of it");
    let all = socket.snapshot(&table_id()).expect("it can be read");
    let all = all.expect("it is there");
    for list in &all.elements {
        let set = sent.set(&list.set).expect("a set of the table");
        // A range of one field is two elements: the kernel looks such a one up in its own way.
        if set.flags.contains(SetFlags::INTERVAL) && set.key.fields().len() == 1 {
            continue;
        }
        for elem in &list.elems {
            let found = socket.element(&table_id(), &list.set, elem);
            let found = found.expect("it can be asked for").expect("it is there");
            assert_eq!((&found.key, &found.value), (&elem.key, &elem.value));
            assert_eq!(found.key_end(), elem.key_end());
        }
    }
    let missing = SetElem::key(Data::host(4711));
    for set in ["plans", "no-such-set"] {
        let found = socket.element(&table_id(), &set.into(), &missing);
        assert_eq!(found.expect("it can be asked for"), None, "{set}");
    }
    let of_chain = |chain: &Chain, rules: &[Rule]| -> Vec<Rule> {
        let of_chain = rules.iter().filter(|rule| rule.chain == chain.name);
        of_chain.cloned().collect()
    };
    let held: Vec<Rule> = all.rules.iter().map(|held| held.object.clone()).collect();
    for chain in &sent.chains {
        let found = socket.chain_rules(&table_id(), &chain.name);
        assert_eq!(found.expect("it can be read"), of_chain(chain, &held));
    }
    let found = socket.chain_rules(&table_id(), &"no-such-chain".into());
    assert_eq!(found.expect("it can be asked for"), []);
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
