//! Continue tokens: the version of the first page and the last key that was sent.
//!
//! The form is upstream's (`k8s.io/apiserver/pkg/storage/continue.go`): unpadded base64url of a small JSON object.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The version of all pages; `None` goes on at the newest one, which may be inconsistent.
    pub(crate) revision: Option<u64>,
    /// The key behind which the next page begins.
    pub(crate) namespace: String,
    /// The name part of that key.
    pub(crate) name: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Token {
    /// The token's text.
    pub(crate) fn encode(&self) -> String {
        let rv = self
            .revision
            .map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let start = format!("{}/{}\0", self.namespace, self.name);
        let wire = Wire {
            v: VERSION.to_owned(),
            rv,
            start,
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).expect("three plain fields encode"))
    }

    /// Reads a token; the error says what is wrong with it.
    pub(crate) fn decode(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| format!("invalid continue token: {error}"))?;
        let wire: Wire = serde_json::from_slice(&bytes)
            .map_err(|error| format!("invalid continue token: {error}"))?;
        if wire.v != VERSION {
            return Err(format!(
                "invalid continue token: version {:?} is not known",
                wire.v
            ));
        }
        let start = wire.start.strip_suffix('\0').unwrap_or(&wire.start);
        let (namespace, name) = start
            .split_once('/')
            .ok_or_else(|| format!("invalid continue token: start {start:?} is no key"))?;
        let revision = match wire.rv {
            -1 => None,
            rv => Some(
                u64::try_from(rv)
                    .map_err(|_| "invalid continue token: negative version".to_owned())?,
            ),
        };
        Ok(Self {
            revision,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn tokens_survive_their_trip() {
        for revision in [None, Some(1), Some(u64::from(u32::MAX) * 7)] {
            let token = Token {
                revision,
                namespace: "default".to_owned(),
                name: "web-1".to_owned(),
            };
            assert_eq!(Token::decode(&token.encode()), Ok(token));
        }
        let cluster = Token {
            revision: Some(7),
            namespace: String::new(),
            name: "node-1".to_owned(),
        };
        assert_eq!(Token::decode(&cluster.encode()), Ok(cluster));
    }

    #[test]
    fn a_broken_token_is_refused() {
        for text in [
            "???",
            "bm9uc2Vuc2U",
            "eyJ2IjoidjkiLCJydiI6MSwic3RhcnQiOiJhL2IifQ",
            "{}",
        ] {
            let error = Token::decode(text).unwrap_err();
            assert!(
                error.starts_with("invalid continue token: "),
                "{text}: {error}"
            );
        }
    }
}
