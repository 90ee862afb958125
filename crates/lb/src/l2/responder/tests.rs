use proptest::prelude::*;

use super::*;
use crate::testing::ip;

const OWN: Mac = [2, 0, 0, 0, 0, 1];
const ASKER: Mac = [2, 0, 0, 0, 0, 9];
const NOW: Moment = Moment::after_boot(Duration::from_secs(100));

fn later(millis: u64) -> Moment {
    NOW + Duration::from_millis(millis)
}

fn responder(addresses: &[&str]) -> Responder {
    let mut responder = Responder::new(OWN);
    responder.assign(NOW, &addresses.iter().map(|text| ip(text)).collect());
    responder.allow(NOW, later(2000));
    responder
}

/// Bytes as they are on the wire, written in hexadecimal with spaces.
fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// A broadcast "who has TARGET", as Linux sends it.
fn arp(operation: &str, sender: &str, target: &str) -> String {
    format!(
        "ffffffffffff 020000000009 0806 0001 0800 06 04 {operation} 020000000009 {sender} 000000000000 {target}"
    )
}

const VIP: &str = "ac1e00c8"; // 172.30.0.200
const CLIENT: &str = "ac1e0064"; // 172.30.0.100

#[test]
fn an_arp_request_is_answered_from_the_interface_to_the_asker() {
    let answer = responder(&["172.30.0.200"])
        .receive(NOW, &bytes(&arp("0001", CLIENT, VIP)))
        .unwrap();
    let expected = format!(
        "020000000009 020000000001 0806 0001 0800 06 04 0002 020000000001 {VIP} 020000000009 {CLIENT}"
    );
    assert_eq!(answer, bytes(&expected));
}

#[test]
fn an_arp_probe_is_answered_so_that_nobody_takes_the_address() {
    let answer = responder(&["172.30.0.200"])
        .receive(NOW, &bytes(&arp("0001", "00000000", VIP)))
        .unwrap();
    let expected = format!(
        "020000000009 020000000001 0806 0001 0800 06 04 0002 020000000001 {VIP} 020000000009 00000000"
    );
    assert_eq!(answer, bytes(&expected));
}

#[test]
fn arp_frames_that_are_not_answered_name_the_reason() {
    let check = |frame: &str, expected: Drop| {
        assert_eq!(
            responder(&["172.30.0.200"]).receive(NOW, &bytes(frame)),
            Err(expected),
            "{frame}"
        );
    };
    check(&arp("0001", CLIENT, "ac1e00c9"), Drop::NotOurs);
    check(&arp("0002", CLIENT, VIP), Drop::NotOurs);
    check(&arp("0003", CLIENT, VIP), Drop::NotAQuestion);
    check(&arp("0001", VIP, VIP), Drop::Contested);
    check(&arp("0002", VIP, CLIENT), Drop::Contested);
    check(&arp("0001", VIP, CLIENT), Drop::Contested);
    check(
        &arp("0001", CLIENT, VIP).replacen("ffffffffffff", "020000000077", 1),
        Drop::NotForUs,
    );
    check(
        &arp("0001", CLIENT, VIP).replace("020000000009", "020000000001"),
        Drop::Own,
    );
    check(
        &arp("0001", CLIENT, VIP).replace("0800 06", "86dd 06"),
        Drop::Malformed,
    );
    check(
        &arp("0001", CLIENT, VIP).replace("04 0001 020000000009", "04 0001 ffffffffffff"),
        Drop::Malformed,
    );
    check(
        &arp("0001", CLIENT, VIP).replace("0806", "0800"),
        Drop::NotAQuestion,
    );
    let whole = bytes(&arp("0001", CLIENT, VIP));
    for length in 0..whole.len() {
        assert_eq!(
            responder(&["172.30.0.200"]).receive(NOW, &whole[..length]),
            Err(Drop::Truncated),
            "{length}"
        );
    }
}

/// fd00:30::200 is looked for in ff02::1:ff00:200.
struct Solicitation {
    source: &'static str,
    destination: &'static str,
    hop_limit: u8,
    code: u8,
    target: &'static str,
    options: &'static str,
}

const USUAL: Solicitation = Solicitation {
    source: "fd00:30::100",
    destination: "ff02::1:ff00:200",
    hop_limit: 255,
    code: 0,
    target: "fd00:30::200",
    options: "0101 020000000009",
};

impl Solicitation {
    fn frame(&self) -> Vec<u8> {
        let six = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mut icmp = vec![135, self.code, 0, 0, 0, 0, 0, 0];
        icmp.extend(six(self.target));
        icmp.extend(bytes(self.options));
        let mut sum = Vec::from(six(self.source));
        sum.extend(six(self.destination));
        sum.extend([0, 0, 0, u8::try_from(icmp.len()).unwrap(), 0, 0, 0, 58]);
        sum.extend(&icmp);
        let mut total: u32 = sum
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        icmp[2..4].copy_from_slice(&(!u16::try_from(total).unwrap()).to_be_bytes());
        let mut frame = bytes("3333ff000200 020000000009 86dd 60000000 00");
        frame.extend([u8::try_from(icmp.len()).unwrap(), 58, self.hop_limit]);
        frame.extend(six(self.source));
        frame.extend(six(self.destination));
        frame.extend(icmp);
        frame
    }
}

#[test]
fn a_neighbour_solicitation_is_answered_to_the_asker() {
    let answer = responder(&["fd00:30::200"])
        .receive(NOW, &USUAL.frame())
        .unwrap();
    let expected = bytes(
        "020000000009 020000000001 86dd 60000000 0020 3a ff fd000030000000000000000000000200 \
         fd000030000000000000000000000100 88 00 95a2 60000000 fd000030000000000000000000000200 0201 020000000001",
    );
    // The checksum is checked by reading it back below; here every other byte.
    assert_eq!(answer[..56], expected[..56]);
    assert_eq!(answer[58..], expected[58..]);
    assert_checksum(&answer);
}

fn assert_checksum(frame: &[u8]) {
    let icmp = etherparse::Icmpv6Slice::from_slice(&frame[54..]).unwrap();
    let (source, to) = (
        frame[22..38].try_into().unwrap(),
        frame[38..54].try_into().unwrap(),
    );
    assert!(icmp.is_checksum_valid(source, to));
}

#[test]
fn without_a_link_layer_option_the_frame_says_where_to_answer() {
    let question = Solicitation {
        options: "",
        ..USUAL
    };
    let answer = responder(&["fd00:30::200"])
        .receive(NOW, &question.frame())
        .unwrap();
    assert_eq!(answer[..6], ASKER);
}

#[test]
fn duplicate_address_detection_finds_the_address_taken() {
    let probe = Solicitation {
        source: "::",
        options: "",
        ..USUAL
    };
    let answer = responder(&["fd00:30::200"])
        .receive(NOW, &probe.frame())
        .unwrap();
    assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        answer[38..54],
        "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets()
    );
    assert_eq!(
        answer[58], 0x20,
        "Override without Solicited (RFC 4861 section 7.2.4)"
    );
    assert_checksum(&answer);
}

#[test]
fn solicitations_that_are_not_answered_name_the_reason() {
    let check = |question: Solicitation, expected: Drop| {
        assert_eq!(
            responder(&["fd00:30::200"]).receive(NOW, &question.frame()),
            Err(expected)
        );
    };
    check(
        Solicitation {
            target: "fd00:30::201",
            ..USUAL
        },
        Drop::NotOurs,
    );
    check(
        Solicitation {
            hop_limit: 64,
            ..USUAL
        },
        Drop::Routed,
    );
    check(Solicitation { code: 1, ..USUAL }, Drop::Malformed);
    check(
        Solicitation {
            target: "ff02::1",
            ..USUAL
        },
        Drop::Malformed,
    );
    check(
        Solicitation {
            source: "::",
            ..USUAL
        },
        Drop::Malformed,
    );
    check(
        Solicitation {
            source: "::",
            options: "",
            destination: "fd00:30::200",
            ..USUAL
        },
        Drop::Malformed,
    );
    check(
        Solicitation {
            options: "0100 020000000009",
            ..USUAL
        },
        Drop::Malformed,
    );
    check(
        Solicitation {
            options: "0102 020000000009",
            ..USUAL
        },
        Drop::Malformed,
    );
    let mut broken = USUAL.frame();
    broken[60] ^= 1;
    assert_eq!(
        responder(&["fd00:30::200"]).receive(NOW, &broken),
        Err(Drop::Checksum)
    );
    let whole = USUAL.frame();
    for length in 0..whole.len() {
        assert_eq!(
            responder(&["fd00:30::200"]).receive(NOW, &whole[..length]),
            Err(Drop::Truncated),
            "{length}"
        );
    }
}

#[test]
fn an_address_taken_over_is_announced_by_request_and_reply() {
    let frames = responder(&["172.30.0.200"]).due(NOW);
    let request = format!(
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 {VIP} 000000000000 {VIP}"
    );
    let reply = format!(
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0002 020000000001 {VIP} 020000000001 {VIP}"
    );
    assert_eq!(frames, [bytes(&request), bytes(&reply)]);
}

#[test]
fn an_ipv6_address_taken_over_is_announced_with_override() {
    let frames = responder(&["fd00:30::200"]).due(NOW);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frames[0][58], 0x20);
    assert_checksum(&frames[0]);
}

#[test]
fn announcements_go_on_for_five_seconds() {
    let mut responder = responder(&["172.30.0.200"]);
    responder.allow(NOW, later(60_000));
    let mut sent = Vec::new();
    let mut now = NOW;
    while let Some(next) = responder.deadline() {
        now = now.max(next);
        assert_eq!(responder.due(now).len(), 2);
        sent.push(now.since(NOW).as_millis());
    }
    assert_eq!(sent, [0, 1100, 2200, 3300, 4400]);
    // A second address later does not repeat the first.
    responder.assign(
        later(6000),
        &[ip("172.30.0.200"), ip("172.30.0.201")].into(),
    );
    assert_eq!(responder.due(later(6000)).len(), 2);
}

#[test]
fn after_the_fence_it_asks_the_link_before_it_answers() {
    let mut responder = responder(&["172.30.0.200", "fd00:30::200"]);
    let questions = [bytes(&arp("0001", CLIENT, VIP)), USUAL.frame()];
    for question in &questions {
        let answer = responder.receive(later(1999), question).expect("an answer");
        let probe = responder
            .receive(later(2000), question)
            .expect("a question");
        // Another node that has the address answers it.
        let mut other = Responder::new([0x02, 0, 0, 0, 0, 0x99]);
        other.assign(NOW, &[ip("172.30.0.200"), ip("fd00:30::200")].into());
        other.allow(NOW, later(60_000));
        let claim = other.receive(later(2001), &probe).expect("its answer");
        // Nobody does: the next question is answered, and for a while every other.
        let early = responder.receive(later(2199), question);
        assert_eq!(early, Err(Drop::Fenced), "it still listens");
        assert_eq!(responder.receive(later(2200), question), Ok(answer.clone()));
        assert_eq!(responder.receive(later(6999), question), Ok(answer));
        assert_eq!(responder.receive(later(7000), question), Ok(probe));
        // Somebody does: the address is yielded, whoever asks.
        assert_eq!(responder.receive(later(7001), &claim), Err(Drop::Contested));
        assert_eq!(responder.receive(later(9000), question), Err(Drop::Fenced));
    }
    assert_eq!(responder.due(later(2000)), Vec::<Vec<u8>>::new());
    let deadline = responder.deadline();
    assert!(deadline.is_none_or(|at| at < later(2000)), "{deadline:?}");
    // Allowed again, it tells everybody at once, and answers.
    responder.allow(later(9000), later(11_000));
    assert_eq!(responder.due(later(9000)).len(), 3);
    for question in &questions {
        assert!(responder.receive(later(9001), question).is_ok());
    }
}

#[test]
fn an_announcement_of_another_node_after_the_fence_takes_the_address() {
    let addresses = ["172.30.0.200", "fd00:30::200"];
    let mut other = Responder::new([0x02, 0, 0, 0, 0, 0x99]);
    other.assign(NOW, &addresses.map(ip).into());
    other.allow(NOW, later(60_000));
    let claims = other.due(later(2500));
    assert_eq!(claims.len(), 3);
    for (fence, taken) in [(60_000, false), (2000, true)] {
        let mut responder = responder(&addresses);
        responder.allow(NOW, later(fence));
        for claim in &claims {
            assert_eq!(responder.receive(later(2500), claim), Err(Drop::Contested));
        }
        for question in [bytes(&arp("0001", CLIENT, VIP)), USUAL.frame()] {
            let answer = responder.receive(later(2600), &question);
            assert_eq!(answer == Err(Drop::Fenced), taken, "{answer:?}");
        }
    }
}

#[test]
fn who_was_never_allowed_asks_nobody() {
    let mut responder = Responder::new([0x02, 0, 0, 0, 0, 0x01]);
    responder.assign(NOW, &[ip("172.30.0.200")].into());
    responder.allow(NOW, Moment::default());
    let question = bytes(&arp("0001", CLIENT, VIP));
    assert_eq!(responder.receive(later(5000), &question), Err(Drop::Fenced));
}

#[test]
fn an_address_given_up_is_not_answered_for() {
    let mut responder = responder(&["172.30.0.200"]);
    responder.assign(NOW, &BTreeSet::new());
    assert_eq!(
        responder.receive(NOW, &bytes(&arp("0001", CLIENT, VIP))),
        Err(Drop::NotOurs)
    );
    assert_eq!(responder.deadline(), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = responder(&["172.30.0.200", "fd00:30::200"]).receive(NOW, &frame);
    }

    #[test]
    fn a_damaged_question_never_panics_and_is_never_answered_for_others(
        solicitation: bool, at in 0usize..86, value: u8, cut in 0usize..90
    ) {
        let mut frame = if solicitation { USUAL.frame() } else { bytes(&arp("0001", CLIENT, VIP)) };
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
        frame.truncate(cut);
        if let Ok(answer) = responder(&["172.30.0.200", "fd00:30::200"]).receive(NOW, &frame) {
            prop_assert_eq!(&answer[6..12], &OWN);
        }
    }
}

#[test]
fn the_next_announcement_is_of_an_address_that_is_still_there() {
    let set = |list: &[&str]| list.iter().map(|text| ip(text)).collect();
    let mut responder = responder(&["172.30.0.200"]);
    responder.allow(NOW, later(60_000));
    assert_eq!(responder.due(NOW).len(), 2);
    responder.assign(later(500), &set(&["172.30.0.200", "172.30.0.201"]));
    assert_eq!(responder.deadline(), Some(later(500)));
    responder.due(later(500));
    assert_eq!(responder.deadline(), Some(later(1100)));
    responder.assign(later(600), &set(&["172.30.0.201"]));
    assert_eq!(responder.deadline(), Some(later(1600)));
    responder.assign(later(700), &set(&[]));
    assert_eq!(responder.deadline(), None);
    assert_eq!(responder.due(later(9000)), [[0_u8; 0]; 0]);
}
