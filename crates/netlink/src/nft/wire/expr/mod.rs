//! Expressions: `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
//!
//! - `load`: what writes registers: payload, meta, ct, numgen, hash, fib, immediate;
//! - `judge`: what compares or computes: cmp, range, bitwise, byteorder, limit;
//! - `store`: what asks or writes sets, and counts: lookup, dynset, objref, counter;
//! - `act`: what ends a rule or leaves a trace: verdict, nat, masq, redir, reject, log.

mod act;
mod judge;
mod load;
mod store;

pub(super) use store::{put_counter, take_counter};

use super::object::whole;
use super::{put_data, put_verdict};
use crate::attr::{DecodeError, Fields, Writer};
use crate::nft::expr::{Expr, Reg};

pub(super) fn put(out: &mut Writer, expr: &Expr) {
    out.str(NFTA_EXPR_NAME, expr.name());
    match expr {
        Expr::NoTrack => {}
        Expr::Other { bytes, .. } => out.nest(NFTA_EXPR_DATA, |out| out.raw(bytes)),
        known => out.nest(NFTA_EXPR_DATA, |out| put_known(out, known)),
    }
}

fn put_known(out: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Payload(payload) => load::put_payload(out, payload),
        Expr::Meta(meta) => load::put_meta(out, meta),
        Expr::Ct(ct) => load::put_ct(out, ct),
        Expr::Numgen(numgen) => load::put_numgen(out, numgen),
        Expr::Hash(hash) => load::put_hash(out, hash),
        Expr::Fib(fib) => load::put_fib(out, fib),
        Expr::Immediate { dreg, data } => {
            put_reg(out, load::NFTA_IMMEDIATE_DREG, *dreg);
            put_data(out, load::NFTA_IMMEDIATE_DATA, data);
        }
        Expr::Verdict(verdict) => {
            out.be32(load::NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            put_verdict(out, load::NFTA_IMMEDIATE_DATA, verdict);
        }
        Expr::Cmp(cmp) => judge::put_cmp(out, cmp),
        Expr::Range(range) => judge::put_range(out, range),
        Expr::Bitwise(bitwise) => judge::put_bitwise(out, bitwise),
        Expr::ByteOrder(order) => judge::put_byte_order(out, order),
        Expr::Limit(limit) => judge::put_limit(out, limit),
        Expr::Lookup(lookup) => store::put_lookup(out, lookup),
        Expr::Dynset(dynset) => store::put_dynset(out, dynset),
        Expr::ObjRef(object) => store::put_obj_ref(out, object),
        Expr::Counter(counter) => put_counter(out, counter),
        Expr::Nat(nat) => act::put_nat(out, nat),
        Expr::Masq(masq) => act::put_masq(out, masq),
        Expr::Redir(redir) => act::put_redir(out, redir),
        Expr::Reject(reject) => act::put_reject(out, reject),
        Expr::Log(log) => act::put_log(out, log),
        Expr::NoTrack | Expr::Other { .. } => {}
    }
}

/// An expression; one with a number or a name that this crate does not know is kept as it is.
pub(super) fn take(bytes: &[u8]) -> Result<Expr, DecodeError> {
    let fields = Fields::parse("expression", bytes)?;
    let name = fields.name(NFTA_EXPR_NAME)?;
    let data = fields.opt(NFTA_EXPR_DATA).unwrap_or_default();
    match take_known(&name, &Fields::parse("expression data", data)?) {
        Some(Err(DecodeError::Unknown { .. })) | None => Ok(Expr::Other {
            name,
            bytes: whole(data)?.into(),
        }),
        Some(known) => known,
    }
}

fn take_known(name: &str, fields: &Fields<'_>) -> Option<Result<Expr, DecodeError>> {
    Some(match name {
        "payload" => load::take_payload(fields).map(Expr::Payload),
        "meta" => load::take_meta(fields).map(Expr::Meta),
        "ct" => load::take_ct(fields).map(Expr::Ct),
        "numgen" => load::take_numgen(fields).map(Expr::Numgen),
        "hash" => load::take_hash(fields).map(Expr::Hash),
        "fib" => load::take_fib(fields).map(Expr::Fib),
        "immediate" => load::take_immediate(fields),
        "cmp" => judge::take_cmp(fields).map(Expr::Cmp),
        "range" => judge::take_range(fields).map(Expr::Range),
        "bitwise" => judge::take_bitwise(fields).map(Expr::Bitwise),
        "byteorder" => judge::take_byte_order(fields).map(Expr::ByteOrder),
        "limit" => judge::take_limit(fields).map(Expr::Limit),
        "lookup" => store::take_lookup(fields).map(Expr::Lookup),
        "dynset" => store::take_dynset(fields).map(Expr::Dynset),
        "objref" => store::take_obj_ref(fields).map(Expr::ObjRef),
        "counter" => take_counter(fields).map(Expr::Counter),
        "nat" => act::take_nat(fields).map(Expr::Nat),
        "masq" => act::take_masq(fields).map(Expr::Masq),
        "redir" => act::take_redir(fields).map(Expr::Redir),
        "reject" => act::take_reject(fields).map(Expr::Reject),
        "log" => act::take_log(fields).map(Expr::Log),
        "notrack" => Ok(Expr::NoTrack),
        _ => return None,
    })
}

fn put_reg(out: &mut Writer, attr: u16, reg: Reg) {
    out.be32(attr, reg.code());
}

fn take_reg(fields: &Fields<'_>, attr: u16) -> Result<Reg, DecodeError> {
    let code = fields.be32(attr)?;
    Reg::from_code(code).ok_or_else(|| fields.unknown(attr, code))
}

fn take_opt_reg(fields: &Fields<'_>, attr: u16) -> Result<Option<Reg>, DecodeError> {
    fields.has(attr).then(|| take_reg(fields, attr)).transpose()
}

// `enum nft_expr_attributes`.
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// `NFT_REG_VERDICT` of `enum nft_registers`.
const NFT_REG_VERDICT: u32 = 0;
