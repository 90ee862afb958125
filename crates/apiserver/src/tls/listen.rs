//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use thiserror::Error;

/// A socket does not listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "{0}: the address is already in use: end the process that listens there (ss -ltnp shows it), or choose another \
         port with --listen"
    )]
    InUse(SocketAddr),
    /// The address is not this machine's.
    #[error(
        "{0}: no such address on this machine: choose one that `ip address` shows with --listen"
    )]
    NoSuchAddress(SocketAddr),
    /// The port needs a privilege.
    #[error("{0}: permission denied: choose a port from 1024 up with --listen")]
    Denied(SocketAddr),
    /// Anything else.
    #[error("{address}: cannot listen: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens a listening socket.
///
/// # Errors
/// See [`ListenError`]: each names the address and the remedy.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        io::ErrorKind::AddrNotAvailable => ListenError::NoSuchAddress(address),
        io::ErrorKind::PermissionDenied => ListenError::Denied(address),
        _ => ListenError::Other { address, source },
    })
}
