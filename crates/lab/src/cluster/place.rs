//! Places of a cluster, as a user writes them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A place of a cluster: `node-1`, `pod/web-0`, `pod/shop/web-0`, `outside` or `fabric`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// A node, by name.
    Node(String),
    /// A Pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The host outside the cluster.
    Outside,
    /// The namespace of the API server.
    Fabric,
}

/// Why a text is no place.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no place of a lab: write node-1, pod/NAME, pod/NAMESPACE/NAME, outside or fabric"
)]
pub struct ParsePlaceError(String);

impl FromStr for Where {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split('/').collect();
        if words.iter().any(|word| word.is_empty()) {
            return Err(ParsePlaceError(text.to_owned()));
        }
        let pod = |namespace: &str, name: &str| Self::Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        match words.as_slice() {
            ["outside"] => Ok(Self::Outside),
            ["fabric"] => Ok(Self::Fabric),
            ["pod", name] => Ok(pod("default", name)),
            ["pod", namespace, name] => Ok(pod(namespace, name)),
            ["node", name] | [name] => Ok(Self::Node((*name).to_owned())),
            _ => Err(ParsePlaceError(text.to_owned())),
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Pod { namespace, name } => write!(f, "pod/{namespace}/{name}"),
            Self::Outside => f.write_str("outside"),
            Self::Fabric => f.write_str("fabric"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parsed_and_printed() {
        for (text, shown) in [
            ("node-1", "node/node-1"),
            ("node/node-1", "node/node-1"),
            ("pod/web", "pod/default/web"),
            ("pod/shop/web", "pod/shop/web"),
            ("outside", "outside"),
            ("fabric", "fabric"),
        ] {
            assert_eq!(text.parse::<Where>().unwrap().to_string(), shown);
        }
        for text in ["", "pod/", "pod/a/b/c", "service/x", "/"] {
            assert!(text.parse::<Where>().is_err(), "{text}");
        }
    }
}
