//! Arbitrary objects, expressions and messages, for property tests.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (table(), exists()).prop_map(|(table, exists)| Message::NewTable { table, exists }),
        table_id().prop_map(|table| Message::DelTable { table }),
        (table_id(), chain(), exists()).prop_map(|(table, chain, exists)| Message::NewChain {
            table,
            chain,
            exists
        }),
        (table_id(), name()).prop_map(|(table, chain)| Message::DelChain { table, chain }),
        (table_id(), set(), exists()).prop_map(|(table, set, exists)| Message::NewSet {
            table,
            set,
            exists
        }),
        (table_id(), name()).prop_map(|(table, set)| Message::DelSet { table, set }),
        (table_id(), object(), exists()).prop_map(|(table, object, exists)| Message::NewObject {
            table,
            object,
            exists
        }),
        (table_id(), 1u32..11, name()).prop_map(|(table, kind, object)| Message::DelObject {
            table,
            kind: ObjectType(kind),
            object
        }),
        (table_id(), rule(), place()).prop_map(|(table, rule, place)| Message::NewRule {
            table,
            rule,
            place
        }),
        (table_id(), name(), victim()).prop_map(|(table, chain, which)| Message::DelRule {
            table,
            chain,
            which
        }),
        (table_id(), elements(elem().boxed(), 0..20), exists()).prop_map(
            |(table, elements, exists)| Message::NewElems {
                table,
                elements,
                exists
            }
        ),
        (table_id(), elements(bare_elem().boxed(), 0..20))
            .prop_map(|(table, elements)| Message::DelElems { table, elements }),
        (table_id(), name()).prop_map(|(table, set)| Message::FlushSet { table, set }),
    ]
}

pub(crate) fn elements(
    elem: BoxedStrategy<SetElem>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Elements> {
    (name(), vec(elem, count)).prop_map(|(set, elems)| Elements { set, elems })
}

pub(crate) fn elem() -> impl Strategy<Value = SetElem> {
    let more = (
        of(1u64..1 << 40),
        of(0u64..1 << 40),
        of(comment()),
        vec(counter(), 0..3),
        of(data()),
    );
    (bare_elem(), value(), more).prop_map(
        |(elem, value, (timeout, expires, comment, exprs, end))| {
            let mut elem = elem;
            elem.value = value;
            if let Some(timeout) = timeout {
                elem = elem.with_timeout(timeout);
            }
            if let Some(expires) = expires {
                elem = elem.with_expires(expires);
            }
            if let Some(comment) = comment {
                elem = elem.with_comment(comment);
            }
            if let Some(end) = end {
                elem = elem.with_key_end(end);
            }
            elem.with_exprs(exprs)
        },
    )
}

pub(crate) fn bare_elem() -> impl Strategy<Value = SetElem> {
    prop_oneof![
        6 => data().prop_map(SetElem::key),
        1 => data().prop_map(|key| SetElem::key(key).with_role(Role::IntervalEnd)),
        1 => Just(SetElem::catch_all(Value::None)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        data().prop_map(Value::Data),
        verdict().prop_map(Value::Verdict),
        name().prop_map(Value::Object),
    ]
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    (name(), vec(expr(), 0..8), of(comment())).prop_map(|(chain, exprs, comment)| Rule {
        chain,
        exprs,
        comment,
    })
}

pub(crate) fn expr() -> impl Strategy<Value = Expr> {
    prop_oneof![loads(), judges(), stores(), acts()]
}

fn loads() -> impl Strategy<Value = Expr> {
    let word = any::<u32>;
    prop_oneof![
        (select(Base::ALL), 0u32..300, 1u32..64, reg()).prop_map(|(base, offset, len, dreg)| {
            Expr::Payload(Payload {
                base,
                offset,
                len,
                dreg,
            })
        }),
        (select(MetaKey::ALL), reg()).prop_map(|(key, dreg)| Expr::Meta(Meta::Load { key, dreg })),
        (select(MetaKey::ALL), reg()).prop_map(|(key, sreg)| Expr::Meta(Meta::Store { key, sreg })),
        (select(CtKey::ALL), of(select(Direction::ALL)), reg()).prop_map(
            |(key, direction, dreg)| Expr::Ct(Ct::Load {
                key,
                direction,
                dreg
            })
        ),
        (select(CtKey::ALL), reg()).prop_map(|(key, sreg)| Expr::Ct(Ct::Store { key, sreg })),
        (reg(), 1u32.., select(NumgenKind::ALL), word()).prop_map(
            |(dreg, modulus, kind, offset)| Expr::Numgen(Numgen {
                dreg,
                modulus,
                kind,
                offset
            })
        ),
        (reg(), 1u32..64, reg(), 2u32.., of(word()), word()).prop_map(
            |(sreg, len, dreg, modulus, seed, offset)| {
                Expr::Hash(Hash::Jenkins {
                    sreg,
                    len,
                    dreg,
                    modulus,
                    seed,
                    offset,
                })
            }
        ),
        (reg(), 2u32.., word()).prop_map(|(dreg, modulus, offset)| Expr::Hash(Hash::Symmetric {
            dreg,
            modulus,
            offset
        })),
        (reg(), select(FibResult::ALL), 1u32..64).prop_map(|(dreg, result, flags)| {
            Expr::Fib(Fib {
                dreg,
                result,
                flags: FibFlags::from_bits(flags),
            })
        }),
        (reg(), data()).prop_map(|(dreg, data)| Expr::Immediate { dreg, data }),
    ]
}

fn judges() -> impl Strategy<Value = Expr> {
    prop_oneof![
        (reg(), select(CmpOp::ALL), data()).prop_map(|(sreg, op, data)| Expr::Cmp(Cmp {
            sreg,
            op,
            data
        })),
        (reg(), select(RangeOp::ALL), data(), data())
            .prop_map(|(sreg, op, from, to)| Expr::Range(Range { sreg, op, from, to })),
        (reg(), reg(), data(), data()).prop_map(|(sreg, dreg, mask, xor)| Expr::Bitwise(
            Bitwise::Mask {
                sreg,
                dreg,
                mask,
                xor
            }
        )),
        (select(Shift::ALL), reg(), reg(), 1u32..16, 1u32..32).prop_map(
            |(shift, sreg, dreg, len, by)| Expr::Bitwise(Bitwise::Shift {
                shift,
                sreg,
                dreg,
                len,
                by
            })
        ),
        (
            reg(),
            reg(),
            select(ByteOrderOp::ALL),
            1u32..16,
            select(vec![2u32, 4, 8])
        )
            .prop_map(|(sreg, dreg, op, len, size)| Expr::ByteOrder(ByteOrder {
                sreg,
                dreg,
                op,
                len,
                size
            })),
        (
            select(LimitKind::ALL),
            any::<u64>(),
            select(LimitUnit::ALL),
            any::<u32>(),
            select(RangeOp::ALL)
        )
            .prop_map(|(kind, rate, unit, burst, side)| Expr::Limit(Limit {
                kind,
                rate,
                unit,
                burst,
                side
            })),
    ]
}

fn stores() -> impl Strategy<Value = Expr> {
    let result = prop_oneof![
        Just(LookupResult::Member),
        Just(LookupResult::NotMember),
        Just(LookupResult::Verdict),
        reg().prop_map(LookupResult::Data),
    ];
    let dynset = (
        name(),
        select(DynsetOp::ALL),
        reg(),
        of(reg()),
        of(1u64..),
        vec(counter(), 0..3),
    );
    prop_oneof![
        (name(), reg(), result).prop_map(|(set, key, result)| Expr::Lookup(Lookup {
            set,
            key,
            result
        })),
        dynset.prop_map(|(set, op, key, data, timeout, exprs)| {
            Expr::Dynset(Dynset {
                set,
                op,
                key,
                data,
                timeout,
                exprs,
            })
        }),
        (1u32..11, name()).prop_map(|(kind, name)| Expr::ObjRef(ObjRef::Named {
            kind: ObjectType(kind),
            name
        })),
        (name(), reg()).prop_map(|(set, key)| Expr::ObjRef(ObjRef::Map { set, key })),
        counter(),
        Just(Expr::NoTrack),
        Just(Expr::Other {
            name: "quota".into(),
            bytes: [8, 0, 1, 0, 1, 2, 3, 4].into()
        }),
    ]
}

fn acts() -> impl Strategy<Value = Expr> {
    let reject = prop_oneof![
        Just(Reject::TcpReset),
        select(RejectCode::ALL).prop_map(Reject::Icmpx),
        any::<u8>().prop_map(Reject::Icmp),
    ];
    let flags = || (0u32..32).prop_map(|bits| NatFlags::from_bits(bits << 2));
    let to = prop_oneof![
        (select(LogLevel::ALL), 0u32..16).prop_map(|(level, bits)| LogTo::Kernel {
            level,
            flags: LogFlags::from_bits(bits)
        }),
        (any::<u16>(), of(any::<u32>()), any::<u16>()).prop_map(|(group, snaplen, threshold)| {
            LogTo::Group {
                group,
                snaplen,
                threshold,
            }
        }),
    ];
    prop_oneof![
        verdict().prop_map(Expr::Verdict),
        (
            select(NatKind::ALL),
            select(vec![Family::Ip, Family::Ip6]),
            of(range()),
            of(range()),
            flags()
        )
            .prop_map(|(kind, family, addr, port, flags)| Expr::Nat(Nat {
                kind,
                family,
                addr,
                port,
                flags
            })),
        (flags(), of(range())).prop_map(|(flags, port)| Expr::Masq(Masq { flags, port })),
        (flags(), of(range())).prop_map(|(flags, port)| Expr::Redir(Redir { flags, port })),
        reject.prop_map(Expr::Reject),
        (of(comment()), to).prop_map(|(prefix, to)| Expr::Log(Log { prefix, to })),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        any::<u16>().prop_map(Verdict::Queue),
        Just(Verdict::Continue),
        Just(Verdict::Break),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ]
}

fn counter() -> BoxedStrategy<Expr> {
    any::<(u64, u64)>()
        .prop_map(|(packets, bytes)| Expr::Counter(Counter { packets, bytes }))
        .boxed()
}

pub(crate) fn set() -> impl Strategy<Value = Set> {
    let kind = prop_oneof![
        Just(SetKind::Set),
        key_type().prop_map(SetKind::Map),
        Just(SetKind::Verdicts),
        (1u32..11).prop_map(|kind| SetKind::Objects(ObjectType(kind))),
    ];
    let flags = select(vec![
        SetFlags::NONE,
        SetFlags::INTERVAL,
        SetFlags::TIMEOUT | SetFlags::DYNAMIC,
        SetFlags::CONSTANT,
    ]);
    let sizes = (of(1u32..), of(1u64..), of(1u32..));
    let shape = (name(), key_type(), kind, flags, select(SetPolicy::ALL));
    (shape, sizes, vec(counter(), 0..3), of(comment())).prop_map(
        |((name, key, kind, flags, policy), (size, timeout, gc_interval), exprs, comment)| Set {
            name,
            key,
            kind,
            flags,
            policy,
            size,
            timeout,
            gc_interval,
            exprs,
            comment,
        },
    )
}

fn key_type() -> impl Strategy<Value = Type> {
    let fields = vec![
        Field::Ipv4Addr,
        Field::Ipv6Addr,
        Field::EtherAddr,
        Field::InetProto,
        Field::InetService,
        Field::Mark,
        Field::IfIndex,
        Field::IfName,
        Field::NfProto,
        Field::CtState,
        Field::AddrType,
    ];
    prop_oneof![
        vec(select(fields), 1..5).prop_map(|fields| Type::concat(&fields)),
        (1u8..16).prop_map(|len| Type::single(Field::Integer(len))),
    ]
}

pub(crate) fn chain() -> impl Strategy<Value = Chain> {
    let hooks = vec![
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    let base = (
        select(ChainType::ALL),
        select(hooks),
        any::<i32>(),
        select(Policy::ALL),
        of(name()),
    );
    let kind = of(base).prop_map(|base| match base {
        Some((kind, hook, priority, policy, device)) => ChainKind::Base(BaseChain {
            kind,
            hook,
            priority,
            policy,
            device,
        }),
        None => ChainKind::Regular,
    });
    (name(), kind, of(comment())).prop_map(|(name, kind, comment)| Chain {
        name,
        kind,
        comment,
    })
}

fn object() -> impl Strategy<Value = Object> {
    (name(), any::<(u64, u64)>(), of(comment())).prop_map(|(name, (packets, bytes), comment)| {
        Object {
            name,
            kind: ObjectKind::Counter(Counter { packets, bytes }),
            comment,
        }
    })
}

fn table() -> impl Strategy<Value = Table> {
    (table_id(), 0u32..8, of(comment())).prop_map(|(id, flags, comment)| Table {
        id,
        flags: TableFlags::from_bits(flags),
        comment,
    })
}

fn table_id() -> impl Strategy<Value = TableId> {
    let families = vec![Family::Inet, Family::Ip, Family::Ip6];
    (select(families), name()).prop_map(|(family, name)| TableId { family, name })
}

fn exists() -> impl Strategy<Value = Exists> {
    select(vec![Exists::Keep, Exists::Refuse])
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Last),
        Just(Place::First),
        any::<u64>().prop_map(Place::After),
        any::<u64>().prop_map(Place::Before),
        any::<u64>().prop_map(Place::Replace),
    ]
}

fn victim() -> impl Strategy<Value = Victim> {
    prop_oneof![Just(Victim::All), any::<u64>().prop_map(Victim::Handle)]
}

fn range() -> impl Strategy<Value = RegRange> {
    (reg(), reg()).prop_map(|(min, max)| RegRange { min, max })
}

fn reg() -> impl Strategy<Value = Reg> {
    (0..Reg::COUNT).prop_map(|index| Reg::at(index).expect("below the count"))
}

fn data() -> impl Strategy<Value = Data> {
    vec(any::<u8>(), 1..65).prop_map(|bytes| Data::new(&bytes))
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9_-]{0,30}".prop_map(Name::from)
}

fn comment() -> impl Strategy<Value = Name> {
    "[ -~]{1,127}".prop_map(Name::from)
}
