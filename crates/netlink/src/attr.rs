//! Netlink attributes: type, length, value, padded to four bytes (`linux/netlink.h`, `struct nlattr`).
//!
//! Numbers inside nf_tables and ctnetlink attributes are in network order; those that are not say so.

use std::sync::Arc;

use thiserror::Error;

use crate::code::Code;

/// Why bytes of the kernel (or our own) do not describe a value.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// A length points beyond the bytes that are there.
    #[error("{object}: cut short")]
    Truncated {
        /// What was read.
        object: &'static str,
    },
    /// A needed attribute is not there.
    #[error("{object}: attribute {attr} is missing")]
    Missing {
        /// What was read.
        object: &'static str,
        /// The number of the attribute.
        attr: u16,
    },
    /// An attribute has a length that its type does not have.
    #[error("{object}: attribute {attr} has {len} bytes")]
    Length {
        /// What was read.
        object: &'static str,
        /// The number of the attribute.
        attr: u16,
        /// Its length.
        len: usize,
    },
    /// A number outside the enumeration that this crate knows.
    #[error("{object}: attribute {attr} has the unknown value {value}")]
    Unknown {
        /// What was read.
        object: &'static str,
        /// The number of the attribute.
        attr: u16,
        /// Its value.
        value: u32,
    },
    /// A message of a type that does not belong here.
    #[error("message type {kind:#06x} is not expected here")]
    Kind {
        /// `nlmsghdr.nlmsg_type`.
        kind: u16,
    },
}

/// Appends attributes to a buffer.
///
/// A length that does not fit its 16 bits sets [`Writer::overflowed`]; the bytes must then not be used.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            overflowed: false,
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether an attribute was longer than 65,535 bytes.
    #[must_use]
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The bytes alone.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends bytes that are no attribute, such as a header.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes over bytes at `at`, which must exist.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Takes everything behind `len` back.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// An attribute of these bytes.
    pub fn put(&mut self, attr: u16, value: &[u8]) {
        let start = self.open(attr);
        self.raw(value);
        self.close(start);
    }

    /// One byte.
    pub fn u8(&mut self, attr: u16, value: u8) {
        self.put(attr, &[value]);
    }

    /// Two bytes in network order.
    pub fn be16(&mut self, attr: u16, value: u16) {
        self.put(attr, &value.to_be_bytes());
    }

    /// Four bytes in network order.
    pub fn be32(&mut self, attr: u16, value: u32) {
        self.put(attr, &value.to_be_bytes());
    }

    /// Eight bytes in network order.
    pub fn be64(&mut self, attr: u16, value: u64) {
        self.put(attr, &value.to_be_bytes());
    }

    /// A string, with the zero byte that the kernel expects behind it.
    pub fn str(&mut self, attr: u16, value: &str) {
        let start = self.open(attr);
        self.raw(value.as_bytes());
        self.raw(&[0]);
        self.close(start);
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, attr: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.open(attr | NLA_F_NESTED);
        inside(self);
        self.close(start);
    }

    /// Starts an attribute whose length [`Writer::close`] sets.
    pub(crate) fn open(&mut self, attr: u16) -> usize {
        let start = self.bytes.len();
        self.raw(&[0, 0]);
        self.raw(&attr.to_ne_bytes());
        start
    }

    /// Sets the length of the attribute that starts there, and pads it.
    pub(crate) fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(len) => self.patch(start, &len.to_ne_bytes()),
            Err(_) => self.overflowed = true,
        }
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr<'a> {
    /// Its number, without flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
    /// Where it starts in the bytes that were walked.
    pub offset: usize,
}

/// Walks the attributes of `bytes`; ends with an error where a length does not fit.
pub fn walk<'a>(
    object: &'static str,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<Attr<'a>, DecodeError>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        let start = offset;
        let Some((len, kind)) = header(rest) else {
            offset = bytes.len();
            return Some(Err(DecodeError::Truncated { object }));
        };
        offset = start + len.next_multiple_of(ALIGN);
        Some(Ok(Attr {
            kind: kind & !(NLA_F_NESTED | NLA_F_NET_BYTEORDER),
            value: &rest[HEADER..len],
            offset: start,
        }))
    })
}

fn header(rest: &[u8]) -> Option<(usize, u16)> {
    let len = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
    let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]);
    (len >= HEADER && len <= rest.len()).then_some((len, kind))
}

/// The attributes of one object, by number. Later ones win; numbers from 48 on are newer than this crate
/// and left out.
pub(crate) struct Fields<'a> {
    object: &'static str,
    found: [Option<&'a [u8]>; KNOWN],
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(object: &'static str, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut found = [None; KNOWN];
        for attr in walk(object, bytes) {
            let attr = attr?;
            if let Some(slot) = found.get_mut(usize::from(attr.kind)) {
                *slot = Some(attr.value);
            }
        }
        Ok(Self { object, found })
    }

    pub(crate) fn opt(&self, attr: u16) -> Option<&'a [u8]> {
        self.found[usize::from(attr)]
    }

    pub(crate) fn has(&self, attr: u16) -> bool {
        self.opt(attr).is_some()
    }

    pub(crate) fn bytes(&self, attr: u16) -> Result<&'a [u8], DecodeError> {
        let object = self.object;
        self.opt(attr).ok_or(DecodeError::Missing { object, attr })
    }

    pub(crate) fn sized<const N: usize>(&self, attr: u16) -> Result<Option<[u8; N]>, DecodeError> {
        let object = self.object;
        let exact = |value: &[u8]| {
            let len = value.len();
            value
                .try_into()
                .map_err(|_| DecodeError::Length { object, attr, len })
        };
        self.opt(attr).map(exact).transpose()
    }

    fn needed<T>(&self, attr: u16, value: Option<T>) -> Result<T, DecodeError> {
        let object = self.object;
        value.ok_or(DecodeError::Missing { object, attr })
    }

    pub(crate) fn opt_u8(&self, attr: u16) -> Result<Option<u8>, DecodeError> {
        Ok(self.sized::<1>(attr)?.map(|[byte]| byte))
    }

    pub(crate) fn opt_be16(&self, attr: u16) -> Result<Option<u16>, DecodeError> {
        Ok(self.sized(attr)?.map(u16::from_be_bytes))
    }

    pub(crate) fn opt_be32(&self, attr: u16) -> Result<Option<u32>, DecodeError> {
        Ok(self.sized(attr)?.map(u32::from_be_bytes))
    }

    pub(crate) fn opt_be64(&self, attr: u16) -> Result<Option<u64>, DecodeError> {
        Ok(self.sized(attr)?.map(u64::from_be_bytes))
    }

    pub(crate) fn be32(&self, attr: u16) -> Result<u32, DecodeError> {
        self.needed(attr, self.opt_be32(attr)?)
    }

    pub(crate) fn be64(&self, attr: u16) -> Result<u64, DecodeError> {
        self.needed(attr, self.opt_be64(attr)?)
    }

    /// A variant of an enumeration.
    pub(crate) fn code<T: Code>(&self, attr: u16) -> Result<T, DecodeError> {
        self.known(attr, self.be32(attr)?)
    }

    /// A variant of an enumeration by a number that was already read.
    pub(crate) fn known<T: Code>(&self, attr: u16, value: u32) -> Result<T, DecodeError> {
        T::find(value).ok_or_else(|| self.unknown(attr, value))
    }

    pub(crate) fn unknown(&self, attr: u16, value: u32) -> DecodeError {
        let object = self.object;
        DecodeError::Unknown {
            object,
            attr,
            value,
        }
    }

    pub(crate) fn opt_name(&self, attr: u16) -> Option<Arc<str>> {
        self.opt(attr).map(text)
    }

    pub(crate) fn name(&self, attr: u16) -> Result<Arc<str>, DecodeError> {
        self.needed(attr, self.opt_name(attr))
    }
}

/// A string up to its first zero byte.
pub(crate) fn text(bytes: &[u8]) -> Arc<str> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into()
}

/// `NLA_F_NESTED`: the attribute holds attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// `NLA_F_NET_BYTEORDER`: never set by the subsystems here.
const NLA_F_NET_BYTEORDER: u16 = 1 << 14;
/// `NLA_ALIGNTO`.
const ALIGN: usize = 4;
/// `NLA_HDRLEN`.
const HEADER: usize = 4;
const KNOWN: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_but_its_length_is_not() {
        let mut out = Writer::new();
        out.str(3, "abcd");
        assert_eq!(out.bytes().len(), 12);
        assert_eq!(out.bytes()[0..2], 9u16.to_ne_bytes());
        let attr = walk("test", out.bytes()).next().unwrap().unwrap();
        assert_eq!((attr.kind, text(attr.value).as_ref()), (3, "abcd"));
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_not_a_panic() {
        for bytes in [
            &[8u8, 0, 1][..],
            &[9, 0, 1, 0, 0],
            &[3, 0, 1, 0],
            &[0, 0, 0, 0],
        ] {
            let last = walk("test", bytes).last().unwrap();
            assert_eq!(last, Err(DecodeError::Truncated { object: "test" }));
        }
    }

    #[test]
    fn an_attribute_over_64_kib_is_noticed() {
        let mut out = Writer::new();
        out.nest(1, |out| out.put(2, &[0; 65_524]));
        assert!(!out.overflowed());
        out.nest(1, |out| out.put(2, &[0; 65_528]));
        assert!(out.overflowed());
    }
}
