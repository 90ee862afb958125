//! Packets with what sockets hide: ARP and neighbour discovery as frames, ICMP errors as facts, and the
//! address that a datagram was sent to.

mod frames;
mod message;

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

pub use frames::{PacketSocket, Traffic, open};
pub use message::{
    Datagram, Family, IcmpError, IcmpReport, icmp_error, keep_icmp_errors, receive, send_from,
    tell_destination,
};

fn set_option<T>(socket: impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live for the call and its size is passed; every caller passes the type that the
    // option is documented with.
    let code = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
