//! `AF_PACKET`: whole frames of one interface.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::set_option;

/// What a packet socket sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Every ARP frame.
    Arp,
    /// IPv6 neighbour solicitations and advertisements (ICMPv6 types 135 and 136, without extension headers) and
    /// nothing else.
    Neighbours,
}

/// An `AF_PACKET` socket of one interface: whole frames, link header included, its own output excluded.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    interface: u32,
}

/// Opens a packet socket on the interface with this index.
///
/// # Errors
/// EPERM without `CAP_NET_RAW`, ENODEV when there is no such interface, ENOPROTOOPT before Linux 4.20.
pub fn open(interface: u32, traffic: Traffic) -> io::Result<PacketSocket> {
    // Protocol 0 receives nothing until bind(2): no foreign frame slips in before filter and interface are set.
    // SAFETY: socket(2) takes plain numbers.
    let raw = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    if raw == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let socket = PacketSocket { fd, interface };
    set_option(&socket.fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
    if traffic == Traffic::Neighbours {
        socket.filter(&NEIGHBOURS)?;
    }
    socket.bind(traffic)?;
    Ok(socket)
}

impl PacketSocket {
    /// The next frame into `buffer`, and its length; WouldBlock when there is none.
    ///
    /// # Errors
    /// As `recv(2)`; ENETDOWN when the interface went down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(&self.fd, buffer, rustix::net::RecvFlags::empty())?;
        Ok(length)
    }

    /// Sends a whole frame, link header included.
    ///
    /// # Errors
    /// As `send(2)`; ENETDOWN when the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.fd, frame, rustix::net::SendFlags::empty())?;
        Ok(())
    }

    /// Makes the interface accept frames for this multicast hardware address, as long as the socket lives.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn join_multicast(&self, group: [u8; 6]) -> io::Result<()> {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&group);
        let membership = libc::packet_mreq {
            mr_ifindex: self.interface.cast_signed(),
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: address,
        };
        set_option(
            &self.fd,
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            &membership,
        )
    }

    fn bind(&self, traffic: Traffic) -> io::Result<()> {
        let protocol = match traffic {
            Traffic::Arp => libc::ETH_P_ARP,
            Traffic::Neighbours => libc::ETH_P_IPV6,
        };
        // SAFETY: sockaddr_ll is plain data, for which all zeroes is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = self.interface.cast_signed();
        // SAFETY: the address is live for the call and its size is passed with it.
        let code = unsafe {
            let pointer = (&raw const address).cast::<libc::sockaddr>();
            libc::bind(
                self.fd.as_raw_fd(),
                pointer,
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if code == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn filter(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let length = u16::try_from(program.len()).expect("a filter is a handful of instructions");
        // The kernel only reads through this pointer (sk_attach_filter).
        let program = libc::sock_fprog {
            len: length,
            filter: program.as_ptr().cast_mut(),
        };
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// linux/if_packet.h; not in the libc crate for every target.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Ethernet frame: next header (byte 20) is ICMPv6 (58) and type (byte 54) is 135 or 136, else nothing.
const NEIGHBOURS: [libc::sock_filter; 8] = [
    load_byte(20),
    jump_unless(58, 5),
    load_byte(54),
    jump_unless(135, 1),
    keep(u32::MAX),
    jump_unless(136, 1),
    keep(u32::MAX),
    keep(0),
];

const fn load_byte(offset: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

const fn jump_unless(value: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: skip,
        k: value,
    }
}

const fn keep(bytes: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: bytes,
    }
}
