//! Expressions that ask or write sets, and that count.

use super::{NFT_REG_VERDICT, put_reg, take_opt_reg, take_reg};
use crate::attr::{DecodeError, Fields, Writer};
use crate::nft::expr::{Counter, Dynset, Lookup, LookupResult, ObjRef};
use crate::nft::object::ObjectType;
use crate::nft::wire::{put_exprs, take_exprs};

pub(super) fn put_lookup(out: &mut Writer, lookup: &Lookup) {
    out.str(NFTA_LOOKUP_SET, &lookup.set);
    put_reg(out, NFTA_LOOKUP_SREG, lookup.key);
    match lookup.result {
        LookupResult::Member => {}
        LookupResult::NotMember => out.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV),
        LookupResult::Data(dreg) => put_reg(out, NFTA_LOOKUP_DREG, dreg),
        LookupResult::Verdict => out.be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT),
    }
}

pub(super) fn take_lookup(fields: &Fields<'_>) -> Result<Lookup, DecodeError> {
    let inverted = fields.opt_be32(NFTA_LOOKUP_FLAGS)?.unwrap_or_default() & NFT_LOOKUP_F_INV != 0;
    let result = match fields.opt_be32(NFTA_LOOKUP_DREG)? {
        None if inverted => LookupResult::NotMember,
        None => LookupResult::Member,
        Some(NFT_REG_VERDICT) => LookupResult::Verdict,
        Some(_) => LookupResult::Data(take_reg(fields, NFTA_LOOKUP_DREG)?),
    };
    Ok(Lookup {
        set: fields.name(NFTA_LOOKUP_SET)?,
        key: take_reg(fields, NFTA_LOOKUP_SREG)?,
        result,
    })
}

pub(super) fn put_dynset(out: &mut Writer, dynset: &Dynset) {
    out.str(NFTA_DYNSET_SET_NAME, &dynset.set);
    out.be32(NFTA_DYNSET_OP, dynset.op.code());
    put_reg(out, NFTA_DYNSET_SREG_KEY, dynset.key);
    if let Some(data) = dynset.data {
        put_reg(out, NFTA_DYNSET_SREG_DATA, data);
    }
    if let Some(timeout) = dynset.timeout {
        out.be64(NFTA_DYNSET_TIMEOUT, timeout);
    }
    if !dynset.exprs.is_empty() {
        out.be32(NFTA_DYNSET_FLAGS, NFT_DYNSET_F_EXPR);
    }
    put_exprs(
        out,
        NFTA_DYNSET_EXPR,
        NFTA_DYNSET_EXPRESSIONS,
        &dynset.exprs,
    );
}

pub(super) fn take_dynset(fields: &Fields<'_>) -> Result<Dynset, DecodeError> {
    let flags = fields.opt_be32(NFTA_DYNSET_FLAGS)?.unwrap_or_default();
    if flags & !NFT_DYNSET_F_EXPR != 0 {
        return Err(fields.unknown(NFTA_DYNSET_FLAGS, flags));
    }
    Ok(Dynset {
        set: fields.name(NFTA_DYNSET_SET_NAME)?,
        op: fields.code(NFTA_DYNSET_OP)?,
        key: take_reg(fields, NFTA_DYNSET_SREG_KEY)?,
        data: take_opt_reg(fields, NFTA_DYNSET_SREG_DATA)?,
        // A dump has 0 where none was given.
        timeout: fields
            .opt_be64(NFTA_DYNSET_TIMEOUT)?
            .filter(|timeout| *timeout != 0),
        exprs: take_exprs(fields, NFTA_DYNSET_EXPR, NFTA_DYNSET_EXPRESSIONS)?,
    })
}

pub(super) fn put_obj_ref(out: &mut Writer, object: &ObjRef) {
    match object {
        ObjRef::Named { kind, name } => {
            out.be32(NFTA_OBJREF_IMM_TYPE, kind.0);
            out.str(NFTA_OBJREF_IMM_NAME, name);
        }
        ObjRef::Map { set, key } => {
            put_reg(out, NFTA_OBJREF_SET_SREG, *key);
            out.str(NFTA_OBJREF_SET_NAME, set);
        }
    }
}

pub(super) fn take_obj_ref(fields: &Fields<'_>) -> Result<ObjRef, DecodeError> {
    if let Some(set) = fields.opt_name(NFTA_OBJREF_SET_NAME) {
        let key = take_reg(fields, NFTA_OBJREF_SET_SREG)?;
        return Ok(ObjRef::Map { set, key });
    }
    Ok(ObjRef::Named {
        kind: ObjectType(fields.be32(NFTA_OBJREF_IMM_TYPE)?),
        name: fields.name(NFTA_OBJREF_IMM_NAME)?,
    })
}

pub(in crate::nft::wire) fn put_counter(out: &mut Writer, counter: &Counter) {
    out.be64(NFTA_COUNTER_BYTES, counter.bytes);
    out.be64(NFTA_COUNTER_PACKETS, counter.packets);
}

pub(in crate::nft::wire) fn take_counter(fields: &Fields<'_>) -> Result<Counter, DecodeError> {
    Ok(Counter {
        packets: fields.opt_be64(NFTA_COUNTER_PACKETS)?.unwrap_or_default(),
        bytes: fields.opt_be64(NFTA_COUNTER_BYTES)?.unwrap_or_default(),
    })
}

// `enum nft_lookup_attributes`, `enum nft_lookup_flags`.
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;

// `enum nft_dynset_attributes`, `enum nft_dynset_flags`.
const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
const NFTA_DYNSET_SREG_DATA: u16 = 5;
const NFTA_DYNSET_TIMEOUT: u16 = 6;
const NFTA_DYNSET_EXPR: u16 = 7;
const NFTA_DYNSET_FLAGS: u16 = 9;
const NFTA_DYNSET_EXPRESSIONS: u16 = 10;
const NFT_DYNSET_F_EXPR: u32 = 2;

// `enum nft_objref_attributes`.
const NFTA_OBJREF_IMM_TYPE: u16 = 1;
const NFTA_OBJREF_IMM_NAME: u16 = 2;
const NFTA_OBJREF_SET_SREG: u16 = 3;
const NFTA_OBJREF_SET_NAME: u16 = 4;

// `enum nft_counter_attributes`.
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;
