//! Who committed what.

use daymark_netlink::nft::*;
use daymark_sys::netlink::{GenerationWatch, Reach, TableWatch, WatchEvent};

use crate::Outcome;
use crate::everything::everything;
use crate::objects::{socket, table_id};

pub(crate) fn watch() -> Outcome {
    let mut watch = GenerationWatch::open().expect("root of its namespace may listen");
    let (mut own, mut foreign) = (socket(), socket());
    assert_eq!(watch.read().expect("readable"), None);
    own.commit(&Message::create(&everything(), Exists::Refuse))
        .expect("accepted");
    foreign
        .commit(&[Message::DelTable { table: table_id() }])
        .expect("accepted");
    let last = own.generation().expect("always there");
    for (expected, id) in [(own.port(), last.id - 1), (foreign.port(), last.id)] {
        let Some(WatchEvent::Commit { generation, port }) = watch.read().expect("readable") else {
            panic!("a commit was missed");
        };
        assert_eq!((port, generation.id), (expected, id));
        assert_eq!(generation.process, Some(std::process::id()));
    }
    assert_eq!(watch.read().expect("readable"), None);
    Outcome::Passed
}

pub(crate) fn quiet() -> Outcome {
    let mut socket = socket();
    let set = Set::new("s", Field::Mark, SetKind::Set);
    socket
        .commit(&[
            Message::NewTable {
                table: Table::new(table_id()),
                exists: Exists::Keep,
            },
            Message::NewSet {
                table: table_id(),
                set,
                exists: Exists::Keep,
            },
        ])
        .expect("accepted");
    let mut watch = GenerationWatch::open().expect("root of its namespace may listen");
    let elems = (0..100_000)
        .map(|key| SetElem::key(Data::host(key)))
        .collect();
    let elements = Elements {
        set: "s".into(),
        elems,
    };
    let mut batch = Batch::new(Batch::LIMIT);
    let message = Message::NewElems {
        table: table_id(),
        elements,
        exists: Exists::Keep,
    };
    batch.push(&message).expect("it can be divided");
    let mut commits = 0;
    for transaction in batch.finish().expect("one list") {
        socket.transact(transaction.bytes()).expect("accepted");
        commits += 1;
    }
    let mut seen = 0;
    while let Some(event) = watch.read().expect("readable") {
        assert!(matches!(event, WatchEvent::Commit { .. }), "{event:?}");
        seen += 1;
    }
    assert_eq!(seen, commits);
    Outcome::Passed
}

/// A table with a set of some numbers.
fn filled(name: &str, numbers: std::ops::Range<u32>) -> Vec<Message> {
    let id = TableId::new(Family::Ip, name);
    let elems = numbers.map(|key| SetElem::key(Data::host(key)));
    vec![
        Message::NewTable {
            table: Table::new(id.clone()),
            exists: Exists::Keep,
        },
        Message::NewSet {
            table: id.clone(),
            set: Set::new("s", Field::Mark, SetKind::Set),
            exists: Exists::Keep,
        },
        Message::NewElems {
            table: id,
            elements: Elements {
                set: "s".into(),
                elems: elems.collect(),
            },
            exists: Exists::Keep,
        },
    ]
}

pub(crate) fn reach() -> Outcome {
    let ours = TableId::new(Family::Ip, "ours");
    let (mut own, mut foreign) = (socket(), socket());
    let tables = vec![ours.clone(), TableId::new(Family::Ip6, "ours")];
    let mut watch = TableWatch::open(own.port(), tables).expect("root of its namespace may listen");
    own.commit(&filled("ours", 0..500)).expect("accepted");
    assert_eq!(watch.read().expect("readable"), None, "own commits");
    let flush = Message::FlushSet {
        table: ours.clone(),
        set: "s".into(),
    };
    // More than a datagram in front of the one thing that matters.
    let hidden = [filled("theirs", 900..1_200), filled("ours", 7..8)].concat();
    let rows = [
        (filled("theirs", 0..300), Reach::Elsewhere),
        (filled("our", 0..1), Reach::Elsewhere),
        (hidden, Reach::Here),
        (vec![flush], Reach::Here),
        (filled("theirs", 300..301), Reach::Elsewhere),
        (
            vec![Message::DelTable {
                table: TableId::new(Family::Ip, "our"),
            }],
            Reach::Elsewhere,
        ),
        (vec![Message::DelTable { table: ours }], Reach::Here),
    ];
    for (number, (messages, expected)) in rows.into_iter().enumerate() {
        foreign.commit(&messages).expect("accepted");
        let seen = watch.read().expect("readable");
        assert_eq!(seen, Some(expected), "row {number}");
        assert_eq!(watch.read().expect("readable"), None, "row {number}");
    }
    // More than the receive buffer holds: the watch does not know, and says so once.
    for number in 0..1_000 {
        let one = filled("theirs", number..number + 1);
        foreign.commit(&one).expect("accepted");
    }
    let mut seen = std::iter::from_fn(|| watch.read().expect("readable"));
    assert!(seen.any(|reach| reach == Reach::Here), "an overrun");
    assert_eq!(watch.read().expect("readable"), None);
    foreign.commit(&filled("theirs", 0..1)).expect("accepted");
    assert_eq!(watch.read().expect("readable"), Some(Reach::Elsewhere));
    Outcome::Passed
}
