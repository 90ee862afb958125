//! A byte stream cut into lines, without copying lines that arrive whole.

use thiserror::Error;

/// The start of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

/// A line beyond [`LONGEST`] bytes.
#[derive(Debug, Error)]
#[error("the API sent {LONGEST} bytes without an end of line")]
pub(super) struct TooLong;

impl Lines {
    /// Hands each line that `chunk` ends to `each`, without its newline; empty lines are skipped.
    pub(super) fn push(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            if self.partial.is_empty() {
                if !line.is_empty() {
                    each(line);
                }
            } else {
                self.partial.extend_from_slice(line);
                each(&self.partial);
                self.partial.clear();
                self.partial.shrink_to(KEPT);
            }
            chunk = rest;
        }
        if self.partial.len() + chunk.len() > LONGEST {
            return Err(TooLong);
        }
        self.partial.extend_from_slice(chunk);
        Ok(())
    }
}

/// An object has at most some 3 MiB; this bounds what a broken server can make us hold.
pub(super) const LONGEST: usize = 16 << 20;
/// How much of the buffer is kept between lines.
const KEPT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            lines
                .push(chunk.as_bytes(), |line| {
                    seen.push(String::from_utf8_lossy(line).into_owned())
                })
                .unwrap();
        }
        seen
    }

    #[test]
    fn lines_come_out_whole_however_they_are_cut() {
        let text = "{\"a\":1}\n\n{\"b\":2}\n{\"c\":3}\n";
        for cut in 0..=text.len() {
            assert_eq!(
                lines(&[&text[..cut], &text[cut..]]),
                ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn an_unfinished_line_stays_inside() {
        assert_eq!(lines(&["{\"a\":1}\n{\"b\""]), ["{\"a\":1}"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let chunk = vec![b' '; 1 << 20];
        let refused = (0..=LONGEST >> 20).find_map(|_| lines.push(&chunk, |_| {}).err());
        assert!(refused.is_some());
    }
}
