//! A watch on the generations of the ruleset: who commits, and when.
//!
//! Every listener of the nftables group makes every commit of the machine slower: the kernel builds one
//! notification for each element. A socket filter that keeps only `NFT_MSG_NEWGEN` (one a commit) drops the
//! rest before it is queued, so that nothing is lost and a load of 110,000 elements takes twice as long, not
//! fifteen times. Who must know what others changed ([`TableWatch`]) drops the own commits so, and reads the rest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use daymark_netlink::frame;
use daymark_netlink::nft::{Generation, Notice, Reply, TableId};
use netlink_sys::Socket;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use socket2::{SockFilter, SockRef};

use super::{DATAGRAM, OpenError, open, receive};

/// A member of the nftables group that hears what its filter lets through.
#[derive(Debug)]
struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What a listener hears.
enum Heard<'a> {
    /// Nothing waits.
    Nothing,
    /// Commits were missed.
    Lost,
    /// Notifications of one commit.
    Datagram(&'a [u8]),
}

impl Listener {
    /// In the network namespace of this thread.
    fn open(filter: &[SockFilter]) -> Result<Self, OpenError> {
        let (socket, _) = open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        let at = |step| move |source| OpenError { step, source };
        // The filter first: nothing else may be queued in between.
        SockRef::from(&socket)
            .attach_filter(filter)
            .map_err(at("SO_ATTACH_FILTER"))?;
        socket
            .add_membership(NFNLGRP_NFTABLES)
            .map_err(at("NETLINK_ADD_MEMBERSHIP"))?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM],
        })
    }

    fn wait(&self) -> io::Result<()> {
        let mut events = [PollFd::new(&self.socket, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut events, None))?;
        Ok(())
    }

    /// What waits.
    ///
    /// The kernel tells of an overrun before it hands out what waits, and drops without another word what comes until that is
    /// read (`NETLINK_S_CONGESTED`, `net/netlink/af_netlink.c`). So all of it is read first: what is verified after
    /// [`Heard::Lost`] is verified after the last commit that was dropped.
    fn next(&mut self) -> io::Result<Heard<'_>> {
        let mut lost = false;
        let length = loop {
            match receive(&self.socket, &mut self.buffer) {
                Ok(_) if lost => {}
                Ok(datagram) => break datagram.len(),
                Err(Errno::AGAIN) if lost => return Ok(Heard::Lost),
                Err(Errno::AGAIN) => return Ok(Heard::Nothing),
                Err(Errno::NOBUFS) => lost = true,
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Heard::Datagram(&self.buffer[..length]))
    }
}

/// Sees each commit to the ruleset of one network namespace. Never blocks: poll it by its file descriptor.
#[derive(Debug)]
pub struct GenerationWatch(Listener);

/// What a watch sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEvent {
    /// A commit.
    Commit {
        /// The generation that it made, and the process that did.
        generation: Generation,
        /// The netlink port of the socket that committed: [`super::NfSocket::port`] for one's own.
        port: u32,
    },
    /// Commits were missed (the receive buffer was full): verify everything.
    Lost,
}

impl GenerationWatch {
    /// Opens a watch in the network namespace of this thread.
    ///
    /// # Errors
    /// [`OpenError`]; EPERM at the group without `CAP_NET_ADMIN`.
    pub fn open() -> Result<Self, OpenError> {
        Listener::open(&only(frame::nftables(NFT_MSG_NEWGEN))).map(Self)
    }

    /// Sleeps until a commit waits, for threads that do nothing else.
    ///
    /// # Errors
    /// As `poll(2)`.
    pub fn wait(&self) -> io::Result<()> {
        self.0.wait()
    }

    /// The next commit that waits; `None` if none does.
    ///
    /// After an overrun all that waits is read before it says so: what is verified then is verified after the last commit that was
    /// dropped.
    ///
    /// # Errors
    /// As `recv(2)`; an answer of the kernel that cannot be decoded is InvalidData.
    pub fn read(&mut self) -> io::Result<Option<WatchEvent>> {
        let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            let datagram = match self.0.next()? {
                Heard::Nothing => return Ok(None),
                Heard::Lost => return Ok(Some(WatchEvent::Lost)),
                Heard::Datagram(datagram) => datagram,
            };
            for frame in frame::walk(datagram) {
                let frame = frame.map_err(broken)?;
                let port = frame.header.port;
                if let Reply::Generation(generation) = Reply::decode(&frame).map_err(broken)? {
                    return Ok(Some(WatchEvent::Commit { generation, port }));
                }
            }
        }
    }
}

impl AsFd for GenerationWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

/// Sees which commits of other sockets change some tables. Never blocks: poll it by its file descriptor.
///
/// What it does not see: elements that packets add, and that time out. Those are no commits.
#[derive(Debug)]
pub struct TableWatch {
    listener: Listener,
    tables: Vec<TableId>,
    /// Whether the commit that is being told of has changed one of them so far.
    reach: Reach,
}

/// What somebody else's commit changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// None of the tables.
    Elsewhere,
    /// One of the tables; or commits were missed (the receive buffer was full), and perhaps one of these did.
    Here,
}

impl TableWatch {
    /// Opens a watch in the network namespace of this thread, on these tables; commits of the socket with the netlink port `own`
    /// are not told of.
    ///
    /// # Errors
    /// [`OpenError`]; EPERM at the group without `CAP_NET_ADMIN`.
    pub fn open(own: u32, tables: Vec<TableId>) -> Result<Self, OpenError> {
        Ok(Self {
            listener: Listener::open(&not_from(own))?,
            tables,
            reach: Reach::Elsewhere,
        })
    }

    /// Sleeps until something waits, for threads that do nothing else.
    ///
    /// # Errors
    /// As `poll(2)`.
    pub fn wait(&self) -> io::Result<()> {
        self.listener.wait()
    }

    /// The next commit that waits; `None` if none does.
    ///
    /// After an overrun all that waits is read before it says so, as [`GenerationWatch::read`] does and for the same reason.
    /// What cannot be decoded may be a change of any table.
    ///
    /// # Errors
    /// As `recv(2)`.
    pub fn read(&mut self) -> io::Result<Option<Reach>> {
        loop {
            let datagram = match self.listener.next()? {
                Heard::Nothing => return Ok(None),
                Heard::Lost => {
                    self.reach = Reach::Elsewhere;
                    return Ok(Some(Reach::Here));
                }
                Heard::Datagram(datagram) => datagram,
            };
            // The kernel tells of a generation by a datagram of its own.
            let mut done = false;
            for frame in frame::walk(datagram) {
                match frame.and_then(|frame| Notice::decode(&frame)) {
                    Ok(Notice::Generation) => done = true,
                    Ok(Notice::Change { table }) if !self.tables.contains(&table) => {}
                    Ok(Notice::Change { .. }) | Err(_) => self.reach = Reach::Here,
                }
            }
            if done {
                return Ok(Some(std::mem::replace(&mut self.reach, Reach::Elsewhere)));
            }
        }
    }
}

impl AsFd for TableWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.socket.as_fd()
    }
}

/// Drops datagrams whose first message was caused by the socket with this port. All of one datagram are of one commit.
fn not_from(port: u32) -> [SockFilter; 4] {
    // In host order, as in [`only`].
    let port = u32::from_be_bytes(port.to_ne_bytes());
    [
        SockFilter::new(BPF_LD_W_ABS, 0, 0, NLMSG_PORT_AT),
        SockFilter::new(BPF_JEQ, 0, 1, port),
        SockFilter::new(BPF_RET, 0, 0, 0),
        SockFilter::new(BPF_RET, 0, 0, u32::MAX),
    ]
}

/// Keeps datagrams whose first message has this type, and drops all others.
///
/// `nlmsg_type` is in host order and the filter loads in network order.
fn only(kind: u16) -> [SockFilter; 4] {
    let wanted = u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    [
        SockFilter::new(BPF_LD_H_ABS, 0, 0, NLMSG_TYPE_AT),
        SockFilter::new(BPF_JEQ, 0, 1, wanted),
        SockFilter::new(BPF_RET, 0, 0, u32::MAX),
        SockFilter::new(BPF_RET, 0, 0, 0),
    ]
}

// `linux/bpf_common.h`.
const BPF_LD_H_ABS: u16 = 0x28;
const BPF_LD_W_ABS: u16 = 0x20;
const BPF_JEQ: u16 = 0x15;
const BPF_RET: u16 = 0x06;
/// `offsetof(struct nlmsghdr, nlmsg_type)`.
const NLMSG_TYPE_AT: u32 = 4;
/// `offsetof(struct nlmsghdr, nlmsg_pid)`.
const NLMSG_PORT_AT: u32 = 12;

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const NFNLGRP_NFTABLES: u32 = 7;
/// `NFT_MSG_NEWGEN` of `linux/netfilter/nf_tables.h`.
const NFT_MSG_NEWGEN: u16 = 15;
