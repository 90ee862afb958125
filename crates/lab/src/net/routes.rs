//! Links, addresses, routes and neighbours of one namespace, asked for in batches.
//!
//! A batch is one `send`, and its acknowledgements are read together: a Pod costs two system calls, not twenty.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use daymark_sys::ns::NetNs;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{AddressMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::{NetError, Prefix};

/// A route netlink socket of one namespace.
pub struct RouteSocket {
    socket: Socket,
    sequence: u32,
}

impl RouteSocket {
    /// Opens a socket inside the namespace; it stays there.
    ///
    /// # Errors
    /// [`NetError::Socket`] when the namespace cannot be entered or the socket not be opened.
    pub fn open(ns: &NetNs) -> Result<Self, NetError> {
        let socket = ns
            .within(|| Socket::new(NETLINK_ROUTE))
            .and_then(|socket| socket);
        let mut socket = socket.map_err(NetError::Socket)?;
        socket.bind_auto().map_err(NetError::Socket)?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(NetError::Socket)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends the requests in one go and waits for every answer.
    ///
    /// # Errors
    /// [`NetError::Refused`] with the first request that failed; the kernel goes on with those after it.
    pub(super) fn apply(&mut self, requests: Vec<Request>) -> Result<(), NetError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let names: Vec<String> = requests
            .into_iter()
            .map(|request| {
                self.sequence = self.sequence.wrapping_add(1);
                request.emit(self.sequence, &mut bytes)
            })
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        self.socket.send(&bytes, 0).map_err(NetError::Socket)?;
        self.answers(first, &names)
    }

    /// Waits until a link carries packets and the IPv6 addresses given to it are this host's.
    ///
    /// The kernel does both on a work queue, some time after the request was answered: net/core/link_watch.c
    /// activates a link whose far end came up, and net/ipv6/addrconf.c (addrconf_dad_begin) adds the local route of
    /// an address. A packet in between is lost, and a lost neighbour solicitation costs a second.
    ///
    /// # Errors
    /// [`NetError::Refused`] when it takes longer than half a second.
    pub(super) fn wait_until_usable(
        &mut self,
        link: u32,
        addresses: &[IpAddr],
    ) -> Result<(), NetError> {
        for _ in 0..ROUNDS {
            let running = self.is_running(link)?;
            if running
                && addresses
                    .iter()
                    .try_fold(true, |all, address| Ok(all && self.is_local(*address)?))?
            {
                return Ok(());
            }
            std::thread::sleep(ROUND);
        }
        let source = io::ErrorKind::TimedOut.into();
        Err(NetError::Refused {
            what: format!("waiting for link {link} to come up"),
            source,
        })
    }

    fn is_running(&mut self, link: u32) -> Result<bool, NetError> {
        let question = LinkUnspec::new_with_index(link).build();
        match self.ask(RouteNetlinkMessage::GetLink(question), || {
            format!("ip link show {link}")
        })? {
            RouteNetlinkMessage::NewLink(link) => {
                Ok(link.header.flags.contains(LinkFlags::Running))
            }
            _ => Ok(false),
        }
    }

    fn is_local(&mut self, address: IpAddr) -> Result<bool, NetError> {
        let IpAddr::V6(address) = address else {
            return Ok(true);
        };
        let question = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .build();
        match self.ask(RouteNetlinkMessage::GetRoute(question), || {
            format!("ip route get {address}")
        }) {
            Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(route.header.kind == RouteType::Local),
            Ok(_) | Err(NetError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        shown: impl FnOnce() -> String,
    ) -> Result<RouteNetlinkMessage, NetError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(NetError::Socket)?;
        let (bytes, _) = self.socket.recv_from_full().map_err(NetError::Socket)?;
        match NetlinkMessage::deserialize(&bytes)
            .map_err(|error| malformed(error.to_string()))?
            .payload
        {
            NetlinkPayload::InnerMessage(answer) => Ok(answer),
            NetlinkPayload::Error(error) => Err(NetError::Refused {
                what: shown(),
                source: error.to_io(),
            }),
            _ => Err(malformed(format!("no answer to {}", shown()))),
        }
    }

    fn answers(&mut self, first: u32, names: &[String]) -> Result<(), NetError> {
        let mut waiting = names.len();
        let mut failed = None;
        while waiting > 0 {
            let (bytes, _) = self.socket.recv_from_full().map_err(NetError::Socket)?;
            for (sequence, outcome) in acknowledgements(&bytes)? {
                let index = sequence.wrapping_sub(first) as usize;
                let Some(name) = names.get(index) else {
                    continue;
                };
                waiting -= 1;
                if let (Err(source), None) = (outcome, &failed) {
                    failed = Some(NetError::Refused {
                        what: name.clone(),
                        source,
                    });
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn malformed(text: String) -> NetError {
    NetError::Socket(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// The acknowledgements in one datagram: which request, and how it went.
fn acknowledgements(mut bytes: &[u8]) -> Result<Vec<(u32, io::Result<()>)>, NetError> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .map_err(|error| malformed(error.to_string()))?;
        if let NetlinkPayload::Error(error) = &message.payload {
            let outcome = error.code.map_or(Ok(()), |_| Err(error.to_io()));
            found.push((message.header.sequence_number, outcome));
        }
        let length = (message.header.length as usize).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(found)
}

/// One change of a namespace's network.
pub(super) struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    shown: String,
}

impl Request {
    pub(super) fn add_link(link: LinkMessage, shown: impl Into<String>) -> Self {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        Self {
            message: RouteNetlinkMessage::NewLink(link),
            flags,
            shown: format!("ip link add {}", shown.into()),
        }
    }

    pub(super) fn set_link(link: LinkMessage, shown: impl Into<String>) -> Self {
        Self {
            message: RouteNetlinkMessage::SetLink(link),
            flags: 0,
            shown: format!("ip link set {}", shown.into()),
        }
    }

    pub(super) fn up(index: u32) -> Self {
        Self::set_link(
            LinkUnspec::new_with_index(index).up().build(),
            format!("{index} up"),
        )
    }

    pub(super) fn delete_link(index: u32) -> Self {
        let link = LinkUnspec::new_with_index(index).build();
        Self {
            message: RouteNetlinkMessage::DelLink(link),
            flags: 0,
            shown: format!("ip link del {index}"),
        }
    }

    /// An address that is usable at once: no duplicate address detection.
    pub(super) fn address(index: u32, prefix: Prefix) -> Self {
        let mut message: AddressMessage = match prefix.address {
            IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(index)
                .address(address, prefix.length)
                .build(),
            IpAddr::V6(address) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(address, prefix.length)
                .build(),
        };
        message.header.flags |= AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
        let shown = format!("ip address add {prefix} dev {index} nodad");
        Self {
            message: RouteNetlinkMessage::NewAddress(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            shown,
        }
    }

    pub(super) fn route(route: Route) -> Self {
        let shown = route.to_string();
        let message = RouteNetlinkMessage::NewRoute(route.into_message());
        Self {
            message,
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            shown: format!("ip route replace {shown}"),
        }
    }

    pub(super) fn delete_route(route: Route) -> Self {
        let shown = format!("ip route del {route}");
        Self {
            message: RouteNetlinkMessage::DelRoute(route.into_message()),
            flags: 0,
            shown,
        }
    }

    /// A neighbour that needs no question on the link.
    pub(super) fn neighbour(index: u32, address: IpAddr, hardware: [u8; 6]) -> Self {
        let mut message = NeighbourMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => rtnetlink::packet_route::AddressFamily::Inet,
            IpAddr::V6(_) => rtnetlink::packet_route::AddressFamily::Inet6,
        };
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message
            .attributes
            .push(NeighbourAttribute::Destination(address.into()));
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(hardware.to_vec()));
        let shown = format!("ip neighbour replace {address} dev {index} nud permanent");
        Self {
            message: RouteNetlinkMessage::NewNeighbour(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            shown,
        }
    }

    /// Appends the message, and says what it was.
    fn emit(self, sequence: u32, bytes: &mut Vec<u8>) -> String {
        let mut message = NetlinkMessage::from(self.message);
        message.header.flags = self.flags | NLM_F_REQUEST | NLM_F_ACK;
        message.header.sequence_number = sequence;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
        self.shown
    }
}

/// A route of the main table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) to: Prefix,
    pub(super) hop: Hop,
    pub(super) interface: u32,
    pub(super) source: Option<IpAddr>,
}

/// How a route reaches its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// On the link itself.
    Link,
    /// Through a gateway on the link, whatever the interface's own prefix says.
    Gateway(IpAddr),
    /// It is this host: every address of the prefix is accepted.
    Local,
    /// Nowhere: whoever asks for an address of the prefix is told that it cannot be reached.
    Unreachable,
}

impl Route {
    pub(super) fn new(to: Prefix, hop: Hop, interface: u32) -> Self {
        Self {
            to: to.network(),
            hop,
            interface,
            source: None,
        }
    }

    fn into_message(self) -> RouteMessage {
        // Every setter of the address builder fails only on mixed families; those are set field by field here.
        let message = match self.to.address {
            IpAddr::V4(to) => {
                let mut builder = RouteMessageBuilder::<Ipv4Addr>::new();
                if self.hop != Hop::Unreachable {
                    builder = builder.output_interface(self.interface);
                }
                if self.to.length > 0 {
                    builder = builder.destination_prefix(to, self.to.length);
                }
                if let Hop::Gateway(IpAddr::V4(gateway)) = self.hop {
                    builder = builder.gateway(gateway).onlink();
                }
                if let Some(IpAddr::V4(source)) = self.source {
                    builder = builder.pref_source(source);
                }
                builder.build()
            }
            IpAddr::V6(to) => {
                let mut builder = RouteMessageBuilder::<Ipv6Addr>::new();
                if self.hop != Hop::Unreachable {
                    builder = builder.output_interface(self.interface);
                }
                if self.to.length > 0 {
                    builder = builder.destination_prefix(to, self.to.length);
                }
                if let Hop::Gateway(IpAddr::V6(gateway)) = self.hop {
                    builder = builder.gateway(gateway).onlink();
                }
                if let Some(IpAddr::V6(source)) = self.source {
                    builder = builder.pref_source(source);
                }
                builder.build()
            }
        };
        self.kind(message)
    }

    fn kind(self, mut message: RouteMessage) -> RouteMessage {
        match self.hop {
            Hop::Link if self.to.address.is_ipv4() => message.header.scope = RouteScope::Link,
            Hop::Local => {
                message.header.kind = RouteType::Local;
                message.header.scope = RouteScope::Host;
            }
            Hop::Unreachable => message.header.kind = RouteType::Unreachable,
            Hop::Link | Hop::Gateway(_) => {}
        }
        message
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.hop {
            Hop::Link => write!(f, "{} dev {}", self.to, self.interface),
            Hop::Gateway(gateway) => {
                write!(f, "{} via {gateway} dev {} onlink", self.to, self.interface)
            }
            Hop::Local => write!(f, "local {} dev {}", self.to, self.interface),
            Hop::Unreachable => write!(f, "unreachable {}", self.to),
        }
    }
}

/// How long a link may take to come up: so many rounds of so long.
const ROUNDS: u32 = 2_000;
const ROUND: Duration = Duration::from_micros(250);
