//! What a rule asks of sets and writes to them, and what it counts.

use super::{Expr, Name, ObjectType, Reg};

/// Asks a set or map of the same table. `nft_lookup.c`. No element means no match, but for `NotMember`.
///
/// The key is as long as the set's key type and starts at `key`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lookup {
    /// The name of the set or map.
    pub set: Name,
    /// The first register of the key.
    pub key: Reg,
    /// What is done with the answer.
    pub result: LookupResult,
}

/// What a look-up does with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LookupResult {
    /// Goes on if there is such an element.
    Member,
    /// Goes on if there is none (`NFT_LOOKUP_F_INV`).
    NotMember,
    /// Writes the element's data from this register on.
    Data(Reg),
    /// Follows the element's verdict.
    Verdict,
}

/// Writes an element from the packet path. `nft_dynset.c`. The set needs [`SetFlags::DYNAMIC`].
///
/// Where the set itself names expressions ([`Set::exprs`]) its elements get those, and `exprs` must be empty:
/// the kernel then dumps none here.
///
/// [`SetFlags::DYNAMIC`]: crate::nft::object::SetFlags::DYNAMIC
/// [`Set::exprs`]: crate::nft::object::Set::exprs
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Dynset {
    /// The name of the set or map.
    pub set: Name,
    /// What is done.
    pub op: DynsetOp,
    /// The first register of the key.
    pub key: Reg,
    /// The first register of the data, for a map.
    pub data: Option<Reg>,
    /// Milliseconds that the element lives; the set's own if `None`.
    pub timeout: Option<u64>,
    /// Expressions of the new element.
    pub exprs: Vec<Expr>,
}

codes! {
    /// What is done to the element (`enum nft_dynset_ops`).
    pub enum DynsetOp {
        /// Added if it is not there.
        Add = 0, "add";
        /// Added, or its timeout starts again.
        Update = 1, "update";
        /// Removed.
        Delete = 2, "delete";
    }
}

/// Packets and bytes counted so far. `nft_counter.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, link-layer header not included.
    pub bytes: u64,
}

/// Refers to a named object of the same table. `nft_objref.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ObjRef {
    /// Always this one.
    Named {
        /// Its type.
        kind: ObjectType,
        /// Its name.
        name: Name,
    },
    /// The one that an object map names for the key.
    Map {
        /// The name of the map.
        set: Name,
        /// The first register of the key.
        key: Reg,
    },
}
