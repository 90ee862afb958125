//! Expressions that compare or compute.

use super::{put_reg, take_reg};
use crate::attr::{DecodeError, Fields, Writer};
use crate::nft::expr::{Bitwise, ByteOrder, Cmp, Limit, LimitKind, Range, RangeOp, Shift};
use crate::nft::wire::{put_data, take_data};

pub(super) fn put_cmp(out: &mut Writer, cmp: &Cmp) {
    put_reg(out, NFTA_CMP_SREG, cmp.sreg);
    out.be32(NFTA_CMP_OP, cmp.op.code());
    put_data(out, NFTA_CMP_DATA, &cmp.data);
}

pub(super) fn take_cmp(fields: &Fields<'_>) -> Result<Cmp, DecodeError> {
    Ok(Cmp {
        sreg: take_reg(fields, NFTA_CMP_SREG)?,
        op: fields.code(NFTA_CMP_OP)?,
        data: take_data(fields, NFTA_CMP_DATA)?,
    })
}

pub(super) fn put_range(out: &mut Writer, range: &Range) {
    put_reg(out, NFTA_RANGE_SREG, range.sreg);
    out.be32(NFTA_RANGE_OP, range.op.code());
    put_data(out, NFTA_RANGE_FROM_DATA, &range.from);
    put_data(out, NFTA_RANGE_TO_DATA, &range.to);
}

pub(super) fn take_range(fields: &Fields<'_>) -> Result<Range, DecodeError> {
    Ok(Range {
        sreg: take_reg(fields, NFTA_RANGE_SREG)?,
        op: fields.code(NFTA_RANGE_OP)?,
        from: take_data(fields, NFTA_RANGE_FROM_DATA)?,
        to: take_data(fields, NFTA_RANGE_TO_DATA)?,
    })
}

pub(super) fn put_bitwise(out: &mut Writer, bitwise: &Bitwise) {
    match bitwise {
        Bitwise::Mask {
            sreg,
            dreg,
            mask,
            xor,
        } => {
            put_reg(out, NFTA_BITWISE_SREG, *sreg);
            put_reg(out, NFTA_BITWISE_DREG, *dreg);
            out.be32(NFTA_BITWISE_OP, NFT_BITWISE_MASK_XOR);
            out.be32(
                NFTA_BITWISE_LEN,
                u32::try_from(mask.len()).unwrap_or(u32::MAX),
            );
            put_data(out, NFTA_BITWISE_MASK, mask);
            put_data(out, NFTA_BITWISE_XOR, xor);
        }
        Bitwise::Shift {
            shift,
            sreg,
            dreg,
            len,
            by,
        } => {
            put_reg(out, NFTA_BITWISE_SREG, *sreg);
            put_reg(out, NFTA_BITWISE_DREG, *dreg);
            out.be32(NFTA_BITWISE_OP, shift.code());
            out.be32(NFTA_BITWISE_LEN, *len);
            put_data(out, NFTA_BITWISE_DATA, &by.to_ne_bytes());
        }
    }
}

pub(super) fn take_bitwise(fields: &Fields<'_>) -> Result<Bitwise, DecodeError> {
    let sreg = take_reg(fields, NFTA_BITWISE_SREG)?;
    let dreg = take_reg(fields, NFTA_BITWISE_DREG)?;
    let op = fields
        .opt_be32(NFTA_BITWISE_OP)?
        .unwrap_or(NFT_BITWISE_MASK_XOR);
    if op == NFT_BITWISE_MASK_XOR {
        return Ok(Bitwise::Mask {
            sreg,
            dreg,
            mask: take_data(fields, NFTA_BITWISE_MASK)?,
            xor: take_data(fields, NFTA_BITWISE_XOR)?,
        });
    }
    let shift: Shift = fields.known(NFTA_BITWISE_OP, op)?;
    let by = take_data(fields, NFTA_BITWISE_DATA)?;
    Ok(Bitwise::Shift {
        shift,
        sreg,
        dreg,
        len: fields.be32(NFTA_BITWISE_LEN)?,
        by: by
            .host_word(0)
            .ok_or(DecodeError::Truncated { object: "shift" })?,
    })
}

pub(super) fn put_byte_order(out: &mut Writer, order: &ByteOrder) {
    put_reg(out, NFTA_BYTEORDER_SREG, order.sreg);
    put_reg(out, NFTA_BYTEORDER_DREG, order.dreg);
    out.be32(NFTA_BYTEORDER_OP, order.op.code());
    out.be32(NFTA_BYTEORDER_LEN, order.len);
    out.be32(NFTA_BYTEORDER_SIZE, order.size);
}

pub(super) fn take_byte_order(fields: &Fields<'_>) -> Result<ByteOrder, DecodeError> {
    Ok(ByteOrder {
        sreg: take_reg(fields, NFTA_BYTEORDER_SREG)?,
        dreg: take_reg(fields, NFTA_BYTEORDER_DREG)?,
        op: fields.code(NFTA_BYTEORDER_OP)?,
        len: fields.be32(NFTA_BYTEORDER_LEN)?,
        size: fields.be32(NFTA_BYTEORDER_SIZE)?,
    })
}

pub(super) fn put_limit(out: &mut Writer, limit: &Limit) {
    out.be64(NFTA_LIMIT_RATE, limit.rate);
    out.be64(NFTA_LIMIT_UNIT, u64::from(limit.unit.code()));
    out.be32(NFTA_LIMIT_BURST, limit.burst);
    out.be32(NFTA_LIMIT_TYPE, limit.kind.code());
    let above = limit.side == RangeOp::Without;
    out.be32(NFTA_LIMIT_FLAGS, if above { NFT_LIMIT_F_INV } else { 0 });
}

pub(super) fn take_limit(fields: &Fields<'_>) -> Result<Limit, DecodeError> {
    let unit = u32::try_from(fields.be64(NFTA_LIMIT_UNIT)?).unwrap_or(u32::MAX);
    let kind = fields
        .opt_be32(NFTA_LIMIT_TYPE)?
        .unwrap_or(LimitKind::Packets.code());
    let flags = fields.opt_be32(NFTA_LIMIT_FLAGS)?.unwrap_or_default();
    Ok(Limit {
        kind: fields.known(NFTA_LIMIT_TYPE, kind)?,
        rate: fields.be64(NFTA_LIMIT_RATE)?,
        unit: fields.known(NFTA_LIMIT_UNIT, unit)?,
        burst: fields.opt_be32(NFTA_LIMIT_BURST)?.unwrap_or_default(),
        side: if flags & NFT_LIMIT_F_INV == 0 {
            RangeOp::Within
        } else {
            RangeOp::Without
        },
    })
}

// `enum nft_cmp_attributes`.
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

// `enum nft_range_attributes`.
const NFTA_RANGE_SREG: u16 = 1;
const NFTA_RANGE_OP: u16 = 2;
const NFTA_RANGE_FROM_DATA: u16 = 3;
const NFTA_RANGE_TO_DATA: u16 = 4;

// `enum nft_bitwise_attributes`, `enum nft_bitwise_ops`.
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_BITWISE_DATA: u16 = 7;
const NFT_BITWISE_MASK_XOR: u32 = 0;

// `enum nft_byteorder_attributes`.
const NFTA_BYTEORDER_SREG: u16 = 1;
const NFTA_BYTEORDER_DREG: u16 = 2;
const NFTA_BYTEORDER_OP: u16 = 3;
const NFTA_BYTEORDER_LEN: u16 = 4;
const NFTA_BYTEORDER_SIZE: u16 = 5;

// `enum nft_limit_attributes`, `enum nft_limit_flags`.
const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_BURST: u16 = 3;
const NFTA_LIMIT_TYPE: u16 = 4;
const NFTA_LIMIT_FLAGS: u16 = 5;
const NFT_LIMIT_F_INV: u32 = 1;
