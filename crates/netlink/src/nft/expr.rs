//! The expressions a rule consists of, and the registers they work on.
//!
//! Expressions run in order; one that does not match ends the rule. Registers do not survive a rule.
//! Each type names the kernel file that evaluates it; `trace` in `dataplane` follows the same files.
//!
//! - [`load`]: what a rule loads into registers;
//! - [`judge`]: what it compares and computes;
//! - [`store`]: what it asks of sets and writes to them;
//! - [`act`]: what it does to the packet.

pub mod load;

pub mod judge;

pub mod store;

pub mod act;

pub use act::{
    Log, LogFlags, LogLevel, LogTo, Masq, Nat, NatFlags, NatKind, Redir, RegRange, Reject,
    RejectCode,
};
pub use judge::{
    Bitwise, ByteOrder, ByteOrderOp, Cmp, CmpOp, Limit, LimitKind, LimitUnit, Range, RangeOp, Shift,
};
pub use load::{
    Base, Ct, CtKey, Direction, Fib, FibFlags, FibResult, Hash, Meta, MetaKey, Numgen, NumgenKind,
    Payload,
};
pub use store::{Counter, Dynset, DynsetOp, Lookup, LookupResult, ObjRef};

use super::data::Data;
use super::object::{Family, Hook, Name, ObjectType};

/// One 32-bit register, `NFT_REG32_00` + index. A longer value occupies the following ones too.
///
/// The kernel dumps every fourth register under its old 16-byte name (`nft_dump_register`): the same
/// register, so that decoding gives this index again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reg(u32);

macro_rules! registers {
    ($($name:ident = $index:literal),+) => {
        impl Reg { $(#[doc = concat!("Register ", $index, ".")] pub const $name: Self = Self($index);)+ }
    };
}
registers!(
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R5 = 5,
    R6 = 6,
    R7 = 7
);
registers!(
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15
);

impl Reg {
    /// How many there are (`NFT_REG32_COUNT`).
    pub const COUNT: u32 = 16;

    /// The register of an index below [`Reg::COUNT`].
    #[must_use]
    pub const fn at(index: u32) -> Option<Self> {
        if index < Self::COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index, 0 to 15.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The register `words` further on.
    #[must_use]
    pub const fn plus(self, words: u32) -> Option<Self> {
        Self::at(self.0 + words)
    }

    /// The number on the wire (`NFT_REG32_00` is 8).
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0 + NFT_REG32_00
    }

    /// The register of a number on the wire, under either name; 0 is the verdict register and none of these.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1..=4 => Self::at((code - 1) * 4),
            NFT_REG32_00.. => Self::at(code - NFT_REG32_00),
            _ => None,
        }
    }
}

const NFT_REG32_00: u32 = 8;

/// What happens to the packet, or where evaluation goes on (`enum nft_verdicts`, `linux/netfilter.h`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Ends this base chain; other tables still see the packet.
    Accept,
    /// Ends everything in silence.
    Drop,
    /// Hands the packet to a program.
    Queue(u16),
    /// The next rule.
    Continue,
    /// The next rule; as the value of a map that has no better one.
    Break,
    /// Back to the calling chain, or to the policy of a base chain.
    Return,
    /// Into a chain, and back.
    Jump(Name),
    /// Into a chain, and back to where this chain would return to.
    Goto(Name),
}

/// One expression of a rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expr {
    /// Packet bytes to a register.
    Payload(Payload),
    /// A property of the packet to a register, or a register to it.
    Meta(Meta),
    /// A property of the packet's connection.
    Ct(Ct),
    /// Goes on only if a register compares so with a constant.
    Cmp(Cmp),
    /// Goes on only if a register lies within (or without) two constants.
    Range(Range),
    /// Mask and xor, or a shift.
    Bitwise(Bitwise),
    /// Between host and network order.
    ByteOrder(ByteOrder),
    /// A constant to a register.
    Immediate {
        /// The first register written.
        dreg: Reg,
        /// The constant.
        data: Data,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Asks a set or map.
    Lookup(Lookup),
    /// Writes an element of a set or map from the packet path.
    Dynset(Dynset),
    /// A random or counting number.
    Numgen(Numgen),
    /// A hash of registers.
    Hash(Hash),
    /// A route look-up.
    Fib(Fib),
    /// Address and port translation with given values.
    Nat(Nat),
    /// Source translation to the address of the outgoing interface.
    Masq(Masq),
    /// Destination translation to this machine.
    Redir(Redir),
    /// Refuses the packet with an answer.
    Reject(Reject),
    /// Counts packets and bytes.
    Counter(Counter),
    /// Goes on only below (or above) a rate.
    Limit(Limit),
    /// Refers to a named object.
    ObjRef(ObjRef),
    /// Leaves a line in a log.
    Log(Log),
    /// The packet gets no connection. `nft_ct.c`, `notrack`.
    NoTrack,
    /// Another program's expression: kept and sent as it is.
    Other {
        /// The name of the expression.
        name: Name,
        /// The bytes of `NFTA_EXPR_DATA`.
        bytes: Box<[u8]>,
    },
}

impl Expr {
    /// The kernel's name of the expression (`nft_expr_type::name`).
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Payload(_) => "payload",
            Self::Meta(_) => "meta",
            Self::Ct(_) => "ct",
            Self::Cmp(_) => "cmp",
            Self::Range(_) => "range",
            Self::Bitwise(_) => "bitwise",
            Self::ByteOrder(_) => "byteorder",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Lookup(_) => "lookup",
            Self::Dynset(_) => "dynset",
            Self::Numgen(_) => "numgen",
            Self::Hash(_) => "hash",
            Self::Fib(_) => "fib",
            Self::Nat(_) => "nat",
            Self::Masq(_) => "masq",
            Self::Redir(_) => "redir",
            Self::Reject(_) => "reject",
            Self::Counter(_) => "counter",
            Self::Limit(_) => "limit",
            Self::ObjRef(_) => "objref",
            Self::Log(_) => "log",
            Self::NoTrack => "notrack",
            Self::Other { name, .. } => name,
        }
    }

    /// The same expression without what the kernel counts by itself: to compare a dump with what was sent.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        match self {
            Self::Counter(_) => Self::Counter(Counter::default()),
            Self::Dynset(dynset) => Self::Dynset(Dynset {
                exprs: dynset.exprs.iter().map(Self::at_rest).collect(),
                ..dynset.clone()
            }),
            other => other.clone(),
        }
    }

    /// Whether a base chain of this hook and type may hold the expression, as far as this crate knows:
    /// `nft_nat_validate`, `nft_masq_validate`, `nft_redir_validate`, `nft_reject_validate`.
    #[must_use]
    pub const fn allowed_in(&self, hook: Hook) -> bool {
        match self {
            Self::Nat(Nat {
                kind: NatKind::Dnat,
                ..
            })
            | Self::Redir(_) => {
                matches!(hook, Hook::Prerouting | Hook::Output)
            }
            Self::Nat(Nat {
                kind: NatKind::Snat,
                ..
            }) => matches!(hook, Hook::Postrouting | Hook::Input),
            Self::Masq(_) => matches!(hook, Hook::Postrouting),
            Self::Reject(_) => matches!(
                hook,
                Hook::Prerouting | Hook::Input | Hook::Forward | Hook::Output | Hook::Ingress
            ),
            _ => true,
        }
    }
}
