//! The sockets, bound apart from the server: only this needs a privilege.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// One UDP socket and one TCP listener for each address.
///
/// Each socket is bound to one address, so that every answer leaves from where its question came to.
#[derive(Debug)]
pub struct Sockets(Vec<(UdpSocket, TcpListener)>);

/// Why an address could not be bound.
#[derive(Debug, Error)]
#[error("DNS cannot listen on {address} ({transport}): {source}; {remedy}")]
pub struct BindError {
    address: SocketAddr,
    transport: &'static str,
    source: io::Error,
    remedy: &'static str,
}

impl Sockets {
    /// Binds UDP and TCP at each address; with port 0 both get the same free one. `SO_REUSEPORT` is
    /// set, so that a successor can take over while this one still answers.
    ///
    /// # Errors
    /// The address that failed, why, and what helps. An address that is not specified is refused:
    /// answers could leave from another address than was asked.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        addresses
            .iter()
            .map(|address| pair(*address))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The addresses bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0
            .iter()
            .filter_map(|(udp, _)| udp.local_addr().ok())
            .collect()
    }

    pub(super) fn into_tokio(
        self,
    ) -> io::Result<Vec<(tokio::net::UdpSocket, tokio::net::TcpListener)>> {
        let adopt = |(udp, tcp)| {
            Ok((
                tokio::net::UdpSocket::from_std(udp)?,
                tokio::net::TcpListener::from_std(tcp)?,
            ))
        };
        self.0.into_iter().map(adopt).collect()
    }
}

fn pair(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    if address.ip().is_unspecified() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "an unspecified address");
        return Err(BindError {
            address,
            transport: "UDP and TCP",
            source,
            remedy: "name each address",
        });
    }
    let mut attempt = 0;
    loop {
        let udp: UdpSocket = open(address, Type::DGRAM)
            .map_err(|source| fail(address, "UDP", source))?
            .into();
        let bound = udp
            .local_addr()
            .map_err(|source| fail(address, "UDP", source))?;
        match open(bound, Type::STREAM) {
            Ok(tcp) => return Ok((udp, tcp.into())),
            // A port that is free for UDP may be taken for TCP: try another.
            Err(_) if address.port() == 0 && attempt < 16 => attempt += 1,
            Err(source) => return Err(fail(bound, "TCP", source)),
        }
    }
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM {
        Protocol::UDP
    } else {
        Protocol::TCP
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections of a predecessor in TIME_WAIT do not keep the port from us.
        socket.set_reuse_address(true)?;
    }
    // A free port is looked for without it: sharing one with a stranger is nobody's wish.
    if address.port() != 0 {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn fail(address: SocketAddr, transport: &'static str, source: io::Error) -> BindError {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "end the other DNS server there, or give daymark another address"
        }
        io::ErrorKind::PermissionDenied => "a port below 1024 needs CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
        _ => "check the address",
    };
    BindError {
        address,
        transport,
        source,
        remedy,
    }
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
