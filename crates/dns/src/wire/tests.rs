//! Questions in and answers out, as bytes.

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;

fn question(edns: Option<u16>) -> Message {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(
        Name::from_ascii("web.test.svc.cluster.local.").unwrap(),
        RecordType::A,
    ));
    message.edns = edns.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    message
}

fn request(message: &Message) -> Request {
    match read(&message.to_vec().unwrap()) {
        Incoming::Ask(request) => request,
        other => panic!("{other:?}"),
    }
}

fn refused(bytes: &[u8]) -> Option<(ResponseCode, Message)> {
    match read(bytes) {
        Incoming::Refuse(code, reply) => {
            Some((code, Message::from_vec(&reply).expect("a readable refusal")))
        }
        Incoming::Drop | Incoming::Ask(_) => None,
    }
}

#[test]
fn short_packets_and_responses_are_dropped() {
    let response = Message::response(7, OpCode::Query).to_vec().unwrap();
    for bytes in [&[][..], &[0; 11], &response] {
        assert!(matches!(read(bytes), Incoming::Drop));
    }
}

#[test]
fn wrong_questions_are_refused_with_their_id() {
    let mut two = question(None);
    two.queries.push(two.queries[0].clone());
    let mut none = question(None);
    none.queries.clear();
    let mut update = question(None).to_vec().unwrap();
    update[2] |= 5 << 3;
    let mut chaos = question(None);
    chaos.queries[0].query_class = DNSClass::CH;
    let mut later = question(Some(1232));
    later.edns.as_mut().unwrap().set_version(1);
    let mut cut = question(None).to_vec().unwrap();
    cut.truncate(20);
    let cases: [(&str, Vec<u8>, ResponseCode); 6] = [
        (
            "two questions",
            two.to_vec().unwrap(),
            ResponseCode::FormErr,
        ),
        ("no question", none.to_vec().unwrap(), ResponseCode::FormErr),
        ("an update", update, ResponseCode::NotImp),
        ("class CH", chaos.to_vec().unwrap(), ResponseCode::Refused),
        (
            "EDNS version 1",
            later.to_vec().unwrap(),
            ResponseCode::BADVERS,
        ),
        ("a cut question", cut, ResponseCode::FormErr),
    ];
    for (what, bytes, expected) in cases {
        let (code, reply) = refused(&bytes).unwrap_or_else(|| panic!("{what} is not refused"));
        assert_eq!(code, expected, "{what}");
        assert_eq!(
            (reply.metadata.id, u16::from(reply.metadata.response_code)),
            (0x1234, u16::from(expected)),
            "{what}"
        );
    }
}

#[test]
fn answers_keep_to_what_the_client_takes() {
    let limits = [
        (None, Transport::Udp, 512),
        (Some(100), Transport::Udp, 512),
        (Some(1000), Transport::Udp, 1000),
        (Some(4096), Transport::Udp, 1232),
        (Some(4096), Transport::Tcp, 65_535),
        (None, Transport::Tcp, 65_535),
    ];
    for (edns, transport, expected) in limits {
        assert_eq!(
            limit(&request(&question(edns)), transport, 1232),
            expected,
            "{edns:?} {transport:?}"
        );
    }
}

fn addresses(count: u32) -> Vec<Record> {
    let name = Name::from_ascii("web.test.svc.cluster.local.").unwrap();
    (0..count)
        .map(|i| Record::from_rdata(name.clone(), 5, RData::A(A(i.into()))))
        .collect()
}

#[test]
fn a_long_answer_loses_its_glue_first_then_records_from_the_end() {
    let request = request(&question(Some(1232)));
    let reply = |answers, additionals| Reply {
        answers: addresses(answers),
        additionals: addresses(additionals),
        ..Reply::bare(ResponseCode::NoError, Recursion::None)
    };
    let (bytes, cut) = encode(&request, reply(10, 10), 512);
    assert_eq!(
        (cut, Message::from_vec(&bytes).unwrap().additionals.len()),
        (Cut::Whole, 10)
    );

    let (bytes, cut) = encode(&request, reply(20, 20), 512);
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(
        (cut, message.answers.len(), message.additionals.len()),
        (Cut::Whole, 20, 0)
    );
    assert!(!message.metadata.truncation);

    let (bytes, cut) = encode(&request, reply(1000, 5), 512);
    let message = Message::from_vec(&bytes).unwrap();
    assert!(cut == Cut::Truncated && message.metadata.truncation && bytes.len() <= 512);
    assert!(
        bytes.len() > 512 - 2 * 16,
        "as many records as fit, not {}",
        message.answers.len()
    );
    assert!(message.edns.is_some(), "the OPT record stays");
}

#[test]
fn more_than_a_tcp_message_can_hold_is_cut_too() {
    let request = request(&question(None));
    let reply = Reply {
        answers: addresses(10_000),
        ..Reply::bare(ResponseCode::NoError, Recursion::None)
    };
    let (bytes, cut) = encode(&request, reply, 65_535);
    assert_eq!(cut, Cut::Truncated);
    assert!(Message::from_vec(&bytes).unwrap().answers.len() > 1000);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Incoming::Refuse(_, reply) = read(&bytes) {
            prop_assert!(Message::from_vec(&reply).is_ok());
        }
    }

    #[test]
    fn one_changed_byte_of_a_question_never_panics(at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = question(Some(1232)).to_vec().unwrap();
        let index = at % bytes.len();
        bytes[index] = byte;
        let _any = read(&bytes);
    }
}

/// Questions with all that a message may carry.
fn seeds() -> Vec<Vec<u8>> {
    let plain = question(None).to_vec().unwrap();
    let edns = question(Some(4096)).to_vec().unwrap();
    let mut answer = {
        let request = request(&question(Some(1232)));
        let reply = Reply {
            answers: addresses(20),
            ..Reply::bare(ResponseCode::NoError, Recursion::None)
        };
        encode(&request, reply, 4096).0
    };
    // A question that brings records along.
    answer[2] &= 0x7f;
    vec![plain, edns, answer]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Counts, labels' lengths and compression pointers (RFC 1035, 4.1.4) are what a reader trusts: each may be any number, also a
    /// pointer to itself or behind the end.
    #[test]
    fn a_bent_message_is_read_or_refused_and_never_without_end(
        seed in any::<prop::sample::Index>(),
        counts in proptest::collection::vec((0_usize..4, any::<u16>()), 0..3),
        bends in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        pointers in proptest::collection::vec((any::<prop::sample::Index>(), 0_u16..600), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = seed.get(&seeds()).clone();
        for (which, count) in counts {
            bytes[4 + 2 * which..6 + 2 * which].copy_from_slice(&count.to_be_bytes());
        }
        for (at, byte) in bends {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, to) in pointers {
            let at = at.index(bytes.len() - 1);
            bytes[at..at + 2].copy_from_slice(&(0xc000 | to).to_be_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match read(&bytes) {
            Incoming::Refuse(_, reply) => {
                prop_assert!(reply.len() <= 512, "a refusal is short: {} bytes", reply.len());
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
            Incoming::Ask(request) => {
                let (reply, _) = encode(&request, Reply::bare(ResponseCode::Refused, Recursion::None), 512);
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
            Incoming::Drop => {}
        }
    }
}
