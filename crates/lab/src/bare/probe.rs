//! Probes: packets sent from a place, and what became of each.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daymark_sys::ns::NetNs;
use daymark_sys::packet::{self, Family};
use socket2::{Domain, Socket, Type};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;

use super::answer::{self, Answer, Outcome, Place, Protocol, Refusal};
use super::sctp::Init;
use super::server::SCTP;

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The place that sends it.
    pub from: Place,
    /// The source address, where the place has several; the kernel chooses when there is none.
    pub source: Option<IpAddr>,
    /// Where to.
    pub to: SocketAddr,
    /// How.
    pub protocol: Protocol,
}

/// Why a probe could not be sent.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// There is no such place.
    #[error("there is no {0} in this lab to probe from")]
    UnknownPlace(Place),
    /// A system call failed before the packet left.
    #[error("{call} in {place}: {source}")]
    Call {
        /// The system call.
        call: &'static str,
        /// The place that was to send.
        place: Place,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Sends probes on a runtime of its own, many at a time.
pub(super) struct Prober {
    runtime: tokio::runtime::Runtime,
    arrivals: Arrivals,
}

/// Where servers report SCTP INITs, which they cannot answer: by the INIT's tag.
#[derive(Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<HashMap<u32, oneshot::Sender<Answer>>>>);

impl Arrivals {
    pub(super) fn tell(&self, tag: u32, answer: Answer) {
        let waiting = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tag);
        if let Some(waiting) = waiting {
            // The probe may have run out of patience.
            let _ = waiting.send(answer);
        }
    }

    fn expect(&self) -> (u32, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Zero is not allowed as a tag (RFC 9260, section 3.3.2).
        let mut tag = rand::random::<u32>() | 1;
        while waiting.contains_key(&tag) {
            tag = tag.wrapping_add(2);
        }
        waiting.insert(tag, sender);
        (tag, receiver)
    }

    fn forget(&self, tag: u32) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tag);
    }
}

impl Prober {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            arrivals: Arrivals::default(),
        })
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    pub(super) fn run(
        &self,
        spaces: &BTreeMap<Place, NetNs>,
        probes: &[Probe],
        patience: Duration,
    ) -> Vec<Result<Outcome, ProbeError>> {
        let mut results = Vec::with_capacity(probes.len());
        for group in probes.chunks(AT_ONCE) {
            let group = group.iter().map(|probe| self.one(spaces, probe, patience));
            results.extend(self.runtime.block_on(futures::future::join_all(group)));
        }
        results
    }

    async fn one(
        &self,
        spaces: &BTreeMap<Place, NetNs>,
        probe: &Probe,
        patience: Duration,
    ) -> Result<Outcome, ProbeError> {
        let call = |call| {
            move |source| ProbeError::Call {
                call,
                place: probe.from.clone(),
                source,
            }
        };
        let ns = spaces
            .get(&probe.from)
            .ok_or_else(|| ProbeError::UnknownPlace(probe.from.clone()))?;
        let socket = ns
            .within(|| open(probe))
            .and_then(|socket| socket)
            .map_err(call("socket"))?;
        if let Err(source) = connect(&socket, probe.to) {
            // A plane may refuse in the sender's own output hook, before the packet leaves.
            return refused_at_once(&source, &socket).ok_or_else(|| call("connect")(source));
        }
        let socket = Wire::register(socket).map_err(call("epoll"))?;
        let outcome = async {
            match probe.protocol {
                Protocol::Tcp | Protocol::Association => stream(&socket).await,
                Protocol::Udp => datagram(&socket).await,
                Protocol::Sctp => self.init(&socket, probe.to.port()).await,
            }
        };
        match tokio::time::timeout(patience, outcome).await {
            Err(_elapsed) => Ok(Outcome::Timeout),
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(source)) => {
                refused_at_once(&source, &socket).ok_or_else(|| call("send or receive")(source))
            }
        }
    }

    /// Sends an INIT and waits until a server reports it or an ICMP error comes back for it.
    async fn init(&self, socket: &Wire, port: u16) -> io::Result<Outcome> {
        let (tag, arrival) = self.arrivals.expect();
        // Dynamic ports (RFC 6335): the tag is random, so its low bits are as good as any.
        let source_port = 49_152 | (tag >> 16) as u16;
        let packet = Init {
            source_port,
            destination_port: port,
            tag,
        }
        .emit();
        let forget = Forget(&self.arrivals, tag);
        socket.send(&packet)?;
        let outcome = tokio::select! {
            answer = arrival => answer.map_or(Outcome::Timeout, Outcome::Reached),
            refusal = icmp(socket, &packet[..4]) => Outcome::Refused(refusal?),
        };
        drop(forget);
        Ok(outcome)
    }
}

/// Takes an expected arrival off the list, also when the probe is given up.
struct Forget<'a>(&'a Arrivals, u32);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

fn open(probe: &Probe) -> io::Result<Socket> {
    let (domain, family) = match probe.to {
        SocketAddr::V4(_) => (Domain::IPV4, Family::V4),
        SocketAddr::V6(_) => (Domain::IPV6, Family::V6),
    };
    let (kind, protocol) = match probe.protocol {
        Protocol::Tcp => (Type::STREAM, None),
        Protocol::Udp => (Type::DGRAM, None),
        Protocol::Sctp => (Type::RAW, Some(SCTP)),
        Protocol::Association => (Type::STREAM, Some(SCTP)),
    };
    let socket = Socket::new(domain, kind.nonblocking(), protocol)?;
    packet::keep_icmp_errors(&socket, family)?;
    if kind == Type::STREAM {
        // A reset or an abort at the end: no connection lingers in a table for minutes.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if let Some(source) = probe.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

fn connect(socket: &Socket, to: SocketAddr) -> io::Result<()> {
    // A raw socket takes no port, and rejects one (inet_dgram_connect, rawv6 bind).
    let to = if socket.r#type()? == Type::RAW {
        SocketAddr::new(to.ip(), 0)
    } else {
        to
    };
    match socket.connect(&to.into()) {
        Err(error)
            if error.kind() == io::ErrorKind::WouldBlock
                || error.raw_os_error() == Some(IN_PROGRESS) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// An error that is the kernel's word about the packet, not about the call.
fn refused_at_once(error: &io::Error, socket: impl AsFd) -> Option<Outcome> {
    if let Ok(Some(report)) = packet::icmp_error(socket) {
        return Some(Outcome::Refused(report.error.into()));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            Some(Outcome::Refused(Refusal::TcpReset))
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(Outcome::Refused(Refusal::Unreachable))
        }
        // What a drop verdict in the sender's own output hook gives to send(2).
        io::ErrorKind::PermissionDenied => Some(Outcome::Timeout),
        _ => None,
    }
}

/// A socket that is waited for.
enum Wire {
    Stream(TcpStream),
    /// UDP, or a raw socket: tokio asks the same of both.
    Datagram(UdpSocket),
}

impl Wire {
    fn register(socket: Socket) -> io::Result<Self> {
        match socket.r#type()? {
            Type::STREAM => Ok(Self::Stream(TcpStream::from_std(socket.into())?)),
            _ => Ok(Self::Datagram(UdpSocket::from_std(socket.into())?)),
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Self::Stream(socket) => socket.ready(interest).await.map(drop),
            Self::Datagram(socket) => socket.ready(interest).await.map(drop),
        }
    }

    /// Runs `call`; when it would block, the next [`Wire::ready`] waits.
    fn attempt<R>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        let result = match self {
            Self::Stream(socket) => socket.try_io(interest, call),
            Self::Datagram(socket) => socket.try_io(interest, call),
        };
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pending_error(&self) -> io::Result<()> {
        let pending = match self {
            Self::Stream(socket) => socket.take_error()?,
            Self::Datagram(socket) => socket.take_error()?,
        };
        pending.map_or(Ok(()), Err)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::send(self, bytes, rustix::net::SendFlags::empty())?;
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(socket) => socket.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
        }
    }
}

async fn stream(socket: &Wire) -> io::Result<Outcome> {
    socket.ready(Interest::WRITABLE).await?;
    socket.pending_error()?;
    answered(socket).await
}

async fn datagram(socket: &Wire) -> io::Result<Outcome> {
    socket.send(b"daymark")?;
    tokio::select! {
        answer = answered(socket) => answer,
        refusal = icmp(socket, &[]) => Ok(Outcome::Refused(refusal?)),
    }
}

/// Reads until the line is complete.
async fn answered(socket: &Wire) -> io::Result<Outcome> {
    let mut text = Vec::new();
    loop {
        socket.ready(Interest::READABLE).await?;
        let mut buffer = [0; 256];
        match socket.attempt(Interest::READABLE, || {
            Ok(rustix::io::read(socket, &mut buffer)?)
        })? {
            None => {}
            Some(0) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(length) => text.extend_from_slice(&buffer[..length]),
        }
        if text.ends_with(b"\n") {
            let invalid = || {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an answer that no probe server gives",
                )
            };
            return answer::parse(&text)
                .map(Outcome::Reached)
                .ok_or_else(invalid);
        }
    }
}

/// Waits for an ICMP error about a packet that starts so: raw sockets of a namespace share their errors.
async fn icmp(socket: &Wire, start: &[u8]) -> io::Result<Refusal> {
    loop {
        socket.ready(Interest::ERROR).await?;
        let report = socket.attempt(Interest::ERROR, || {
            packet::icmp_error(socket)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        })?;
        match report {
            Some(report) if report.packet.starts_with(start) => return Ok(report.error.into()),
            Some(_) => {}
            None => socket.pending_error()?,
        }
    }
}

/// Probes in flight; each holds a descriptor.
const AT_ONCE: usize = 256;
/// EINPROGRESS: a connection that is being opened (connect(2)).
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
