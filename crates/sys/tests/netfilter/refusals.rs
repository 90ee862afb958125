//! An error of the kernel leads back to what caused it.

use daymark_netlink::nft::*;
use daymark_sys::netlink::{Completeness, Refusal, TransactError};

use crate::Outcome;
use crate::objects::{socket, table_id};

fn map() -> Vec<Message> {
    let set = Set::new("m", Field::Mark, SetKind::Map(Type::single(Field::Mark)));
    vec![
        Message::NewTable {
            table: Table::new(table_id()),
            exists: Exists::Keep,
        },
        Message::NewSet {
            table: table_id(),
            set,
            exists: Exists::Keep,
        },
    ]
}

fn elems(values: impl Iterator<Item = (u32, u32)>) -> Message {
    let elems = values
        .map(|(key, value)| SetElem::data(Data::host(key), Data::host(value)))
        .collect();
    let elements = Elements {
        set: "m".into(),
        elems,
    };
    Message::NewElems {
        table: table_id(),
        elements,
        exists: Exists::Keep,
    }
}

fn refusals(result: Result<(), TransactError>) -> Vec<Refusal> {
    match result {
        Err(TransactError::Refused { refusals, .. }) => refusals,
        other => panic!("expected refusals, not {other:?}"),
    }
}

pub(crate) fn element() -> Outcome {
    let mut socket = socket();
    socket.commit(&map()).expect("a map");
    socket
        .commit(&[elems([(4_321, 1)].into_iter())])
        .expect("one element");
    let mut batch = Batch::new(Batch::LIMIT);
    let index = batch
        .push(&elems((0..10_000).map(|key| (key, 2))))
        .expect("it can be divided");
    let mut blamed = Vec::new();
    for transaction in batch.finish().expect("one list") {
        if let Err(error) = socket.transact(transaction.bytes()) {
            for refusal in refusals(Err(error)) {
                assert_eq!(refusal.errno, libc::EEXIST, "{refusal}");
                blamed.push(transaction.blame(refusal.seq, refusal.offset));
            }
        }
    }
    assert_eq!(
        blamed,
        [Some(Blame {
            message: index,
            part: Part::Element(4_321)
        })]
    );
    Outcome::Passed
}

pub(crate) fn several() -> Outcome {
    let mut socket = socket();
    let mut messages = map();
    messages.push(Message::DelSet {
        table: table_id(),
        set: "absent".into(),
    });
    messages.push(elems([(1, 1)].into_iter()));
    messages.push(Message::DelChain {
        table: table_id(),
        chain: "absent".into(),
    });
    let transaction = Transaction::of(&messages).expect("short");
    let found: Vec<_> = refusals(socket.transact(transaction.bytes()))
        .iter()
        .map(|refusal| {
            (
                transaction
                    .blame(refusal.seq, refusal.offset)
                    .expect("a message")
                    .message,
                refusal.errno,
            )
        })
        .collect();
    assert_eq!(found, [(2, libc::ENOENT), (4, libc::ENOENT)]);
    assert!(
        socket.snapshot(&table_id()).expect("readable").is_none(),
        "nothing of it happened"
    );
    Outcome::Passed
}

pub(crate) fn expression() -> Outcome {
    let mut socket = socket();
    let chain = Chain {
        name: "c".into(),
        kind: ChainKind::Regular,
        comment: None,
    };
    let exprs = vec![
        Expr::Counter(Counter::default()),
        Expr::Lookup(Lookup {
            set: "absent".into(),
            key: Reg::R0,
            result: LookupResult::Member,
        }),
    ];
    let messages = [
        Message::NewTable {
            table: Table::new(table_id()),
            exists: Exists::Keep,
        },
        Message::NewChain {
            table: table_id(),
            chain,
            exists: Exists::Keep,
        },
        Message::NewRule {
            table: table_id(),
            rule: Rule::new("c", exprs),
            place: Place::Last,
        },
    ];
    let transaction = Transaction::of(&messages).expect("short");
    let refused = refusals(socket.transact(transaction.bytes()));
    let [refusal] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    let blame = transaction.blame(refusal.seq, refusal.offset);
    assert_eq!(
        blame,
        Some(Blame {
            message: 2,
            part: Part::Expression(1)
        }),
        "{refusal}"
    );
    Outcome::Passed
}

pub(crate) fn generation() -> Outcome {
    let mut socket = socket();
    socket.commit(&map()).expect("a map");
    let generation = socket.generation().expect("always there").id;
    let build = |generation| {
        let mut batch = Batch::new(Batch::LIMIT).on_top_of(generation);
        batch.push(&elems([(1, 1)].into_iter())).expect("short");
        batch.finish().expect("short").remove(0)
    };
    let stale = build(generation.wrapping_sub(1));
    let refused = refusals(socket.transact(stale.bytes()));
    assert_eq!(
        (refused[0].seq, refused[0].errno),
        (0, libc::ERESTART),
        "{refused:?}"
    );
    assert_eq!(stale.blame(refused[0].seq, refused[0].offset), None);
    socket
        .transact(build(generation).bytes())
        .expect("it is current");
    Outcome::Passed
}

pub(crate) fn too_large() -> Outcome {
    let mut socket = socket();
    socket.commit(&map()).expect("a map");
    let mut batch = Batch::new(1_000_000);
    batch
        .push(&elems((0..20_000).map(|key| (key, 2))))
        .expect("it can be divided");
    let transaction = batch.finish().expect("one list").remove(0);
    let error = socket
        .transact(transaction.bytes())
        .expect_err("it does not fit");
    assert!(matches!(error, TransactError::TooLarge { .. }), "{error}");
    Outcome::Passed
}

/// A namespace of a user namespace without capabilities: a child drops them.
pub(crate) fn unprivileged() -> Outcome {
    let sets = rustix::thread::capabilities(None).expect("own capabilities");
    let without = rustix::thread::CapabilitySets {
        effective: rustix::thread::CapabilitySet::empty(),
        ..sets
    };
    let mut socket = socket();
    rustix::thread::set_capabilities(None, without).expect("less is always allowed");
    let result = socket.commit(&map());
    rustix::thread::set_capabilities(None, sets).expect("they are still permitted");
    let refused = refusals(result);
    assert_eq!(
        (refused[0].seq, refused[0].errno),
        (0, libc::EPERM),
        "{refused:?}"
    );
    Outcome::Passed
}

/// More refusals than the receive buffer holds (`ENOBUFS`): what fits is told, what does not is told to be missing, and the socket goes on.
pub(crate) fn overrun() -> Outcome {
    let mut socket = socket();
    // The kernel makes it the least that it allows.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1).expect("a buffer");
    let good = map();
    let missing = |number: u32| Message::FlushSet {
        table: table_id(),
        set: format!("missing-{number}").as_str().into(),
    };
    let all: Vec<Message> = good.iter().cloned().chain((0..300).map(missing)).collect();
    match socket.commit(&all) {
        Err(TransactError::Refused { refusals, complete }) => {
            assert_eq!(complete, Completeness::Lost);
            assert!((1..300).contains(&refusals.len()), "{}", refusals.len());
        }
        other => panic!("expected refusals, not {other:?}"),
    }
    let nothing = socket.snapshot(&table_id()).expect("readable").is_none();
    assert!(nothing, "nothing of it happened");
    socket.commit(&good).expect("the next transaction");
    assert!(socket.snapshot(&table_id()).expect("readable").is_some());
    Outcome::Passed
}
