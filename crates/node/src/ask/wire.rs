//! Requests and answers of the agent's socket, as JSON.
//!
//! A request is `{"explain": {...}}` or `{"status": {}}`, an answer `{"explained": {...}}`, `{"status": {...}}` or
//! `{"error": "..."}`. Lists that grow with a Service have an end, and what is beyond it is counted. Fields that have nothing to say are absent. Names of fields are stable; texts are for people.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Where packets to a Service go.
    Explain(Explain),
    /// How the agent is.
    Status(Nothing),
}

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To [`Request::Explain`].
    Explained(Explained),
    /// To [`Request::Status`].
    Status(Status),
    /// Why there is none.
    Error(String),
}

/// A question about a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Explain {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A port's number, node port or name; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// One of its addresses, or one of this node for node ports; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Who sends.
    pub from: From,
}

/// Who sends the packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum From {
    /// This node, from its own addresses.
    Node,
    /// A Pod of this node that is no endpoint: an address out of its Pod prefixes.
    OwnPod,
    /// Somebody outside: addresses for documentation (RFC 5737, RFC 3849).
    Outside,
    /// Whoever has these addresses, by a link.
    Addresses(Vec<IpAddr>),
    /// A Pod.
    Pod {
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// The node that it is on, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
}

/// What becomes of the client's packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The node whose agent answers.
    pub node: String,
    /// The Service, `NAMESPACE/NAME`.
    pub service: String,
    /// The client's addresses.
    pub client: Vec<IpAddr>,
    /// What is wrong with the agent, so that the kernel may hold something older than this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
    /// Why there is no place to answer for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// An answer for each place of the Service that was asked about, the first of them.
    pub answers: Vec<Answer>,
    /// How many places more there are that were asked about, and not looked at.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: usize,
    /// The place that clients outside expect of a load balancer and that the Service does not have yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absent>,
    /// What the agent itself answers for the Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
}

/// A place that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// As [`Answer::kind`].
    pub kind: String,
    /// The field that would name it.
    pub field: String,
    /// Whether the client would have to use it: it is outside.
    pub needed: bool,
    /// Why it is not there.
    pub cause: Cause,
}

/// A port of the node at which the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where.
    pub at: String,
    /// The field that asks for it.
    pub field: String,
    /// What is answered.
    pub text: String,
}

/// Why something is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// One word.
    pub code: String,
    /// In words.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// What becomes of packets to one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The Service port, `NAME/PROTOCOL`.
    pub port: String,
    /// What kind of place: `cluster IP`, `external IP`, `load-balancer IP` or `node port`.
    pub kind: String,
    /// The field that names it.
    pub field: String,
    /// The place: address, port and protocol, or the node port.
    pub at: String,
    /// The packet that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<Packet>,
    /// Whether the Service forwards it.
    pub forwarded: bool,
    /// `forward`, `reject`, `drop` or `untouched`; absent if the client cannot send a packet there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Why it is not forwarded, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// The rules that were asked, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How many of the endpoints that were considered are so: all of them count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standings: Vec<Standing>,
    /// The endpoints that were considered; of too many for one answer the first of each standing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// EndpointSlices that gave none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// What does it in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// From where.
    pub source: IpAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// The protocol.
    pub protocol: String,
    /// `node` if the node sends it itself, `link` if it comes by one.
    pub arrival: String,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub rule: String,
    /// Its outcome.
    pub outcome: String,
    /// The field that decides.
    pub field: String,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The port there, if its slice has the Service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its slice.
    pub slice: String,
    /// `used`, `eligible`, or why it was left out.
    pub standing: String,
    /// The same in words.
    pub text: String,
}

/// How many endpoints were used, or left out for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// As [`Endpoint::standing`].
    pub standing: String,
    /// As [`Endpoint::text`].
    pub text: String,
    /// How many.
    pub endpoints: usize,
}

/// A slice without an endpoint for this place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub slice: String,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// Why it was skipped.
    pub why: String,
    /// The same in words.
    pub text: String,
}

/// What the tables hold for a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// The table.
    pub table: String,
    /// Whether the kernel holds what it should.
    pub agrees: bool,
    /// Why the kernel could not be asked; then nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// Elements and chains, in the order in which packets meet them.
    pub objects: Vec<Object>,
    /// What else was asked for of sets that have much to the place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<More>,
    /// How many elements were not asked for, because there are tens of thousands; `daymark status` compares all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unasked: usize,
    /// What the kernel refused, so that it is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// The endpoint that the client keeps (`sessionAffinity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// How many new connections the Service port had, at all its places of this family; absent if it had none for a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
}

/// An element or a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its set, or `chain NAME`.
    pub object: String,
    /// What it does.
    pub meaning: String,
    /// `same`, `missing`, `unexpected` or `different`.
    pub agreement: String,
    /// What should be there, as nft prints it.
    pub wanted: Vec<String>,
    /// What is there.
    pub held: Vec<String>,
}

/// Elements that were asked for and are not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// Their set.
    pub object: String,
    /// How many are as they should be.
    pub same: usize,
    /// How many are not.
    pub differing: usize,
}

/// Something that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is not served.
    pub subject: String,
    /// What was refused.
    pub shown: String,
    /// The error of the system.
    pub reason: String,
}

/// The endpoint that a client keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// For how long, without a new connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The node.
    pub node: String,
    /// Whether every part is well and the kernel holds what it should.
    pub healthy: bool,
    /// The newest batch of the feed that the kernel holds, or should hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How long ago the last change came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change_seconds: Option<f64>,
    /// How long the kernel has not followed; absent while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_seconds: Option<f64>,
    /// Every part that runs.
    pub parts: Vec<Part>,
    /// How much the kernel holds and should hold.
    pub counts: Vec<Count>,
    /// What differs, the first of it.
    pub differences: Vec<Difference>,
    /// How much differs.
    pub differences_total: usize,
    /// Why the kernel could not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// What the kernel refused.
    pub refused: Vec<Refused>,
    /// Places that another Service has a better right to.
    pub conflicts: Vec<Conflict>,
    /// Objects of which something cannot be used, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<Unusable>,
    /// How many such objects there are.
    #[serde(default, rename = "unusableTotal", skip_serializing_if = "is_zero")]
    pub unusable_total: usize,
}

/// An object of which something cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its kind, `Service`, `EndpointSlice`, `ServiceCIDR` or `Node`.
    pub kind: String,
    /// `NAMESPACE/NAME`, or the name of one without a namespace.
    pub name: String,
    /// The first values, each with its field, what is wrong with it and what is done without it.
    pub values: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// A part of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `feed`, `api`, `plane`, `conntrack`, `listeners`, `foreign`, `dns`, `announcer`, `configuration`, `kube-proxy`, `health port`, `metrics port`.
    pub name: String,
    /// Whether it is well.
    pub healthy: bool,
    /// In words.
    pub text: String,
}

/// How many there are of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The table.
    pub table: String,
    /// `chains`, `rules`, or a set's name: its elements.
    pub of: String,
    /// How many there should be; absent where packets write them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<usize>,
    /// How many there are; absent where packets write them and the kernel does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<usize>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The set, or `chain NAME`; absent: the table itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// As nft prints it.
    pub shown: String,
    /// `missing`, `unexpected` or `different`.
    pub agreement: String,
    /// What it is there for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
}

/// A place that was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// The Service port that asks for it.
    pub port: String,
    /// The place.
    pub at: String,
    /// The Service port that has it.
    pub held_by: String,
    /// By which right, in words; absent from an agent that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
