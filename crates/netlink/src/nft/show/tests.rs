use super::*;
use crate::nft::data::{Data, Field};
use crate::nft::expr::*;
use crate::nft::message::{Exists, Message};
use crate::nft::object::{Elements, Family, Hook, Policy, TableId};

fn program() -> Ruleset {
    let mut out = Ruleset::new(Table::new(TableId::new(Family::Inet, "t")));
    let words = Type::from([Field::Mark, Field::Mark, Field::Mark]);
    let backend = Type::from([Field::Ipv4Addr, Field::InetService]);
    out.sets = vec![
        Set::new(
            "fe",
            [Field::Ipv4Addr, Field::InetProto, Field::InetService],
            SetKind::Map(words),
        ),
        Set::new("plans", Field::Mark, SetKind::Verdicts),
        Set::new("slots", [Field::Mark, Field::Mark], SetKind::Map(backend)),
        Set {
            flags: SetFlags::INTERVAL,
            ..Set::new("nets", Field::Ipv4Addr, SetKind::Set)
        },
    ];
    out
}

fn frontend() -> Vec<Expr> {
    vec![
        Expr::Meta(Meta::Load {
            key: MetaKey::NfProto,
            dreg: Reg::R0,
        }),
        Expr::Cmp(Cmp {
            sreg: Reg::R0,
            op: CmpOp::Eq,
            data: Data::new(&[2]),
        }),
        Expr::Payload(Payload {
            base: Base::Network,
            offset: 16,
            len: 4,
            dreg: Reg::R0,
        }),
        Expr::Meta(Meta::Load {
            key: MetaKey::L4Proto,
            dreg: Reg::R1,
        }),
        Expr::Payload(Payload {
            base: Base::Transport,
            offset: 2,
            len: 2,
            dreg: Reg::R2,
        }),
        Expr::Lookup(Lookup {
            set: "fe".into(),
            key: Reg::R0,
            result: LookupResult::Data(Reg::R8),
        }),
    ]
}

fn check(exprs: Vec<Expr>, expected: &str) {
    assert_eq!(rule(&program(), &Rule::new("c", exprs)), expected);
}

#[test]
fn a_word_of_a_result_is_asked_for_by_its_index() {
    let plan = Lookup {
        set: "plans".into(),
        key: Reg::R9,
        result: LookupResult::Verdict,
    };
    check(
        [frontend(), vec![Expr::Lookup(plan)]].concat(),
        "(ip daddr . meta l4proto . th dport map @fe)[1] vmap @plans",
    );
}

#[test]
fn a_result_that_is_an_address_and_a_port_is_one_target() {
    let numgen = Numgen {
        dreg: Reg::R11,
        modulus: 3,
        kind: NumgenKind::Random,
        offset: 0,
    };
    let slot = Lookup {
        set: "slots".into(),
        key: Reg::R10,
        result: LookupResult::Data(Reg::R12),
    };
    let nat = Nat {
        kind: NatKind::Dnat,
        family: Family::Ip,
        addr: Some(Reg::R12.into()),
        port: Some(Reg::R13.into()),
        flags: NatFlags::NONE,
    };
    check(
        [
            frontend(),
            vec![Expr::Numgen(numgen), Expr::Lookup(slot), Expr::Nat(nat)],
        ]
        .concat(),
        "dnat ip to (ip daddr . meta l4proto . th dport map @fe)[2] . numgen random mod 3 map @slots",
    );
}

#[test]
fn a_constant_takes_the_type_of_its_use() {
    let nat = Nat {
        kind: NatKind::Dnat,
        family: Family::Ip,
        addr: Some(Reg::R0.into()),
        port: Some(Reg::R1.into()),
        flags: NatFlags::PERSISTENT,
    };
    check(
        vec![
            Expr::Immediate {
                dreg: Reg::R0,
                data: Data::new(&[10, 0, 0, 1]),
            },
            Expr::Immediate {
                dreg: Reg::R1,
                data: Data::port(8080),
            },
            Expr::Nat(nat),
        ],
        "dnat ip to 10.0.0.1:8080 persistent",
    );
}

#[test]
fn bits_are_words_and_masks_are_prefixes() {
    let mask = |mask: Data, xor: Data| {
        Expr::Bitwise(Bitwise::Mask {
            sreg: Reg::R0,
            dreg: Reg::R0,
            mask,
            xor,
        })
    };
    let cmp = |op, data| {
        Expr::Cmp(Cmp {
            sreg: Reg::R0,
            op,
            data,
        })
    };
    let ct = |key| {
        Expr::Ct(Ct::Load {
            key,
            direction: None,
            dreg: Reg::R0,
        })
    };
    check(
        vec![
            ct(CtKey::Status),
            mask(Data::host(0x20), Data::host(0)),
            cmp(CmpOp::Neq, Data::host(0)),
        ],
        "ct status dnat",
    );
    check(
        vec![
            ct(CtKey::State),
            mask(Data::host(6), Data::host(0)),
            cmp(CmpOp::Neq, Data::host(0)),
        ],
        "ct state established,related",
    );
    check(
        vec![
            Expr::Payload(Payload {
                base: Base::Network,
                offset: 12,
                len: 4,
                dreg: Reg::R0,
            }),
            mask(Data::new(&[255, 255, 0, 0]), Data::new(&[0; 4])),
            cmp(CmpOp::Neq, Data::new(&[10, 244, 0, 0])),
        ],
        "ip saddr != 10.244.0.0/16",
    );
}

#[test]
fn ranges_of_an_interval_set_are_put_together() {
    let set = program().set("nets").unwrap().clone();
    let start = |bytes: [u8; 4]| SetElem::key(Data::new(&bytes));
    let end = |bytes: [u8; 4]| start(bytes).with_role(Role::IntervalEnd);
    let elems = [
        end([10, 1, 0, 0]),
        start([10, 0, 0, 0]),
        start([10, 1, 0, 0]),
        end([10, 1, 0, 7]),
        start([192, 0, 2, 1]),
        end([192, 0, 2, 2]),
        start([255, 0, 0, 0]),
    ];
    let elems: Vec<_> = elems.iter().collect();
    let expected = [
        "10.0.0.0/16",
        "10.1.0.0-10.1.0.6",
        "192.0.2.1",
        "255.0.0.0/8",
    ];
    assert_eq!(elements(&set, &elems), expected);
}

#[test]
fn durations_have_their_units() {
    let cases = [
        (0, "0s"),
        (7_000, "7s"),
        (60_000, "1m"),
        (59_996, "59s996ms"),
        (90_061_001, "1d1h1m1s1ms"),
    ];
    for (millis, expected) in cases {
        assert_eq!(value::duration(millis), expected);
    }
}

#[test]
fn a_priority_has_its_name_at_its_own_hook() {
    let cases = [
        (Hook::Prerouting, -100, "dstnat"),
        (Hook::Output, -100, "-100"),
        (Hook::Postrouting, 105, "srcnat + 5"),
        (Hook::Forward, -1, "filter - 1"),
        (Hook::Input, i32::MIN, "-2147483648"),
    ];
    for (hook, priority, expected) in cases {
        assert_eq!(value::priority(hook, priority), expected);
    }
}

#[test]
fn a_message_reads_as_a_command_and_a_long_list_is_cut() {
    let table = TableId::new(Family::Inet, "t");
    let elems = (0..7).map(|slot: u32| {
        let key = Data::concat(&[&1u32.to_ne_bytes(), &slot.to_ne_bytes()]);
        SetElem::data(key, Data::concat(&[&[10, 0, 0, 1], &80u16.to_be_bytes()]))
    });
    let elements = Elements {
        set: "slots".into(),
        elems: elems.take(6).collect(),
    };
    let add = Message::NewElems {
        table: table.clone(),
        elements,
        exists: Exists::Keep,
    };
    let shown = message(&add, Some(&program()));
    assert!(
        shown.starts_with("add element inet t slots { 0x00000001 . 0x00000000 : 10.0.0.1 . 80, "),
        "{shown}"
    );
    assert!(shown.ends_with(", ... 1 more }"), "{shown}");
    let base = BaseChain {
        kind: crate::nft::object::ChainType::Nat,
        hook: Hook::Prerouting,
        priority: -100,
        policy: Policy::Accept,
        device: None,
    };
    let chain = Chain {
        name: "c".into(),
        kind: ChainKind::Base(base),
        comment: None,
    };
    assert_eq!(
        message(
            &Message::NewChain {
                table,
                chain,
                exists: Exists::Keep
            },
            None
        ),
        "add chain inet t c { type nat hook prerouting priority dstnat; policy accept; }"
    );
}

proptest::proptest! {
    #[test]
    fn any_message_can_be_shown(shown in crate::nft::any::message()) {
        proptest::prop_assert!(!message(&shown, Some(&program())).is_empty());
    }
}
