use proptest::prelude::*;

use super::*;
use crate::frame;
use crate::nft::any;
use crate::nft::expr::{Ct, CtKey, Dynset, DynsetOp, Limit, LimitKind, LimitUnit, RangeOp, Reg};
use crate::nft::message::Message;
use crate::nft::object::{Family, TableId};
use crate::nft::reply::Reply;

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Writer::new();
    message.encode(&mut out, 7);
    assert!(!out.overflowed());
    out.into_bytes()
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same_message(message in any::message()) {
        let bytes = encoded(&message);
        let frame = frame::walk(&bytes).next().expect("one message").expect("whole");
        prop_assert_eq!(frame.header.seq, 7);
        prop_assert_eq!(Message::decode(&frame), Ok(message));
    }

    #[test]
    fn a_broken_message_is_an_error_never_a_panic(
        message in any::message(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&message);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        for frame in frame::walk(&bytes).flatten() {
            let _ = Message::decode(&frame);
            let _ = Reply::decode(&frame);
            let _ = frame::Refusal::decode(&frame);
        }
    }

    #[test]
    fn an_expression_decodes_to_itself(expr in any::expr()) {
        let mut out = Writer::new();
        expr::put(&mut out, &expr);
        prop_assert_eq!(expr::take(out.bytes()), Ok(expr));
    }
}

#[test]
fn a_register_has_two_names_on_the_wire() {
    let cases = [
        (1, Reg::R0),
        (2, Reg::R4),
        (4, Reg::R12),
        (8, Reg::R0),
        (9, Reg::R1),
        (23, Reg::R15),
    ];
    for (code, reg) in cases {
        assert_eq!(Reg::from_code(code), Some(reg), "code {code}");
    }
    for code in [0, 5, 7, 24, u32::MAX] {
        assert_eq!(Reg::from_code(code), None, "code {code}");
    }
}

#[test]
fn an_expression_of_another_program_is_kept_as_it_is() {
    let mut out = Writer::new();
    out.str(1, "ct");
    out.nest(2, |out| {
        out.be32(2, 99);
        out.be32(1, 8);
    });
    let Ok(Expr::Other { name, bytes }) = expr::take(out.bytes()) else {
        panic!("an unknown conntrack key is another program's");
    };
    let mut again = Writer::new();
    expr::put(&mut again, &Expr::Other { name, bytes });
    assert_eq!(again.bytes(), out.bytes());
}

/// What the kernel makes of what was left out (`nft_ct_get_dump`, `nft_dynset_dump`).
#[test]
fn what_the_kernel_fills_in_is_taken_out_again() {
    let mut dumped = Writer::new();
    dumped.str(1, "ct");
    dumped.nest(2, |out| {
        out.be32(1, 1);
        out.be32(2, CtKey::Protocol.code());
        out.u8(3, 2);
    });
    let sent = Expr::Ct(Ct::Load {
        key: CtKey::Protocol,
        direction: None,
        dreg: Reg::R0,
    });
    assert_eq!(expr::take(dumped.bytes()), Ok(sent));

    let mut dumped = Writer::new();
    dumped.str(1, "dynset");
    dumped.nest(2, |out| {
        out.str(1, "seen");
        out.be32(3, 1);
        out.be32(4, 8);
        out.be64(6, 0);
        out.be32(9, 0);
    });
    let sent = Expr::Dynset(Dynset {
        set: "seen".into(),
        op: DynsetOp::Update,
        key: Reg::R0,
        data: None,
        timeout: None,
        exprs: Vec::new(),
    });
    assert_eq!(expr::take(dumped.bytes()), Ok(sent));
}

/// The bytes of libnftnl 1.2 for `limit rate over 10/second burst 5 packets`.
#[test]
fn a_limit_has_the_bytes_that_libnftnl_writes() {
    let limit = Expr::Limit(Limit {
        kind: LimitKind::Packets,
        rate: 10,
        unit: LimitUnit::Second,
        burst: 5,
        side: RangeOp::Without,
    });
    let mut out = Writer::new();
    expr::put(&mut out, &limit);
    let mut expected = Writer::new();
    expected.str(1, "limit");
    expected.nest(2, |out| {
        out.put(1, &[0, 0, 0, 0, 0, 0, 0, 10]);
        out.put(2, &[0, 0, 0, 0, 0, 0, 0, 1]);
        out.put(3, &[0, 0, 0, 5]);
        out.put(4, &[0, 0, 0, 0]);
        out.put(5, &[0, 0, 0, 1]);
    });
    assert_eq!(out.bytes(), expected.bytes());
}

#[test]
fn a_message_starts_with_a_netfilter_header() {
    let table = TableId::new(Family::Inet, "t");
    let bytes = encoded(&Message::DelTable { table });
    let expected = [
        &28u32.to_ne_bytes()[..],
        &0x0a02u16.to_ne_bytes(),
        &1u16.to_ne_bytes(),
        &7u32.to_ne_bytes(),
        &0u32.to_ne_bytes(),
        &[1, 0, 0, 0],
        &6u16.to_ne_bytes(),
        &1u16.to_ne_bytes(),
        b"t\0\0\0",
    ];
    assert_eq!(bytes, expected.concat());
}
