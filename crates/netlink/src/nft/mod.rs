//! nf_tables: objects as values, their messages, their bytes, and how `nft` would print them.
//!
//! - [`data`]: bytes in registers and set keys, and the types that give them a meaning;
//! - [`expr`]: the expressions a rule consists of, and registers;
//! - [`object`]: tables, chains, sets, elements, rules, counters; [`Ruleset`] holds a whole program;
//! - [`message`]: changes and queries; [`reply`]: what the kernel answers;
//! - [`batch`]: transactions that fit the socket buffer, and back from an error to its element;
//! - [`show`]: text like that of `nft list ruleset`.
//!
//! Numbers are those of `include/uapi/linux/netfilter/nf_tables.h` unless another source is named.

pub mod data;

pub mod expr;

pub mod object;

pub mod message;

pub mod reply;

pub mod batch;

pub mod show;

mod wire;

#[cfg(test)]
mod any;

pub use batch::{Batch, BatchError, Blame, Part, Transaction};
pub use data::{Data, Field, Type};
pub use expr::{
    Base, Bitwise, ByteOrder, ByteOrderOp, Cmp, CmpOp, Counter, Ct, CtKey, Direction, Dynset,
    DynsetOp, Expr, Fib, FibFlags, FibResult, Hash, Limit, LimitKind, LimitUnit, Log, LogFlags,
    LogLevel, LogTo, Lookup, LookupResult, Masq, Meta, MetaKey, Nat, NatFlags, NatKind, Numgen,
    NumgenKind, ObjRef, Payload, Range, RangeOp, Redir, Reg, RegRange, Reject, RejectCode, Shift,
    Verdict,
};
pub use message::{Exists, Message, Place, Query, Victim};
pub use object::{
    BaseChain, Chain, ChainKind, ChainType, Elements, Family, Hook, Name, Object, ObjectKind,
    ObjectType, Policy, Role, Rule, Ruleset, Set, SetElem, SetFlags, SetKind, SetPolicy, Table,
    TableFlags, TableId, Value,
};
pub use reply::{Generation, Held, Notice, Reply, Snapshot};
