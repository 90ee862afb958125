//! Content negotiation: how an answer is wanted, and how a body is written.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::Query;
use crate::patch::PatchType;
use crate::schema::body::Format;
use crate::status::Status;
use crate::table::Include;

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Representation {
    /// As they are.
    Full,
    /// Their metadata alone.
    Metadata,
    /// As a table.
    Table(Include),
}

/// How discovery is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// One document a group version.
    Legacy,
    /// Everything in one document.
    Aggregated,
}

const SERVED: &str = "application/json, application/json;as=Table;v=v1;g=meta.k8s.io, \
    application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io, \
    application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// The first representation of the Accept header that is served.
pub(crate) fn representation(headers: &HeaderMap, query: &Query) -> Result<Representation, Status> {
    let accept = text(headers, &ACCEPT);
    if accept.is_empty() {
        return Ok(Representation::Full);
    }
    let include = match query.get("includeObject") {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    };
    let served =
        media_ranges(accept).find_map(|range| match (range.media, range.parameter("as")) {
            ("application/json" | "application/*" | "*/*", None) => Some(Representation::Full),
            ("application/json", Some(shape)) if range.is_meta_v1() => match shape {
                "Table" => Some(Representation::Table(include)),
                "PartialObjectMetadata" | "PartialObjectMetadataList" => {
                    Some(Representation::Metadata)
                }
                _ => None,
            },
            _ => None,
        });
    served.ok_or_else(|| Status::not_acceptable(SERVED))
}

/// The first form of discovery in the Accept header that is served.
pub(crate) fn discovery(headers: &HeaderMap) -> Result<Discovery, Status> {
    let accept = text(headers, &ACCEPT);
    if accept.is_empty() {
        return Ok(Discovery::Legacy);
    }
    let served =
        media_ranges(accept).find_map(|range| match (range.media, range.parameter("as")) {
            ("application/json" | "application/*" | "*/*", None) => Some(Discovery::Legacy),
            ("application/json", Some("APIGroupDiscoveryList"))
                if range.parameter("g") == Some("apidiscovery.k8s.io")
                    && range.parameter("v") == Some("v2") =>
            {
                Some(Discovery::Aggregated)
            }
            _ => None,
        });
    served.ok_or_else(|| Status::not_acceptable("application/json, application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"))
}

/// The text format of a body.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<Format, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Err(Status::unsupported_media_type(
            "application/vnd.kubernetes.protobuf is not read by this API server: send application/json or \
             application/yaml (with kubectl: create -f instead of create KIND)",
        )),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: \
             application/json, application/yaml"
        ))),
    }
}

/// The kind of patch in a body.
pub(crate) fn patch_type(headers: &HeaderMap) -> Result<PatchType, Status> {
    const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";
    match media_type(headers) {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            Err(Status::unsupported_media_type(format!(
                "server-side apply is not served by this API server: use client-side apply (kubectl apply \
                 --server-side=false) or one of {ACCEPTED}"
            )))
        }
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: {ACCEPTED}"
        ))),
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    text(headers, &CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
}

/// Whether an answer may be JSON.
pub(crate) fn takes_json(headers: &HeaderMap) -> bool {
    let accept = text(headers, &ACCEPT);
    let json = ["application/json", "application/*", "*/*"];
    accept.is_empty() || media_ranges(accept).any(|range| json.contains(&range.media))
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

struct Range<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Range<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    fn is_meta_v1(&self) -> bool {
        self.parameter("g") == Some("meta.k8s.io") && self.parameter("v") == Some("v1")
    }
}

/// The ranges of an Accept header in the order given; clients put what they like best first, and weights are not read.
fn media_ranges(accept: &str) -> impl Iterator<Item = Range<'_>> {
    accept.split(',').map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).collect();
        Range { media, parameters }
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{
        Discovery, Include, Representation, body_format, discovery, patch_type, representation,
    };
    use crate::http::Query;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn the_first_served_representation_is_taken() {
        let rows = [
            ("application/json", Some(Representation::Full)),
            ("*/*", Some(Representation::Full)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(Representation::Table(Include::None)),
            ),
            (
                "application/vnd.kubernetes.protobuf, */*",
                Some(Representation::Full),
            ),
            (
                "application/json;as=Table;v=v9;g=meta.k8s.io, application/json",
                Some(Representation::Full),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Representation::Metadata),
            ),
            ("application/vnd.kubernetes.protobuf", None),
        ];
        let query = Query::parse("includeObject=None");
        for (accept, expected) in rows {
            let found = representation(&headers("accept", accept), &query).ok();
            assert_eq!(found, expected, "{accept}");
        }
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_ask_for_v2() {
        let aggregated =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(
            discovery(&headers("accept", aggregated)).ok(),
            Some(Discovery::Aggregated)
        );
        let old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(
            discovery(&headers("accept", old)).ok(),
            Some(Discovery::Legacy)
        );
    }

    #[test]
    fn bodies_that_are_not_read_are_named() {
        let protobuf = body_format(&headers(
            "content-type",
            "application/vnd.kubernetes.protobuf",
        ))
        .unwrap_err();
        assert_eq!(protobuf.code, 415);
        assert!(
            protobuf
                .message
                .contains("application/vnd.kubernetes.protobuf"),
            "{protobuf}"
        );
        let apply =
            patch_type(&headers("content-type", "application/apply-patch+yaml")).unwrap_err();
        assert!(apply.message.contains("server-side apply"), "{apply}");
    }
}
