use proptest::prelude::*;

use super::*;
use crate::frame::Frame;
use crate::nft::any;
use crate::nft::data::Data;
use crate::nft::expr::{Expr, Verdict};
use crate::nft::message::{Exists, Place};
use crate::nft::object::{Elements, Family, Rule, SetElem, TableId};

fn table() -> TableId {
    TableId::new(Family::Inet, "t")
}

fn elems(count: u32) -> Message {
    let elems = (0..count)
        .map(|n| SetElem::data(Data::host(n), Data::host(n)))
        .collect();
    let elements = Elements {
        set: "m".into(),
        elems,
    };
    Message::NewElems {
        table: table(),
        elements,
        exists: Exists::Keep,
    }
}

fn del_set(name: &str) -> Message {
    Message::DelSet {
        table: table(),
        set: name.into(),
    }
}

/// The messages of a transaction, framing checked.
fn inside(transaction: &Transaction) -> Vec<Message> {
    let frames: Vec<Frame<'_>> = frame::walk(transaction.bytes())
        .map(|frame| frame.unwrap())
        .collect();
    let [begin, middle @ .., end] = frames.as_slice() else {
        panic!("no begin and end")
    };
    assert_eq!(
        (begin.header.kind, end.header.kind),
        (NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END)
    );
    for (seq, frame) in (1..).zip(middle) {
        assert_eq!(frame.header.seq, seq);
    }
    middle
        .iter()
        .map(|frame| Message::decode(frame).unwrap())
        .collect()
}

fn all_elems(transactions: &[Transaction]) -> Vec<SetElem> {
    let messages = transactions.iter().flat_map(inside);
    messages
        .flat_map(|message| match message {
            Message::NewElems { elements, .. } => elements.elems,
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

#[test]
fn a_long_list_is_divided_into_full_transactions() {
    let message = elems(100_000);
    let mut batch = Batch::new(Batch::LIMIT);
    batch.push(&message).unwrap();
    let transactions = batch.finish().unwrap();
    assert!(
        transactions
            .iter()
            .all(|one| one.bytes().len() <= Batch::LIMIT)
    );
    let total: usize = transactions.iter().map(|one| one.bytes().len()).sum();
    assert!(
        transactions.len() <= total / 180_000 + 1,
        "{} of {total} bytes",
        transactions.len()
    );
    let Message::NewElems { elements, .. } = message else {
        unreachable!()
    };
    assert_eq!(all_elems(&transactions), elements.elems);
}

#[test]
fn a_group_that_fits_is_never_divided() {
    let mut batch = Batch::new(1_000);
    for group in 0..10 {
        for part in 0..5 {
            batch
                .push(&del_set(&format!("set-{group}-{part}")))
                .unwrap();
        }
        batch.border().unwrap();
    }
    let transactions = batch.finish().unwrap();
    assert!(transactions.len() > 1);
    for transaction in &transactions {
        assert!(transaction.bytes().len() <= 1_000);
        assert_eq!(inside(transaction).len() % 5, 0);
    }
    let indexes: Vec<_> = transactions
        .iter()
        .flat_map(Transaction::messages)
        .collect();
    assert_eq!(indexes, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_group_that_does_not_fit_is_refused() {
    let mut batch = Batch::new(1_000);
    batch.push(&del_set("a")).unwrap();
    batch.push(&elems(100)).unwrap();
    let error = batch.border().unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Indivisible {
                first: 0,
                last: 1,
                limit: 1_000,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_rule_longer_than_an_attribute_is_refused() {
    let exprs = vec![Expr::Verdict(Verdict::Accept); 2_000];
    let rule = Rule::new("c", exprs);
    let mut batch = Batch::new(Batch::LIMIT);
    batch.push(&del_set("a")).unwrap();
    let message = Message::NewRule {
        table: table(),
        rule,
        place: Place::Last,
    };
    assert_eq!(
        batch.push(&message),
        Err(BatchError::TooLong { message: 1 })
    );
}

#[test]
fn an_empty_batch_is_no_transaction() {
    assert_eq!(Batch::new(Batch::LIMIT).finish(), Ok(Vec::new()));
}

#[test]
fn each_transaction_stands_on_the_generation_before() {
    let mut batch = Batch::new(1_000).on_top_of(u32::MAX);
    batch.push(&elems(60)).unwrap();
    let begins: Vec<_> = batch
        .finish()
        .unwrap()
        .iter()
        .map(|one| one.bytes()[FRAME - 24..FRAME - 20].to_vec())
        .collect();
    assert_eq!(
        begins[..2],
        [u32::MAX.to_be_bytes().to_vec(), 1u32.to_be_bytes().to_vec()]
    );
}

#[test]
fn an_offset_leads_to_the_element_also_of_a_divided_list() {
    let mut batch = Batch::new(2_000);
    batch.push(&del_set("a")).unwrap();
    batch.border().unwrap();
    batch.push(&elems(200)).unwrap();
    let transactions = batch.finish().unwrap();
    let mut found = Vec::new();
    for transaction in &transactions {
        for frame in frame::walk(transaction.bytes()).map(|frame| frame.unwrap()) {
            for offset in (0..frame.payload.len() + 16).step_by(4) {
                let offset = u32::try_from(offset).ok();
                if let Some(Blame {
                    message: 1,
                    part: Part::Element(element),
                }) = transaction.blame(frame.header.seq, offset)
                {
                    found.push(element);
                }
            }
        }
    }
    found.dedup();
    assert_eq!(found, (0..200).collect::<Vec<_>>());
    assert_eq!(transactions[0].blame(0, None), None);
    assert_eq!(
        transactions[0].blame(1, Some(20)),
        Some(Blame {
            message: 0,
            part: Part::Whole
        })
    );
    assert_eq!(transactions[0].blame(99, None), None);
}

proptest! {
    #[test]
    fn splitting_loses_and_reorders_nothing(
        messages in proptest::collection::vec(any::message(), 1..12),
        limit in 20_000usize..60_000,
    ) {
        let mut batch = Batch::new(limit);
        for message in &messages {
            batch.push(message).unwrap();
            batch.border().unwrap();
        }
        let transactions = batch.finish().unwrap();
        for transaction in &transactions {
            prop_assert!(transaction.bytes().len() <= limit);
        }
        let sent: Vec<_> = transactions.iter().flat_map(inside).collect();
        prop_assert_eq!(sent, messages);
    }
}
