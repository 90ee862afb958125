//! IPVS' virtual servers: listed, removed, added.

use daymark_netlink::genl;
use daymark_netlink::ipvs::{FAMILY, Request, VirtualServer};

use crate::netlink::{Answer, NfSocket, OpenError, QueryError};

/// A generic netlink socket, and the number that IPVS has in this kernel.
///
/// Older kernels want `CAP_NET_ADMIN` in the first user namespace for it (`GENL_ADMIN_PERM` of `ip_vs_genl_ops`).
#[derive(Debug)]
pub struct IpvsSocket {
    socket: NfSocket,
    family: u16,
}

impl IpvsSocket {
    /// Opens a socket in the network namespace of this thread; `None` if the kernel has no IPVS. One whose module is not
    /// loaded yet is loaded by the kernel.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn open() -> Result<Option<Self>, QueryError> {
        let opened = NfSocket::of(netlink_sys::protocols::NETLINK_GENERIC);
        let mut socket = opened.map_err(|OpenError { source, .. }| source)?;
        let answers = socket.exchange(
            Answer::One,
            |out, seq| genl::ask_family(out, seq, FAMILY),
            |frame| genl::family(frame).map(Some),
        );
        match answers {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(numbers) => Ok(numbers.first().map(|family| Self {
                socket,
                family: *family,
            })),
        }
    }

    /// Every virtual server of this network namespace.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn servers(&mut self) -> Result<Vec<VirtualServer>, QueryError> {
        let family = self.family;
        self.socket.exchange(
            Answer::Dump,
            |out, seq| Request::List.encode(out, family, seq),
            |frame| VirtualServer::decode(frame).map(Some),
        )
    }

    /// Removes one, with its real servers; one that is gone is no error.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn remove(&mut self, server: VirtualServer) -> Result<(), QueryError> {
        match self.order(&Request::Delete(server)) {
            // `ESRCH` (`ip_vs_genl_set_cmd`).
            Err(QueryError::Refused(refusal)) if refusal.errno == libc::ESRCH => Ok(()),
            done => done,
        }
    }

    /// Adds one without real servers.
    ///
    /// # Errors
    /// [`QueryError::Refused`] with EEXIST if it is there.
    pub fn add(&mut self, server: VirtualServer) -> Result<(), QueryError> {
        self.order(&Request::Insert(server))
    }

    fn order(&mut self, request: &Request) -> Result<(), QueryError> {
        let family = self.family;
        let encode = |out: &mut _, seq| request.encode(out, family, seq);
        let done = self.socket.exchange(Answer::Ack, encode, |_| Ok(Some(())));
        done.map(drop)
    }
}
