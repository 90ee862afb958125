//! The requests of one watch: a streamed list, a page of a list, a watch from a revision.

use std::borrow::Cow;

use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use kube::client::Body;

use crate::config::{Config, Kind, Nodes, Selection};

/// What is asked of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// The state as ADDED events, then a marked bookmark, then what changes (KEP-3157).
    StreamedList,
    /// A list, or its first page.
    List { limit: usize, age: Age<'a> },
    /// A later page.
    Page { limit: usize, token: &'a str },
    /// What changed after this revision.
    Changes { revision: &'a str },
}

/// How old a list may be. The API server answers the first two from its memory; the last is a read of all its store, at the
/// same time as those of a thousand other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age<'a> {
    /// As old as it likes: nothing newer is known.
    Any,
    /// Not older than this revision.
    NotBefore(&'a str),
    /// The newest.
    Newest,
}

/// The path and query for it.
pub(super) fn uri(kind: Kind, config: &Config, ask: &Ask<'_>) -> String {
    let mut query = match ask {
        Ask::StreamedList => format!(
            "{}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=",
            watch()
        ),
        Ask::List { limit, age } => match age {
            Age::Any => format!("limit={limit}&resourceVersion=0"),
            // With a limit it would be read from the store.
            Age::NotBefore(revision) => format!(
                "resourceVersion={}&resourceVersionMatch=NotOlderThan",
                escape(revision)
            ),
            Age::Newest => format!("limit={limit}"),
        },
        Ask::Page { limit, token } => format!("limit={limit}&continue={}", escape(token)),
        Ask::Changes { revision } => format!("{}&resourceVersion={}", watch(), escape(revision)),
    };
    if let Some((by, selector)) = selector(kind, config) {
        query.push_str(&format!("&{by}={}", escape(&selector)));
    }
    format!("{}?{query}", kind.path())
}

/// Which objects of the kind are asked for: the parameter, and its value.
fn selector(kind: Kind, config: &Config) -> Option<(&'static str, Cow<'static, str>)> {
    match (kind, &config.nodes, config.selection) {
        (Kind::Node, Nodes::Own(name), _) => {
            Some(("fieldSelector", format!("metadata.name={name}").into()))
        }
        (Kind::Service, _, Selection::Proxied) => {
            Some(("fieldSelector", "spec.clusterIP!=None".into()))
        }
        (Kind::EndpointSlice, _, Selection::Proxied) => {
            Some(("labelSelector", "!service.kubernetes.io/headless".into()))
        }
        _ => None,
    }
}

/// The request for it.
pub(super) fn request(kind: Kind, config: &Config, ask: &Ask<'_>) -> Request<Body> {
    Request::get(uri(kind, config, ask))
        .header(ACCEPT, "application/json")
        // A streamed list is compressed one gzip member a flush, for Services one an object: that costs server and node more than the
        // bytes are worth (docs/benchmarks.md, "Bytes of the API").
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
        let own = Config::node("node-1");
        let ask = Ask::Page {
            limit: 2,
            token: "a+b/c==",
        };
        assert_eq!(
            uri(Kind::Node, &own, &ask),
            "/api/v1/nodes?limit=2&continue=a%2Bb%2Fc%3D%3D&fieldSelector=metadata.name%3Dnode-1"
        );
        let all = Config::node_with_load_balancer("node-1");
        assert!(!uri(Kind::Node, &all, &ask).contains("fieldSelector"));
    }

    #[test]
    fn without_dns_what_no_proxy_serves_is_not_asked_for() {
        let asked = |kind, config: &Config| {
            let ask = Ask::Changes { revision: "7" };
            let uri = uri(kind, config, &ask);
            let (_, selector) = uri.split_once("&resourceVersion=7").unwrap();
            selector.to_owned()
        };
        let node = Config::node("node-1");
        for kind in [Kind::Service, Kind::EndpointSlice, Kind::Namespace] {
            assert_eq!(asked(kind, &node), "", "{kind}");
        }
        let node = node.without_dns();
        assert!(!node.kinds().contains(&Kind::Namespace));
        for (kind, expected) in [
            (Kind::Service, "&fieldSelector=spec.clusterIP%21%3DNone"),
            (
                Kind::EndpointSlice,
                "&labelSelector=%21service.kubernetes.io%2Fheadless",
            ),
            (Kind::Node, "&fieldSelector=metadata.name%3Dnode-1"),
            (Kind::ServiceCidr, ""),
        ] {
            assert_eq!(asked(kind, &node), expected);
        }
    }
}
