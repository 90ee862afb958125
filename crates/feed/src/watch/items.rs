//! A list response cut into its items while it arrives, so that no list is ever held whole.

use thiserror::Error;

/// A scanner over the bytes of `{"kind":..,"metadata":{..},"items":[{..},{..}]}`.
#[derive(Debug, Default)]
pub(super) struct Items {
    place: Place,
    /// How many objects and lists are open.
    depth: usize,
    text: InText,
    /// The last text at the top level: the key of what follows.
    key: Vec<u8>,
    /// The item or the metadata that is being read.
    held: Vec<u8>,
    metadata: Vec<u8>,
}

/// What the scanner is in.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    /// Something that does not matter.
    #[default]
    Elsewhere,
    /// The list `items`, between two items.
    Items,
    /// An item.
    Item,
    /// The list's `metadata`.
    Metadata,
}

/// Whether the scanner is inside a JSON text.
#[derive(Debug, Default, PartialEq, Eq)]
enum InText {
    #[default]
    No,
    Yes,
    /// After a backslash.
    Escaped,
}

/// Why a list could not be taken apart.
#[derive(Debug, Error)]
pub(super) enum ItemsError {
    #[error("the API sent an object of more than {} bytes", super::lines::LONGEST)]
    TooLong,
    #[error("the list ended in the middle")]
    Unfinished,
}

impl Items {
    /// Hands each item that `chunk` completes to `each`.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ItemsError> {
        // Where in this chunk the held value began or went on.
        let mut from = 0;
        for (at, byte) in chunk.iter().copied().enumerate() {
            match self.text {
                InText::Escaped => self.text = InText::Yes,
                InText::Yes => self.in_text(byte),
                InText::No => {
                    let before = self.holding();
                    if self.outside_text(byte) {
                        self.held.extend_from_slice(&chunk[from..=at]);
                        self.complete(&mut each);
                    } else if !before && self.holding() {
                        from = at;
                    }
                }
            }
        }
        if self.holding() {
            self.held.extend_from_slice(&chunk[from..]);
        }
        if self.held.len() > super::lines::LONGEST {
            Err(ItemsError::TooLong)
        } else {
            Ok(())
        }
    }

    /// The bytes of the list's `metadata`, once the body has ended.
    pub(super) fn finish(self) -> Result<Vec<u8>, ItemsError> {
        if self.depth != 0 || self.text != InText::No || self.metadata.is_empty() {
            return Err(ItemsError::Unfinished);
        }
        Ok(self.metadata)
    }

    fn holding(&self) -> bool {
        matches!(self.place, Place::Item | Place::Metadata)
    }

    fn in_text(&mut self, byte: u8) {
        match byte {
            b'\\' => self.text = InText::Escaped,
            b'"' => self.text = InText::No,
            _ if self.depth == 1 && self.key.len() < LONGEST_KEY => self.key.push(byte),
            _ => {}
        }
    }

    /// Whether the byte ends the value that is being held.
    fn outside_text(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => {
                self.text = InText::Yes;
                if self.depth == 1 {
                    self.key.clear();
                }
            }
            b'{' | b'[' => {
                self.place = match (self.depth, byte, &self.place) {
                    (1, b'[', _) if self.key == b"items" => Place::Items,
                    (1, b'{', _) if self.key == b"metadata" => Place::Metadata,
                    (1, ..) => Place::Elsewhere,
                    (2, b'{', Place::Items) => Place::Item,
                    _ => return self.open(),
                };
                self.open();
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return match (self.depth, &self.place) {
                    (2, Place::Item) | (1, Place::Metadata) => true,
                    (1, _) => {
                        self.place = Place::Elsewhere;
                        false
                    }
                    _ => false,
                };
            }
            _ => {}
        }
        false
    }

    fn open(&mut self) -> bool {
        self.depth += 1;
        false
    }

    fn complete(&mut self, each: &mut impl FnMut(&[u8])) {
        if self.place == Place::Item {
            each(&self.held);
            self.held.clear();
            self.place = Place::Items;
        } else {
            self.metadata = std::mem::take(&mut self.held);
            self.place = Place::Elsewhere;
        }
    }
}

/// Longer than any key that matters.
const LONGEST_KEY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> (Vec<String>, Result<String, ItemsError>) {
        let mut items = Items::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            items
                .push(chunk, |item| {
                    seen.push(String::from_utf8(item.to_vec()).unwrap())
                })
                .unwrap();
        }
        (
            seen,
            items
                .finish()
                .map(|metadata| String::from_utf8(metadata).unwrap()),
        )
    }

    const LIST: &str = r#"{"kind":"List","odd":[{"items":[{"x":1}]}],"metadata":{"resourceVersion":"7","continue":"a\"}b"},
        "items":[ {"a":{"b":[1,{"c":"]}"}]}} , {"metadata":{"name":"q\\"}},{}] ,"tail":{"metadata":{}}}"#;

    #[test]
    fn items_come_out_whole_however_the_list_is_cut() {
        for at in 0..=LIST.len() {
            let (seen, metadata) = cut(&[&LIST.as_bytes()[..at], &LIST.as_bytes()[at..]]);
            assert_eq!(
                seen,
                [
                    r#"{"a":{"b":[1,{"c":"]}"}]}}"#,
                    r#"{"metadata":{"name":"q\\"}}"#,
                    "{}"
                ],
                "cut at {at}"
            );
            assert_eq!(
                metadata.unwrap(),
                r#"{"resourceVersion":"7","continue":"a\"}b"}"#,
                "cut at {at}"
            );
        }
    }

    #[test]
    fn items_come_out_whole_byte_by_byte() {
        let bytes: Vec<&[u8]> = LIST.as_bytes().chunks(1).collect();
        assert_eq!(cut(&bytes).0.len(), 3);
    }

    #[test]
    fn a_list_that_stops_in_the_middle_is_unfinished() {
        for at in 0..LIST.len() {
            assert!(cut(&[&LIST.as_bytes()[..at]]).1.is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_null_list_has_no_items() {
        let (seen, metadata) = cut(&[br#"{"items":null,"metadata":{}}"#]);
        assert!(seen.is_empty());
        assert_eq!(metadata.unwrap(), "{}");
    }
}
