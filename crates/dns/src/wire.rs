//! Bytes to a question, and an answer to bytes.
//!
//! A packet, in order:
//! 1. shorter than a header, or a response: dropped, as an answer could start a loop;
//! 2. undecodable: FORMERR (RFC 1035 section 4.1.1);
//! 3. another opcode than QUERY: NOTIMP; not exactly one question: FORMERR;
//! 4. a later EDNS version: BADVERS (RFC 6891 section 6.1.3); a class other than IN: REFUSED;
//! 5. anything else is a question.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What a packet turned out to be.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Nothing to answer.
    Drop,
    /// Wrong in itself: this is the answer.
    Refuse(ResponseCode, Vec<u8>),
    /// A question.
    Ask(Request),
}

/// A question, and what an answer must take over from it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) metadata: Metadata,
    pub(crate) query: Query,
    pub(crate) edns: Option<ClientEdns>,
}

/// What the client's OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientEdns {
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
}

/// An answer to encode.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) authority: Authority,
    pub(crate) recursion: Recursion,
    pub(crate) cut: Cut,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

/// Whether the answer is this server's own: the AA bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    Own,
    None,
}

/// Whether other names would be forwarded: the RA bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recursion {
    Available,
    None,
}

/// Whether records are missing: the TC bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Whole,
    Truncated,
}

impl Reply {
    /// An answer without records.
    pub(crate) fn bare(code: ResponseCode, recursion: Recursion) -> Self {
        Self {
            code,
            authority: Authority::None,
            recursion,
            cut: Cut::Whole,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// Reads a packet.
pub(crate) fn read(bytes: &[u8]) -> Incoming {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Incoming::Drop;
    };
    if header[2] & RESPONSE != 0 {
        return Incoming::Drop;
    }
    let opcode = OpCode::from_u8(header[2] >> 3 & 0xf);
    if opcode != OpCode::Query {
        return refuse(header, ResponseCode::NotImp);
    }
    let Ok(mut message) = Message::from_vec(bytes) else {
        return refuse(header, ResponseCode::FormErr);
    };
    let edns = message.edns.as_ref().map(|edns| ClientEdns {
        payload: edns.max_payload(),
        dnssec_ok: edns.flags().dnssec_ok,
    });
    let (Some(query), true) = (message.queries.pop(), message.queries.is_empty()) else {
        return refuse(header, ResponseCode::FormErr);
    };
    let class = query.query_class;
    let request = Request {
        metadata: message.metadata,
        query,
        edns,
    };
    if message.edns.is_some_and(|edns| edns.version() > 0) {
        return refuse_whole(&request, ResponseCode::BADVERS);
    }
    if class != DNSClass::IN {
        return refuse_whole(&request, ResponseCode::Refused);
    }
    Incoming::Ask(request)
}

/// How many bytes an answer may have.
pub(crate) fn limit(request: &Request, transport: Transport, max_udp: u16) -> usize {
    match (transport, request.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => PLAIN_UDP,
        (Transport::Udp, Some(edns)) => usize::from(edns.payload.min(max_udp)).max(PLAIN_UDP),
    }
}

/// Encodes an answer within a limit: glue goes first, then records from the end, with TC set
/// (RFC 2181 section 9). Returns whether that was necessary.
pub(crate) fn encode(request: &Request, mut reply: Reply, limit: usize) -> (Vec<u8>, Cut) {
    let whole = message(request, &reply, reply.answers.len());
    if fits(&whole, &reply, limit) {
        return (whole, reply.cut);
    }
    reply.additionals.clear();
    let unglued = message(request, &reply, reply.answers.len());
    if fits(&unglued, &reply, limit) {
        return (unglued, reply.cut);
    }
    // The most answers that fit: `some` do, `many` do not.
    let (mut some, mut many) = (0, reply.answers.len());
    let mut bytes = message(request, &reply, 0);
    while many - some > 1 {
        let middle = usize::midpoint(some, many);
        let tried = message(request, &reply, middle);
        if fits(&tried, &reply, limit) {
            (some, bytes) = (middle, tried);
        } else {
            many = middle;
        }
    }
    bytes[2] |= TRUNCATED;
    (bytes, Cut::Truncated)
}

/// Whether a message is within the limit, and whole: past 64 KiB the encoder cuts by itself.
fn fits(bytes: &[u8], reply: &Reply, limit: usize) -> bool {
    bytes.len() <= limit && (bytes[2] & TRUNCATED == 0 || reply.cut == Cut::Truncated)
}

fn message(request: &Request, reply: &Reply, answers: usize) -> Vec<u8> {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.authoritative = reply.authority == Authority::Own;
    message.metadata.recursion_available = reply.recursion == Recursion::Available;
    message.metadata.truncation = reply.cut == Cut::Truncated;
    message.metadata.response_code = reply.code;
    message.queries.push(request.query.clone());
    message.answers.extend_from_slice(&reply.answers[..answers]);
    message.authorities.extend_from_slice(&reply.authorities);
    message.additionals.extend_from_slice(&reply.additionals);
    message.edns = request.edns.map(|client| {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_PAYLOAD)
            .set_dnssec_ok(client.dnssec_ok);
        edns
    });
    // More than 64 KiB of records, or a record that cannot be written, ends as a header alone.
    message.to_vec().unwrap_or_else(|_| {
        let mut header = [0; HEADER];
        header[..2].copy_from_slice(&request.metadata.id.to_be_bytes());
        bare(&header, ResponseCode::ServFail)
    })
}

fn refuse(header: &[u8; HEADER], code: ResponseCode) -> Incoming {
    Incoming::Refuse(code, bare(header, code))
}

fn refuse_whole(request: &Request, code: ResponseCode) -> Incoming {
    let reply = Reply::bare(code, Recursion::None);
    Incoming::Refuse(code, encode(request, reply, PLAIN_UDP).0)
}

/// A header alone: id, opcode and RD of the question, no sections.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let mut reply = vec![0; HEADER];
    reply[..2].copy_from_slice(&header[..2]);
    reply[2] = header[2] & OPCODE_AND_RD | RESPONSE;
    reply[3] = code.low();
    reply
}

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;
/// What every client takes over UDP (RFC 1035 section 4.2.1).
const PLAIN_UDP: usize = 512;
/// What this server takes over UDP, announced in its OPT record.
const OWN_PAYLOAD: u16 = 1232;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const OPCODE_AND_RD: u8 = 0x79;

#[cfg(test)]
mod tests;
