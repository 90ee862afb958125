//! Who committed what.

use daymark_netlink::nft::*;
use daymark_sys::netlink::{GenerationWatch, WatchEvent};

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
