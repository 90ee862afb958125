//! What a rule compares and computes.

use super::{Data, Reg};

/// Goes on only if the register compares so with the constant, byte by byte. `nft_cmp.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cmp {
    /// The first register compared.
    pub sreg: Reg,
    /// How.
    pub op: CmpOp,
    /// The constant; its length is what is compared.
    pub data: Data,
}

codes! {
    /// A comparison (`enum nft_cmp_ops`), as of unsigned numbers in network order.
    pub enum CmpOp {
        /// Equal.
        Eq = 0, "==";
        /// Not equal.
        Neq = 1, "!=";
        /// Less.
        Lt = 2, "<";
        /// Less or equal.
        Lte = 3, "<=";
        /// Greater.
        Gt = 4, ">";
        /// Greater or equal.
        Gte = 5, ">=";
    }
}

/// Goes on only if the register lies within the two constants, both included. `nft_range.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// The first register compared.
    pub sreg: Reg,
    /// Within or without.
    pub op: RangeOp,
    /// The lowest value within.
    pub from: Data,
    /// The highest value within.
    pub to: Data,
}

codes! {
    /// Within or without (`enum nft_range_ops`).
    pub enum RangeOp {
        /// Within.
        Within = 0, "==";
        /// Without.
        Without = 1, "!=";
    }
}

/// Arithmetic on bits. `nft_bitwise.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Bitwise {
    /// `dreg = (sreg & mask) ^ xor`, over the length of `mask`.
    Mask {
        /// Where from.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// As long as `xor`.
        mask: Data,
        /// As long as `mask`.
        xor: Data,
    },
    /// `dreg = sreg << by`, or `>>`, over `len` bytes.
    Shift {
        /// Which way.
        shift: Shift,
        /// Where from.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// In bytes.
        len: u32,
        /// In bits, below 32.
        by: u32,
    },
}

codes! {
    /// Which way to shift (`enum nft_bitwise_ops`).
    pub enum Shift {
        /// Towards the high bits.
        Left = 1, "<<";
        /// Towards the low bits.
        Right = 2, ">>";
    }
}

/// Between host and network order. `nft_byteorder.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ByteOrder {
    /// Where from.
    pub sreg: Reg,
    /// Where to.
    pub dreg: Reg,
    /// Which way.
    pub op: ByteOrderOp,
    /// In bytes, all units together.
    pub len: u32,
    /// One unit: 2, 4 or 8 bytes.
    pub size: u32,
}

codes! {
    /// Which way (`enum nft_byteorder_ops`).
    pub enum ByteOrderOp {
        /// Network to host.
        ToHost = 0, "ntoh";
        /// Host to network.
        ToNetwork = 1, "hton";
    }
}

/// Goes on only below (or above) a rate. `nft_limit.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limit {
    /// Packets or bytes.
    pub kind: LimitKind,
    /// How many per unit.
    pub rate: u64,
    /// Seconds per unit.
    pub unit: LimitUnit,
    /// How many at once; the kernel makes 5 of 0 packets, so name it.
    pub burst: u32,
    /// Which side of the rate matches.
    pub side: RangeOp,
}

codes! {
    /// What is counted (`enum nft_limit_type`).
    pub enum LimitKind {
        /// Packets.
        Packets = 0, "packets";
        /// Bytes.
        Bytes = 1, "bytes";
    }
}

codes! {
    /// The unit of a rate, in seconds (`NFTA_LIMIT_UNIT`).
    pub enum LimitUnit {
        /// A second.
        Second = 1, "second";
        /// A minute.
        Minute = 60, "minute";
        /// An hour.
        Hour = 3600, "hour";
        /// A day.
        Day = 86400, "day";
        /// A week.
        Week = 604800, "week";
    }
}
