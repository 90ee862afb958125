//! What an element is there for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::desired::PortName;
use daymark_netlink::nft::{Data, Message, SetElem, TableId, Value, Verdict};

use super::{Compiler, Plane};
use crate::nft::layout::{FrontendValue, Words, address, decode_frontend_key, set};

/// The smallest thing that can be left out of the tables while all else goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A port of a Service: its frontends and backends.
    Port(Arc<PortName>),
    /// One address in a set of plain addresses.
    Address(Of, IpAddr),
}

/// What an address in a set of plain addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// One of Services alone: without it unknown ports there are not refused.
    Services,
    /// A backend on this node: without it, it does not reach itself through a Service.
    LocalBackend,
    /// One at which node ports answer: without it they do not.
    NodePorts,
    /// One of Services for clients outside: without it unknown ports there are not refused.
    Outer,
    /// One of a ServiceCIDR that somebody has: without it, it is dropped as if nobody had.
    Spared,
}

impl Of {
    /// All, with their sets.
    const SETS: [(Self, &'static str); 5] = [
        (Self::Services, set::SERVICE_ADDRESSES),
        (Self::LocalBackend, set::LOCAL_BACKENDS),
        (Self::NodePorts, set::NODE_PORT_ADDRESSES),
        (Self::Outer, set::OUTER_ADDRESSES),
        (Self::Spared, set::SPARED_ADDRESSES),
    ];
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(out, "Service port {port}"),
            Self::Address(Of::Services | Of::Outer, ip) => {
                write!(out, "the refusal of unknown ports at {ip}")
            }
            Self::Address(Of::LocalBackend, ip) => {
                write!(out, "connections of {ip} to itself through a Service")
            }
            Self::Address(Of::NodePorts, ip) => write!(out, "node ports at {ip}"),
            Self::Address(Of::Spared, ip) => write!(out, "packets to {ip}, which others serve"),
        }
    }
}

impl Compiler {
    /// What a message is about that adds something: of a list of elements, this one; of a plan, every port
    /// that uses it. None of a part that concerns all Services, or that is gone already.
    pub(crate) fn subjects(&self, message: &Message, element: usize) -> Vec<Subject> {
        let Some(plane) = self.plane_of(message.table()) else {
            return Vec::new();
        };
        let of_chain = |chain: &str| plane.users_of(chain).map(Subject::Port).collect();
        match message {
            Message::NewElems { elements, .. } => {
                let elem = elements.elems.get(element);
                match elem.map(|elem| (elem, &elem.value)) {
                    Some((_, Value::Verdict(Verdict::Jump(chain)))) => of_chain(chain),
                    Some((elem, _)) => {
                        let subject = self.subject(plane, &elements.set, elem);
                        subject.into_iter().collect()
                    }
                    None => Vec::new(),
                }
            }
            Message::NewChain { chain, .. } => of_chain(&chain.name),
            Message::NewRule { rule, .. } => of_chain(&rule.chain),
            _ => Vec::new(),
        }
    }

    fn plane_of(&self, table: &TableId) -> Option<&Plane> {
        self.planes
            .iter()
            .find(|plane| plane.words.table() == *table)
    }

    fn subject(&self, plane: &Plane, name: &str, elem: &SetElem) -> Option<Subject> {
        if let Some((of, _)) = Of::SETS.into_iter().find(|(_, set)| *set == name) {
            let ip = address(elem.key.get(..plane.words.len as usize)?)?;
            return Some(Subject::Address(of, ip));
        }
        if name == set::SLOTS || name == set::MEMBERS {
            let pool = elem.key.host_word(0)? & !1;
            let mut ports = plane.ports.iter();
            let (port, _) = ports.find(|(_, port)| port.pool == pool)?;
            return Some(Subject::Port(port.clone()));
        }
        let at = plane.frontend_of(name, &elem.key)?;
        let frontend = self.desired.frontends.get(&at)?;
        Some(Subject::Port(frontend.port.clone()))
    }
}

impl Plane {
    /// The frontend that an element of a map of frontends, or of ranges, belongs to.
    pub(super) fn frontend_of(&self, name: &str, key: &Data) -> Option<daymark_model::FrontendKey> {
        let Words { family, len, .. } = self.words;
        if !set::RANGES.contains(&name) {
            return decode_frontend_key(family, name, key);
        }
        let end = key.len().checked_sub(len as usize)?;
        decode_frontend_key(family, set::FRONTENDS[0], &Data::new(&key[..end]))
    }

    /// The Service ports whose frontends name the plan of a chain.
    fn users_of(&self, chain: &str) -> impl Iterator<Item = Arc<PortName>> + '_ {
        let number = self.plans.number_of(chain);
        let names = move |value: &FrontendValue| {
            number.is_some_and(|number| [value.inside, value.outside].contains(&number))
        };
        let frontends = self.frontends.values();
        frontends
            .filter(move |installed| names(&installed.value))
            .filter_map(|installed| installed.port.clone())
    }
}
