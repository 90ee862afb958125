//! Netlink messages: a header, and errors (`linux/netlink.h`, `struct nlmsghdr`, `struct nlmsgerr`), with the
//! four bytes that netfilter adds (`linux/netfilter/nfnetlink.h`, `struct nfgenmsg`).

use std::fmt;

use crate::attr::{DecodeError, Fields, Writer, text};

/// The header of a message, without its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// `nlmsg_type`: subsystem and message, or one of `NLMSG_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Chosen by the sender; answers and errors repeat it.
    pub seq: u32,
    /// The netlink port of the receiver (in answers) or 0.
    pub port: u32,
}

/// One message of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// What follows the header, `nfgenmsg` included.
    pub payload: &'a [u8],
    /// Where the header starts in the datagram.
    pub offset: usize,
}

impl<'a> Frame<'a> {
    /// `nfgen_family` and the attributes behind `nfgenmsg`; of generic netlink, whose header is as long, the command.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the payload is shorter than `nfgenmsg`.
    pub fn netfilter(&self) -> Result<(u8, &'a [u8]), DecodeError> {
        let object = "nfgenmsg";
        let family = *self
            .payload
            .first()
            .ok_or(DecodeError::Truncated { object })?;
        let attrs = self
            .payload
            .get(NFGENMSG..)
            .ok_or(DecodeError::Truncated { object })?;
        Ok((family, attrs))
    }
}

/// Walks the messages of a datagram; ends with an error where a length does not fit.
pub fn walk(datagram: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, DecodeError>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = datagram.get(offset..).filter(|rest| !rest.is_empty())?;
        let start = offset;
        let Some((len, header)) = header(rest) else {
            offset = datagram.len();
            return Some(Err(DecodeError::Truncated { object: "nlmsghdr" }));
        };
        offset = start + len.next_multiple_of(4);
        Some(Ok(Frame {
            header,
            payload: &rest[HEADER..len],
            offset: start,
        }))
    })
}

fn header(rest: &[u8]) -> Option<(usize, Header)> {
    let word = |at: usize| Some(u32::from_ne_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let len = usize::try_from(word(0)?).ok()?;
    let header = Header {
        kind: half(4)?,
        flags: half(6)?,
        seq: word(8)?,
        port: word(12)?,
    };
    (len >= HEADER && len <= rest.len()).then_some((len, header))
}

/// Starts a netfilter message; [`finish`] sets its length. Returns where it starts.
pub(crate) fn start(out: &mut Writer, header: Header, family: u8, resource: u16) -> usize {
    let start = header_of(out, header);
    out.raw(&[family, NFNETLINK_V0]);
    out.raw(&resource.to_be_bytes());
    start
}

/// Starts a message; [`finish`] sets its length. Returns where it starts.
pub(crate) fn header_of(out: &mut Writer, header: Header) -> usize {
    let start = out.bytes().len();
    out.raw(&0u32.to_ne_bytes());
    out.raw(&header.kind.to_ne_bytes());
    out.raw(&header.flags.to_ne_bytes());
    out.raw(&header.seq.to_ne_bytes());
    out.raw(&header.port.to_ne_bytes());
    start
}

/// Sets the length of the message that starts there.
pub(crate) fn finish(out: &mut Writer, start: usize) {
    let len = u32::try_from(out.bytes().len() - start).expect("a batch is split long before 4 GiB");
    out.patch(start, &len.to_ne_bytes());
}

/// Why the kernel refused one message (`struct nlmsgerr` and its attributes).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The sequence number of the message.
    pub seq: u32,
    /// A positive errno.
    pub errno: i32,
    /// Where in that message the attribute starts that was refused (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<u32>,
    /// A sentence of the kernel (`NLMSGERR_ATTR_MSG`).
    pub message: Option<String>,
}

impl Refusal {
    /// Decodes an `NLMSG_ERROR` message; `None` if it says that all went well.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is of another type or cut short.
    pub fn decode(frame: &Frame<'_>) -> Result<Option<Self>, DecodeError> {
        let object = "nlmsgerr";
        if frame.header.kind != NLMSG_ERROR {
            return Err(DecodeError::Kind {
                kind: frame.header.kind,
            });
        }
        let errno = frame
            .payload
            .first_chunk()
            .ok_or(DecodeError::Truncated { object })?;
        let errno = i32::from_ne_bytes(*errno).saturating_neg();
        if errno == 0 {
            return Ok(None);
        }
        let (offset, message) = Self::extended(frame)?;
        Ok(Some(Self {
            seq: frame.header.seq,
            errno,
            offset,
            message,
        }))
    }

    /// The errno as an error of the standard library, with its text.
    #[must_use]
    pub fn error(&self) -> std::io::Error {
        std::io::Error::from_raw_os_error(self.errno)
    }

    /// The attributes behind the copy of the message, which is only its header if it was capped.
    fn extended(frame: &Frame<'_>) -> Result<(Option<u32>, Option<String>), DecodeError> {
        let object = "nlmsgerr";
        if frame.header.flags & NLM_F_ACK_TLVS == 0 {
            return Ok((None, None));
        }
        let copied = if frame.header.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            let len = frame
                .payload
                .get(4..8)
                .ok_or(DecodeError::Truncated { object })?;
            let len = u32::from_ne_bytes(len.try_into().expect("four bytes were taken"));
            usize::try_from(len)
                .unwrap_or(usize::MAX)
                .next_multiple_of(4)
        };
        let attrs = frame
            .payload
            .get(copied.saturating_add(4)..)
            .unwrap_or_default();
        let fields = Fields::parse(object, attrs)?;
        let offset = fields
            .opt(NLMSGERR_ATTR_OFFS)
            .and_then(|at| at.try_into().ok());
        let message = fields
            .opt(NLMSGERR_ATTR_MSG)
            .map(|bytes| text(bytes).to_string());
        Ok((offset.map(u32::from_ne_bytes), message))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refused message {}", self.seq)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.error())?;
        self.message
            .iter()
            .try_for_each(|message| write!(f, ": {message}"))
    }
}

/// The type of an nf_tables message: its number in `enum nf_tables_msg_types`, and the subsystem.
#[must_use]
pub const fn nftables(message: u16) -> u16 {
    SUBSYS_NFTABLES << 8 | message
}

/// `NLMSG_ERROR`: an error, or an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`.
pub const NLM_F_REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer even if all went well.
pub const NLM_F_ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`: the dump is not of one moment; ask again.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_REPLACE`, of a message that creates.
pub const NLM_F_REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`, of a message that creates.
pub const NLM_F_EXCL: u16 = 0x200;
/// `NLM_F_CREATE`, of a message that creates.
pub const NLM_F_CREATE: u16 = 0x400;
/// `NLM_F_APPEND`, of a message that creates.
pub const NLM_F_APPEND: u16 = 0x800;
/// `NLM_F_DUMP`, of a query.
pub const NLM_F_DUMP: u16 = 0x300;
/// `NLM_F_CAPPED`, of an error: the copy of the message is its header alone.
const NLM_F_CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`, of an error: attributes follow the copy.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// `NLMSGERR_ATTR_OFFS`.
const NLMSGERR_ATTR_OFFS: u16 = 2;
/// `NLMSG_HDRLEN`.
pub(crate) const HEADER: usize = 16;
/// The length of `struct nfgenmsg`.
pub(crate) const NFGENMSG: usize = 4;
const NFNETLINK_V0: u8 = 0;

/// `NFNL_SUBSYS_CTNETLINK`.
pub(crate) const SUBSYS_CTNETLINK: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYS_NFTABLES: u16 = 10;
