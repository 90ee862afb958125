//! Expressions that end a rule or leave a trace.

use super::{put_reg, take_opt_reg};
use crate::attr::{DecodeError, Fields, Writer};
use crate::nft::expr::{
    Log, LogFlags, LogLevel, LogTo, Masq, Nat, NatFlags, Redir, RegRange, Reject, RejectCode,
};

pub(super) fn put_nat(out: &mut Writer, nat: &Nat) {
    out.be32(NFTA_NAT_TYPE, nat.kind.code());
    out.be32(NFTA_NAT_FAMILY, nat.family.code());
    put_range(out, NFTA_NAT_REG_ADDR_MIN, nat.addr);
    put_range(out, NFTA_NAT_REG_PROTO_MIN, nat.port);
    put_flags(out, NFTA_NAT_FLAGS, nat.flags);
}

pub(super) fn take_nat(fields: &Fields<'_>) -> Result<Nat, DecodeError> {
    Ok(Nat {
        kind: fields.code(NFTA_NAT_TYPE)?,
        family: fields.code(NFTA_NAT_FAMILY)?,
        addr: take_range(fields, NFTA_NAT_REG_ADDR_MIN)?,
        port: take_range(fields, NFTA_NAT_REG_PROTO_MIN)?,
        flags: take_flags(fields, NFTA_NAT_FLAGS)?,
    })
}

pub(super) fn put_masq(out: &mut Writer, masq: &Masq) {
    put_flags(out, NFTA_MASQ_FLAGS, masq.flags);
    put_range(out, NFTA_MASQ_REG_PROTO_MIN, masq.port);
}

pub(super) fn take_masq(fields: &Fields<'_>) -> Result<Masq, DecodeError> {
    Ok(Masq {
        flags: take_flags(fields, NFTA_MASQ_FLAGS)?,
        port: take_range(fields, NFTA_MASQ_REG_PROTO_MIN)?,
    })
}

pub(super) fn put_redir(out: &mut Writer, redir: &Redir) {
    put_range(out, NFTA_REDIR_REG_PROTO_MIN, redir.port);
    put_flags(out, NFTA_REDIR_FLAGS, redir.flags);
}

pub(super) fn take_redir(fields: &Fields<'_>) -> Result<Redir, DecodeError> {
    Ok(Redir {
        port: take_range(fields, NFTA_REDIR_REG_PROTO_MIN)?,
        flags: take_flags(fields, NFTA_REDIR_FLAGS)?,
    })
}

/// The highest value always has the attribute behind that of the lowest.
fn put_range(out: &mut Writer, min: u16, range: Option<RegRange>) {
    if let Some(range) = range {
        put_reg(out, min, range.min);
        put_reg(out, min + 1, range.max);
    }
}

fn take_range(fields: &Fields<'_>, min: u16) -> Result<Option<RegRange>, DecodeError> {
    let Some(first) = take_opt_reg(fields, min)? else {
        return Ok(None);
    };
    let max = take_opt_reg(fields, min + 1)?.unwrap_or(first);
    Ok(Some(RegRange { min: first, max }))
}

fn put_flags(out: &mut Writer, attr: u16, flags: NatFlags) {
    if flags != NatFlags::NONE {
        out.be32(attr, flags.bits());
    }
}

/// The flags without those that the kernel derives from the registers given.
fn take_flags(fields: &Fields<'_>, attr: u16) -> Result<NatFlags, DecodeError> {
    let bits = fields.opt_be32(attr)?.unwrap_or_default();
    Ok(NatFlags::from_bits(
        bits & !(NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED),
    ))
}

pub(super) fn put_reject(out: &mut Writer, reject: &Reject) {
    let (kind, code) = match *reject {
        Reject::Icmp(code) => (NFT_REJECT_ICMP_UNREACH, code),
        Reject::TcpReset => (NFT_REJECT_TCP_RST, 0),
        Reject::Icmpx(code) => {
            let code = u8::try_from(code.code()).expect("the enumeration ends at 3");
            (NFT_REJECT_ICMPX_UNREACH, code)
        }
    };
    out.be32(NFTA_REJECT_TYPE, kind);
    out.u8(NFTA_REJECT_ICMP_CODE, code);
}

pub(super) fn take_reject(fields: &Fields<'_>) -> Result<Reject, DecodeError> {
    let code = fields.opt_u8(NFTA_REJECT_ICMP_CODE)?.unwrap_or_default();
    match fields.be32(NFTA_REJECT_TYPE)? {
        NFT_REJECT_ICMP_UNREACH => Ok(Reject::Icmp(code)),
        NFT_REJECT_TCP_RST => Ok(Reject::TcpReset),
        NFT_REJECT_ICMPX_UNREACH => {
            let code: RejectCode = fields.known(NFTA_REJECT_ICMP_CODE, u32::from(code))?;
            Ok(Reject::Icmpx(code))
        }
        other => Err(fields.unknown(NFTA_REJECT_TYPE, other)),
    }
}

pub(super) fn put_log(out: &mut Writer, log: &Log) {
    if let Some(prefix) = &log.prefix {
        out.str(NFTA_LOG_PREFIX, prefix);
    }
    match log.to {
        LogTo::Kernel { level, flags } => {
            out.be32(NFTA_LOG_LEVEL, level.code());
            if flags != LogFlags::NONE {
                out.be32(NFTA_LOG_FLAGS, flags.bits());
            }
        }
        LogTo::Group {
            group,
            snaplen,
            threshold,
        } => {
            out.be16(NFTA_LOG_GROUP, group);
            if let Some(snaplen) = snaplen {
                out.be32(NFTA_LOG_SNAPLEN, snaplen);
            }
            if threshold != 0 {
                out.be16(NFTA_LOG_QTHRESHOLD, threshold);
            }
        }
    }
}

pub(super) fn take_log(fields: &Fields<'_>) -> Result<Log, DecodeError> {
    let to = match fields.opt_be16(NFTA_LOG_GROUP)? {
        Some(group) => LogTo::Group {
            group,
            snaplen: fields.opt_be32(NFTA_LOG_SNAPLEN)?,
            threshold: fields.opt_be16(NFTA_LOG_QTHRESHOLD)?.unwrap_or_default(),
        },
        None => {
            let level = fields
                .opt_be32(NFTA_LOG_LEVEL)?
                .unwrap_or(LogLevel::Warning.code());
            LogTo::Kernel {
                level: fields.known(NFTA_LOG_LEVEL, level)?,
                flags: LogFlags::from_bits(fields.opt_be32(NFTA_LOG_FLAGS)?.unwrap_or_default()),
            }
        }
    };
    Ok(Log {
        prefix: fields.opt_name(NFTA_LOG_PREFIX),
        to,
    })
}

// `enum nft_nat_attributes`; each maximum follows its minimum.
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_NAT_FLAGS: u16 = 7;

// `enum nft_masq_attributes`.
const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_MASQ_REG_PROTO_MIN: u16 = 2;

// `enum nft_redir_attributes`.
const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_FLAGS: u16 = 3;

// `linux/netfilter/nf_nat.h`.
const NF_NAT_RANGE_MAP_IPS: u32 = 1;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;

// `enum nft_reject_attributes`, `enum nft_reject_types`.
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
const NFT_REJECT_ICMP_UNREACH: u32 = 0;
const NFT_REJECT_TCP_RST: u32 = 1;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;

// `enum nft_log_attributes`.
const NFTA_LOG_GROUP: u16 = 1;
const NFTA_LOG_PREFIX: u16 = 2;
const NFTA_LOG_SNAPLEN: u16 = 3;
const NFTA_LOG_QTHRESHOLD: u16 = 4;
const NFTA_LOG_LEVEL: u16 = 5;
const NFTA_LOG_FLAGS: u16 = 6;
