//! Elements of sets.

use super::{put_data, put_exprs, put_verdict, take_data, take_exprs, take_verdict, udata};
use crate::attr::{DecodeError, Fields, Writer, walk};
use crate::nft::data::Data;
use crate::nft::object::{Role, SetElem, Value};

/// How much of an element a message carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, to add it.
    Whole,
    /// What names it, to delete it.
    Key,
}

pub(super) fn put_elem(out: &mut Writer, elem: &SetElem, part: Part) {
    out.nest(NFTA_LIST_ELEM, |out| {
        put_key(out, elem);
        if part == Part::Whole {
            put_value(out, &elem.value);
            put_rest(out, elem);
        }
    });
}

fn put_key(out: &mut Writer, elem: &SetElem) {
    let flags = match elem.role() {
        Role::Key => 0,
        Role::IntervalEnd => NFT_SET_ELEM_INTERVAL_END,
        Role::CatchAll => NFT_SET_ELEM_CATCHALL,
    };
    if flags != 0 {
        out.be32(NFTA_SET_ELEM_FLAGS, flags);
    }
    if elem.role() != Role::CatchAll {
        put_data(out, NFTA_SET_ELEM_KEY, &elem.key);
    }
    if let Some(end) = elem.key_end() {
        put_data(out, NFTA_SET_ELEM_KEY_END, end);
    }
}

fn put_value(out: &mut Writer, value: &Value) {
    match value {
        Value::None => {}
        Value::Data(data) => put_data(out, NFTA_SET_ELEM_DATA, data),
        Value::Verdict(verdict) => put_verdict(out, NFTA_SET_ELEM_DATA, verdict),
        Value::Object(name) => out.str(NFTA_SET_ELEM_OBJREF, name),
    }
}

fn put_rest(out: &mut Writer, elem: &SetElem) {
    if let Some(timeout) = elem.timeout() {
        out.be64(NFTA_SET_ELEM_TIMEOUT, timeout);
    }
    if let Some(expires) = elem.expires() {
        out.be64(NFTA_SET_ELEM_EXPIRATION, expires);
    }
    if let Some(comment) = elem.comment() {
        out.put(NFTA_SET_ELEM_USERDATA, &udata::comment(comment));
    }
    put_exprs(
        out,
        NFTA_SET_ELEM_EXPR,
        NFTA_SET_ELEM_EXPRESSIONS,
        elem.exprs(),
    );
}

/// The elements of `NFTA_SET_ELEM_LIST_ELEMENTS`.
pub(super) fn take_elems(bytes: &[u8]) -> Result<Vec<SetElem>, DecodeError> {
    walk("elements", bytes)
        .map(|item| take_elem(item?.value))
        .collect()
}

fn take_elem(bytes: &[u8]) -> Result<SetElem, DecodeError> {
    let fields = Fields::parse("element", bytes)?;
    let flags = fields.opt_be32(NFTA_SET_ELEM_FLAGS)?.unwrap_or_default();
    let key = match flags & NFT_SET_ELEM_CATCHALL {
        0 => take_data(&fields, NFTA_SET_ELEM_KEY)?,
        _ => Data::new(&[]),
    };
    let mut elem = SetElem::new(key, take_value(&fields)?);
    if flags & NFT_SET_ELEM_CATCHALL != 0 {
        elem = elem.with_role(Role::CatchAll);
    } else if flags & NFT_SET_ELEM_INTERVAL_END != 0 {
        elem = elem.with_role(Role::IntervalEnd);
    }
    if fields.has(NFTA_SET_ELEM_KEY_END) {
        elem = elem.with_key_end(take_data(&fields, NFTA_SET_ELEM_KEY_END)?);
    }
    if let Some(timeout) = fields.opt_be64(NFTA_SET_ELEM_TIMEOUT)? {
        elem = elem.with_timeout(timeout);
    }
    if let Some(expires) = fields.opt_be64(NFTA_SET_ELEM_EXPIRATION)? {
        elem = elem.with_expires(expires);
    }
    if let Some(comment) = udata::find_comment(fields.opt(NFTA_SET_ELEM_USERDATA)) {
        elem = elem.with_comment(comment);
    }
    let exprs = take_exprs(&fields, NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_EXPRESSIONS)?;
    Ok(if exprs.is_empty() {
        elem
    } else {
        elem.with_exprs(exprs)
    })
}

fn take_value(fields: &Fields<'_>) -> Result<Value, DecodeError> {
    if let Some(name) = fields.opt_name(NFTA_SET_ELEM_OBJREF) {
        return Ok(Value::Object(name));
    }
    let Some(data) = fields.opt(NFTA_SET_ELEM_DATA) else {
        return Ok(Value::None);
    };
    let inner = Fields::parse("element data", data)?;
    match inner.opt(super::NFTA_DATA_VERDICT) {
        Some(verdict) => take_verdict(verdict).map(Value::Verdict),
        None => inner
            .bytes(super::NFTA_DATA_VALUE)
            .map(Data::new)
            .map(Value::Data),
    }
}

// `enum nft_set_elem_flags`.
const NFT_SET_ELEM_INTERVAL_END: u32 = 0x1;
const NFT_SET_ELEM_CATCHALL: u32 = 0x2;

// `enum nft_set_elem_attributes`.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_SET_ELEM_OBJREF: u16 = 9;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_SET_ELEM_EXPRESSIONS: u16 = 11;
