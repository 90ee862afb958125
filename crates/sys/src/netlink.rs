//! The netfilter netlink socket: transactions, questions, and a watch on foreign commits.
//!
//! The kernel handles a netlink request inside `send(2)`: when that returns, every answer waits in the receive
//! buffer, and each `recv(2)` of a dump puts the next part there. Nothing here ever blocks or needs a clock.
//!
//! A socket belongs to the network namespace of the thread that opened it, for good.

mod error;
mod read;
mod watch;

pub use daymark_netlink::frame::Refusal;
pub use error::{Completeness, OpenError, QueryError, TransactError};
pub use watch::{GenerationWatch, Reach, TableWatch, WatchEvent};

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use daymark_netlink::attr::{DecodeError, Writer};
use daymark_netlink::frame::{self, Frame};
use daymark_netlink::nft::{Batch, Generation, Message, Query, Reply, Transaction};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

/// A netfilter netlink socket of one network namespace.
///
/// A table with `TableFlags::OWNER` can only be changed through the socket that created or adopted it, and
/// loses its owner when that is closed.
#[derive(Debug)]
pub struct NfSocket {
    socket: Socket,
    port: u32,
    seq: u32,
    buffer: Vec<u8>,
}

/// What ends an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// One message.
    One,
    /// `NLMSG_DONE` after any number of messages.
    Dump,
    /// An acknowledgement (`NLM_F_ACK`).
    Ack,
}

/// What an answer held.
enum Collected<T> {
    /// Of one moment.
    OfOneMoment(Vec<T>),
    /// Some may be missing or come twice: the ruleset changed meanwhile, or the receive buffer was full.
    Torn(Vec<T>),
}

impl NfSocket {
    /// Opens a socket in the network namespace of this thread. Needs no privilege by itself; most requests
    /// need `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    ///
    /// # Errors
    /// [`OpenError`] names the call: usually a kernel without netfilter netlink.
    pub fn open() -> Result<Self, OpenError> {
        Self::of(netlink_sys::protocols::NETLINK_NETFILTER)
    }

    /// One of another protocol, with the same framing.
    pub(crate) fn of(protocol: isize) -> Result<Self, OpenError> {
        let (socket, port) = open(protocol)?;
        Ok(Self {
            socket,
            port,
            seq: 0,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// The netlink port: what the kernel calls the owner of a table, and the sender of a commit.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// The most bytes a transaction should have: [`Batch::LIMIT`], or less if the send buffer is smaller.
    ///
    /// # Errors
    /// As `getsockopt(2)`.
    pub fn transaction_limit(&self) -> io::Result<usize> {
        let buffer = sockopt::socket_send_buffer_size(&self.socket)?;
        Ok(Batch::LIMIT.min(buffer.saturating_sub(SEND_OVERHEAD)))
    }

    /// Sets the send buffer as far as an unprivileged program may (`net.core.wmem_max`).
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        // The kernel doubles what it is given (`sock_setsockopt`).
        Ok(sockopt::set_socket_send_buffer_size(
            &self.socket,
            bytes / 2,
        )?)
    }

    /// Commits a transaction: all of it, or nothing. `bytes` are those of
    /// [`daymark_netlink::nft::Transaction`], whose `blame` finds the message of a [`Refusal`].
    ///
    /// # Errors
    /// [`TransactError`]; the ruleset is then as it was before.
    pub fn transact(&mut self, bytes: &[u8]) -> Result<(), TransactError> {
        self.drain()?;
        match self.send(bytes) {
            Err(Errno::MSGSIZE) => {
                let buffer =
                    sockopt::socket_send_buffer_size(&self.socket).map_err(io::Error::from)?;
                return Err(TransactError::TooLarge {
                    bytes: bytes.len(),
                    buffer,
                });
            }
            sent => sent.map_err(io::Error::from)?,
        }
        let mut refusals = Vec::new();
        let mut complete = Completeness::Complete;
        loop {
            match self.receive() {
                Ok(datagram) => refusals.append(&mut read_refusals(datagram)?),
                Err(Errno::NOBUFS) => complete = Completeness::Lost,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        if refusals.is_empty() && complete == Completeness::Complete {
            return Ok(());
        }
        Err(TransactError::Refused { refusals, complete })
    }

    /// Builds one transaction of messages and commits it.
    ///
    /// # Errors
    /// [`TransactError`].
    pub fn commit(&mut self, messages: &[Message]) -> Result<(), TransactError> {
        let transaction = Transaction::of(messages)?;
        self.transact(transaction.bytes())
    }

    /// Asks and collects the whole answer; a dump that a commit interrupted is asked for again.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn query(&mut self, query: &Query) -> Result<Vec<Reply>, QueryError> {
        let answer = if query.is_dump() {
            Answer::Dump
        } else {
            Answer::One
        };
        let decode = |frame: &Frame<'_>| Reply::decode(frame).map(Some);
        self.exchange(answer, |out, seq| query.encode(out, seq), decode)
    }

    /// The current generation of the ruleset: about 5 microseconds.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn generation(&mut self) -> Result<Generation, QueryError> {
        match self.query(&Query::Generation)?.pop() {
            Some(Reply::Generation(generation)) => Ok(generation),
            _ => Err(QueryError::Cut),
        }
    }

    /// Sends one request and decodes its answer; what `decode` makes nothing of is not held.
    pub(crate) fn exchange<T>(
        &mut self,
        answer: Answer,
        encode: impl Fn(&mut Writer, u32),
        decode: impl Fn(&Frame<'_>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, QueryError> {
        for _ in 0..TRIES {
            self.drain()?;
            self.seq = self.seq.wrapping_add(1).max(1);
            let mut out = Writer::new();
            encode(&mut out, self.seq);
            self.send(out.bytes()).map_err(io::Error::from)?;
            if let Collected::OfOneMoment(items) = self.collect(answer, &decode)? {
                return Ok(items);
            }
        }
        Err(QueryError::Unsteady { tries: TRIES })
    }

    /// The answer to a question that is a dump, asked for once, whatever happens to the ruleset meanwhile.
    fn query_once(&mut self, query: &Query) -> Result<Collected<Reply>, QueryError> {
        self.drain()?;
        self.seq = self.seq.wrapping_add(1).max(1);
        let mut out = Writer::new();
        query.encode(&mut out, self.seq);
        self.send(out.bytes()).map_err(io::Error::from)?;
        let decode = |frame: &Frame<'_>| Reply::decode(frame).map(Some);
        self.collect(Answer::Dump, &decode)
    }

    /// The answer to the last request.
    fn collect<T>(
        &mut self,
        answer: Answer,
        decode: &impl Fn(&Frame<'_>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Collected<T>, QueryError> {
        let seq = self.seq;
        let mut items = Vec::new();
        let mut steady = true;
        loop {
            let datagram = match self.receive() {
                Ok(datagram) => datagram,
                Err(Errno::NOBUFS) => return Ok(Collected::Torn(items)),
                Err(Errno::AGAIN) => return Err(QueryError::Cut),
                Err(error) => return Err(io::Error::from(error).into()),
            };
            for frame in frame::walk(datagram) {
                let frame = frame?;
                if frame.header.seq != seq {
                    continue;
                }
                steady &= frame.header.flags & frame::NLM_F_DUMP_INTR == 0;
                match frame.header.kind {
                    frame::NLMSG_DONE => return finish(&frame, items, steady),
                    frame::NLMSG_ERROR => match Refusal::decode(&frame)? {
                        Some(refusal) => return Err(QueryError::Refused(refusal)),
                        None => return Ok(Collected::OfOneMoment(items)),
                    },
                    _ => items.extend(decode(&frame)?),
                }
                if answer == Answer::One {
                    return Ok(Collected::OfOneMoment(items));
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| send(&self.socket, bytes, SendFlags::empty())).map(drop)
    }

    /// The next datagram that waits; AGAIN if none does.
    fn receive(&mut self) -> Result<&[u8], Errno> {
        receive(&self.socket, &mut self.buffer)
    }

    /// Forgets answers that nobody read, such as the rest of one that could not be decoded.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.receive() {
                Ok(_) | Err(Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for NfSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that only the kernel can send to, and its port.
fn open(protocol: isize) -> Result<(Socket, u32), OpenError> {
    let at = |step| move |source| OpenError { step, source };
    let mut socket = Socket::new(protocol).map_err(at("socket"))?;
    let own = socket.bind_auto().map_err(at("bind"))?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(at("connect"))?;
    socket.set_ext_ack(true).map_err(at("NETLINK_EXT_ACK"))?;
    socket.set_cap_ack(true).map_err(at("NETLINK_CAP_ACK"))?;
    Ok((socket, own.port_number()))
}

fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    let (read, whole) = rustix::io::retry_on_intr(|| recv(socket, &mut *buffer, flags))?;
    if whole > read {
        return Err(Errno::MSGSIZE);
    }
    Ok(&buffer[..read])
}

fn read_refusals(datagram: &[u8]) -> Result<Vec<Refusal>, DecodeError> {
    let mut out = Vec::new();
    for frame in frame::walk(datagram) {
        out.extend(Refusal::decode(&frame?)?);
    }
    Ok(out)
}

/// `NLMSG_DONE` carries an errno of its own: a dump can fail half-way.
fn finish<T>(frame: &Frame<'_>, items: Vec<T>, steady: bool) -> Result<Collected<T>, QueryError> {
    let errno = frame
        .payload
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if errno < 0 && errno != -Errno::INTR.raw_os_error() {
        return Err(io::Error::from_raw_os_error(-errno).into());
    }
    Ok(if steady && errno == 0 {
        Collected::OfOneMoment(items)
    } else {
        Collected::Torn(items)
    })
}

/// A dump fills at most 32 KiB (`netlink_dump`), an error is short because it is capped.
const DATAGRAM: usize = 1 << 16;
/// What `netlink_sendmsg` keeps of the send buffer.
const SEND_OVERHEAD: usize = 32;
/// How often a dump is asked for while others keep committing.
const TRIES: usize = 16;
