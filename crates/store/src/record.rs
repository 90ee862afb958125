//! The bytes of a row: keys, objects and log records.
//!
//! ```text
//! key     kind 0 namespace 0 name
//! object  created u64, revision u64, the value's bytes
//! log     what u8, key length u32, key,
//!         object before length u32, object before (nothing if it is new),
//!         the final value's bytes (a deletion only)
//! ```
//!
//! Numbers are little-endian. The log holds what is needed to go back, never the new value: that one is in the table of
//! objects, or in the next log record of its object, so that a create writes its value once.

use std::sync::Arc;

use crate::value::{Key, What};

/// The row key of an object.
pub(crate) fn encode_key(key: &Key) -> Vec<u8> {
    [
        key.kind.as_bytes(),
        key.namespace.as_bytes(),
        key.name.as_bytes(),
    ]
    .join(&0)
}

/// Reads [`encode_key`]; `like` lends its kind and namespace if they are the same, which saves an allocation a row.
pub(crate) fn decode_key(bytes: &[u8], like: Option<&Key>) -> Result<Key, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("key {bytes:?} is not UTF-8"))?;
    let mut parts = text.split('\0');
    let (Some(kind), Some(namespace), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("key {text:?} has not three parts"));
    };
    let share = |part: &str, other: Option<&Arc<str>>| match other {
        Some(other) if **other == *part => Arc::clone(other),
        _ => Arc::from(part),
    };
    Ok(Key {
        kind: share(kind, like.map(|key| &key.kind)),
        namespace: share(namespace, like.map(|key| &key.namespace)),
        name: Arc::from(name),
    })
}

/// An object's row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ObjectRow<'a> {
    pub(crate) created: u64,
    pub(crate) revision: u64,
    pub(crate) value: &'a [u8],
}

impl<'a> ObjectRow<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.value.len());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&self.revision.to_le_bytes());
        out.extend_from_slice(self.value);
        out
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let created = take_u64(&mut rest)?;
        let revision = take_u64(&mut rest)?;
        Ok(Self {
            created,
            revision,
            value: rest,
        })
    }
}

/// A row of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogRow<'a> {
    pub(crate) what: What,
    /// As [`encode_key`] makes it.
    pub(crate) key: &'a [u8],
    /// The object's row before the change.
    pub(crate) before: Option<&'a [u8]>,
    /// The final value of a deleted object.
    pub(crate) last: Option<&'a [u8]>,
}

impl<'a> LogRow<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let before = self.before.unwrap_or_default();
        let last = self.last.unwrap_or_default();
        let mut out = Vec::with_capacity(9 + self.key.len() + before.len() + last.len());
        out.push(match self.what {
            What::Added => 0,
            What::Modified => 1,
            What::Deleted => 2,
        });
        for part in [self.key, before] {
            let len = u32::try_from(part.len()).expect("keys and values are far below 4 GiB");
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(last);
        out
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let what = match take(&mut rest, 1)? {
            [0] => What::Added,
            [1] => What::Modified,
            [2] => What::Deleted,
            other => return Err(format!("log record of unknown sort {other:?}")),
        };
        let key = take_sized(&mut rest)?;
        let before = take_sized(&mut rest)?;
        let (before, last) = match what {
            What::Added if before.is_empty() && rest.is_empty() => (None, None),
            What::Modified if rest.is_empty() => (Some(before), None),
            What::Deleted => (Some(before), Some(rest)),
            _ => {
                return Err(format!(
                    "log record of a {what:?} with parts it cannot have"
                ));
            }
        };
        Ok(Self {
            what,
            key,
            before,
            last,
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], String> {
    let (head, tail) = rest.split_at_checked(len).ok_or("row is cut short")?;
    *rest = tail;
    Ok(head)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, String> {
    let bytes = take(rest, 8)?;
    Ok(u64::from_le_bytes(
        bytes.try_into().expect("eight bytes were taken"),
    ))
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let bytes = take(rest, 4)?;
    let len = u32::from_le_bytes(bytes.try_into().expect("four bytes were taken"));
    take(rest, usize::try_from(len).map_err(|_| "row is cut short")?)
}

#[cfg(test)]
mod tests;
