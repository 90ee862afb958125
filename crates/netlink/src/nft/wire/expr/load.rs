//! Expressions that write registers.

use super::{NFT_REG_VERDICT, put_reg, take_opt_reg, take_reg};
use crate::attr::{DecodeError, Fields, Writer};
use crate::nft::expr::{Ct, Direction, Expr, Fib, FibFlags, Hash, Meta, Numgen, Payload};
use crate::nft::wire::{NFTA_DATA_VERDICT, take_data, take_verdict};

pub(super) fn put_payload(out: &mut Writer, payload: &Payload) {
    put_reg(out, NFTA_PAYLOAD_DREG, payload.dreg);
    out.be32(NFTA_PAYLOAD_BASE, payload.base.code());
    out.be32(NFTA_PAYLOAD_OFFSET, payload.offset);
    out.be32(NFTA_PAYLOAD_LEN, payload.len);
}

pub(super) fn take_payload(fields: &Fields<'_>) -> Result<Payload, DecodeError> {
    if fields.has(NFTA_PAYLOAD_SREG) {
        return Err(fields.unknown(NFTA_PAYLOAD_SREG, 0));
    }
    Ok(Payload {
        base: fields.code(NFTA_PAYLOAD_BASE)?,
        offset: fields.be32(NFTA_PAYLOAD_OFFSET)?,
        len: fields.be32(NFTA_PAYLOAD_LEN)?,
        dreg: take_reg(fields, NFTA_PAYLOAD_DREG)?,
    })
}

pub(super) fn put_meta(out: &mut Writer, meta: &Meta) {
    match *meta {
        Meta::Load { key, dreg } => {
            out.be32(NFTA_META_KEY, key.code());
            put_reg(out, NFTA_META_DREG, dreg);
        }
        Meta::Store { key, sreg } => {
            out.be32(NFTA_META_KEY, key.code());
            put_reg(out, NFTA_META_SREG, sreg);
        }
    }
}

pub(super) fn take_meta(fields: &Fields<'_>) -> Result<Meta, DecodeError> {
    let key = fields.code(NFTA_META_KEY)?;
    Ok(match take_opt_reg(fields, NFTA_META_SREG)? {
        Some(sreg) => Meta::Store { key, sreg },
        None => Meta::Load {
            key,
            dreg: take_reg(fields, NFTA_META_DREG)?,
        },
    })
}

pub(super) fn put_ct(out: &mut Writer, ct: &Ct) {
    match *ct {
        Ct::Load {
            key,
            direction,
            dreg,
        } => {
            out.be32(NFTA_CT_KEY, key.code());
            if let Some(direction) = direction {
                out.u8(
                    NFTA_CT_DIRECTION,
                    if direction == Direction::Reply { 1 } else { 0 },
                );
            }
            put_reg(out, NFTA_CT_DREG, dreg);
        }
        Ct::Store { key, sreg } => {
            out.be32(NFTA_CT_KEY, key.code());
            put_reg(out, NFTA_CT_SREG, sreg);
        }
    }
}

pub(super) fn take_ct(fields: &Fields<'_>) -> Result<Ct, DecodeError> {
    let key = fields.code(NFTA_CT_KEY)?;
    if let Some(sreg) = take_opt_reg(fields, NFTA_CT_SREG)? {
        return Ok(Ct::Store { key, sreg });
    }
    // Where none was given the kernel dumps IP_CT_DIR_MAX for some keys.
    let direction = fields.opt_u8(NFTA_CT_DIRECTION)?.map(u32::from);
    Ok(Ct::Load {
        key,
        direction: direction.and_then(Direction::from_code),
        dreg: take_reg(fields, NFTA_CT_DREG)?,
    })
}

pub(super) fn put_numgen(out: &mut Writer, numgen: &Numgen) {
    put_reg(out, NFTA_NG_DREG, numgen.dreg);
    out.be32(NFTA_NG_MODULUS, numgen.modulus);
    out.be32(NFTA_NG_TYPE, numgen.kind.code());
    out.be32(NFTA_NG_OFFSET, numgen.offset);
}

pub(super) fn take_numgen(fields: &Fields<'_>) -> Result<Numgen, DecodeError> {
    Ok(Numgen {
        dreg: take_reg(fields, NFTA_NG_DREG)?,
        modulus: fields.be32(NFTA_NG_MODULUS)?,
        kind: fields.code(NFTA_NG_TYPE)?,
        offset: fields.opt_be32(NFTA_NG_OFFSET)?.unwrap_or_default(),
    })
}

pub(super) fn put_hash(out: &mut Writer, hash: &Hash) {
    let (dreg, modulus, offset) = match *hash {
        Hash::Jenkins {
            sreg,
            len,
            dreg,
            modulus,
            seed,
            offset,
        } => {
            out.be32(NFTA_HASH_TYPE, NFT_HASH_JENKINS);
            put_reg(out, NFTA_HASH_SREG, sreg);
            out.be32(NFTA_HASH_LEN, len);
            if let Some(seed) = seed {
                out.be32(NFTA_HASH_SEED, seed);
            }
            (dreg, modulus, offset)
        }
        Hash::Symmetric {
            dreg,
            modulus,
            offset,
        } => {
            out.be32(NFTA_HASH_TYPE, NFT_HASH_SYM);
            (dreg, modulus, offset)
        }
    };
    put_reg(out, NFTA_HASH_DREG, dreg);
    out.be32(NFTA_HASH_MODULUS, modulus);
    out.be32(NFTA_HASH_OFFSET, offset);
}

pub(super) fn take_hash(fields: &Fields<'_>) -> Result<Hash, DecodeError> {
    let dreg = take_reg(fields, NFTA_HASH_DREG)?;
    let modulus = fields.be32(NFTA_HASH_MODULUS)?;
    let offset = fields.opt_be32(NFTA_HASH_OFFSET)?.unwrap_or_default();
    match fields.opt_be32(NFTA_HASH_TYPE)?.unwrap_or(NFT_HASH_JENKINS) {
        NFT_HASH_JENKINS => Ok(Hash::Jenkins {
            sreg: take_reg(fields, NFTA_HASH_SREG)?,
            len: fields.be32(NFTA_HASH_LEN)?,
            dreg,
            modulus,
            seed: fields.opt_be32(NFTA_HASH_SEED)?,
            offset,
        }),
        NFT_HASH_SYM => Ok(Hash::Symmetric {
            dreg,
            modulus,
            offset,
        }),
        other => Err(fields.unknown(NFTA_HASH_TYPE, other)),
    }
}

pub(super) fn put_fib(out: &mut Writer, fib: &Fib) {
    put_reg(out, NFTA_FIB_DREG, fib.dreg);
    out.be32(NFTA_FIB_RESULT, fib.result.code());
    out.be32(NFTA_FIB_FLAGS, fib.flags.bits());
}

pub(super) fn take_fib(fields: &Fields<'_>) -> Result<Fib, DecodeError> {
    Ok(Fib {
        dreg: take_reg(fields, NFTA_FIB_DREG)?,
        result: fields.code(NFTA_FIB_RESULT)?,
        flags: FibFlags::from_bits(fields.be32(NFTA_FIB_FLAGS)?),
    })
}

/// A constant, or a verdict if it goes to the verdict register.
pub(super) fn take_immediate(fields: &Fields<'_>) -> Result<Expr, DecodeError> {
    if fields.be32(NFTA_IMMEDIATE_DREG)? == NFT_REG_VERDICT {
        let inner = Fields::parse("immediate", fields.bytes(NFTA_IMMEDIATE_DATA)?)?;
        return take_verdict(inner.bytes(NFTA_DATA_VERDICT)?).map(Expr::Verdict);
    }
    Ok(Expr::Immediate {
        dreg: take_reg(fields, NFTA_IMMEDIATE_DREG)?,
        data: take_data(fields, NFTA_IMMEDIATE_DATA)?,
    })
}

// `enum nft_payload_attributes`.
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_PAYLOAD_SREG: u16 = 5;

// `enum nft_meta_attributes`.
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;

// `enum nft_ct_attributes`.
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
const NFTA_CT_SREG: u16 = 4;

// `enum nft_ng_attributes`.
const NFTA_NG_DREG: u16 = 1;
const NFTA_NG_MODULUS: u16 = 2;
const NFTA_NG_TYPE: u16 = 3;
const NFTA_NG_OFFSET: u16 = 4;

// `enum nft_hash_attributes`, `enum nft_hash_types`.
const NFTA_HASH_SREG: u16 = 1;
const NFTA_HASH_DREG: u16 = 2;
const NFTA_HASH_LEN: u16 = 3;
const NFTA_HASH_MODULUS: u16 = 4;
const NFTA_HASH_SEED: u16 = 5;
const NFTA_HASH_OFFSET: u16 = 6;
const NFTA_HASH_TYPE: u16 = 7;
const NFT_HASH_JENKINS: u32 = 0;
const NFT_HASH_SYM: u32 = 1;

// `enum nft_fib_attributes`.
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;

// `enum nft_immediate_attributes`.
pub(super) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
