//! The requests of one watch: a streamed list, a page of a list, a watch from a revision.

use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use kube::client::Body;

use crate::config::{Kind, Nodes};

/// What is asked of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// The state as ADDED events, then a marked bookmark, then what changes (KEP-3157).
    StreamedList,
    /// One page of a list; the first has no token.
    Page {
        limit: usize,
        token: Option<&'a str>,
    },
    /// What changed after this revision.
    Changes { revision: &'a str },
}

/// The path and query for it.
pub(super) fn uri(kind: Kind, nodes: &Nodes, ask: &Ask<'_>) -> String {
    let mut query = match ask {
        Ask::StreamedList => format!(
            "{}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=",
            watch()
        ),
        Ask::Page { limit, token: None } => format!("limit={limit}"),
        Ask::Page {
            limit,
            token: Some(token),
        } => format!("limit={limit}&continue={}", escape(token)),
        Ask::Changes { revision } => format!("{}&resourceVersion={}", watch(), escape(revision)),
    };
    if let (Kind::Node, Nodes::Own(name)) = (kind, nodes) {
        query.push_str("&fieldSelector=metadata.name%3D");
        query.push_str(&escape(name));
    }
    format!("{}?{query}", kind.path())
}

/// The request for it.
pub(super) fn request(kind: Kind, nodes: &Nodes, ask: &Ask<'_>) -> Request<Body> {
    Request::get(uri(kind, nodes, ask))
        .header(ACCEPT, "application/json")
        // A streamed list may be compressed one gzip member a flush, which few decoders follow.
        .header(ACCEPT_ENCODING, "identity")
        .body(Body::empty())
        .expect("the path is constant and the query escaped")
}

/// RFC 3986 section 2.1: everything but unreserved characters as %XX.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The API server ends a watch after 230 to 290 seconds; the HTTP client would after 295. By chance, so that the watches of a
/// thousand nodes that began together, after a restart of the API, do not all begin again together.
fn watch() -> String {
    let seconds = 230 + u32::from(rand::random::<u8>()) * 60 / 255;
    format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let own = Nodes::Own("node-1".into());
        let ask = Ask::Page {
            limit: 2,
            token: Some("a+b/c=="),
        };
        assert_eq!(
            uri(Kind::Node, &own, &ask),
            "/api/v1/nodes?limit=2&continue=a%2Bb%2Fc%3D%3D&fieldSelector=metadata.name%3Dnode-1"
        );
        let all = Nodes::All {
            own: Some("node-1".into()),
        };
        assert!(!uri(Kind::Node, &all, &ask).contains("fieldSelector"));
    }
}
