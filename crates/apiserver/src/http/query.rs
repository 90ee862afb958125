//! The query of a URL.

use crate::status::Status;

/// Decoded pairs in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the text behind the question mark.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, Plus::Space), decode(value, Plus::Space))
        });
        Self(pairs.collect())
    }

    /// The first value of a key; empty when it is not there.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(found, _)| found == key)
            .map_or("", |(_, value)| value)
    }

    /// All values of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == key)
            .map(|(_, value)| value.as_str())
    }

    /// A number that is not negative, if the key is there and not empty.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, Status> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!(
                    "query parameter {key}: {text:?} must be a number, 0 or more"
                ))
            }),
        }
    }

    /// A boolean as Kubernetes reads it: present and not `false` or `0` is true.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Status> {
        if !self.0.iter().any(|(found, _)| found == key) {
            return Ok(None);
        }
        match self.get(key) {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            text => Err(Status::bad_request(format!(
                "query parameter {key}: {text:?} must be true or false"
            ))),
        }
    }
}

/// What a plus sign stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    /// A space: in queries.
    Space,
    /// Itself: in paths.
    Itself,
}

/// Undoes percent-encoding; what is malformed stays as it is.
pub(super) fn decode(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match (
            bytes[at],
            hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus == Plus::Space => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(
            "labelSelector=a%3Db%2Cc&limit=5&watch&x=a+b&bad=%zz&dryRun=All&dryRun=Two",
        );
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert_eq!(query.flag("watch").unwrap(), Some(true));
        assert_eq!(query.flag("absent").unwrap(), None);
        assert_eq!(query.get("x"), "a b");
        assert_eq!(query.get("bad"), "%zz");
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "Two"]);
        assert!(query.number("x").is_err() && query.flag("x").is_err());
    }
}
