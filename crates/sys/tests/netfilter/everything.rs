//! One table with every kind of object and expression that `netlink` knows.

use daymark_netlink::nft::*;

use crate::objects::table_id;

/// Every kind of object and expression that this crate knows, in one table that the kernel accepts.
pub(crate) fn everything() -> Ruleset {
    let mut out = Ruleset::new(Table {
        comment: Some("layout 1".into()),
        ..Table::new(table_id())
    });
    out.objects.push(Object {
        comment: Some("an object".into()),
        ..Object::counter("seen")
    });
    out.sets = sets();
    out.chains = chains();
    out.rules = rules();
    out.elements = elements();
    out
}

fn frontend_key() -> [Field; 3] {
    [Field::Ipv4Addr, Field::InetProto, Field::InetService]
}

fn sets() -> Vec<Set> {
    let words = Type::from([Field::Mark, Field::Mark, Field::Mark]);
    let counter = Expr::Counter(Counter::default());
    vec![
        Set {
            comment: Some("frontends".into()),
            ..Set::new("fe", frontend_key(), SetKind::Map(words))
        },
        Set::new("plans", Field::Mark, SetKind::Verdicts),
        Set::new(
            "slots",
            [Field::Mark, Field::Mark],
            SetKind::Map(Type::from([Field::Ipv4Addr, Field::InetService])),
        ),
        Set {
            exprs: vec![counter.clone()],
            ..Set::new("hits", frontend_key(), SetKind::Set)
        },
        Set {
            flags: SetFlags::DYNAMIC | SetFlags::TIMEOUT,
            timeout: Some(10_000),
            size: Some(65_536),
            ..Set::new(
                "affinity",
                [Field::Mark, Field::Ipv4Addr],
                SetKind::Map(Type::from([Field::Ipv4Addr, Field::InetService])),
            )
        },
        Set {
            flags: SetFlags::INTERVAL,
            ..Set::new("ranges", [Field::Mark, Field::Ipv4Addr], SetKind::Set)
        },
        Set {
            flags: SetFlags::INTERVAL,
            ..Set::new("nets", Field::Ipv6Addr, SetKind::Set)
        },
        Set::new(
            "counters",
            Field::InetService,
            SetKind::Objects(ObjectType::COUNTER),
        ),
        Set {
            exprs: vec![counter, Expr::Limit(limit())],
            flags: SetFlags::DYNAMIC,
            size: Some(100),
            policy: SetPolicy::Memory,
            ..Set::new("limited", Field::Ipv6Addr, SetKind::Set)
        },
        Set {
            size: Some(16),
            ..Set::new("names", Field::IfName, SetKind::Set)
        },
    ]
}

fn limit() -> Limit {
    Limit {
        kind: LimitKind::Packets,
        rate: 10,
        unit: LimitUnit::Minute,
        burst: 7,
        side: RangeOp::Without,
    }
}

fn chains() -> Vec<Chain> {
    let base = |name: &str, kind, hook, priority, policy| Chain {
        name: name.into(),
        kind: ChainKind::Base(BaseChain {
            kind,
            hook,
            priority,
            policy,
            device: None,
        }),
        comment: None,
    };
    let regular = |name: &str| Chain {
        name: name.into(),
        kind: ChainKind::Regular,
        comment: Some("called".into()),
    };
    vec![
        regular("n2"),
        regular("reject"),
        regular("misc"),
        base(
            "nat-prerouting",
            ChainType::Nat,
            Hook::Prerouting,
            -100,
            Policy::Accept,
        ),
        base(
            "nat-output",
            ChainType::Nat,
            Hook::Output,
            -100,
            Policy::Accept,
        ),
        base(
            "nat-postrouting",
            ChainType::Nat,
            Hook::Postrouting,
            100,
            Policy::Accept,
        ),
        base(
            "filter-forward",
            ChainType::Filter,
            Hook::Forward,
            0,
            Policy::Drop,
        ),
        base(
            "raw",
            ChainType::Filter,
            Hook::Prerouting,
            -300,
            Policy::Accept,
        ),
    ]
}

fn payload(base: Base, offset: u32, len: u32, dreg: Reg) -> Expr {
    Expr::Payload(Payload {
        base,
        offset,
        len,
        dreg,
    })
}

fn eq(sreg: Reg, bytes: &[u8]) -> Expr {
    Expr::Cmp(Cmp {
        sreg,
        op: CmpOp::Eq,
        data: Data::new(bytes),
    })
}

fn meta(key: MetaKey, dreg: Reg) -> Expr {
    Expr::Meta(Meta::Load { key, dreg })
}

fn original(key: CtKey, dreg: Reg) -> Expr {
    Expr::Ct(Ct::Load {
        key,
        direction: Some(Direction::Original),
        dreg,
    })
}

fn lookup(set: &str, key: Reg, result: LookupResult) -> Expr {
    Expr::Lookup(Lookup {
        set: set.into(),
        key,
        result,
    })
}

/// daddr . l4proto . dport in R0..R2, for IPv4.
fn frontend() -> Vec<Expr> {
    vec![
        meta(MetaKey::NfProto, Reg::R0),
        eq(Reg::R0, &[2]),
        payload(Base::Network, 16, 4, Reg::R0),
        meta(MetaKey::L4Proto, Reg::R1),
        payload(Base::Transport, 2, 2, Reg::R2),
    ]
}

fn rules() -> Vec<Rule> {
    let mut out = nat_rules();
    out.extend(forward_rules());
    out.extend(misc_rules());
    out
}

fn nat_rules() -> Vec<Rule> {
    let dispatch = [
        frontend(),
        vec![
            lookup("fe", Reg::R0, LookupResult::Data(Reg::R8)),
            lookup("plans", Reg::R9, LookupResult::Verdict),
        ],
    ]
    .concat();
    let numgen = Numgen {
        dreg: Reg::R11,
        modulus: 2,
        kind: NumgenKind::Random,
        offset: 0,
    };
    let dnat = Nat {
        kind: NatKind::Dnat,
        family: Family::Ip,
        addr: Some(Reg::R12.into()),
        port: Some(Reg::R13.into()),
        flags: NatFlags::NONE,
    };
    let choose = [
        frontend(),
        vec![
            lookup("fe", Reg::R0, LookupResult::Data(Reg::R8)),
            Expr::Numgen(numgen),
            lookup("slots", Reg::R10, LookupResult::Data(Reg::R12)),
            Expr::Nat(dnat),
        ],
    ]
    .concat();
    let masquerade = vec![
        Expr::Ct(Ct::Load {
            key: CtKey::Status,
            direction: None,
            dreg: Reg::R0,
        }),
        Expr::Bitwise(Bitwise::Mask {
            sreg: Reg::R0,
            dreg: Reg::R0,
            mask: Data::host(0x20),
            xor: Data::host(0),
        }),
        Expr::Cmp(Cmp {
            sreg: Reg::R0,
            op: CmpOp::Neq,
            data: Data::host(0),
        }),
        original(CtKey::DstIp, Reg::R0),
        Expr::Ct(Ct::Load {
            key: CtKey::Protocol,
            direction: None,
            dreg: Reg::R1,
        }),
        original(CtKey::ProtoDst, Reg::R2),
        lookup("fe", Reg::R0, LookupResult::Data(Reg::R8)),
        eq(Reg::R8, &1u32.to_ne_bytes()),
        Expr::Masq(Masq {
            flags: NatFlags::FULLY_RANDOM,
            port: None,
        }),
    ];
    vec![
        Rule::new("nat-prerouting", dispatch.clone()).commented("to a plan"),
        Rule::new("nat-output", dispatch),
        Rule::new("n2", choose),
        Rule::new("nat-postrouting", masquerade),
    ]
}

fn forward_rules() -> Vec<Rule> {
    let untranslated = vec![
        Expr::Ct(Ct::Load {
            key: CtKey::State,
            direction: None,
            dreg: Reg::R0,
        }),
        Expr::Bitwise(Bitwise::Mask {
            sreg: Reg::R0,
            dreg: Reg::R0,
            mask: Data::host(8),
            xor: Data::host(0),
        }),
        Expr::Cmp(Cmp {
            sreg: Reg::R0,
            op: CmpOp::Neq,
            data: Data::host(0),
        }),
        Expr::Counter(Counter::default()),
        Expr::Verdict(Verdict::Jump("reject".into())),
    ];
    let reset = vec![
        meta(MetaKey::L4Proto, Reg::R0),
        eq(Reg::R0, &[6]),
        Expr::Reject(Reject::TcpReset),
    ];
    vec![
        Rule::new("filter-forward", untranslated),
        Rule::new("reject", reset),
        Rule::new(
            "reject",
            vec![Expr::Reject(Reject::Icmpx(RejectCode::PortUnreachable))],
        ),
    ]
}

/// What the layout does not need today, in one chain.
fn misc_rules() -> Vec<Rule> {
    let dynset = Dynset {
        set: "affinity".into(),
        op: DynsetOp::Update,
        key: Reg::R0,
        data: Some(Reg::R4),
        timeout: Some(7_000),
        exprs: Vec::new(),
    };
    let local = Fib {
        dreg: Reg::R0,
        result: FibResult::AddrType,
        flags: FibFlags::DADDR,
    };
    let hash = Hash::Jenkins {
        sreg: Reg::R0,
        len: 4,
        dreg: Reg::R5,
        modulus: 16,
        seed: Some(7),
        offset: 3,
    };
    let log = Log {
        prefix: Some("daymark: ".into()),
        to: LogTo::Kernel {
            level: LogLevel::Info,
            flags: LogFlags::IP_OPTIONS,
        },
    };
    let group = Log {
        prefix: None,
        to: LogTo::Group {
            group: 3,
            snaplen: Some(64),
            threshold: 2,
        },
    };
    let ports = Range {
        sreg: Reg::R0,
        op: RangeOp::Without,
        from: Data::port(30_000),
        to: Data::port(32_767),
    };
    let v4 = vec![meta(MetaKey::NfProto, Reg::R0), eq(Reg::R0, &[2])];
    let bodies = [
        [
            v4,
            vec![
                meta(MetaKey::Mark, Reg::R0),
                payload(Base::Network, 12, 4, Reg::R1),
                payload(Base::Network, 16, 4, Reg::R4),
                payload(Base::Transport, 2, 2, Reg::R5),
                Expr::Dynset(dynset),
            ],
        ]
        .concat(),
        vec![
            Expr::Fib(local),
            eq(Reg::R0, &2u32.to_ne_bytes()),
            Expr::Counter(Counter::default()),
        ],
        vec![
            payload(Base::Network, 12, 4, Reg::R0),
            Expr::Hash(hash),
            Expr::Verdict(Verdict::Return),
        ],
        vec![Expr::Hash(Hash::Symmetric {
            dreg: Reg::R3,
            modulus: 4,
            offset: 0,
        })],
        vec![
            payload(Base::Transport, 2, 2, Reg::R0),
            Expr::Range(ports),
            Expr::Log(log),
        ],
        vec![Expr::Log(group), Expr::Limit(limit())],
        vec![
            payload(Base::Transport, 2, 2, Reg::R0),
            Expr::ObjRef(ObjRef::Map {
                set: "counters".into(),
                key: Reg::R0,
            }),
            Expr::ObjRef(ObjRef::Named {
                kind: ObjectType::COUNTER,
                name: "seen".into(),
            }),
        ],
        vec![
            meta(MetaKey::Mark, Reg::R0),
            Expr::Bitwise(Bitwise::Shift {
                shift: Shift::Left,
                sreg: Reg::R0,
                dreg: Reg::R0,
                len: 4,
                by: 4,
            }),
            Expr::ByteOrder(ByteOrder {
                sreg: Reg::R0,
                dreg: Reg::R1,
                op: ByteOrderOp::ToNetwork,
                len: 4,
                size: 4,
            }),
            Expr::Meta(Meta::Store {
                key: MetaKey::Mark,
                sreg: Reg::R1,
            }),
            Expr::Ct(Ct::Store {
                key: CtKey::Mark,
                sreg: Reg::R1,
            }),
        ],
        vec![
            meta(MetaKey::IifName, Reg::R4),
            lookup("names", Reg::R4, LookupResult::NotMember),
        ],
        vec![
            payload(Base::Network, 8, 16, Reg::R0),
            lookup("nets", Reg::R0, LookupResult::Member),
        ],
    ];
    let mut out: Vec<Rule> = bodies
        .into_iter()
        .map(|exprs| Rule::new("misc", exprs))
        .collect();
    out.push(Rule::new(
        "raw",
        vec![Expr::NoTrack, Expr::Verdict(Verdict::Continue)],
    ));
    out.push(Rule::new(
        "nat-output",
        vec![
            Expr::Immediate {
                dreg: Reg::R0,
                data: Data::port(8080),
            },
            Expr::Redir(Redir {
                port: Some(Reg::R0.into()),
                flags: NatFlags::NONE,
            }),
        ],
    ));
    out
}

fn key(last: u8, port: u16) -> Data {
    Data::concat(&[&[10, 96, 0, last], &[6], &port.to_be_bytes()])
}

fn words(words: &[u32]) -> Data {
    Data::new(
        &words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect::<Vec<_>>(),
    )
}

fn elements() -> Vec<Elements> {
    let slot = |slot, last: u8| {
        SetElem::data(
            words(&[7, slot]),
            Data::concat(&[&[10, 244, 1, last], &8080u16.to_be_bytes()]),
        )
    };
    let net = |first: u16| Data::new(&[&first.to_be_bytes()[..], &[0; 14]].concat());
    let list = |set: &str, elems| Elements {
        set: set.into(),
        elems,
    };
    vec![
        list(
            "fe",
            vec![
                SetElem::data(key(1, 443), words(&[1, 2, 7])),
                SetElem::data(key(2, 80), words(&[0, 2, 7])).with_comment("default/web"),
            ],
        ),
        list(
            "plans",
            vec![
                SetElem::verdict(Data::host(2), Verdict::Goto("n2".into())),
                SetElem::verdict(Data::host(9), Verdict::Drop),
            ],
        ),
        list("slots", vec![slot(0, 5), slot(1, 6)]),
        list(
            "hits",
            vec![SetElem::key(key(1, 443)).with_exprs(vec![Expr::Counter(Counter::default())])],
        ),
        list(
            "affinity",
            vec![
                SetElem::data(
                    Data::concat(&[&7u32.to_ne_bytes(), &[10, 0, 0, 1]]),
                    Data::concat(&[&[10, 244, 1, 5], &8080u16.to_be_bytes()]),
                )
                .with_timeout(60_000),
            ],
        ),
        list(
            "ranges",
            vec![
                SetElem::key(Data::concat(&[&7u32.to_ne_bytes(), &[192, 0, 2, 0]]))
                    .with_key_end(Data::concat(&[&7u32.to_ne_bytes(), &[192, 0, 2, 255]])),
            ],
        ),
        list(
            "nets",
            vec![
                SetElem::key(net(0xfd00)),
                SetElem::key(net(0xfe00)).with_role(Role::IntervalEnd),
            ],
        ),
        list(
            "counters",
            vec![SetElem::new(Data::port(80), Value::Object("seen".into()))],
        ),
        list("names", vec![SetElem::key(Data::ifname("lo"))]),
    ]
}
