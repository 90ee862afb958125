//! Tables, chains, rules and named objects.

use super::{expr, put_expr_list, take_expr_list, udata};
use crate::attr::{DecodeError, Fields, Writer, walk};
use crate::nft::object::{
    BaseChain, Chain, ChainKind, ChainType, Family, Hook, Name, Object, ObjectKind, Rule, Table,
    TableFlags, TableId,
};

pub(super) fn put_table(out: &mut Writer, table: &Table) {
    out.str(NFTA_TABLE_NAME, &table.id.name);
    out.be32(NFTA_TABLE_FLAGS, table.flags.bits());
    put_comment(out, NFTA_TABLE_USERDATA, table.comment.as_ref());
}

/// A table, and the netlink port of its owner.
pub(super) fn take_table(
    fields: &Fields<'_>,
    family: Family,
) -> Result<(Table, Option<u32>), DecodeError> {
    let flags = fields.opt_be32(NFTA_TABLE_FLAGS)?.unwrap_or_default();
    let table = Table {
        id: TableId::new(family, fields.name(NFTA_TABLE_NAME)?),
        flags: TableFlags::from_bits(flags),
        comment: udata::find_comment(fields.opt(NFTA_TABLE_USERDATA)),
    };
    Ok((table, fields.opt_be32(NFTA_TABLE_OWNER)?))
}

pub(super) fn put_chain(out: &mut Writer, family: Family, chain: &Chain) {
    out.str(NFTA_CHAIN_NAME, &chain.name);
    if let ChainKind::Base(base) = &chain.kind {
        out.nest(NFTA_CHAIN_HOOK, |out| {
            out.be32(NFTA_HOOK_HOOKNUM, base.hook.number(family));
            out.put(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
            if let Some(device) = &base.device {
                out.str(NFTA_HOOK_DEV, device);
            }
        });
        out.be32(NFTA_CHAIN_POLICY, base.policy.code());
        out.str(NFTA_CHAIN_TYPE, base.kind.word());
    }
    put_comment(out, NFTA_CHAIN_USERDATA, chain.comment.as_ref());
}

pub(super) fn take_chain(fields: &Fields<'_>, family: Family) -> Result<Chain, DecodeError> {
    let kind = match fields.opt(NFTA_CHAIN_HOOK) {
        Some(hook) => ChainKind::Base(take_base(fields, hook, family)?),
        None => ChainKind::Regular,
    };
    Ok(Chain {
        name: fields.name(NFTA_CHAIN_NAME)?,
        kind,
        comment: udata::find_comment(fields.opt(NFTA_CHAIN_USERDATA)),
    })
}

fn take_base(fields: &Fields<'_>, hook: &[u8], family: Family) -> Result<BaseChain, DecodeError> {
    let hook = Fields::parse("hook", hook)?;
    let number = hook.be32(NFTA_HOOK_HOOKNUM)?;
    let kind = fields.name(NFTA_CHAIN_TYPE)?;
    let kind = ChainType::ALL.iter().find(|known| known.word() == &*kind);
    Ok(BaseChain {
        kind: *kind.ok_or_else(|| fields.unknown(NFTA_CHAIN_TYPE, 0))?,
        hook: Hook::from_number(number, family)
            .ok_or_else(|| hook.unknown(NFTA_HOOK_HOOKNUM, number))?,
        priority: hook.be32(NFTA_HOOK_PRIORITY)?.cast_signed(),
        policy: fields.code(NFTA_CHAIN_POLICY)?,
        device: hook.opt_name(NFTA_HOOK_DEV),
    })
}

pub(super) fn put_rule(out: &mut Writer, rule: &Rule) {
    out.str(NFTA_RULE_CHAIN, &rule.chain);
    put_expr_list(out, NFTA_RULE_EXPRESSIONS, &rule.exprs);
    put_comment(out, NFTA_RULE_USERDATA, rule.comment.as_ref());
}

pub(super) fn take_rule(fields: &Fields<'_>) -> Result<Rule, DecodeError> {
    let exprs = fields.opt(NFTA_RULE_EXPRESSIONS).map(take_expr_list);
    Ok(Rule {
        chain: fields.name(NFTA_RULE_CHAIN)?,
        exprs: exprs.transpose()?.unwrap_or_default(),
        comment: udata::find_comment(fields.opt(NFTA_RULE_USERDATA)),
    })
}

pub(super) fn put_object(out: &mut Writer, object: &Object) {
    out.str(NFTA_OBJ_NAME, &object.name);
    out.be32(NFTA_OBJ_TYPE, object.object_type().0);
    match &object.kind {
        ObjectKind::Counter(counter) => {
            out.nest(NFTA_OBJ_DATA, |out| expr::put_counter(out, counter));
        }
        ObjectKind::Other { bytes, .. } => {
            out.nest(NFTA_OBJ_DATA, |out| out.raw(bytes));
        }
    }
    put_comment(out, NFTA_OBJ_USERDATA, object.comment.as_ref());
}

pub(super) fn take_object(fields: &Fields<'_>) -> Result<Object, DecodeError> {
    let data = fields.opt(NFTA_OBJ_DATA).unwrap_or_default();
    let kind = match fields.be32(NFTA_OBJ_TYPE)? {
        NFT_OBJECT_COUNTER => {
            ObjectKind::Counter(expr::take_counter(&Fields::parse("counter", data)?)?)
        }
        kind => ObjectKind::Other {
            kind,
            bytes: whole(data)?.into(),
        },
    };
    Ok(Object {
        name: fields.name(NFTA_OBJ_NAME)?,
        kind,
        comment: udata::find_comment(fields.opt(NFTA_OBJ_USERDATA)),
    })
}

/// Bytes that are sent again must at least be attributes.
pub(super) fn whole(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    walk("data", bytes).try_for_each(|attr| attr.map(drop))?;
    Ok(bytes)
}

fn put_comment(out: &mut Writer, attr: u16, comment: Option<&Name>) {
    if let Some(comment) = comment {
        out.put(attr, &udata::comment(comment));
    }
}

// `enum nft_table_attributes`.
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_TABLE_OWNER: u16 = 7;

// `enum nft_chain_attributes`, `enum nft_hook_attributes`.
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;

// `enum nft_rule_attributes`.
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;

// `enum nft_object_attributes`.
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_OBJ_DATA: u16 = 4;
const NFTA_OBJ_USERDATA: u16 = 8;
const NFT_OBJECT_COUNTER: u32 = 1;
