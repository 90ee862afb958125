//! Large loads and small commits under the default send buffer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use daymark_netlink::nft::*;

use crate::Outcome;
use crate::objects::{socket, table_id};

fn slots() -> Ruleset {
    let mut out = Ruleset::new(Table::new(table_id()));
    let value = Type::from([Field::Ipv4Addr, Field::InetService]);
    out.sets.push(Set::new(
        "slots",
        [Field::Mark, Field::Mark],
        SetKind::Map(value),
    ));
    out
}

fn slot(pool: u32, slot: u32, last: u8) -> SetElem {
    let key = Data::concat(&[&pool.to_ne_bytes(), &slot.to_ne_bytes()]);
    SetElem::data(
        key,
        Data::concat(&[&[10, 244, 1, last], &8080u16.to_be_bytes()]),
    )
}

fn all() -> Elements {
    let elems = (0..10_000)
        .flat_map(|pool| (0..10).map(move |index| slot(pool, index, 5)))
        .collect();
    Elements {
        set: "slots".into(),
        elems,
    }
}

/// Loads a hundred thousand elements; returns how long the kernel had them and how many pieces there were.
fn load(socket: &mut daymark_sys::netlink::NfSocket) -> (Duration, usize) {
    socket
        .commit(&Message::create(&slots(), Exists::Refuse))
        .expect("a map");
    let message = Message::NewElems {
        table: table_id(),
        elements: all(),
        exists: Exists::Refuse,
    };
    let mut batch = Batch::new(Batch::LIMIT);
    batch.push(&message).expect("it can be divided");
    let transactions = batch.finish().expect("one list");
    let start = Instant::now();
    for transaction in &transactions {
        assert!(transaction.bytes().len() <= Batch::LIMIT);
        socket.transact(transaction.bytes()).expect("it fits");
    }
    (start.elapsed(), transactions.len())
}

pub(crate) fn hundred_thousand() -> Outcome {
    let mut socket = socket();
    // What a stock kernel gives; some machines have more.
    socket
        .set_send_buffer(212_992)
        .expect("less is always allowed");
    assert_eq!(socket.transaction_limit().expect("known"), Batch::LIMIT);
    let (took, pieces) = load(&mut socket);
    // The hash grows still: who cannot wait has each element that two answers name, once.
    let seen = socket
        .elements_at_once(&table_id(), &"slots".into())
        .expect("readable at any time");
    let distinct: HashSet<_> = seen.iter().map(|elem| &elem.key).collect();
    assert_eq!(distinct.len(), seen.len());
    assert!((90_000..=100_000).contains(&seen.len()), "{}", seen.len());
    let start = Instant::now();
    let read = socket
        .snapshot(&table_id())
        .expect("readable")
        .expect("there")
        .ruleset()
        .canonical();
    println!(
        "  100,000 elements: {pieces} transactions, {took:?}; read back in {:?}",
        start.elapsed()
    );
    let mut sent = slots();
    sent.elements.push(all());
    let sent = sent.canonical();
    assert!(read == sent, "what was loaded differs from what was read");
    Outcome::Passed
}

pub(crate) fn single_element() -> Outcome {
    let mut socket = socket();
    load(&mut socket);
    let mut times = Vec::new();
    for round in 0..2_000_u32 {
        let pool = round * 5 % 10_000;
        let change = |last| Elements {
            set: "slots".into(),
            elems: vec![slot(pool, 3, last)],
        };
        let messages = [
            Message::DelElems {
                table: table_id(),
                elements: change(5),
            },
            Message::NewElems {
                table: table_id(),
                elements: change(6),
                exists: Exists::Keep,
            },
        ];
        let transaction = Transaction::of(&messages).expect("short");
        let start = Instant::now();
        socket.transact(transaction.bytes()).expect("one element");
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "  one element of 100,000 replaced: p50 {:?}, p99 {:?}",
        times[1_000], times[1_980]
    );
    assert!(
        times[1_000] < Duration::from_millis(1),
        "the median is {:?}",
        times[1_000]
    );
    Outcome::Passed
}
