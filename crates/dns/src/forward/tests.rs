//! Messages taken apart, cut, aged and kept.

use std::time::{Duration, Instant};

use hickory_proto::op::OpCode;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{RData, Record};
use proptest::prelude::*;

use super::*;

fn name() -> Name {
    Name::from_ascii("example.com.").unwrap()
}

fn question() -> Question {
    Question {
        name: name(),
        kind: RecordType::A,
        edns: AskedEdns::Plain,
        checking: Checking::Enabled,
        desire: Desire::Recursion,
    }
}

fn message(ttls: &[u32]) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.queries.push(Query::query(name(), RecordType::A));
    for (index, ttl) in ttls.iter().enumerate() {
        let address = u32::try_from(index).unwrap();
        message.answers.push(Record::from_rdata(
            name(),
            *ttl,
            RData::A(A(address.into())),
        ));
    }
    message.edns = Some(Edns::new());
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn negative(ttl: u32, minimum: u32) -> Message {
    let soa = SOA::new(name(), name(), 1, 1, 1, 1, minimum);
    let mut message = message(&[]);
    message.metadata.response_code = ResponseCode::NXDomain;
    message
        .authorities
        .push(Record::from_rdata(name(), ttl, RData::SOA(soa)));
    message
}

#[test]
fn an_answer_lives_as_long_as_its_shortest_record() {
    let lives = |message: &Message| {
        let bytes = bytes(message);
        packet::lifetime(&bytes, &packet::layout(&bytes).unwrap())
    };
    assert_eq!(lives(&message(&[300, 20, 60])), Some(20));
    assert_eq!(lives(&negative(60, 15)), Some(15));
    assert_eq!(lives(&negative(10, 15)), Some(10));
    assert_eq!(
        lives(&message(&[])),
        None,
        "no data without an SOA record is not to be kept"
    );
}

#[test]
fn a_kept_answer_ages_and_ends() {
    let mut cache = Cache::new(8);
    let start: Instant = clock::now();
    cache.keep(question(), &bytes(&message(&[20, 40])).into(), start);
    let found = cache
        .find(&question(), start + Duration::from_secs(15))
        .expect("still good");
    let ttls: Vec<u32> = Message::from_vec(&found)
        .unwrap()
        .answers
        .iter()
        .map(|record| record.ttl)
        .collect();
    assert_eq!(ttls, [5, 25]);
    assert!(
        cache
            .find(&question(), start + Duration::from_secs(20))
            .is_none()
    );
    cache.keep(question(), &bytes(&message(&[4000])).into(), start);
    assert!(
        cache
            .find(&question(), start + Duration::from_secs(30))
            .is_none(),
        "30 s is the longest"
    );
}

#[test]
fn errors_cut_answers_and_zero_ttls_are_not_kept() {
    let mut failed = message(&[60]);
    failed.metadata.response_code = ResponseCode::ServFail;
    let mut cut = message(&[60]);
    cut.metadata.truncation = true;
    let mut cache = Cache::new(8);
    let now = clock::now();
    for message in [failed, cut, message(&[0]), message(&[60; 500])] {
        cache.keep(question(), &bytes(&message).into(), now);
        assert!(cache.find(&question(), now).is_none());
    }
}

#[test]
fn the_cache_is_bounded() {
    let mut cache = Cache::new(4);
    let now = clock::now();
    let answer: Answer = bytes(&message(&[60])).into();
    let asked: Vec<Question> = (0..100)
        .map(|i| Question {
            name: Name::from_ascii(format!("{i}.example.com.")).unwrap(),
            ..question()
        })
        .collect();
    for question in &asked {
        cache.keep(question.clone(), &answer, now);
    }
    assert_eq!(
        asked
            .iter()
            .filter(|question| cache.find(question, now).is_some())
            .count(),
        4
    );
}

#[test]
fn a_cut_message_keeps_whole_answers_and_the_opt_record() {
    let whole = bytes(&message(&[60; 100]));
    for limit in 40..whole.len() {
        let short = cut(&whole, limit).unwrap();
        let read =
            Message::from_vec(&short).unwrap_or_else(|error| panic!("limit {limit}: {error}"));
        assert!(
            short.len() <= limit && read.metadata.truncation && read.edns.is_some(),
            "limit {limit}"
        );
    }
    assert!(
        Message::from_vec(&cut(&whole, 512).unwrap())
            .unwrap()
            .answers
            .len()
            > 25
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0..400usize) {
        if let Some(layout) = packet::layout(&bytes) {
            packet::lifetime(&bytes, &layout);
            packet::age(&mut bytes, &layout, 5);
        }
        cut(&bytes, limit);
    }

    #[test]
    fn one_changed_byte_of_an_answer_never_panics(at in any::<usize>(), byte in any::<u8>(), limit in 0..200usize) {
        let mut bytes = bytes(&negative(5, 5));
        let index = at % bytes.len();
        bytes[index] = byte;
        if let Some(layout) = packet::layout(&bytes) {
            packet::lifetime(&bytes, &layout);
            packet::age(&mut bytes, &layout, 5);
        }
        cut(&bytes, limit);
    }
}

#[tokio::test]
async fn who_waits_for_a_question_about_which_asking_panics_is_told_and_the_next_asks_anew() {
    let forwarder = Forwarder::new(&Config::default(), Arc::default());
    let inner = Arc::clone(&forwarder.0);
    let (waiter, waits) = oneshot::channel();
    let waiting = HashMap::from([(question(), vec![waiter])]);
    *inner.under_way.lock().unwrap() = waiting;
    let asks = async { panic!("such an answer") };
    let lead = tokio::spawn(async move { inner.tell(&question(), asks).await });
    assert!(lead.await.unwrap_err().is_panic());
    let told = tokio::time::timeout(Duration::from_secs(5), waits);
    assert_eq!(told.await, Ok(Ok(None)));
    assert_eq!(forwarder.0.metrics.panics.load(Ordering::Relaxed), 1);
    // Nobody is there to be asked, which is an answer of its own, at once.
    let later = tokio::time::timeout(Duration::from_secs(5), forwarder.resolve(question()));
    assert_eq!(later.await, Ok(None));
    assert_eq!(
        forwarder.0.metrics.forward_failures.load(Ordering::Relaxed),
        1
    );
}
