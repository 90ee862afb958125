//! The register machine: one packet, one connection, one table.

use std::net::IpAddr;

use daymark_model::decide::Arrival;
use daymark_model::{Interface, Packet, Protocol};
use daymark_netlink::nft::{
    Base, Bitwise, CmpOp, Ct, CtKey, Data, Direction, Dynset, DynsetOp, Expr, FibResult, Hash,
    Lookup, LookupResult, Meta, MetaKey, Name, Nat, NatKind, Numgen, Payload, Reg, Rule, SetKind,
    Value, Verdict,
};

use super::sets::find;
use super::{Memory, TraceError};
use crate::nft::layout::{Words, address, octets};
use crate::nft::program::{Contents, Filled};

/// `NFT_JUMP_STACK_SIZE` (`net/netfilter/nf_tables.h`).
const DEEPEST: usize = 16;

/// The state of a packet and of its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    arrival: Arrival,
    /// The name of the interface that the packet came in at; zeroes where there is none.
    interface: [u8; Interface::SIZE],
    source: IpAddr,
    original_destination: IpAddr,
    original_port: u16,
    protocol: Protocol,
    /// The destination now.
    pub(super) destination: IpAddr,
    /// The destination port now.
    pub(super) port: u16,
    /// Whether the destination was translated.
    pub(super) translated: bool,
    /// Whether the source will be.
    pub(super) masqueraded: bool,
}

impl Connection {
    pub(super) fn new(packet: &Packet) -> Self {
        Self {
            arrival: packet.arrival,
            interface: packet
                .interface
                .map_or([0; Interface::SIZE], Interface::bytes),
            source: packet.source,
            original_destination: packet.destination,
            original_port: packet.port,
            protocol: packet.protocol,
            destination: packet.destination,
            port: packet.port,
            translated: false,
            masqueraded: false,
        }
    }
}

/// How a base chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Accept,
    Drop,
    Refuse,
}

/// How a rule ended.
enum Step {
    /// The next rule.
    Next,
    Accept,
    Drop,
    Refuse,
    Return,
    Jump(Name),
    Goto(Name),
}

/// An expression said: this rule does not match.
struct NoMatch;

type Result<T> = std::result::Result<T, TraceError>;

/// One packet in one table.
pub(super) struct Machine<'a> {
    /// Before a commit and after it; twice the same where there is none.
    pub(super) tables: [&'a Contents; 2],
    /// How many sets are asked before the commit.
    pub(super) before: usize,
    /// How many were.
    pub(super) asked: usize,
    pub(super) words: Words,
    pub(super) random: u32,
    pub(super) modulus: u32,
    pub(super) memory: &'a mut Memory,
    pub(super) connection: Connection,
}

impl<'a> Machine<'a> {
    /// The table as it is at this moment.
    pub(super) fn table(&self) -> &'a Contents {
        self.tables[usize::from(self.asked >= self.before)]
    }

    /// Runs a base chain to its end (`nft_do_chain`): its rules, and those of every chain it jumps to, are those of the
    /// moment when it began, while each set is asked as it is then.
    pub(super) fn run(&mut self, base: &Name) -> Result<End> {
        let table = self.table();
        let mut stack: Vec<(Name, usize)> = vec![(base.clone(), 0)];
        while let Some((chain, index)) = stack.pop() {
            if stack.len() > DEEPEST {
                return Err(TraceError::Deep(chain));
            }
            let Some(rule) = self.rule(table, &chain, index)? else {
                continue;
            };
            match self.step(rule, &chain, index)? {
                Step::Next => stack.push((chain, index + 1)),
                Step::Accept => return Ok(End::Accept),
                Step::Drop => return Ok(End::Drop),
                Step::Refuse => return Ok(End::Refuse),
                Step::Return => {}
                Step::Jump(to) => stack.extend([(chain, index + 1), (to, 0)]),
                Step::Goto(to) => stack.push((to, 0)),
            }
        }
        Ok(End::Accept)
    }

    /// A chain that was not there yet when the packet came is empty for it (`nf_tables_addchain`).
    fn rule(&self, table: &'a Contents, chain: &Name, index: usize) -> Result<Option<&'a Rule>> {
        if let Some((_, rules)) = table.chains.get(chain) {
            return Ok(rules.get(index));
        }
        let missing = || TraceError::Missing {
            chain: chain.clone(),
            rule: index,
            what: format!("chain {chain}"),
        };
        let later = self.tables[1].chains.get(chain);
        later.map(|_| None).ok_or_else(missing)
    }

    fn step(&mut self, rule: &Rule, chain: &Name, index: usize) -> Result<Step> {
        let mut registers = Registers([0; 64]);
        for expr in &rule.exprs {
            let outcome = self.eval(expr, &mut registers).map_err(|what| match what {
                Fault::Missing(what) => TraceError::Missing {
                    chain: chain.clone(),
                    rule: index,
                    what,
                },
                Fault::Unknown(what) => TraceError::Unknown {
                    chain: chain.clone(),
                    rule: index,
                    what,
                },
            })?;
            match outcome {
                Ok(None) => {}
                Ok(Some(step)) => return Ok(step),
                Err(NoMatch) => return Ok(Step::Next),
            }
        }
        Ok(Step::Next)
    }

    fn eval(&mut self, expr: &Expr, r: &mut Registers) -> Evaluated {
        match expr {
            Expr::Payload(payload) => r.put(payload.dreg, &self.payload(payload)?),
            Expr::Meta(Meta::Load {
                key: MetaKey::L4Proto,
                dreg,
            }) => r.put(*dreg, &[self.connection.protocol.number()]),
            Expr::Meta(Meta::Load {
                key: MetaKey::IifName,
                dreg,
            }) => r.put(*dreg, &self.connection.interface),
            Expr::Ct(Ct::Load {
                key,
                direction,
                dreg,
            }) => r.put(*dreg, &self.ct(*key, *direction)?),
            Expr::Cmp(cmp) => {
                let equal = r.get(cmp.sreg, cmp.data.len()) == &*cmp.data;
                let matches = match cmp.op {
                    CmpOp::Eq => equal,
                    CmpOp::Neq => !equal,
                    other => return unknown(format!("comparison {other}")),
                };
                return Ok(matches.then_some(None).ok_or(NoMatch));
            }
            Expr::Bitwise(Bitwise::Mask {
                sreg,
                dreg,
                mask,
                xor,
            }) => {
                let from = r.get(*sreg, mask.len());
                let bytes = from
                    .iter()
                    .zip(mask.iter())
                    .zip(xor.iter())
                    .map(|((b, m), x)| (b & m) ^ x);
                r.put(*dreg, &bytes.collect::<Vec<u8>>());
            }
            Expr::Fib(fib) if fib.result == FibResult::AddrType => {
                let local = self.connection.arrival == Arrival::Node;
                r.put(fib.dreg, &u32::to_ne_bytes(if local { 2 } else { 1 }));
            }
            Expr::Numgen(Numgen {
                dreg,
                modulus,
                offset,
                ..
            }) => {
                self.modulus = self.modulus.max(*modulus);
                r.put(*dreg, &(self.random % modulus + offset).to_ne_bytes());
            }
            Expr::Hash(Hash::Jenkins {
                sreg,
                len,
                dreg,
                modulus,
                offset,
                ..
            }) => {
                // Another hash than the kernel's: what matters is that the same bytes give the same number.
                let bytes = r.get(*sreg, *len as usize).iter();
                let sum = bytes.fold(17_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(*byte));
                r.put(*dreg, &(sum % modulus + offset).to_ne_bytes());
            }
            Expr::Lookup(lookup) => return self.lookup(lookup, r),
            Expr::Dynset(dynset) => return self.dynset(dynset, r),
            Expr::Nat(nat) => return self.translate(nat, r),
            Expr::Masq(_) => {
                self.connection.masqueraded = true;
                return Ok(Ok(Some(Step::Accept)));
            }
            Expr::Reject(_) => return Ok(Ok(Some(Step::Refuse))),
            Expr::Verdict(verdict) => return decide(verdict),
            Expr::Counter(_) => {}
            other => return unknown(format!("{other:?}")),
        }
        Ok(Ok(None))
    }

    fn payload(&self, payload: &Payload) -> std::result::Result<Vec<u8>, Fault> {
        let Payload {
            base, offset, len, ..
        } = *payload;
        let whole = len == self.words.len;
        match (base, offset) {
            (Base::Network, at) if at == self.words.saddr && whole => {
                Ok(octets(self.connection.source))
            }
            (Base::Network, at) if at == self.words.daddr && whole => {
                Ok(octets(self.connection.destination))
            }
            (Base::Transport, 2) if len == 2 => Ok(self.connection.port.to_be_bytes().to_vec()),
            _ => Err(Fault::Unknown(format!(
                "{len} bytes at {offset} of the {base} header"
            ))),
        }
    }

    fn ct(&self, key: CtKey, direction: Option<Direction>) -> std::result::Result<Vec<u8>, Fault> {
        let c = &self.connection;
        match (key, direction) {
            (CtKey::State, None) => Ok(8u32.to_ne_bytes().to_vec()),
            (CtKey::Status, None) => {
                Ok(u32::to_ne_bytes(if c.translated { 1 << 5 } else { 0 }).to_vec())
            }
            (CtKey::DstIp | CtKey::DstIp6, Some(Direction::Original)) => {
                Ok(octets(c.original_destination))
            }
            (CtKey::ProtoDst, Some(Direction::Original)) => {
                Ok(c.original_port.to_be_bytes().to_vec())
            }
            _ => Err(Fault::Unknown(format!("ct {key}"))),
        }
    }

    /// The set that a rule names, as it is when it is asked.
    fn ask(&mut self, name: &Name) -> std::result::Result<&'a Filled, Fault> {
        let filled = self.table().sets.get(name);
        self.asked += 1;
        filled.ok_or_else(|| Fault::Missing(format!("set {name}")))
    }

    fn lookup(&mut self, lookup: &Lookup, r: &mut Registers) -> Evaluated {
        let filled = self.ask(&lookup.set)?;
        let key = r.get(lookup.key, filled.set.key.len()).to_vec();
        let kept = self
            .memory
            .sticky
            .get(&(lookup.set.clone(), Data::new(&key)));
        let found = find(filled, &key);
        match (lookup.result, kept, found.as_ref().map(|elem| &elem.value)) {
            (LookupResult::Member, None, None) => Ok(Err(NoMatch)),
            (LookupResult::Member, ..) | (LookupResult::NotMember, None, None) => Ok(Ok(None)),
            (LookupResult::NotMember, ..) => Ok(Err(NoMatch)),
            (LookupResult::Data(dreg), Some(data), _)
            | (LookupResult::Data(dreg), None, Some(Value::Data(data))) => {
                r.put(dreg, data);
                Ok(Ok(None))
            }
            (LookupResult::Verdict, None, Some(Value::Verdict(verdict))) => decide(verdict),
            (_, None, None) => Ok(Err(NoMatch)),
            _ => unknown(format!("look-up in {} of another kind", lookup.set)),
        }
    }

    fn dynset(&mut self, dynset: &Dynset, r: &Registers) -> Evaluated {
        let filled = self.ask(&dynset.set)?;
        let key = (
            dynset.set.clone(),
            Data::new(r.get(dynset.key, filled.set.key.len())),
        );
        // What is only counted decides nothing.
        if filled.set.kind == SetKind::Set && dynset.data.is_none() {
            return Ok(Ok(None));
        }
        let (SetKind::Map(of), Some(data)) = (&filled.set.kind, dynset.data) else {
            return unknown(format!("{} is not a map of data", dynset.set));
        };
        if dynset.op == DynsetOp::Delete {
            let gone = self.memory.sticky.remove(&key).is_some();
            return Ok(gone.then_some(None).ok_or(NoMatch));
        }
        let value = Data::new(r.get(data, of.len()));
        // An element that is there keeps its data; only its time begins anew (`nft_rhash_update`).
        self.memory.sticky.entry(key).or_insert(value);
        Ok(Ok(None))
    }

    fn translate(&mut self, nat: &Nat, r: &Registers) -> Evaluated {
        let (NatKind::Dnat, Some(addr), Some(port)) = (nat.kind, nat.addr, nat.port) else {
            return unknown(format!("{nat:?}"));
        };
        let ip = address(r.get(addr.min, octets(self.connection.destination).len()));
        self.connection.destination =
            ip.ok_or_else(|| Fault::Unknown("an address of no family".to_owned()))?;
        let port = r.get(port.min, 2);
        self.connection.port = u16::from_be_bytes([port[0], port[1]]);
        self.connection.translated = true;
        Ok(Ok(Some(Step::Accept)))
    }
}

/// What is wrong with a program, before the place is known.
enum Fault {
    Missing(String),
    Unknown(String),
}

/// A fault; or no match; or, at a verdict, how the rule ends.
type Evaluated = std::result::Result<std::result::Result<Option<Step>, NoMatch>, Fault>;

fn unknown(what: String) -> Evaluated {
    Err(Fault::Unknown(what))
}

fn decide(verdict: &Verdict) -> Evaluated {
    Ok(match verdict {
        Verdict::Accept => Ok(Some(Step::Accept)),
        Verdict::Drop => Ok(Some(Step::Drop)),
        Verdict::Return => Ok(Some(Step::Return)),
        Verdict::Jump(to) => Ok(Some(Step::Jump(to.clone()))),
        Verdict::Goto(to) => Ok(Some(Step::Goto(to.clone()))),
        Verdict::Continue => Ok(None),
        Verdict::Break => Err(NoMatch),
        Verdict::Queue(_) => return unknown("queue".to_owned()),
    })
}

/// Sixteen words, as bytes. A value shorter than a word is padded with zeroes.
struct Registers([u8; 64]);

impl Registers {
    fn get(&self, from: Reg, len: usize) -> &[u8] {
        let at = from.index() * 4;
        &self.0[at..(at + len).min(64)]
    }

    fn put(&mut self, to: Reg, bytes: &[u8]) {
        let at = to.index() * 4;
        let end = (at + bytes.len().next_multiple_of(4)).min(64);
        self.0[at..end].fill(0);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
