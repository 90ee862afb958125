//! Answers: objects of a dump, and generations.

use super::message::{
    NFT_MSG_NEWCHAIN, NFT_MSG_NEWGEN, NFT_MSG_NEWOBJ, NFT_MSG_NEWRULE, NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFTA_TABLE, elements, family_of,
};
use super::object::{take_chain, take_object, take_rule, take_table};
use super::set::take_set;
use crate::attr::{DecodeError, Fields};
use crate::frame::{self, Frame};
use crate::nft::object::TableId;
use crate::nft::reply::{Generation, Held, Notice, Reply};

impl Reply {
    /// Decodes one message of an answer.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is none of nf_tables' or does not describe an object.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let kind = frame.header.kind;
        if kind >> 8 != frame::SUBSYS_NFTABLES {
            return Err(DecodeError::Kind { kind });
        }
        let (family, attrs) = frame.netfilter()?;
        let fields = Fields::parse("answer", attrs)?;
        if kind & 0xff == NFT_MSG_NEWGEN {
            return take_generation(&fields).map(Self::Generation);
        }
        let table = TableId::new(family_of(family)?, fields.name(NFTA_TABLE)?);
        let family = table.family;
        Ok(match kind & 0xff {
            NFT_MSG_NEWTABLE => {
                let (object, owner) = take_table(&fields, family)?;
                Self::Table {
                    held: held(&fields, NFTA_TABLE_HANDLE, table, object)?,
                    owner,
                }
            }
            NFT_MSG_NEWCHAIN => Self::Chain(held(
                &fields,
                NFTA_CHAIN_HANDLE,
                table,
                take_chain(&fields, family)?,
            )?),
            NFT_MSG_NEWSET => Self::Set {
                held: held(&fields, NFTA_SET_HANDLE, table, take_set(&fields)?)?,
                count: fields.opt_be32(NFTA_SET_COUNT)?,
            },
            NFT_MSG_NEWOBJ => Self::Object(held(
                &fields,
                NFTA_OBJ_HANDLE,
                table,
                take_object(&fields)?,
            )?),
            NFT_MSG_NEWRULE => {
                Self::Rule(held(&fields, NFTA_RULE_HANDLE, table, take_rule(&fields)?)?)
            }
            NFT_MSG_NEWSETELEM => Self::Elements {
                table,
                elements: elements(&fields)?,
            },
            _ => return Err(DecodeError::Kind { kind }),
        })
    }
}

impl Notice {
    /// Decodes one message of the group that tells of commits, as far as it says which table it is about.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is none of nf_tables'.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let kind = frame.header.kind;
        if kind >> 8 != frame::SUBSYS_NFTABLES {
            return Err(DecodeError::Kind { kind });
        }
        if kind & 0xff == NFT_MSG_NEWGEN {
            return Ok(Self::Generation);
        }
        let (family, attrs) = frame.netfilter()?;
        let fields = Fields::parse("notice", attrs)?;
        let table = TableId::new(family_of(family)?, fields.name(NFTA_TABLE)?);
        Ok(Self::Change { table })
    }
}

fn held<T>(
    fields: &Fields<'_>,
    handle: u16,
    table: TableId,
    object: T,
) -> Result<Held<T>, DecodeError> {
    let handle = fields.opt_be64(handle)?.unwrap_or_default();
    Ok(Held {
        table,
        handle,
        object,
    })
}

fn take_generation(fields: &Fields<'_>) -> Result<Generation, DecodeError> {
    Ok(Generation {
        id: fields.be32(NFTA_GEN_ID)?,
        process: fields.opt_be32(NFTA_GEN_PROC_PID)?,
        name: fields
            .opt_name(NFTA_GEN_PROC_NAME)
            .map(|name| name.to_string()),
    })
}

// Handles, in the attribute enumerations of their objects.
const NFTA_TABLE_HANDLE: u16 = 4;
const NFTA_CHAIN_HANDLE: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_SET_HANDLE: u16 = 16;
const NFTA_SET_COUNT: u16 = 20;
const NFTA_OBJ_HANDLE: u16 = 6;

// `enum nft_gen_attributes`.
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
