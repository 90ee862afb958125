//! Rules: the expressions of a rule, run over registers that hold text.
//!
//! What a rule needs to know before it may look at a header (`meta nfproto ipv4`, `meta l4proto tcp`) is left out
//! where the header's name says it, as `nft` does.

mod act;
mod symbol;

use crate::nft::data::{Field, Type};
use crate::nft::expr::*;
use crate::nft::object::{Family, Rule, Set, SetKind};
use crate::nft::show::value;
use symbol::{Registers, Symbol};

/// One rule.
pub(super) fn rule<'a>(
    family: Family,
    find: impl Fn(&str) -> Option<&'a Set>,
    rule: &Rule,
) -> String {
    let mut out = Printer::new(family, &find);
    rule.exprs.iter().for_each(|expr| out.expr(expr));
    let comment = rule
        .comment
        .iter()
        .map(|comment| format!("comment \"{comment}\""));
    let words = out.statements.into_iter().map(|statement| statement.text);
    words.chain(comment).collect::<Vec<_>>().join(" ")
}

/// Expressions of a set or an element: counters and limits, which use no register.
pub(super) fn exprs(exprs: &[Expr]) -> String {
    let mut out = Printer::new(Family::Inet, &|_| None);
    exprs.iter().for_each(|expr| out.expr(expr));
    out.statements
        .into_iter()
        .map(|statement| statement.text)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What every element of a set gets: without counts.
pub(super) fn kind(expr: &Expr) -> String {
    match expr {
        Expr::Counter(_) => "counter".to_owned(),
        other => exprs(std::slice::from_ref(other)),
    }
}

/// A verdict.
pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Queue(number) => format!("queue to {number}"),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Break => "break".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

struct Printer<'s, 'a> {
    family: Family,
    find: &'s dyn Fn(&str) -> Option<&'a Set>,
    registers: Registers,
    statements: Vec<Statement>,
    network: Option<u8>,
    transport: Option<u8>,
}

struct Statement {
    text: String,
    /// Left out if a header's name says it.
    needed_for: Option<Base>,
}

impl<'s, 'a> Printer<'s, 'a> {
    fn new(family: Family, find: &'s dyn Fn(&str) -> Option<&'a Set>) -> Self {
        let network = match family {
            Family::Ip => Some(NFPROTO_IPV4),
            Family::Ip6 => Some(NFPROTO_IPV6),
            _ => None,
        };
        Self {
            family,
            find,
            registers: Registers::default(),
            statements: Vec::new(),
            network,
            transport: None,
        }
    }

    fn say(&mut self, text: impl Into<String>) {
        self.statements.push(Statement {
            text: text.into(),
            needed_for: None,
        });
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Payload(payload) => self.payload(payload),
            Expr::Meta(Meta::Load { key, dreg }) => {
                let (text, field) = meta(*key);
                self.registers.set(*dreg, Symbol::new(text, field));
            }
            Expr::Meta(Meta::Store { key, sreg }) => {
                let (text, field) = meta(*key);
                let value = self.registers.read(*sreg, &Type::single(field));
                self.say(format!(
                    "{} set {value}",
                    if text == key.word() {
                        format!("meta {text}")
                    } else {
                        text
                    }
                ));
            }
            Expr::Ct(ct) => self.ct(ct),
            Expr::Cmp(cmp) => self.cmp(cmp),
            Expr::Range(range) => self.range(range),
            Expr::Bitwise(bitwise) => self.bitwise(bitwise),
            Expr::ByteOrder(order) => self.registers.copy(order.sreg, order.dreg),
            Expr::Immediate { dreg, data } => {
                self.registers.set(*dreg, Symbol::constant(data.clone()))
            }
            Expr::Lookup(lookup) => self.lookup(lookup),
            Expr::Dynset(dynset) => self.dynset(dynset),
            Expr::Numgen(numgen) => {
                let text = format!(
                    "numgen {} mod {}{}",
                    numgen.kind,
                    numgen.modulus,
                    offset(numgen.offset)
                );
                self.registers
                    .set(numgen.dreg, Symbol::new(text, Field::Mark));
            }
            Expr::Hash(hash) => self.hash(hash),
            Expr::Fib(fib) => {
                let flags: Vec<_> = fib.flags.words().collect();
                let text = format!("fib {} {}", flags.join(" . "), fib.result);
                let field = match fib.result {
                    FibResult::AddrType => Field::AddrType,
                    FibResult::Oif => Field::IfIndex,
                    FibResult::OifName => Field::IfName,
                };
                self.registers.set(fib.dreg, Symbol::new(text, field));
            }
            other => self.act(other),
        }
    }

    fn payload(&mut self, payload: &Payload) {
        let (text, field, uses) = self.header(payload);
        if let Some(base) = uses {
            let needless = |statement: &Statement| statement.needed_for == Some(base);
            self.statements.retain(|statement| !needless(statement));
        }
        self.registers.set(payload.dreg, Symbol::new(text, field));
    }

    /// The name of a header field, its type, and the header whose presence the name implies.
    fn header(&self, payload: &Payload) -> (String, Field, Option<Base>) {
        let bits = |base: Base| format!("@{base},{},{}", payload.offset * 8, payload.len * 8);
        let unknown = Field::Integer(u8::try_from(payload.len).unwrap_or(u8::MAX));
        if payload.base == Base::Transport {
            let port = match (payload.offset, payload.len) {
                (0, 2) => "sport",
                (2, 2) => "dport",
                _ => return (bits(Base::Transport), unknown, None),
            };
            return match self.transport {
                Some(known) => {
                    let text = format!("{} {port}", value::protocol(&[known]));
                    (text, Field::InetService, Some(Base::Transport))
                }
                None => (format!("th {port}"), Field::InetService, None),
            };
        }
        let known = match (payload.base, payload.offset, payload.len) {
            (Base::Network, 12, 4) if self.network != Some(NFPROTO_IPV6) => {
                ("ip saddr", Field::Ipv4Addr)
            }
            (Base::Network, 16, 4) if self.network != Some(NFPROTO_IPV6) => {
                ("ip daddr", Field::Ipv4Addr)
            }
            (Base::Network, 9, 1) if self.network == Some(NFPROTO_IPV4) => {
                ("ip protocol", Field::InetProto)
            }
            (Base::Network, 6, 1) if self.network == Some(NFPROTO_IPV6) => {
                ("ip6 nexthdr", Field::InetProto)
            }
            (Base::Network, 8, 16) if self.network != Some(NFPROTO_IPV4) => {
                ("ip6 saddr", Field::Ipv6Addr)
            }
            (Base::Network, 24, 16) if self.network != Some(NFPROTO_IPV4) => {
                ("ip6 daddr", Field::Ipv6Addr)
            }
            (base, ..) => return (bits(base), unknown, None),
        };
        (known.0.to_owned(), known.1, Some(Base::Network))
    }

    fn ct(&mut self, ct: &Ct) {
        match *ct {
            Ct::Load {
                key,
                direction,
                dreg,
            } => {
                let direction = direction
                    .map(|direction| format!("{direction} "))
                    .unwrap_or_default();
                let symbol = Symbol::new(format!("ct {direction}{key}"), self.ct_field(key));
                self.registers.set(
                    dreg,
                    if key == CtKey::Status {
                        symbol.of_status()
                    } else {
                        symbol
                    },
                );
            }
            Ct::Store { key, sreg } => {
                let value = self.registers.read(sreg, &Type::single(self.ct_field(key)));
                self.say(format!("ct {key} set {value}"));
            }
        }
    }

    fn ct_field(&self, key: CtKey) -> Field {
        match key {
            CtKey::State => Field::CtState,
            CtKey::L3Protocol => Field::NfProto,
            CtKey::Protocol => Field::InetProto,
            CtKey::ProtoSrc | CtKey::ProtoDst => Field::InetService,
            CtKey::SrcIp | CtKey::DstIp => Field::Ipv4Addr,
            CtKey::SrcIp6 | CtKey::DstIp6 => Field::Ipv6Addr,
            CtKey::Src | CtKey::Dst if self.network == Some(NFPROTO_IPV6) => Field::Ipv6Addr,
            CtKey::Src | CtKey::Dst => Field::Ipv4Addr,
            CtKey::Direction => Field::Integer(1),
            CtKey::Zone => Field::Integer(2),
            CtKey::Packets | CtKey::Bytes => Field::Integer(8),
            CtKey::Labels => Field::Integer(16),
            CtKey::Status | CtKey::Mark | CtKey::Expiration | CtKey::Id => Field::Mark,
        }
    }

    fn cmp(&mut self, cmp: &Cmp) {
        let text = self.registers.compare(cmp);
        let left = self.registers.text(cmp.sreg);
        let needed_for = match (left.as_str(), cmp.op, &cmp.data[..]) {
            ("meta nfproto", CmpOp::Eq, [family]) => {
                self.network = Some(*family);
                Some(Base::Network)
            }
            (
                "meta l4proto" | "ip protocol" | "ip6 nexthdr",
                CmpOp::Eq,
                [protocol @ (6 | 17 | 132)],
            ) => {
                self.transport = Some(*protocol);
                Some(Base::Transport)
            }
            _ => None,
        };
        self.statements.push(Statement { text, needed_for });
    }

    fn range(&mut self, range: &Range) {
        let field = self
            .registers
            .field(range.sreg)
            .unwrap_or(Field::Integer(0));
        let left = self.registers.text(range.sreg);
        let not = if range.op == RangeOp::Without {
            "!= "
        } else {
            ""
        };
        let (from, to) = (
            value::field(field, &range.from),
            value::field(field, &range.to),
        );
        self.say(format!("{left} {not}{from}-{to}"));
    }

    fn bitwise(&mut self, bitwise: &Bitwise) {
        match bitwise {
            Bitwise::Mask {
                sreg,
                dreg,
                mask,
                xor,
            } => self.registers.mask(*sreg, *dreg, mask, xor),
            Bitwise::Shift {
                shift,
                sreg,
                dreg,
                by,
                ..
            } => {
                let text = format!("{} {shift} {by}", self.registers.text(*sreg));
                let field = self.registers.field(*sreg).unwrap_or(Field::Mark);
                self.registers.set(*dreg, Symbol::new(text, field));
            }
        }
    }

    fn lookup(&mut self, lookup: &Lookup) {
        let set = (self.find)(&lookup.set);
        let key = self.key(set, lookup.key);
        match lookup.result {
            LookupResult::Member => self.say(format!("{key} @{}", lookup.set)),
            LookupResult::NotMember => self.say(format!("{key} != @{}", lookup.set)),
            LookupResult::Verdict => self.say(format!("{key} vmap @{}", lookup.set)),
            LookupResult::Data(dreg) => {
                let text = format!("{key} map @{}", lookup.set);
                match set.map(|set| &set.kind) {
                    Some(SetKind::Map(data)) => self.registers.set_fields(dreg, &text, data),
                    _ => self.registers.set(dreg, Symbol::new(text, Field::Mark)),
                }
            }
        }
    }

    /// The key of a look-up; of an unknown set whatever its first register holds.
    fn key(&self, set: Option<&Set>, reg: Reg) -> String {
        match set {
            Some(set) => self.registers.read(reg, &set.key),
            None => self.registers.text(reg),
        }
    }

    fn dynset(&mut self, dynset: &Dynset) {
        let set = (self.find)(&dynset.set);
        let mut inner = self.key(set, dynset.key);
        if let Some(timeout) = dynset.timeout {
            inner += &format!(" timeout {}", value::duration(timeout));
        }
        if !dynset.exprs.is_empty() {
            inner += &format!(" {}", exprs(&dynset.exprs));
        }
        if let Some(data) = dynset.data {
            let text = match set.map(|set| &set.kind) {
                Some(SetKind::Map(kind)) => self.registers.read(data, kind),
                _ => self.registers.text(data),
            };
            inner += &format!(" : {text}");
        }
        self.say(format!("{} @{} {{ {inner} }}", dynset.op, dynset.set));
    }

    fn hash(&mut self, hash: &Hash) {
        let (text, dreg) = match *hash {
            Hash::Jenkins {
                sreg,
                len,
                dreg,
                modulus,
                seed,
                offset: more,
            } => {
                let seed = seed
                    .map(|seed| format!(" seed 0x{seed:x}"))
                    .unwrap_or_default();
                let of = self
                    .registers
                    .read_len(sreg, usize::try_from(len).unwrap_or(usize::MAX));
                (
                    format!("jhash {of} mod {modulus}{seed}{}", offset(more)),
                    dreg,
                )
            }
            Hash::Symmetric {
                dreg,
                modulus,
                offset: more,
            } => (format!("symhash mod {modulus}{}", offset(more)), dreg),
        };
        self.registers.set(dreg, Symbol::new(text, Field::Mark));
    }
}

fn offset(offset: u32) -> String {
    if offset == 0 {
        String::new()
    } else {
        format!(" offset {offset}")
    }
}

/// The name of a packet property and its type; `nft` prints interfaces without `meta`.
fn meta(key: MetaKey) -> (String, Field) {
    let field = match key {
        MetaKey::IifName | MetaKey::OifName | MetaKey::IifKind | MetaKey::OifKind => Field::IfName,
        MetaKey::Iif | MetaKey::Oif => Field::IfIndex,
        MetaKey::NfProto => Field::NfProto,
        MetaKey::L4Proto => Field::InetProto,
        MetaKey::Protocol => Field::Integer(2),
        _ => Field::Mark,
    };
    let bare = matches!(
        key,
        MetaKey::Iif | MetaKey::Oif | MetaKey::IifName | MetaKey::OifName
    );
    let text = if bare {
        key.word().to_owned()
    } else {
        format!("meta {key}")
    };
    (text, field)
}

// `linux/netfilter.h`.
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
