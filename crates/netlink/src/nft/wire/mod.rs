//! Bytes of nf_tables objects: what is sent and what is dumped, encoder and decoder side by side.
//!
//! The kernel adds attributes to a dump (handles, use counts) and leaves out what is zero; the decoders
//! here give the value that was sent. Attribute numbers carry their names of
//! `include/uapi/linux/netfilter/nf_tables.h`.

mod elem;
mod expr;
mod message;
mod object;
mod reply;
mod set;
mod udata;

#[cfg(test)]
mod tests;

pub(super) use message::{Chunk, part_at, put_chunk};

use crate::attr::{DecodeError, Fields, Writer, walk};
use crate::nft::data::Data;
use crate::nft::expr::{Expr, Verdict};

/// `NFTA_DATA_*` around a value.
fn put_data(out: &mut Writer, attr: u16, data: &[u8]) {
    out.nest(attr, |out| out.put(NFTA_DATA_VALUE, data));
}

fn take_data(fields: &Fields<'_>, attr: u16) -> Result<Data, DecodeError> {
    let inner = Fields::parse("data", fields.bytes(attr)?)?;
    inner.bytes(NFTA_DATA_VALUE).map(Data::new)
}

/// `NFTA_DATA_*` around a verdict.
fn put_verdict(out: &mut Writer, attr: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (NF_DROP, None),
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Queue(number) => (NF_QUEUE | i32::from(*number) << 16, None),
        Verdict::Continue => (NFT_CONTINUE, None),
        Verdict::Break => (NFT_BREAK, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
        Verdict::Return => (NFT_RETURN, None),
    };
    out.nest(attr, |out| {
        out.nest(NFTA_DATA_VERDICT, |out| {
            out.put(NFTA_VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                out.str(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}

fn take_verdict(bytes: &[u8]) -> Result<Verdict, DecodeError> {
    let fields = Fields::parse("verdict", bytes)?;
    let code = fields.be32(NFTA_VERDICT_CODE)?;
    Ok(match code.cast_signed() {
        NF_DROP => Verdict::Drop,
        NF_ACCEPT => Verdict::Accept,
        NFT_CONTINUE => Verdict::Continue,
        NFT_BREAK => Verdict::Break,
        NFT_JUMP => Verdict::Jump(fields.name(NFTA_VERDICT_CHAIN)?),
        NFT_GOTO => Verdict::Goto(fields.name(NFTA_VERDICT_CHAIN)?),
        NFT_RETURN => Verdict::Return,
        queue if queue & NF_VERDICT_MASK == NF_QUEUE => {
            Verdict::Queue(u16::try_from(code >> 16).expect("16 bits are left"))
        }
        _ => return Err(fields.unknown(NFTA_VERDICT_CODE, code)),
    })
}

/// Expressions of an element, a set or a dynset: one under the older attribute, several under the newer.
fn put_exprs(out: &mut Writer, one: u16, several: u16, exprs: &[Expr]) {
    match exprs {
        [] => {}
        [only] => out.nest(one, |out| expr::put(out, only)),
        many => put_expr_list(out, several, many),
    }
}

fn take_exprs(fields: &Fields<'_>, one: u16, several: u16) -> Result<Vec<Expr>, DecodeError> {
    match (fields.opt(one), fields.opt(several)) {
        (Some(only), _) => Ok(vec![expr::take(only)?]),
        (None, Some(list)) => take_expr_list(list),
        (None, None) => Ok(Vec::new()),
    }
}

fn put_expr_list(out: &mut Writer, attr: u16, exprs: &[Expr]) {
    out.nest(attr, |out| {
        for item in exprs {
            out.nest(NFTA_LIST_ELEM, |out| expr::put(out, item));
        }
    });
}

fn take_expr_list(bytes: &[u8]) -> Result<Vec<Expr>, DecodeError> {
    walk("expressions", bytes)
        .map(|item| expr::take(item?.value))
        .collect()
}

const NFTA_LIST_ELEM: u16 = 1;

const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

// `enum nft_verdicts`, and `NF_*` of `linux/netfilter.h`.
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NF_QUEUE: i32 = 3;
const NF_VERDICT_MASK: i32 = 0xff;
const NFT_CONTINUE: i32 = -1;
const NFT_BREAK: i32 = -2;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;
