//! Sets and maps without their elements.

use super::{put_exprs, take_exprs, udata};
use crate::attr::{DecodeError, Fields, Writer};
use crate::nft::data::Type;
use crate::nft::object::{ObjectType, Set, SetFlags, SetKind, SetPolicy};

pub(super) fn put_set(out: &mut Writer, set: &Set) {
    out.str(NFTA_SET_NAME, &set.name);
    // Names identify our sets; the number is only for rules that use an anonymous one.
    out.be32(NFTA_SET_ID, 1);
    out.be32(NFTA_SET_FLAGS, wire_flags(set));
    out.be32(NFTA_SET_KEY_TYPE, set.key.id());
    out.be32(NFTA_SET_KEY_LEN, word(set.key.len()));
    put_kind(out, &set.kind);
    if set.policy != SetPolicy::Performance {
        out.be32(NFTA_SET_POLICY, set.policy.code());
    }
    if set.size.is_some() || is_ranged_concat(set) {
        out.nest(NFTA_SET_DESC, |out| put_desc(out, set));
    }
    if let Some(timeout) = set.timeout {
        out.be64(NFTA_SET_TIMEOUT, timeout);
    }
    if let Some(interval) = set.gc_interval {
        out.be32(NFTA_SET_GC_INTERVAL, interval);
    }
    out.put(NFTA_SET_USERDATA, &udata::of_set(set));
    put_exprs(out, NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS, &set.exprs);
}

fn put_kind(out: &mut Writer, kind: &SetKind) {
    match kind {
        SetKind::Set => {}
        SetKind::Map(data) => {
            out.be32(NFTA_SET_DATA_TYPE, data.id());
            out.be32(NFTA_SET_DATA_LEN, word(data.len()));
        }
        SetKind::Verdicts => out.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
        SetKind::Objects(object) => out.be32(NFTA_SET_OBJ_TYPE, object.0),
    }
}

fn put_desc(out: &mut Writer, set: &Set) {
    if let Some(size) = set.size {
        out.be32(NFTA_SET_DESC_SIZE, size);
    }
    if is_ranged_concat(set) {
        out.nest(NFTA_SET_DESC_CONCAT, |out| {
            for field in set.key.fields() {
                out.nest(NFTA_LIST_ELEM, |out| {
                    out.be32(NFTA_SET_FIELD_LEN, word(field.len()));
                });
            }
        });
    }
}

pub(super) fn take_set(fields: &Fields<'_>) -> Result<Set, DecodeError> {
    let flags = fields.opt_be32(NFTA_SET_FLAGS)?.unwrap_or_default();
    let key = fields.opt_be32(NFTA_SET_KEY_TYPE)?.unwrap_or_default();
    let policy = fields.opt_be32(NFTA_SET_POLICY)?.unwrap_or_default();
    let desc = Fields::parse(
        "set description",
        fields.opt(NFTA_SET_DESC).unwrap_or_default(),
    )?;
    Ok(Set {
        name: fields.name(NFTA_SET_NAME)?,
        key: Type::from_kernel(key, len(fields.be32(NFTA_SET_KEY_LEN)?)),
        kind: take_kind(fields, flags)?,
        flags: SetFlags::from_bits(flags & !DERIVED),
        policy: fields.known(NFTA_SET_POLICY, policy)?,
        size: desc.opt_be32(NFTA_SET_DESC_SIZE)?,
        timeout: fields.opt_be64(NFTA_SET_TIMEOUT)?,
        gc_interval: fields.opt_be32(NFTA_SET_GC_INTERVAL)?,
        exprs: take_exprs(fields, NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS)?,
        comment: udata::find_set_comment(fields.opt(NFTA_SET_USERDATA)),
    })
}

fn take_kind(fields: &Fields<'_>, flags: u32) -> Result<SetKind, DecodeError> {
    if flags & NFT_SET_OBJECT != 0 {
        return Ok(SetKind::Objects(ObjectType(
            fields.be32(NFTA_SET_OBJ_TYPE)?,
        )));
    }
    if flags & NFT_SET_MAP == 0 {
        return Ok(SetKind::Set);
    }
    match fields.be32(NFTA_SET_DATA_TYPE)? {
        NFT_DATA_VERDICT => Ok(SetKind::Verdicts),
        data => Ok(SetKind::Map(Type::from_kernel(
            data,
            len(fields.be32(NFTA_SET_DATA_LEN)?),
        ))),
    }
}

/// The flags of a set with those that follow from its other fields.
fn wire_flags(set: &Set) -> u32 {
    let kind = match set.kind {
        SetKind::Set => 0,
        SetKind::Map(_) | SetKind::Verdicts => NFT_SET_MAP,
        SetKind::Objects(_) => NFT_SET_OBJECT,
    };
    let concat = if is_ranged_concat(set) {
        NFT_SET_CONCAT
    } else {
        0
    };
    let several = if set.exprs.len() > 1 { NFT_SET_EXPR } else { 0 };
    set.flags.bits() | kind | concat | several
}

/// Ranges over a concatenation: the kernel then needs the length of each field (`nft_set_pipapo.c`).
fn is_ranged_concat(set: &Set) -> bool {
    set.flags.contains(SetFlags::INTERVAL) && set.key.fields().len() > 1
}

fn word(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn len(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

// `enum nft_set_flags`: those that follow from other fields.
const NFT_SET_MAP: u32 = 0x08;
const NFT_SET_OBJECT: u32 = 0x40;
const NFT_SET_CONCAT: u32 = 0x80;
const NFT_SET_EXPR: u32 = 0x100;
const DERIVED: u32 = NFT_SET_MAP | NFT_SET_OBJECT | NFT_SET_CONCAT | NFT_SET_EXPR;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

// `enum nft_set_attributes`, `nft_set_desc_attributes`, `nft_set_field_attributes`.
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_POLICY: u16 = 8;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_TIMEOUT: u16 = 11;
const NFTA_SET_GC_INTERVAL: u16 = 12;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_OBJ_TYPE: u16 = 15;
const NFTA_SET_EXPR: u16 = 17;
const NFTA_SET_EXPRESSIONS: u16 = 18;
const NFTA_SET_DESC_SIZE: u16 = 1;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFTA_LIST_ELEM: u16 = 1;
