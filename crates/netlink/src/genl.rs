//! Generic netlink: subsystems that have a name, and a number that the kernel gives (`linux/genetlink.h`).

use crate::attr::{DecodeError, Fields, Writer};
use crate::frame::{self, Frame, Header};

/// Appends the question which number the family of this name has.
pub fn ask_family(out: &mut Writer, seq: u32, name: &str) {
    let command = Command {
        family: GENL_ID_CTRL,
        number: CTRL_CMD_GETFAMILY,
        version: 1,
    };
    let start = command.start(out, 0, seq);
    out.str(CTRL_ATTR_FAMILY_NAME, name);
    frame::finish(out, start);
}

/// The number that the answer names.
///
/// # Errors
/// [`DecodeError`] if it is no such answer.
pub fn family(frame: &Frame<'_>) -> Result<u16, DecodeError> {
    let object = "generic netlink family";
    let (_, attrs) = frame.netfilter()?;
    let number = Fields::parse(object, attrs)?.sized(CTRL_ATTR_FAMILY_ID)?;
    let attr = CTRL_ATTR_FAMILY_ID;
    let missing = DecodeError::Missing { object, attr };
    number.map(u16::from_ne_bytes).ok_or(missing)
}

/// A command of a family.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    pub(crate) family: u16,
    pub(crate) number: u8,
    pub(crate) version: u8,
}

impl Command {
    /// Starts its message; [`frame::finish`] sets its length.
    pub(crate) fn start(self, out: &mut Writer, flags: u16, seq: u32) -> usize {
        let header = Header {
            kind: self.family,
            flags: frame::NLM_F_REQUEST | flags,
            seq,
            port: 0,
        };
        let start = frame::header_of(out, header);
        // `struct genlmsghdr`, as long as that of netfilter.
        out.raw(&[self.number, self.version, 0, 0]);
        start
    }
}

/// `GENL_ID_CTRL`: the family that knows all others.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
