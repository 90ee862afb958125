//! What `recvmsg(2)` and `sendmsg(2)` know beside the bytes: ICMP errors, and the address a datagram was sent to.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

use super::set_option;

/// An ICMP or ICMPv6 error that a socket was told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpError {
    /// ICMP (RFC 792).
    V4 {
        /// 3 is "destination unreachable".
        kind: u8,
        /// 3 is "port unreachable".
        code: u8,
    },
    /// ICMPv6 (RFC 4443).
    V6 {
        /// 1 is "destination unreachable".
        kind: u8,
        /// 4 is "port unreachable".
        code: u8,
    },
}

/// Makes a socket keep the ICMP errors it receives for [`icmp_error`] (`IP_RECVERR`, `IPV6_RECVERR`).
///
/// # Errors
/// As `setsockopt(2)`.
pub fn keep_icmp_errors(socket: impl AsFd, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, &1_i32),
        Family::V6 => set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &1_i32),
    }
}

/// An address family, where no address says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An ICMP error with the beginning of the packet that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpReport {
    /// What the error said.
    pub error: IcmpError,
    /// The packet as its sender's socket layer sees it: from the transport header on for a raw socket, the
    /// payload for UDP.
    pub packet: Vec<u8>,
}

/// Takes the oldest ICMP error from a socket's error queue. `None` when there is none: an error of the socket
/// then came from the peer itself (a TCP reset).
///
/// # Errors
/// As `recvmsg(2)`, but for an empty queue.
pub fn icmp_error(socket: impl AsFd) -> io::Result<Option<IcmpReport>> {
    let mut packet = [0_u8; 576];
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let received = match Message::receive(&socket, &mut packet, flags) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        other => other?,
    };
    let report = |error| IcmpReport {
        error,
        packet: packet[..received.length].to_vec(),
    };
    Ok(received
        .controls()
        .find_map(Control::icmp_error)
        .map(report))
}

/// Makes a UDP socket tell [`receive`] the address each datagram was sent to.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn tell_destination(socket: impl AsFd, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1_i32),
        Family::V6 => set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1_i32),
    }
}

/// A datagram's length and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes put into the buffer.
    pub length: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// The address it was sent to; `None` without [`tell_destination`].
    pub destination: Option<IpAddr>,
}

/// Receives a datagram without waiting.
///
/// # Errors
/// As `recvmsg(2)`: WouldBlock when there is none.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let received = Message::receive(&socket, buffer, libc::MSG_DONTWAIT)?;
    let source = received
        .source()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let destination = received.controls().find_map(Control::destination);
    Ok(Datagram {
        length: received.length,
        source,
        destination,
    })
}

/// Sends a datagram from the given one of the host's addresses: an answer must leave from the address asked.
///
/// # Errors
/// As `sendmsg(2)`: EINVAL when `from` is no address of this host.
pub fn send_from(socket: impl AsFd, bytes: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
    let address = SockAddr::from(to);
    let mut space = Space([0; 256]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = address.as_ptr().cast_mut().cast();
    header.msg_namelen = address.len();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = space.0.as_mut_ptr().cast();
    header.msg_controllen = space.0.len();
    header.msg_controllen = match from {
        IpAddr::V4(from) => {
            // SAFETY: in_pktinfo is plain data, for which all zeroes is a valid value.
            let mut choice: libc::in_pktinfo = unsafe { std::mem::zeroed() };
            choice.ipi_spec_dst.s_addr = from.to_bits().to_be();
            put_control(&mut header, libc::IPPROTO_IP, libc::IP_PKTINFO, choice)
        }
        IpAddr::V6(from) => {
            // SAFETY: in6_pktinfo is plain data, for which all zeroes is a valid value.
            let mut choice: libc::in6_pktinfo = unsafe { std::mem::zeroed() };
            choice.ipi6_addr.s6_addr = from.octets();
            put_control(&mut header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, choice)
        }
    };
    // SAFETY: the header and everything it points to are live for the call, which only reads them.
    match unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const header,
            libc::MSG_DONTWAIT,
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Writes one control message into the header's space, which must be aligned and hold it; the space used.
fn put_control<T>(header: &mut libc::msghdr, level: i32, kind: i32, value: T) -> usize {
    let size = u32::try_from(size_of::<T>()).expect("a control message is small");
    // SAFETY: the space behind msg_control is 256 bytes, aligned to 8, and live in the caller; every T of this
    // file is at most 20 bytes, so header and value fit.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        libc::CMSG_SPACE(size) as usize
    }
}

/// Room for control messages, aligned as they must be.
#[repr(align(8))]
struct Space([u8; 256]);

/// What `recvmsg(2)` gave beside the bytes.
struct Message {
    length: usize,
    controls: Vec<Control>,
    source: libc::sockaddr_storage,
}

impl Message {
    fn receive(socket: &impl AsFd, buffer: &mut [u8], flags: i32) -> io::Result<Self> {
        let mut space = Space([0; 256]);
        let mut vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: sockaddr_storage is plain data, for which all zeroes is a valid value.
        let mut source: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = (&raw mut source).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = space.0.as_mut_ptr().cast();
        header.msg_controllen = space.0.len();
        // SAFETY: the header and the buffers it points to are live for the call and their lengths are right.
        let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        Ok(Self {
            length,
            controls: Control::all(&header),
            source,
        })
    }

    fn controls(&self) -> impl Iterator<Item = &Control> {
        self.controls.iter()
    }

    fn source(&self) -> Option<SocketAddr> {
        let pointer = &raw const self.source;
        match i32::from(self.source.ss_family) {
            libc::AF_INET => {
                // SAFETY: the kernel filled in a sockaddr_in, which the storage is large and aligned enough for.
                let address = unsafe { pointer.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
                Some((ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the kernel filled in a sockaddr_in6, which the storage is large and aligned enough for.
                let address = unsafe { pointer.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                Some((ip, u16::from_be(address.sin6_port)).into())
            }
            _ => None,
        }
    }
}

/// A control message, copied out.
struct Control {
    level: i32,
    kind: i32,
    data: Vec<u8>,
}

impl Control {
    fn all(header: &libc::msghdr) -> Vec<Self> {
        let mut found = Vec::new();
        // SAFETY: the kernel filled the header and its control buffer, both live; CMSG_FIRSTHDR checks lengths.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !message.is_null() {
            // SAFETY: a non-null pointer of these macros points to a whole header, followed by its data, whose
            // length the kernel wrote into it.
            found.push(unsafe {
                let length = (*message).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = std::slice::from_raw_parts(libc::CMSG_DATA(message), length).to_vec();
                Self {
                    level: (*message).cmsg_level,
                    kind: (*message).cmsg_type,
                    data,
                }
            });
            // SAFETY: the message is one of this header's.
            message = unsafe { libc::CMSG_NXTHDR(header, message) };
        }
        found
    }

    /// `struct sock_extended_err` (ip(7)): u32 errno, u8 origin, u8 type, u8 code, ...
    fn icmp_error(&self) -> Option<IcmpError> {
        let kinds = [
            (libc::IPPROTO_IP, libc::IP_RECVERR),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        ];
        if !kinds.contains(&(self.level, self.kind)) {
            return None;
        }
        let &[_, _, _, _, origin, kind, code, ..] = self.data.as_slice() else {
            return None;
        };
        match origin {
            libc::SO_EE_ORIGIN_ICMP => Some(IcmpError::V4 { kind, code }),
            libc::SO_EE_ORIGIN_ICMP6 => Some(IcmpError::V6 { kind, code }),
            _ => None,
        }
    }

    /// `struct in_pktinfo` (ip(7)): index, local address, header destination; `in6_pktinfo`: address, index.
    fn destination(&self) -> Option<IpAddr> {
        match (self.level, self.kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let octets: [u8; 4] = self.data.get(8..12)?.try_into().ok()?;
                Some(octets.into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let octets: [u8; 16] = self.data.get(..16)?.try_into().ok()?;
                Some(octets.into())
            }
            _ => None,
        }
    }
}
