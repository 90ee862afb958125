//! What became of a packet.

use std::fmt;
use std::net::SocketAddr;

use daymark_sys::packet::IcmpError;

/// A namespace of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A Pod, by name.
    Pod(String),
    /// A node, by name.
    Node(String),
    /// The host outside the cluster.
    Outside,
    /// The fabric, which accepts what nobody else wanted.
    Fabric,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "pod/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Outside => f.write_str("outside"),
            Self::Fabric => f.write_str("fabric"),
        }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// A whole connection: handshake, answer, reset.
    Tcp,
    /// A datagram and its answer.
    Udp,
    /// One INIT chunk in a raw packet: kernels without SCTP translate it all the same.
    Sctp,
    /// A whole SCTP association: handshake, answer, abort. The kernel must have SCTP, and somebody must listen
    /// ([`BareLab::listen_sctp`](super::BareLab::listen_sctp)).
    Association,
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server received it.
    Reached(Answer),
    /// It was refused, at once.
    Refused(Refusal),
    /// Nothing came back, and no server saw it, while the prober was patient.
    Timeout,
}

/// What the server that received a probe saw.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Where the server runs.
    pub place: Place,
    /// The address and port the packet carried when it arrived.
    pub arrived_at: SocketAddr,
    /// The source it carried.
    pub source: SocketAddr,
}

/// How a probe was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A TCP reset.
    TcpReset,
    /// ICMP "port unreachable" (type 3 code 3; ICMPv6 type 1 code 4).
    PortUnreachable,
    /// ICMP "communication administratively prohibited" (3/13, 3/10, 3/9; ICMPv6 1/1).
    Prohibited,
    /// ICMP "host" or "net unreachable" (3/0, 3/1; ICMPv6 1/0, 1/3), or no route at all.
    Unreachable,
    /// Any other ICMP error.
    Other(IcmpError),
}

impl From<IcmpError> for Refusal {
    fn from(error: IcmpError) -> Self {
        match error {
            IcmpError::V4 { kind: 3, code: 3 } | IcmpError::V6 { kind: 1, code: 4 } => {
                Self::PortUnreachable
            }
            IcmpError::V4 {
                kind: 3,
                code: 9 | 10 | 13,
            }
            | IcmpError::V6 { kind: 1, code: 1 } => Self::Prohibited,
            IcmpError::V4 {
                kind: 3,
                code: 0 | 1,
            }
            | IcmpError::V6 {
                kind: 1,
                code: 0 | 3,
            } => Self::Unreachable,
            other => Self::Other(other),
        }
    }
}

/// An answer as one line of text, as the servers send it.
pub(super) fn line(answer: &Answer) -> String {
    format!("{} {} {}\n", answer.place, answer.arrived_at, answer.source)
}

/// The answer in a line, if it is one.
pub(super) fn parse(line: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.strip_suffix('\n')?.splitn(3, ' ');
    let place = match words.next()? {
        "outside" => Place::Outside,
        "fabric" => Place::Fabric,
        word => match word.split_once('/')? {
            ("pod", name) => Place::Pod(name.to_owned()),
            ("node", name) => Place::Node(name.to_owned()),
            _ => return None,
        },
    };
    Some(Answer {
        place,
        arrived_at: words.next()?.parse().ok()?,
        source: words.next()?.parse().ok()?,
    })
}
