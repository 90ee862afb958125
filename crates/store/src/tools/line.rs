//! A line of an export.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Always [`MARK`].
    pub(super) daymark: String,
    pub(super) format: u64,
    pub(super) cluster: String,
    pub(super) revision: u64,
    pub(super) reserved: u64,
}

/// One object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectLine {
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<String>,
}

impl ObjectLine {
    /// The stored bytes.
    pub(super) fn stored(&self) -> Result<Vec<u8>, String> {
        match (&self.value, &self.bytes) {
            (Some(value), None) => Ok(value.get().as_bytes().to_vec()),
            (None, Some(digits)) => from_hex(digits),
            _ => Err("exactly one of `value` and `bytes` must be there".to_owned()),
        }
    }
}

/// Bytes as JSON, if they are that and fit on a line.
pub(super) fn as_json(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains(['\n', '\r']))?;
    // A raw value drops the space around it; then it would not come back as it was.
    let value: Box<RawValue> = serde_json::from_str(text).ok()?;
    (value.get().len() == text.len()).then_some(value)
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("writing to a string does not fail");
    }
    digits
}

fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    };
    pairs
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| "`bytes` is not hexadecimal".to_owned())
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// What the header says it is.
pub(super) const MARK: &str = "store";
