//! Changes and queries.

use super::elem::{self, put_elem, take_elems};
use super::object::{
    put_chain, put_object, put_rule, put_table, take_chain, take_object, take_rule, take_table,
};
use super::set::{put_set, take_set};
use crate::attr::{DecodeError, Fields, Writer, walk};
use crate::frame::{self, Frame, Header};
use crate::nft::batch::Part;
use crate::nft::message::{Exists, Message, Place, Query, Victim};
use crate::nft::object::{Elements, Family, ObjectType, SetElem, TableId};

impl Message {
    /// Appends one netlink message. A list of elements that is longer than an attribute can be
    /// sets [`Writer::overflowed`]; a [`crate::nft::batch::Batch`] divides it instead.
    pub fn encode(&self, out: &mut Writer, seq: u32) {
        put_chunk(
            out,
            self,
            seq,
            Chunk {
                first: 0,
                bytes: usize::MAX,
            },
        );
    }

    /// Decodes what [`Message::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is no change of the ruleset, or not one that `encode` writes.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let kind = frame.header.kind;
        let (family, attrs) = frame.netfilter()?;
        let fields = Fields::parse("message", attrs)?;
        let family = family_of(family)?;
        if kind >> 8 != frame::SUBSYS_NFTABLES {
            return Err(DecodeError::Kind { kind });
        }
        if kind & 0xff == NFT_MSG_NEWTABLE {
            let (table, _) = take_table(&fields, family)?;
            return Ok(Self::NewTable {
                table,
                exists: exists(frame.header),
            });
        }
        let table = TableId::new(family, fields.name(NFTA_TABLE)?);
        decode_in(frame.header, table, &fields)
    }
}

fn decode_in(header: Header, table: TableId, fields: &Fields<'_>) -> Result<Message, DecodeError> {
    let family = table.family;
    let exists = exists(header);
    Ok(match header.kind & 0xff {
        NFT_MSG_DELTABLE => Message::DelTable { table },
        NFT_MSG_NEWCHAIN => Message::NewChain {
            table,
            chain: take_chain(fields, family)?,
            exists,
        },
        NFT_MSG_DELCHAIN => Message::DelChain {
            table,
            chain: fields.name(NFTA_CHAIN_NAME)?,
        },
        NFT_MSG_NEWSET => Message::NewSet {
            table,
            set: take_set(fields)?,
            exists,
        },
        NFT_MSG_DELSET => Message::DelSet {
            table,
            set: fields.name(NFTA_SET_NAME)?,
        },
        NFT_MSG_NEWOBJ => Message::NewObject {
            table,
            object: take_object(fields)?,
            exists,
        },
        NFT_MSG_DELOBJ => Message::DelObject {
            table,
            kind: ObjectType(fields.be32(NFTA_OBJ_TYPE)?),
            object: fields.name(NFTA_OBJ_NAME)?,
        },
        NFT_MSG_NEWRULE => Message::NewRule {
            table,
            rule: take_rule(fields)?,
            place: take_place(header, fields)?,
        },
        NFT_MSG_DELRULE => Message::DelRule {
            table,
            chain: fields.name(NFTA_RULE_CHAIN)?,
            which: fields
                .opt_be64(NFTA_RULE_HANDLE)?
                .map_or(Victim::All, Victim::Handle),
        },
        NFT_MSG_NEWSETELEM => Message::NewElems {
            table,
            elements: elements(fields)?,
            exists,
        },
        NFT_MSG_DELSETELEM if fields.has(NFTA_SET_ELEM_LIST_ELEMENTS) => Message::DelElems {
            table,
            elements: elements(fields)?,
        },
        NFT_MSG_DELSETELEM => Message::FlushSet {
            table,
            set: fields.name(NFTA_SET_ELEM_LIST_SET)?,
        },
        _ => return Err(DecodeError::Kind { kind: header.kind }),
    })
}

/// The elements of a message, and the set they belong to.
pub(super) fn elements(fields: &Fields<'_>) -> Result<Elements, DecodeError> {
    let list = fields.opt(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    Ok(Elements {
        set: fields.name(NFTA_SET_ELEM_LIST_SET)?,
        elems: take_elems(list)?,
    })
}

pub(super) fn family_of(number: u8) -> Result<Family, DecodeError> {
    let value = u32::from(number);
    let unknown = DecodeError::Unknown {
        object: "nfgenmsg",
        attr: 0,
        value,
    };
    Family::from_code(value).ok_or(unknown)
}

/// Which part of a list of elements goes into one message.
#[derive(Clone, Copy)]
pub(in crate::nft) struct Chunk {
    /// The first element.
    pub(in crate::nft) first: usize,
    /// The most bytes of the list; one element goes in any case.
    pub(in crate::nft) bytes: usize,
}

/// Appends a message, or a part of it; returns the element that comes next, if any is left.
pub(in crate::nft) fn put_chunk(
    out: &mut Writer,
    message: &Message,
    seq: u32,
    chunk: Chunk,
) -> Option<usize> {
    let (kind, flags) = kind(message);
    let header = Header {
        kind: frame::nftables(kind),
        flags: frame::NLM_F_REQUEST | flags,
        seq,
        port: 0,
    };
    let table = message.table();
    let start = frame::start(out, header, family_code(table.family), 0);
    let next = put_body(out, message, chunk);
    frame::finish(out, start);
    next
}

fn put_body(out: &mut Writer, message: &Message, chunk: Chunk) -> Option<usize> {
    let table = message.table();
    if let Message::NewTable { table, .. } = message {
        put_table(out, table);
        return None;
    }
    out.str(NFTA_TABLE, &table.name);
    match message {
        Message::NewTable { .. } | Message::DelTable { .. } => {}
        Message::NewChain { chain, .. } => put_chain(out, table.family, chain),
        Message::DelChain { chain, .. } => out.str(NFTA_CHAIN_NAME, chain),
        Message::NewSet { set, .. } => put_set(out, set),
        Message::DelSet { set, .. } => out.str(NFTA_SET_NAME, set),
        Message::NewObject { object, .. } => put_object(out, object),
        Message::DelObject { kind, object, .. } => {
            out.str(NFTA_OBJ_NAME, object);
            out.be32(NFTA_OBJ_TYPE, kind.0);
        }
        Message::NewRule { rule, place, .. } => {
            put_rule(out, rule);
            put_place(out, *place);
        }
        Message::DelRule { chain, which, .. } => {
            out.str(NFTA_RULE_CHAIN, chain);
            if let Victim::Handle(handle) = which {
                out.be64(NFTA_RULE_HANDLE, *handle);
            }
        }
        Message::NewElems { elements, .. } => {
            return put_elems(out, elements, elem::Part::Whole, chunk);
        }
        Message::DelElems { elements, .. } => {
            return put_elems(out, elements, elem::Part::Key, chunk);
        }
        Message::FlushSet { set, .. } => out.str(NFTA_SET_ELEM_LIST_SET, set),
    }
    None
}

fn put_elems(
    out: &mut Writer,
    elements: &Elements,
    part: elem::Part,
    chunk: Chunk,
) -> Option<usize> {
    out.str(NFTA_SET_ELEM_LIST_SET, &elements.set);
    let rest: &[SetElem] = elements.elems.get(chunk.first..).unwrap_or_default();
    let mut taken = 0;
    out.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
        let start = out.bytes().len();
        for element in rest {
            let before = out.bytes().len();
            put_elem(out, element, part);
            if taken > 0 && out.bytes().len() - start > chunk.bytes {
                out.truncate(before);
                break;
            }
            taken += 1;
        }
    });
    (taken < rest.len()).then_some(chunk.first + taken)
}

/// The message type, and the flags beside `NLM_F_REQUEST`.
fn kind(message: &Message) -> (u16, u16) {
    match message {
        Message::NewTable { exists, .. } => (NFT_MSG_NEWTABLE, create(*exists)),
        Message::NewChain { exists, .. } => (NFT_MSG_NEWCHAIN, create(*exists)),
        Message::NewSet { exists, .. } => (NFT_MSG_NEWSET, create(*exists)),
        Message::NewObject { exists, .. } => (NFT_MSG_NEWOBJ, create(*exists)),
        Message::NewElems { exists, .. } => (NFT_MSG_NEWSETELEM, create(*exists)),
        Message::NewRule { place, .. } => (NFT_MSG_NEWRULE, place_flags(*place)),
        Message::DelTable { .. } => (NFT_MSG_DELTABLE, 0),
        Message::DelChain { .. } => (NFT_MSG_DELCHAIN, 0),
        Message::DelSet { .. } => (NFT_MSG_DELSET, 0),
        Message::DelObject { .. } => (NFT_MSG_DELOBJ, 0),
        Message::DelRule { .. } => (NFT_MSG_DELRULE, 0),
        Message::DelElems { .. } | Message::FlushSet { .. } => (NFT_MSG_DELSETELEM, 0),
    }
}

const fn create(exists: Exists) -> u16 {
    match exists {
        Exists::Keep => frame::NLM_F_CREATE,
        Exists::Refuse => frame::NLM_F_CREATE | frame::NLM_F_EXCL,
    }
}

const fn exists(header: Header) -> Exists {
    if header.flags & frame::NLM_F_EXCL == 0 {
        Exists::Keep
    } else {
        Exists::Refuse
    }
}

/// `nf_tables_newrule`: a position and `NLM_F_APPEND` mean behind it, without the flag before it.
const fn place_flags(place: Place) -> u16 {
    match place {
        Place::Last | Place::After(_) => frame::NLM_F_CREATE | frame::NLM_F_APPEND,
        Place::First | Place::Before(_) => frame::NLM_F_CREATE,
        Place::Replace(_) => frame::NLM_F_REPLACE,
    }
}

fn put_place(out: &mut Writer, place: Place) {
    match place {
        Place::Last | Place::First => {}
        Place::After(handle) | Place::Before(handle) => out.be64(NFTA_RULE_POSITION, handle),
        Place::Replace(handle) => out.be64(NFTA_RULE_HANDLE, handle),
    }
}

fn take_place(header: Header, fields: &Fields<'_>) -> Result<Place, DecodeError> {
    if header.flags & frame::NLM_F_REPLACE != 0 {
        return fields.be64(NFTA_RULE_HANDLE).map(Place::Replace);
    }
    let append = header.flags & frame::NLM_F_APPEND != 0;
    Ok(match (fields.opt_be64(NFTA_RULE_POSITION)?, append) {
        (None, true) => Place::Last,
        (None, false) => Place::First,
        (Some(handle), true) => Place::After(handle),
        (Some(handle), false) => Place::Before(handle),
    })
}

fn family_code(family: Family) -> u8 {
    u8::try_from(family.code()).expect("the enumeration ends at 10")
}

/// Which part of an encoded message holds the byte at `offset`, counted from its header.
pub(in crate::nft) fn part_at(message: &[u8], offset: usize) -> Part {
    let body = frame::HEADER + frame::NFGENMSG;
    let kind = message
        .get(4..6)
        .and_then(|kind| kind.try_into().ok())
        .map(u16::from_ne_bytes);
    let (list, part): (u16, fn(usize) -> Part) = match kind.map(|kind| kind & 0xff) {
        Some(NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM) => {
            (NFTA_SET_ELEM_LIST_ELEMENTS, Part::Element)
        }
        Some(NFT_MSG_NEWRULE) => (NFTA_RULE_EXPRESSIONS, Part::Expression),
        _ => return Part::Whole,
    };
    let attrs = message.get(body..).unwrap_or_default();
    let Some(list) = walk("message", attrs)
        .flatten()
        .find(|attr| attr.kind == list)
    else {
        return Part::Whole;
    };
    let inside = body + list.offset + 4;
    if offset < inside || offset >= inside + list.value.len() {
        return Part::Whole;
    }
    let starts = walk("list", list.value).flatten();
    let before = starts
        .take_while(|attr| inside + attr.offset <= offset)
        .count();
    before.checked_sub(1).map_or(Part::Whole, part)
}

impl Query {
    /// Appends one netlink message.
    pub fn encode(&self, out: &mut Writer, seq: u32) {
        let (kind, family) = self.kind();
        let flags = if self.is_dump() { frame::NLM_F_DUMP } else { 0 };
        let header = Header {
            kind: frame::nftables(kind),
            flags: frame::NLM_F_REQUEST | flags,
            seq,
            port: 0,
        };
        let start = frame::start(out, header, family.map_or(0, family_code), 0);
        match self {
            Self::Generation | Self::Tables(_) | Self::Chains(_) => {}
            Self::Table(table) | Self::Sets(table) | Self::Rules(table) | Self::Objects(table) => {
                out.str(NFTA_TABLE, &table.name);
            }
            Self::Elements { table, set } => {
                out.str(NFTA_TABLE, &table.name);
                out.str(NFTA_SET_ELEM_LIST_SET, set);
            }
            Self::Element {
                table,
                set,
                elem: one,
            } => {
                out.str(NFTA_TABLE, &table.name);
                out.str(NFTA_SET_ELEM_LIST_SET, set);
                out.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                    put_elem(out, one, elem::Part::Key);
                });
            }
            Self::ChainRules { table, chain } => {
                out.str(NFTA_TABLE, &table.name);
                out.str(NFTA_RULE_CHAIN, chain);
            }
        }
        frame::finish(out, start);
    }

    /// Whether the answer is a dump: any number of messages, and `NLMSG_DONE`.
    #[must_use]
    pub const fn is_dump(&self) -> bool {
        !matches!(
            self,
            Self::Generation | Self::Table(_) | Self::Element { .. }
        )
    }

    fn kind(&self) -> (u16, Option<Family>) {
        match self {
            Self::Generation => (NFT_MSG_GETGEN, None),
            Self::Tables(family) => (NFT_MSG_GETTABLE, *family),
            Self::Table(table) => (NFT_MSG_GETTABLE, Some(table.family)),
            Self::Chains(family) => (NFT_MSG_GETCHAIN, Some(*family)),
            Self::Sets(table) => (NFT_MSG_GETSET, Some(table.family)),
            Self::Elements { table, .. } | Self::Element { table, .. } => {
                (NFT_MSG_GETSETELEM, Some(table.family))
            }
            Self::Rules(table) | Self::ChainRules { table, .. } => {
                (NFT_MSG_GETRULE, Some(table.family))
            }
            Self::Objects(table) => (NFT_MSG_GETOBJ, Some(table.family)),
        }
    }
}

// `enum nf_tables_msg_types`.
pub(super) const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
pub(super) const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_DELCHAIN: u16 = 5;
pub(super) const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_DELRULE: u16 = 8;
pub(super) const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_GETSET: u16 = 10;
const NFT_MSG_DELSET: u16 = 11;
pub(super) const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_DELSETELEM: u16 = 14;
pub(super) const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
pub(super) const NFT_MSG_NEWOBJ: u16 = 18;
const NFT_MSG_GETOBJ: u16 = 19;
const NFT_MSG_DELOBJ: u16 = 20;

/// Every object names its table first (`NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, ...).
pub(super) const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_SET_NAME: u16 = 2;
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_POSITION: u16 = 6;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
