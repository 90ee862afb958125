//! The identity of an object over its whole life.

use std::fmt;

/// `metadata.uid`: a UUID (RFC 9562), in 16 bytes where its text has 36.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid([u8; 16]);

impl Uid {
    /// Reads the form that the API server writes: lower-case digits, hyphens between the groups. Others are read by nobody, since
    /// what is written back would be another text.
    ///
    /// ```
    /// use daymark_model::Uid;
    /// let text = "0f5c1a2e-93bd-4d1c-8a57-0123456789ab";
    /// assert_eq!(Uid::parse(text).unwrap().to_string(), text);
    /// assert_eq!(Uid::parse("0F5C1A2E-93BD-4D1C-8A57-0123456789AB"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut groups = text.split('-');
        let mut bytes = Vec::with_capacity(16);
        for size in GROUPS {
            let group = groups.next()?.as_bytes();
            if group.len() != size * 2 {
                return None;
            }
            for pair in group.chunks(2) {
                bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
            }
        }
        let whole = groups.next().is_none();
        bytes.try_into().ok().filter(|_| whole).map(Self)
    }
}

/// How many bytes each group of the text has.
const GROUPS: [usize; 5] = [4, 2, 2, 2, 6];

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter();
        for (index, size) in GROUPS.into_iter().enumerate() {
            if index > 0 {
                out.write_str("-")?;
            }
            for byte in rest.by_ref().take(size) {
                write!(out, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_back_and_nothing_else_is_read() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "12345678-9abc-def0-1234-56789abcdef0",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            let uid = Uid::parse(text).unwrap();
            assert_eq!(
                (uid.to_string(), format!("{uid:?}")),
                (text.to_owned(), text.to_owned())
            );
        }
        for wrong in [
            "",
            "web",
            "123456789abcdef0123456789abcdef0",
            "12345678-9abc-def0-1234-56789abcdef",
            "12345678-9abc-def0-1234-56789abcdef0-",
            "12345678-9abc-def0-1234-56789abcdef00",
            "1234567-89abc-def0-1234-56789abcdef0",
            "12345678-9abc-def0-1234-56789abcdeg0",
            "12345678-9abc-def0-1234-56789abcde:0",
            "12345678-9abc-def0-1234-56789abcde`0",
            "12345678-9abc-def0-1234-56789abcde/0",
            "12345678-9ABC-def0-1234-56789abcdef0",
        ] {
            assert_eq!(Uid::parse(wrong), None, "{wrong}");
        }
    }
}
