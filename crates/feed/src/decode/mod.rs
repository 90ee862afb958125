//! One JSON object of a stream to one record, with the reasons why a value of it was left out ([`crate::Findings`]).

mod lease;
mod meta;
mod metallb;
mod node;
mod service;
mod service_cidr;
mod slice;
mod value;

use std::net::IpAddr;
use std::num::NonZeroI64;
use std::sync::Arc;

use daymark_model as model;
use daymark_model::address::parse_address;
use serde::Deserialize;

use self::meta::Metadata;
use self::value::{Number, Part, Read, Shape, Text};
use crate::config::{Kind, Nodes};
use crate::findings::{Reason, Whose};
use crate::intern::Interner;
use crate::record::{ClusterNode, Eligibility, L2Advertisement, Lease, Namespace, ObjectKey, Pool};

/// A record of any kind, as the hub keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Service(Arc<model::Service>),
    /// And when what it follows from changed, microseconds since 1970.
    Slice(Arc<model::Slice>, Option<NonZeroI64>),
    ServiceCidr(Arc<model::ServiceCidr>),
    Namespace(Arc<Namespace>),
    Pool(Arc<Pool>),
    L2Advertisement(Arc<L2Advertisement>),
    Lease(Arc<Lease>),
    Node(NodeRecord),
}

/// A Node in the roles it plays here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    /// It is the agent's own.
    pub(crate) own: Option<Arc<model::Node>>,
    /// And then this is whether load balancers should send to it.
    pub(crate) eligibility: Option<Eligibility>,
    /// All Nodes are wanted.
    pub(crate) cluster: Option<Arc<ClusterNode>>,
}

/// An object of a list or of an ADDED or MODIFIED event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) key: ObjectKey,
    pub(crate) meaning: Meaning,
    pub(crate) reasons: Vec<Reason>,
    /// Whose these are; empty without any.
    pub(crate) whose: Whose,
}

/// What an object comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A record.
    Record(Record),
    /// It exists, and is nothing to us: a slice of no Service.
    Nothing,
    /// Its JSON does not have the shape of its kind: what was known of it stands.
    Unreadable,
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// ADDED or MODIFIED.
    Put { object: Object, revision: String },
    /// DELETED.
    Gone { key: ObjectKey, revision: String },
    /// BOOKMARK.
    Bookmark {
        revision: String,
        initial: InitialEvents,
    },
    /// ERROR, or a line that is no watch event.
    Error(StatusError),
}

/// What a bookmark says about the initial events of a streamed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitialEvents {
    /// Nothing.
    Unsaid,
    /// That was the last of them.
    End,
}

/// A Status object that the API answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusError {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// After how many seconds the API wants to be asked again: `details.retryAfterSeconds`, or the header `Retry-After`.
    pub(crate) retry_after: Option<u32>,
}

/// What decoding needs to know besides the bytes.
pub(crate) struct Context<'c> {
    pub(crate) kind: Kind,
    pub(crate) nodes: &'c Nodes,
    pub(crate) names: &'c mut Interner,
}

/// Decodes one line of a watch.
pub(crate) fn frame(line: &[u8], context: &mut Context<'_>) -> Frame {
    match context.kind {
        Kind::Node => frame_of::<node::NodeJson<'_>>(line, context),
        Kind::Namespace => frame_of::<NamespaceJson<'_>>(line, context),
        Kind::Service => frame_of::<service::ServiceJson<'_>>(line, context),
        Kind::EndpointSlice => frame_of::<slice::SliceJson<'_>>(line, context),
        Kind::ServiceCidr => frame_of::<service_cidr::ServiceCidrJson<'_>>(line, context),
        Kind::Pool => frame_of::<metallb::PoolJson<'_>>(line, context),
        Kind::L2Advertisement => frame_of::<metallb::L2AdvertisementJson<'_>>(line, context),
        Kind::Lease => frame_of::<lease::LeaseJson<'_>>(line, context),
    }
}

/// Decodes one item of a list.
pub(crate) fn item(bytes: &[u8], context: &mut Context<'_>) -> Result<Object, StatusError> {
    match context.kind {
        Kind::Node => item_of::<node::NodeJson<'_>>(bytes, context),
        Kind::Namespace => item_of::<NamespaceJson<'_>>(bytes, context),
        Kind::Service => item_of::<service::ServiceJson<'_>>(bytes, context),
        Kind::EndpointSlice => item_of::<slice::SliceJson<'_>>(bytes, context),
        Kind::ServiceCidr => item_of::<service_cidr::ServiceCidrJson<'_>>(bytes, context),
        Kind::Pool => item_of::<metallb::PoolJson<'_>>(bytes, context),
        Kind::L2Advertisement => item_of::<metallb::L2AdvertisementJson<'_>>(bytes, context),
        Kind::Lease => item_of::<lease::LeaseJson<'_>>(bytes, context),
    }
}

/// `metadata` of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) next: String,
}

/// Decodes the body of a failed request; its HTTP code stands in for what is missing.
pub(crate) fn status(code: u16, body: &[u8]) -> StatusError {
    let Ok(status) = serde_json::from_slice::<StatusJson<'_>>(body) else {
        // A proxy in front of the API, or another server: its first line says most.
        let text = String::from_utf8_lossy(body);
        let first = text.lines().next().unwrap_or_default();
        return StatusError {
            code,
            reason: String::new(),
            message: first.chars().take(LONGEST_LINE).collect(),
            retry_after: None,
        };
    };
    StatusError {
        code,
        reason: status.reason.text().to_owned(),
        message: status.message.text().to_owned(),
        retry_after: status.details.retry_after(),
    }
}

/// How much of an answer that is no Status is told, characters.
const LONGEST_LINE: usize = 200;

/// The light form of a kind's JSON.
trait Json<'a>: Deserialize<'a> + Default + Shape {
    fn metadata(&self) -> &Metadata<'a>;
    /// The record, or `None` if the object is nothing to us.
    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record>;
}

/// A reason as it is told: its middle is left out where it quotes a value of kilobytes.
fn told(why: String) -> String {
    let length = why.chars().count();
    if length <= LONGEST_REASON {
        return why;
    }
    let half = LONGEST_REASON / 2;
    let first: String = why.chars().take(half).collect();
    let last: String = why.chars().skip(length - half).collect();
    format!("{first} [... {} characters ...] {last}", length - 2 * half)
}

/// The longest reason, characters: an annotation has room for a quarter of a megabyte.
const LONGEST_REASON: usize = 400;

/// Shares names and collects reasons while a record is made.
struct Reader<'r, 'c> {
    context: &'r mut Context<'c>,
    reasons: Vec<Reason>,
}

impl Reader<'_, '_> {
    fn share(&mut self, text: &str) -> Arc<str> {
        self.context.names.share(text)
    }

    fn share_text(&mut self, text: &Text<'_>) -> Option<Arc<str>> {
        match text {
            Read::Value(text) if !text.is_empty() => Some(self.share(text)),
            Read::Value(_) | Read::Absent | Read::Unreadable => None,
        }
    }

    fn refuse(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.reasons.push(Reason {
            field: field.into(),
            why: told(why.into()),
        });
    }

    /// The part, after a reason if something else stood in its place.
    fn part<'p, T>(&mut self, field: &str, part: &'p Part<T>) -> &'p T {
        if part.unreadable {
            self.refuse(field, "is not of its kind's type; it is read as absent");
        }
        part
    }

    fn address(&mut self, field: &str, text: &Text<'_>) -> Option<IpAddr> {
        let address = parse_address(text.text());
        if address.is_none() {
            self.refuse(
                field,
                format!("{:?} is not an IP address; it is left out", text.text()),
            );
        }
        address
    }

    fn addresses(&mut self, field: &str, list: &Part<Vec<Text<'_>>>) -> Vec<IpAddr> {
        let list = self.part(field, list);
        let mut all = Vec::with_capacity(list.len());
        for (index, text) in list.iter().enumerate() {
            all.extend(self.address(&format!("{field}[{index}]"), text));
        }
        all
    }

    /// A port number; 0 and absence are `None` without a reason.
    fn port(&mut self, field: impl Fn() -> String, number: &Number) -> Option<u16> {
        match number {
            Read::Absent | Read::Value(0) => None,
            Read::Value(number) => {
                let port = u16::try_from(*number).ok();
                if port.is_none() {
                    self.refuse(
                        field(),
                        format!("{number} is not a port (1 to 65535); it is left out"),
                    );
                }
                port
            }
            Read::Unreadable => {
                self.refuse(field(), "is not a number; it is left out");
                None
            }
        }
    }

    fn protocol(&mut self, field: impl Fn() -> String, text: &Text<'_>) -> Option<model::Protocol> {
        if text.is_absent() {
            return Some(model::Protocol::Tcp);
        }
        let protocol = model::Protocol::parse(text.text());
        if protocol.is_none() {
            self.refuse(
                field(),
                format!(
                    "{:?} is not TCP, UDP or SCTP; the port is left out",
                    text.text()
                ),
            );
        }
        protocol
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "O: Deserialize<'de> + Default + Shape"))]
struct LineJson<'a, O> {
    #[serde(borrow, rename = "type")]
    event: Text<'a>,
    object: Part<O>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatusJson<'a> {
    code: Number,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow)]
    message: Text<'a>,
    details: Part<DetailsJson>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DetailsJson {
    retry_after_seconds: Number,
}

impl DetailsJson {
    fn retry_after(&self) -> Option<u32> {
        match self.retry_after_seconds {
            Read::Value(seconds) => u32::try_from(seconds).ok(),
            Read::Absent | Read::Unreadable => None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MetadataJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamespaceJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
}

impl Shape for StatusJson<'_> {}
impl Shape for DetailsJson {}
impl Shape for MetadataJson<'_> {}
impl Shape for NamespaceJson<'_> {}

impl<'a> Json<'a> for NamespaceJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, _reader: &mut Reader<'_, '_>) -> Option<Record> {
        Some(Record::Namespace(Arc::new(Namespace {
            name: Arc::clone(&key.name),
        })))
    }
}

fn frame_of<'a, O: Json<'a>>(line: &'a [u8], context: &mut Context<'_>) -> Frame {
    let decoded: LineJson<'a, O> = match serde_json::from_slice(line) {
        Ok(decoded) => decoded,
        Err(error) => return broken(line, context, &error),
    };
    let metadata = decoded.object.metadata();
    let revision = metadata.resource_version.text().to_owned();
    match decoded.event.text() {
        "ADDED" | "MODIFIED" => Frame::Put {
            object: object(&decoded.object.value, context),
            revision,
        },
        "DELETED" => Frame::Gone {
            key: key(metadata, context.names),
            revision,
        },
        "BOOKMARK" => {
            let end = metadata.annotations.initial_events_end.text() == "true";
            Frame::Bookmark {
                revision,
                initial: if end {
                    InitialEvents::End
                } else {
                    InitialEvents::Unsaid
                },
            }
        }
        _ => Frame::Error(error_in(line)),
    }
}

fn item_of<'a, O: Json<'a>>(
    bytes: &'a [u8],
    context: &mut Context<'_>,
) -> Result<Object, StatusError> {
    match serde_json::from_slice::<O>(bytes) {
        Ok(json) => Ok(object(&json, context)),
        Err(error) => {
            let named: MetadataJson<'a> = serde_json::from_slice(bytes).unwrap_or_default();
            unreadable(&named.metadata, context, &error)
        }
    }
}

fn object<'a, O: Json<'a>>(json: &O, context: &mut Context<'_>) -> Object {
    let key = key(json.metadata(), context.names);
    let mut reader = Reader {
        context,
        reasons: Vec::new(),
    };
    let meaning = json
        .record(&key, &mut reader)
        .map_or(Meaning::Nothing, Meaning::Record);
    let reasons = reader.reasons;
    let whose = if reasons.is_empty() {
        Whose::default()
    } else {
        whose(json.metadata())
    };
    Object {
        key,
        meaning,
        reasons,
        whose,
    }
}

fn whose(metadata: &Metadata<'_>) -> Whose {
    let service = metadata.labels.service_name.text();
    Whose {
        uid: metadata.uid.text().into(),
        service: (!service.is_empty()).then(|| service.into()),
    }
}

fn key(metadata: &Metadata<'_>, names: &mut Interner) -> ObjectKey {
    ObjectKey {
        namespace: names.share(metadata.namespace.text()),
        name: names.share(metadata.name.text()),
    }
}

/// A line whose object does not decode: known by name it is skipped, otherwise the stream is broken.
fn broken(line: &[u8], context: &mut Context<'_>, error: &serde_json::Error) -> Frame {
    let named: LineJson<'_, MetadataJson<'_>> = serde_json::from_slice(line).unwrap_or_default();
    let metadata = &named.object.metadata;
    match unreadable(metadata, context, error) {
        Ok(object) => Frame::Put {
            object,
            revision: metadata.resource_version.text().to_owned(),
        },
        Err(status) => Frame::Error(status),
    }
}

fn unreadable(
    metadata: &Metadata<'_>,
    context: &mut Context<'_>,
    error: &serde_json::Error,
) -> Result<Object, StatusError> {
    if metadata.name.text().is_empty() {
        let message = format!(
            "the API sent something that is no {}: {error}",
            context.kind
        );
        return Err(StatusError {
            code: 0,
            reason: "Unreadable".to_owned(),
            message: told(message),
            retry_after: None,
        });
    }
    let why = format!("cannot be read: {error}; what was known of it stands");
    let reasons = vec![Reason {
        field: String::new(),
        why: told(why),
    }];
    Ok(Object {
        key: key(metadata, context.names),
        meaning: Meaning::Unreadable,
        reasons,
        whose: whose(metadata),
    })
}

fn error_in(line: &[u8]) -> StatusError {
    let line: LineJson<'_, StatusJson<'_>> = serde_json::from_slice(line).unwrap_or_default();
    let code = match line.object.code {
        Read::Value(code) => u16::try_from(code).unwrap_or(0),
        Read::Absent | Read::Unreadable => 0,
    };
    StatusError {
        code,
        reason: line.object.reason.text().to_owned(),
        message: line.object.message.text().to_owned(),
        retry_after: line.object.details.retry_after(),
    }
}

/// Microseconds since 1970 of an RFC 3339 time.
fn micros(text: &Text<'_>) -> Option<i64> {
    text.text()
        .parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests;
