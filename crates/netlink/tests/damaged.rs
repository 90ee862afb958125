//! Answers of the kernel that are damaged on purpose: each decoder gives a value or an error, and each datagram ends.
//!
//! Valid datagrams are bent where decoders trust them most: single bits, lengths (of messages and attributes: any two bytes at
//! an even place), pieces that come twice or are missing, and the end.

#![allow(clippy::unwrap_used, reason = "a test")]

use daymark_netlink::attr::Writer;
use daymark_netlink::ct::{self, Flow, Ports, Status, Tcp, TcpFlags, TcpState, Tuple};
use daymark_netlink::frame::{self, Refusal};
use daymark_netlink::ipvs::{self, VirtualServer};
use daymark_netlink::nft::{Message, Reply};
use daymark_netlink::{genl, ipset};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// One thing that goes wrong with a datagram.
#[derive(Clone, Debug)]
enum Damage {
    /// A bit is another one.
    Bit(Index, u8),
    /// Two bytes at an even place, where a length may be.
    Length(Index, u16),
    /// A piece comes a second time, right behind itself.
    Twice(Index, usize),
    /// A piece is missing.
    Gone(Index, usize),
    /// The rest is missing.
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let length = prop_oneof![0_u16..64, any::<u16>(), Just(u16::MAX)];
    prop_oneof![
        (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        (any::<Index>(), length).prop_map(|(at, length)| Damage::Length(at, length)),
        (any::<Index>(), 1_usize..40).prop_map(|(at, count)| Damage::Twice(at, count)),
        (any::<Index>(), 1_usize..40).prop_map(|(at, count)| Damage::Gone(at, count)),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

fn damaged(mut bytes: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for damage in all {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        let piece = |at: &Index, count: usize| {
            let at = at.index(len);
            at..(at + count).min(len)
        };
        match damage {
            Damage::Bit(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Damage::Length(at, length) => {
                let at = at.index(len) & !1;
                for (byte, new) in bytes[at..].iter_mut().zip(length.to_ne_bytes()) {
                    *byte = new;
                }
            }
            Damage::Twice(at, count) => {
                let piece = piece(at, *count);
                let copy = bytes[piece.clone()].to_vec();
                bytes.splice(piece.end..piece.end, copy);
            }
            Damage::Gone(at, count) => drop(bytes.drain(piece(at, *count))),
            Damage::Cut(at) => bytes.truncate(at.index(len)),
        }
    }
    bytes
}

fn flow(v6: bool, port: u16) -> Flow {
    let ip = |last: u8| -> std::net::IpAddr {
        if v6 {
            format!("fd00::{last}").parse().unwrap()
        } else {
            [10, 244, 1, last].into()
        }
    };
    let tuple = |from, to, src, dst| Tuple {
        src: ip(from),
        dst: ip(to),
        protocol: 6,
        ports: Ports::Pair { src, dst },
    };
    Flow {
        original: tuple(9, 20, port, 80),
        reply: tuple(5, 9, 8080, port),
        zone: 3,
        status: Status::from_bits(0x1be),
        mark: 7,
        timeout: Some(120),
        id: Some(99),
        tcp: Some(Tcp {
            state: TcpState::CLOSE_WAIT,
            original: TcpFlags::CLOSE_INIT,
            reply: TcpFlags::DATA_UNACKNOWLEDGED,
        }),
    }
}

/// Datagrams of every subsystem, several messages each.
fn whole() -> Vec<Vec<u8>> {
    let written = |write: &dyn Fn(&mut Writer)| {
        let mut out = Writer::new();
        write(&mut out);
        out.bytes().to_vec()
    };
    let server = VirtualServer::Address {
        protocol: 6,
        address: [10, 96, 0, 10].into(),
        port: 443,
    };
    vec![
        written(&|out| {
            for (seq, v6) in [(1, false), (2, true), (3, false)] {
                ct::Request::Insert(flow(v6, 40_000)).encode(out, seq);
            }
        }),
        written(&|out| {
            ipvs::Request::Insert(server).encode(out, 0x1c, 1);
            ipvs::Request::Delete(server).encode(out, 0x1c, 2);
        }),
        written(&|out| genl::ask_family(out, 1, ipvs::FAMILY)),
        written(&|out| ipset::Request::Destroy("KUBE-CLUSTER-IP").encode(out, 1)),
    ]
}

/// Hands every message to every decoder, whatever it claims to be; how many messages there were.
fn decode(bytes: &[u8]) -> usize {
    let mut messages = 0;
    for frame in frame::walk(bytes).take(bytes.len() + 1) {
        messages += 1;
        let Ok(frame) = frame else { continue };
        assert!(frame.payload.len() <= bytes.len());
        let _ = Flow::decode(&frame);
        let _ = VirtualServer::decode(&frame);
        let _ = genl::family(&frame);
        let _ = Refusal::decode(&frame);
        let _ = Message::decode(&frame);
        let _ = Reply::decode(&frame);
    }
    messages
}

#[test]
fn what_is_whole_is_decoded() {
    let all = whole();
    let frames = |bytes: &[u8]| frame::walk(bytes).flatten().count();
    assert_eq!(
        all.iter().map(|b| frames(b)).collect::<Vec<_>>(),
        [3, 2, 1, 1]
    );
    let mut flows = frame::walk(&all[0]).map(|frame| Flow::decode(&frame.unwrap()).unwrap());
    assert_eq!(flows.next(), Some(flow(false, 40_000)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_datagram_ends_and_never_panics(which in any::<Index>(), all in vec(damage(), 1..6)) {
        let bytes = damaged(which.get(&whole()).clone(), &all);
        // A header is 16 bytes, and each message takes at least those, or ends the datagram.
        prop_assert!(decode(&bytes) <= bytes.len() / 16 + 1);
    }

    #[test]
    fn any_bytes_end_and_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&bytes) <= bytes.len() / 16 + 1);
    }
}
