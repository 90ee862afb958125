//! What `nft` makes of our tables, where it is installed.

use std::process::Command;

use daymark_netlink::nft::*;

use crate::Outcome;
use crate::everything::everything;
use crate::objects::{socket, table_id};

/// The text of `nft list ruleset` in this network namespace.
fn listed() -> Result<String, Outcome> {
    match Command::new("nft").args(["list", "ruleset"]).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8(output.stdout).expect("nft prints text"))
        }
        Ok(output) => panic!("nft failed: {output:?}"),
        Err(error) => Err(Outcome::Skipped(format!("nft cannot be run: {error}"))),
    }
}

/// nft 1.0.6 ends itself over a rule that it cannot print, for instance one whose key begins with a constant or
/// with the result of a map.
pub(crate) fn can_list() -> Outcome {
    let sent = everything();
    socket()
        .commit(&Message::create(&sent, Exists::Refuse))
        .expect("accepted");
    match listed() {
        Ok(text) => {
            let missing: Vec<_> = sent
                .sets
                .iter()
                .filter(|set| !text.contains(&*set.name))
                .collect();
            assert!(missing.is_empty(), "{missing:?} missing in {text}");
            Outcome::Passed
        }
        Err(skipped) => skipped,
    }
}

/// Everything but what `nft` 1.0.6 prints wrongly: numbers in ranges of concatenations, time left, and rules
/// that ask with a word of a result.
pub(crate) fn same_text() -> Outcome {
    let mut sent = everything();
    sent.sets
        .retain(|set| !matches!(&*set.name, "ranges" | "affinity"));
    sent.elements
        .retain(|list| !matches!(&*list.set, "ranges" | "affinity"));
    sent.rules = rules();
    let mut socket = socket();
    socket
        .commit(&Message::create(&sent, Exists::Refuse))
        .expect("accepted");
    let theirs = match listed() {
        Ok(text) => words(&text),
        Err(skipped) => return skipped,
    };
    let read = socket
        .snapshot(&table_id())
        .expect("readable")
        .expect("there")
        .ruleset();
    let ours = words(&show::ruleset(&read));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    Outcome::Passed
}

/// Lines without their indentation; the elements of a set in one line, sorted: the kernel has no order.
fn words(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match out.last_mut() {
            Some(last) if last.contains("elements = {") && !last.ends_with('}') => {
                last.push(' ');
                last.push_str(line);
            }
            _ => out.push(line.to_owned()),
        }
    }
    out.iter().map(|line| sorted(line)).collect()
}

fn sorted(line: &str) -> String {
    let list = line
        .strip_prefix("elements = { ")
        .and_then(|rest| rest.strip_suffix(" }"));
    let Some(list) = list else {
        return line.to_owned();
    };
    let mut elements: Vec<_> = list.split(", ").collect();
    elements.sort_unstable();
    format!("elements = {{ {} }}", elements.join(", "))
}

fn load(key: MetaKey) -> Expr {
    Expr::Meta(Meta::Load { key, dreg: Reg::R0 })
}

fn eq(bytes: &[u8]) -> Expr {
    Expr::Cmp(Cmp {
        sreg: Reg::R0,
        op: CmpOp::Eq,
        data: Data::new(bytes),
    })
}

fn payload(base: Base, offset: u32, len: u32) -> Expr {
    Expr::Payload(Payload {
        base,
        offset,
        len,
        dreg: Reg::R0,
    })
}

fn ct_bits(key: CtKey, bits: u32) -> Vec<Expr> {
    let (mask, xor) = (Data::host(bits), Data::host(0));
    vec![
        Expr::Ct(Ct::Load {
            key,
            direction: None,
            dreg: Reg::R0,
        }),
        Expr::Bitwise(Bitwise::Mask {
            sreg: Reg::R0,
            dreg: Reg::R0,
            mask,
            xor,
        }),
        Expr::Cmp(Cmp {
            sreg: Reg::R0,
            op: CmpOp::Neq,
            data: Data::host(0),
        }),
    ]
}

/// Rules as others write them: each prints the same by `nft` and by `show`.
fn rules() -> Vec<Rule> {
    let v4 = vec![load(MetaKey::NfProto), eq(&[2])];
    let tcp = vec![load(MetaKey::L4Proto), eq(&[6])];
    let end = |verdict| vec![Expr::Verdict(verdict)];
    let member = Lookup {
        set: "names".into(),
        key: Reg::R0,
        result: LookupResult::Member,
    };
    let plan = Lookup {
        set: "plans".into(),
        key: Reg::R0,
        result: LookupResult::Verdict,
    };
    let fib = Fib {
        dreg: Reg::R0,
        result: FibResult::AddrType,
        flags: FibFlags::DADDR,
    };
    let limit = Limit {
        kind: LimitKind::Packets,
        rate: 3,
        unit: LimitUnit::Second,
        burst: 5,
        side: RangeOp::Within,
    };
    let ports = Range {
        sreg: Reg::R0,
        op: RangeOp::Within,
        from: Data::port(80),
        to: Data::port(90),
    };
    let bodies = [
        [
            v4.clone(),
            vec![payload(Base::Network, 12, 4), eq(&[10, 0, 0, 1])],
            end(Verdict::Accept),
        ]
        .concat(),
        [
            tcp.clone(),
            vec![payload(Base::Transport, 2, 2), eq(&443u16.to_be_bytes())],
            end(Verdict::Return),
        ]
        .concat(),
        [tcp, vec![Expr::Reject(Reject::TcpReset)]].concat(),
        [
            vec![payload(Base::Transport, 2, 2), Expr::Range(ports)],
            end(Verdict::Drop),
        ]
        .concat(),
        [ct_bits(CtKey::State, 6), end(Verdict::Accept)].concat(),
        [
            ct_bits(CtKey::Status, 0x20),
            vec![Expr::Counter(Counter::default())],
        ]
        .concat(),
        vec![
            load(MetaKey::OifName),
            eq(b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            Expr::Limit(limit),
        ],
        vec![load(MetaKey::IifName), Expr::Lookup(member)],
        vec![load(MetaKey::Mark), Expr::Lookup(plan)],
        vec![
            Expr::Fib(fib),
            eq(&2u32.to_ne_bytes()),
            Expr::Verdict(Verdict::Jump("reject".into())),
        ],
        vec![Expr::Reject(Reject::Icmpx(RejectCode::AdminProhibited))],
        [v4, vec![payload(Base::Network, 16, 4)], mask_24()].concat(),
    ];
    let mut out: Vec<Rule> = bodies
        .into_iter()
        .map(|exprs| Rule::new("misc", exprs))
        .collect();
    out.push(
        Rule::new(
            "reject",
            vec![Expr::Reject(Reject::Icmpx(RejectCode::PortUnreachable))],
        )
        .commented("why"),
    );
    let random = Masq {
        flags: NatFlags::FULLY_RANDOM,
        port: None,
    };
    out.push(Rule::new("nat-postrouting", vec![Expr::Masq(random)]));
    out
}

fn mask_24() -> Vec<Expr> {
    let (mask, xor) = (Data::new(&[255, 255, 255, 0]), Data::new(&[0; 4]));
    vec![
        Expr::Bitwise(Bitwise::Mask {
            sreg: Reg::R0,
            dreg: Reg::R0,
            mask,
            xor,
        }),
        Expr::Cmp(Cmp {
            sreg: Reg::R0,
            op: CmpOp::Neq,
            data: Data::new(&[192, 0, 2, 0]),
        }),
        Expr::Verdict(Verdict::Goto("n2".into())),
    ]
}
