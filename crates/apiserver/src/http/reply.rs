//! Answers: objects, lists, tables and errors as HTTP responses.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::negotiate::Representation;
use crate::object::{Object, encode};
use crate::read::Page;
use crate::registry::kinds::Kind;
use crate::status::Status;
use crate::table::{self, Headers};

/// Objects of one kind, as one request wants to see them.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub(super) kind: &'static Kind,
    pub(super) representation: Representation,
    pub(super) now: Timestamp,
}

impl Shown {
    /// An object in the version of the request.
    pub(super) fn value(&self, stored: &Value) -> Value {
        match self.kind.renames {
            Some(renames) => renames.show(stored),
            None => stored.clone(),
        }
    }

    fn full(&self, object: &Object) -> Bytes {
        match self.kind.renames {
            Some(renames) => encode(&renames.show(object.value())),
            None => object.json(),
        }
    }

    /// One object.
    pub(super) fn object(&self, object: &Object) -> Bytes {
        self.event(object, Headers::Shown)
    }

    /// One object of a watch, where only the first table has headers.
    pub(super) fn event(&self, object: &Object, headers: Headers) -> Bytes {
        match self.representation {
            Representation::Full => self.full(object),
            Representation::Metadata => encode(&table::partial(&self.value(object.value()))),
            Representation::Table(include) => {
                let value = object.value();
                let version = value
                    .pointer("/metadata/resourceVersion")
                    .cloned()
                    .unwrap_or_default();
                let metadata = json!({ "resourceVersion": version });
                let rows = std::iter::once((value, self.value(value)));
                encode(&table::table(
                    self.kind, rows, metadata, include, headers, self.now,
                ))
            }
        }
    }

    /// A page of a list.
    pub(super) fn list(&self, page: &Page) -> Bytes {
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if let Some(token) = &page.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        let items = page.objects.iter();
        match self.representation {
            Representation::Full => {
                let kind = format!("{}List", self.kind.resource.kind);
                let items = items.map(|object| self.full(object));
                list_of(&kind, &self.kind.resource.api_version(), &metadata, items)
            }
            Representation::Metadata => {
                let items =
                    items.map(|object| encode(&table::partial(&self.value(object.value()))));
                list_of(
                    "PartialObjectMetadataList",
                    "meta.k8s.io/v1",
                    &metadata,
                    items,
                )
            }
            Representation::Table(include) => {
                let rows = items.map(|object| (object.value(), self.value(object.value())));
                encode(&table::table(
                    self.kind,
                    rows,
                    metadata,
                    include,
                    Headers::Shown,
                    self.now,
                ))
            }
        }
    }
}

/// A list around items that are encoded already.
fn list_of(
    kind: &str,
    api_version: &str,
    metadata: &Value,
    items: impl Iterator<Item = Bytes>,
) -> Bytes {
    let head = format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#
    );
    let items: Vec<Bytes> = items.collect();
    let size = items.iter().map(|item| item.len() + 1).sum::<usize>();
    let mut out = BytesMut::with_capacity(head.len() + size + 2);
    out.put(head.as_bytes());
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put(item);
    }
    out.put(&b"]}"[..]);
    out.freeze()
}

/// JSON with a status code and warnings.
pub(super) fn json_reply(
    code: StatusCode,
    body: impl Into<Body>,
    warnings: &[String],
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        "cache-control",
        HeaderValue::from_static("no-cache, private"),
    );
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&warning_text(warning)) {
            headers.append(WARNING, value);
        }
    }
    response
}

/// `299 - "text"` (RFC 7234 section 5.5): control characters become spaces, quotes and backslashes are escaped.
fn warning_text(text: &str) -> String {
    let clean = |c: char| {
        if c.is_control() || !c.is_ascii() {
            ' '
        } else {
            c
        }
    };
    let text: String = text.chars().map(clean).collect();
    format!(
        "299 - \"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    )
}

/// An error.
pub(super) fn error_reply(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_reply(code, encode(&status.to_json()), &[]);
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What a delete that removed its object answers: for most kinds a Status.
pub(super) fn success(kind: &Kind, object: &Object) -> Value {
    let resource = &kind.resource;
    let mut details = json!({ "name": crate::json::name(object.value()) });
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    details["kind"] = resource.plural.into();
    details["uid"] = crate::json::text(object.value(), "/metadata/uid").into();
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
