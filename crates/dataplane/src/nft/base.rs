//! The rules that are always there. None names a Service: they ask the maps.

use std::net::Ipv6Addr;

use daymark_model::Family;
use daymark_netlink::nft::{
    Base, BaseChain, Bitwise, Chain, ChainKind, ChainType, Cmp, CmpOp, Counter, Ct, CtKey, Data,
    Direction, Expr, Fib, FibFlags, FibResult, Hook, Lookup, LookupResult, Masq, Meta, MetaKey,
    NatFlags, Payload, Policy, Reg, Reject, Rule, Ruleset, Table, TableFlags, Verdict,
};

use super::layout::{Words, chain, flag, reg, set};

/// The order in which the two maps are asked: each twice, because a value may move from one to the
/// other between two look-ups.
pub const ASKED: [usize; 4] = [0, 1, 0, 1];

/// `IPS_DST_NAT` (`linux/netfilter/nf_conntrack_common.h`): the destination was translated.
const STATUS_DNAT: u32 = 1 << 5;
/// `NF_CT_STATE_BIT(IP_CT_NEW)` as `ct state` shows it.
const STATE_NEW: u32 = 8;
/// `NF_CT_STATE_INVALID_BIT`.
const STATE_INVALID: u32 = 1;
/// `RTN_LOCAL` (`linux/rtnetlink.h`).
const ROUTE_LOCAL: u32 = 2;

/// The table without elements and plans.
#[must_use]
pub fn ruleset(words: &Words, flags: TableFlags) -> Ruleset {
    let mut ruleset = Ruleset::new(Table {
        id: words.table(),
        flags,
        comment: Some(comment().into()),
    });
    ruleset.sets = words.sets();
    ruleset.chains = chains();
    ruleset.rules = rules(words);
    ruleset
}

/// The comment of a table of this layout.
#[must_use]
pub fn comment() -> String {
    format!("{COMMENT} {}", super::layout::VERSION)
}

/// How the comment of every layout's table begins.
pub const COMMENT: &str = "daymark layout";

fn chains() -> Vec<Chain> {
    let regular = [
        chain::REFUSE,
        chain::REFUSE_PORT,
        chain::REFUSE_LOOPBACK,
        chain::STRAY_LOOPBACK,
        chain::LOST,
        chain::UNALLOCATED,
        chain::INVALID,
        chain::INSIDE_NODE_PORT,
        chain::OUTSIDE_NODE_PORT,
        chain::INSIDE,
        chain::OUTSIDE,
        chain::STRAY_NODE_PORT,
        chain::STRAY,
        chain::STRAY_LINK,
    ];
    let masquerade = chain::MASQUERADE_NODE_PORT
        .into_iter()
        .chain(chain::MASQUERADE);
    let regular = regular.into_iter().chain(masquerade);
    let mut chains: Vec<Chain> = regular
        .map(|name| Chain {
            name: name.into(),
            kind: ChainKind::Regular,
            comment: None,
        })
        .collect();
    let hooks = [
        (chain::PREROUTING, ChainType::Nat, Hook::Prerouting, -100),
        (chain::OUTPUT, ChainType::Nat, Hook::Output, -100),
        (chain::POSTROUTING, ChainType::Nat, Hook::Postrouting, 100),
        (chain::FILTERS[0], ChainType::Filter, Hook::Input, 0),
        (chain::FILTERS[1], ChainType::Filter, Hook::Forward, 0),
        (chain::FILTERS[2], ChainType::Filter, Hook::Output, 0),
    ];
    chains.extend(hooks.map(|(name, kind, hook, priority)| {
        let base = BaseChain {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
            device: None,
        };
        Chain {
            name: name.into(),
            kind: ChainKind::Base(base),
            comment: None,
        }
    }));
    chains
}

fn rules(words: &Words) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut rule = |chain: &'static str, exprs: Vec<Expr>| rules.push(Rule::new(chain, exprs));

    let tcp = [l4proto(Reg::R0), is(Reg::R0, Data::new(&[TCP]))];
    let counted = |answer| [Expr::Counter(Counter::default()), Expr::Reject(answer)];
    for refuse in [chain::REFUSE, chain::REFUSE_PORT] {
        rule(refuse, with(tcp.clone(), counted(Reject::TcpReset)));
        rule(refuse, counted(unreachable(words)).into());
    }
    let drop = || {
        [
            Expr::Counter(Counter::default()),
            Expr::Verdict(Verdict::Drop),
        ]
    };
    rule(chain::LOST, drop().into());
    rule(chain::UNALLOCATED, drop().into());
    rule(chain::INVALID, with(out_of_window(), drop()));

    for (main, at_port, plan) in [
        (chain::INSIDE, chain::INSIDE_NODE_PORT, reg::INSIDE),
        (chain::OUTSIDE, chain::OUTSIDE_NODE_PORT, reg::OUTSIDE),
    ] {
        let to_plan = Expr::Lookup(Lookup {
            set: set::PLANS.into(),
            key: plan,
            result: LookupResult::Verdict,
        });
        for side in ASKED {
            rule(main, with(frontend(words, side), [to_plan.clone()]));
            rule(at_port, with(node_port(side), [to_plan.clone()]));
        }
        rule(
            main,
            with(
                member(words.daddr(), set::NODE_PORT_ADDRESSES),
                [goto(at_port)],
            ),
        );
    }

    for own_pods in own_pods(words) {
        rule(chain::PREROUTING, with(own_pods, [goto(chain::INSIDE)]));
    }
    rule(chain::PREROUTING, vec![goto(chain::OUTSIDE)]);
    rule(chain::OUTPUT, vec![goto(chain::INSIDE)]);

    stray(words, &mut rule);
    masquerade(words, &mut rule);
    rules
}

/// New connections that the nat chains left alone: refused, dropped, or none of our business.
fn stray(words: &Words, rule: &mut impl FnMut(&'static str, Vec<Expr>)) {
    for side in ASKED {
        rule(
            chain::STRAY,
            with(
                frontend(words, side),
                flagged(flag::REFUSE, goto(chain::REFUSE)),
            ),
        );
        rule(
            chain::STRAY_NODE_PORT,
            with(node_port(side), flagged(flag::REFUSE, goto(chain::REFUSE))),
        );
    }
    for side in [0, 1] {
        rule(
            chain::STRAY,
            with(frontend(words, side), [goto(chain::LOST)]),
        );
        rule(
            chain::STRAY_NODE_PORT,
            with(node_port(side), [goto(chain::LOST)]),
        );
    }
    rule(
        chain::STRAY,
        with(
            member(words.daddr(), set::NODE_PORT_ADDRESSES),
            [goto(chain::STRAY_NODE_PORT)],
        ),
    );
    rule(
        chain::STRAY,
        with(
            member(words.daddr(), set::SERVICE_ADDRESSES),
            [goto(chain::REFUSE_PORT)],
        ),
    );
    rule(
        chain::STRAY,
        with(
            member(words.daddr(), set::SPARED_ADDRESSES),
            [Expr::Verdict(Verdict::Return)],
        ),
    );
    rule(
        chain::STRAY,
        with(
            member(words.daddr(), set::SERVICE_NETWORKS),
            [goto(chain::UNALLOCATED)],
        ),
    );
    loopback(words, rule);
    let everywhere = Verdict::Jump(chain::STRAY.into());
    rule(chain::STRAY_LINK, vec![Expr::Verdict(everywhere)]);
    for own_pods in own_pods(words) {
        rule(
            chain::STRAY_LINK,
            with(own_pods, [Expr::Verdict(Verdict::Return)]),
        );
    }
    rule(
        chain::STRAY_LINK,
        with(
            member(words.daddr(), set::OUTER_ADDRESSES),
            [goto(chain::REFUSE_PORT)],
        ),
    );
    let invalid = [
        ct(CtKey::State, None, Reg::R0),
        mask(Reg::R0, STATE_INVALID),
        differs_from_zero(Reg::R0),
        goto(chain::INVALID),
    ];
    // An answer to a masqueraded connection is for this node itself, until it is translated.
    for hook in &chain::FILTERS[..2] {
        rule(hook, invalid.clone().into());
    }
    let untranslated = [
        ct(CtKey::State, None, Reg::R0),
        mask(Reg::R0, STATE_NEW),
        differs_from_zero(Reg::R0),
    ]
    .into_iter()
    .chain([
        ct(CtKey::Status, None, Reg::R0),
        mask(Reg::R0, STATUS_DNAT),
        is(Reg::R0, Data::host(0)),
    ]);
    let untranslated: Vec<Expr> = untranslated.collect();
    let [input, forward, output] = chain::FILTERS;
    for (hook, stray) in [
        (input, chain::STRAY_LINK),
        (forward, chain::STRAY_LINK),
        (output, chain::STRAY),
    ] {
        rule(hook, with(untranslated.clone(), [goto(stray)]));
    }
}

/// What goes to a node port's number on loopback, and is not served there: each protocol is counted by itself.
fn loopback(words: &Words, rule: &mut impl FnMut(&'static str, Vec<Expr>)) {
    let mut to_loopback = vec![address(words, words.daddr, reg::KEY)];
    match words.family {
        // 127.0.0.0/8.
        Family::V4 => {
            let mask = Bitwise::Mask {
                sreg: reg::KEY,
                dreg: reg::KEY,
                mask: Data::new(&[255, 0, 0, 0]),
                xor: Data::new(&[0; 4]),
            };
            to_loopback.push(Expr::Bitwise(mask));
            to_loopback.push(is(reg::KEY, Data::new(&[127, 0, 0, 0])));
        }
        Family::V6 => to_loopback.push(is(reg::KEY, Data::addr(Ipv6Addr::LOCALHOST.into()))),
    }
    rule(
        chain::STRAY,
        with(to_loopback, [goto(chain::STRAY_LOOPBACK)]),
    );
    for side in ASKED {
        let refuse = flagged(flag::REFUSE_LOOPBACK, goto(chain::REFUSE_LOOPBACK));
        rule(chain::STRAY_LOOPBACK, with(node_port(side), refuse));
    }
    for (protocol, answer) in [
        (TCP, Reject::TcpReset),
        (UDP, unreachable(words)),
        (SCTP, unreachable(words)),
    ] {
        let counted = [Expr::Counter(Counter::default()), Expr::Reject(answer)];
        let of_protocol = [l4proto(Reg::R0), is(Reg::R0, Data::new(&[protocol]))];
        rule(chain::REFUSE_LOOPBACK, with(of_protocol, counted));
    }
}

/// The source of translated connections: asks the same maps by the tuple before translation, so that no
/// packet needs a mark.
fn masquerade(words: &Words, rule: &mut impl FnMut(&'static str, Vec<Expr>)) {
    let masq = || {
        Expr::Masq(Masq {
            flags: NatFlags::FULLY_RANDOM,
            port: None,
        })
    };
    for client in 0..3 {
        let bit = flag::MASQUERADE[client];
        let (main, at_port) = (
            chain::MASQUERADE[client],
            chain::MASQUERADE_NODE_PORT[client],
        );
        // The first of the two maps that holds the frontend decides, as it did for the destination. What it says is asked in
        // both rules: it may come into the map between them, and that it is there now must not pass for its saying no.
        let done = || unflagged(bit, Expr::Verdict(Verdict::Return));
        for side in ASKED {
            let (at_address, at_node) = (original_frontend(words, side), original_node_port(side));
            rule(main, with(at_address.clone(), flagged(bit, masq())));
            rule(main, with(at_address, done()));
            rule(at_port, with(at_node.clone(), flagged(bit, masq())));
            rule(at_port, with(at_node, done()));
        }
        rule(
            main,
            with(
                member([original_daddr(words)], set::NODE_PORT_ADDRESSES),
                [goto(at_port)],
            ),
        );
    }
    let not_translated = [
        ct(CtKey::Status, None, Reg::R0),
        mask(Reg::R0, STATUS_DNAT),
        is(Reg::R0, Data::host(0)),
    ];
    rule(
        chain::POSTROUTING,
        with(not_translated, [Expr::Verdict(Verdict::Return)]),
    );
    let itself = [
        address(words, words.saddr, reg::KEY),
        address(words, words.daddr, Words::after(reg::KEY, words.regs)),
        lookup(set::LOCAL_BACKENDS, LookupResult::Member),
    ];
    rule(chain::POSTROUTING, with(itself, [masq()]));
    let local = Fib {
        dreg: Reg::R0,
        result: FibResult::AddrType,
        flags: FibFlags::SADDR,
    };
    let from_node = [Expr::Fib(local), is(Reg::R0, Data::host(ROUTE_LOCAL))];
    rule(
        chain::POSTROUTING,
        with(from_node, [goto(chain::MASQUERADE[0])]),
    );
    for own_pods in own_pods(words) {
        rule(
            chain::POSTROUTING,
            with(own_pods, [goto(chain::MASQUERADE[1])]),
        );
    }
    rule(chain::POSTROUTING, vec![goto(chain::MASQUERADE[2])]);
}

impl Words {
    fn saddr(&self) -> [Expr; 1] {
        [address(self, self.saddr, reg::KEY)]
    }

    fn daddr(&self) -> [Expr; 1] {
        [address(self, self.daddr, reg::KEY)]
    }
}

/// What tells own Pods: their addresses, or the interface that they come in at. At postrouting, too, the kernel knows that of a
/// forwarded packet (`ip_output` in `net/ipv4/ip_output.c`, from 5.7 on).
fn own_pods(words: &Words) -> [Vec<Expr>; 2] {
    let interface = Expr::Meta(Meta::Load {
        key: MetaKey::IifName,
        dreg: reg::KEY,
    });
    [
        member(words.saddr(), set::OWN_PODS),
        member([interface], set::OWN_INTERFACES),
    ]
}

/// An answer of an endpoint that connection tracking takes for invalid because it lies outside of the window. By the port it
/// comes from, and not because no beginning was seen: a flow that passes here in one direction alone is none of our business. Its
/// client's packets come from other ports, of its server's the first alone (SYN) is invalid; a reset does no harm.
fn out_of_window() -> Vec<Expr> {
    let load = |offset, len, dreg| {
        let base = Base::Transport;
        Expr::Payload(Payload {
            base,
            offset,
            len,
            dreg,
        })
    };
    vec![
        l4proto(Reg::R0),
        is(Reg::R0, Data::new(&[TCP])),
        load(TCP_FLAGS, 1, Reg::R0),
        mask_byte(Reg::R0, TCP_SYN | TCP_RST),
        is(Reg::R0, Data::new(&[0])),
        load(0, 2, reg::KEY),
        lookup(set::ENDPOINT_PORTS, LookupResult::Member),
    ]
}

/// Asks a frontend map by the packet's destination.
pub(super) fn frontend(words: &Words, side: usize) -> Vec<Expr> {
    with(
        destination(words),
        [lookup(set::FRONTENDS[side], LookupResult::Data(reg::FLAGS))],
    )
}

/// Loads the packet's destination as a frontend key.
pub(super) fn destination(words: &Words) -> Vec<Expr> {
    let behind = Words::after(reg::KEY, words.regs);
    vec![
        address(words, words.daddr, reg::KEY),
        l4proto(behind),
        dport(Words::after(behind, 1)),
    ]
}

/// Asks a node-port map by the packet's destination port.
pub(super) fn node_port(side: usize) -> Vec<Expr> {
    let key = [l4proto(reg::KEY), dport(Words::after(reg::KEY, 1))];
    with(
        key,
        [lookup(
            set::NODE_PORTS[side],
            LookupResult::Data(reg::FLAGS),
        )],
    )
}

fn original_frontend(words: &Words, side: usize) -> Vec<Expr> {
    let behind = Words::after(reg::KEY, words.regs);
    let port = ct(
        CtKey::ProtoDst,
        Some(Direction::Original),
        Words::after(behind, 1),
    );
    let key = [original_daddr(words), l4proto(behind), port];
    with(
        key,
        [lookup(set::FRONTENDS[side], LookupResult::Data(reg::FLAGS))],
    )
}

fn original_node_port(side: usize) -> Vec<Expr> {
    let port = ct(
        CtKey::ProtoDst,
        Some(Direction::Original),
        Words::after(reg::KEY, 1),
    );
    with(
        [l4proto(reg::KEY), port],
        [lookup(
            set::NODE_PORTS[side],
            LookupResult::Data(reg::FLAGS),
        )],
    )
}

fn original_daddr(words: &Words) -> Expr {
    let key = match words.family {
        Family::V4 => CtKey::DstIp,
        Family::V6 => CtKey::DstIp6,
    };
    ct(key, Some(Direction::Original), reg::KEY)
}

fn flagged(bit: u32, then: Expr) -> [Expr; 3] {
    [mask(reg::FLAGS, bit), differs_from_zero(reg::FLAGS), then]
}

fn unflagged(bit: u32, then: Expr) -> [Expr; 3] {
    let clear = is(reg::FLAGS, Data::host(0));
    [mask(reg::FLAGS, bit), clear, then]
}

fn member(key: impl IntoIterator<Item = Expr>, name: &'static str) -> Vec<Expr> {
    with(key, [lookup(name, LookupResult::Member)])
}

/// One list of expressions behind another.
pub(super) fn with(
    first: impl IntoIterator<Item = Expr>,
    then: impl IntoIterator<Item = Expr>,
) -> Vec<Expr> {
    first.into_iter().chain(then).collect()
}

fn lookup(name: &'static str, result: LookupResult) -> Expr {
    Expr::Lookup(Lookup {
        set: name.into(),
        key: reg::KEY,
        result,
    })
}

/// Loads an address of the IP header.
pub(super) fn address(words: &Words, offset: u32, dreg: Reg) -> Expr {
    Expr::Payload(Payload {
        base: Base::Network,
        offset,
        len: words.len,
        dreg,
    })
}

fn dport(dreg: Reg) -> Expr {
    Expr::Payload(Payload {
        base: Base::Transport,
        offset: 2,
        len: 2,
        dreg,
    })
}

fn l4proto(dreg: Reg) -> Expr {
    Expr::Meta(Meta::Load {
        key: MetaKey::L4Proto,
        dreg,
    })
}

fn ct(key: CtKey, direction: Option<Direction>, dreg: Reg) -> Expr {
    Expr::Ct(Ct::Load {
        key,
        direction,
        dreg,
    })
}

fn mask(reg: Reg, bits: u32) -> Expr {
    Expr::Bitwise(Bitwise::Mask {
        sreg: reg,
        dreg: reg,
        mask: Data::host(bits),
        xor: Data::host(0),
    })
}

fn mask_byte(reg: Reg, bits: u8) -> Expr {
    Expr::Bitwise(Bitwise::Mask {
        sreg: reg,
        dreg: reg,
        mask: Data::new(&[bits]),
        xor: Data::new(&[0]),
    })
}

fn is(sreg: Reg, data: Data) -> Expr {
    Expr::Cmp(Cmp {
        sreg,
        op: CmpOp::Eq,
        data,
    })
}

fn differs_from_zero(sreg: Reg) -> Expr {
    Expr::Cmp(Cmp {
        sreg,
        op: CmpOp::Neq,
        data: Data::host(0),
    })
}

/// Ends the rule in another chain.
pub(super) fn goto(chain: &'static str) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}

/// ICMP port unreachable, for what has no reset of its own. `icmpx` would be an expression of inet
/// tables; here the kernel would drop.
fn unreachable(words: &Words) -> Reject {
    Reject::Icmp(match words.family {
        Family::V4 => ICMP_PORT_UNREACH,
        Family::V6 => ICMPV6_PORT_UNREACH,
    })
}

/// `IPPROTO_TCP`, `IPPROTO_UDP`, `IPPROTO_SCTP`.
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// The byte of the flags in the TCP header, and two of them (RFC 9293, section 3.1).
const TCP_FLAGS: u32 = 13;
const TCP_SYN: u8 = 2;
const TCP_RST: u8 = 4;
/// RFC 792, "Destination Unreachable Message", code 3.
const ICMP_PORT_UNREACH: u8 = 3;
/// RFC 4443, section 3.1, code 4.
const ICMPV6_PORT_UNREACH: u8 = 4;
