//! The servers of a bare lab: one thread for the sockets of every namespace.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use daymark_sys::ns::NetNs;
use daymark_sys::packet::{self, Family};
use rustix::event::epoll;
use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Socket, Type};

use super::answer::{self, Answer, Place};
use super::probe::Arrivals;
use super::sctp;

/// The servers; dropping them closes every socket.
pub(super) struct Servers {
    shared: Arc<Shared>,
    bound: BTreeSet<(Place, u16)>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: OwnedFd,
    stop: OwnedFd,
    sockets: Mutex<Vec<Arc<Server>>>,
}

struct Server {
    place: Place,
    socket: Bound,
}

enum Bound {
    Tcp(TcpListener),
    /// One-to-one style (RFC 6458, section 4), which answers like TCP; `getsockname(2)` of an accepted socket names
    /// no address, so each has its own listener.
    Association {
        listener: TcpListener,
        address: SocketAddr,
    },
    Udp {
        socket: Socket,
        port: u16,
    },
    Sctp {
        socket: Socket,
        family: Family,
        arrivals: Arrivals,
    },
}

impl Servers {
    pub(super) fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &stop,
            epoll::EventData::new_u64(STOP),
            epoll::EventFlags::IN,
        )?;
        let shared = Arc::new(Shared {
            epoll,
            stop,
            sockets: Mutex::default(),
        });
        let thread = std::thread::Builder::new()
            .name("probe-servers".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.serve()
            })?;
        Ok(Self {
            shared,
            bound: BTreeSet::new(),
            thread: Some(thread),
        })
    }

    /// Listens in the namespace, both families, TCP and UDP.
    pub(super) fn listen(&mut self, place: &Place, ns: &NetNs, ports: &[u16]) -> io::Result<()> {
        for port in ports {
            if !self.bound.insert((place.clone(), *port)) {
                continue;
            }
            for (domain, any) in EVERY_ADDRESS {
                let address = SocketAddr::new(any, *port);
                self.shared
                    .add(place, Bound::Tcp(ns.within(|| tcp(domain, address))??))?;
                let socket = ns.within(|| udp(domain, address))??;
                self.shared.add(
                    place,
                    Bound::Udp {
                        socket,
                        port: *port,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Listens for SCTP associations at these addresses of the namespace.
    pub(super) fn listen_sctp(
        &self,
        place: &Place,
        ns: &NetNs,
        addresses: &[IpAddr],
        ports: &[u16],
    ) -> io::Result<()> {
        for address in addresses {
            for port in ports {
                let address = SocketAddr::new(*address, *port);
                let listener = ns.within(|| sctp_listener(address))??;
                self.shared
                    .add(place, Bound::Association { listener, address })?;
            }
        }
        Ok(())
    }

    /// Watches for INITs in the namespace, both families, whatever their port.
    pub(super) fn watch_sctp(
        &self,
        place: &Place,
        ns: &NetNs,
        arrivals: &Arrivals,
    ) -> io::Result<()> {
        for (domain, family) in [(Domain::IPV4, Family::V4), (Domain::IPV6, Family::V6)] {
            let socket =
                ns.within(|| Socket::new(domain, Type::RAW.nonblocking(), Some(SCTP)))??;
            packet::tell_destination(&socket, family)?;
            self.shared.add(
                place,
                Bound::Sctp {
                    socket,
                    family,
                    arrivals: arrivals.clone(),
                },
            )?;
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The counter of an event descriptor is far from full: the write cannot block or fail.
        let _ = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn add(&self, place: &Place, socket: Bound) -> io::Result<()> {
        let server = Arc::new(Server {
            place: place.clone(),
            socket,
        });
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let data = epoll::EventData::new_u64(sockets.len() as u64);
        sockets.push(Arc::clone(&server));
        let fd = match &server.socket {
            Bound::Tcp(listener) | Bound::Association { listener, .. } => listener.as_fd(),
            Bound::Udp { socket, .. } | Bound::Sctp { socket, .. } => socket.as_fd(),
        };
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    fn serve(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let waited = epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            );
            if waited.is_err_and(|errno| errno != rustix::io::Errno::INTR) {
                return;
            }
            for event in &events {
                let index = event.data.u64();
                if index == STOP {
                    return;
                }
                let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
                let server = usize::try_from(index)
                    .ok()
                    .and_then(|index| sockets.get(index))
                    .map(Arc::clone);
                drop(sockets);
                if let Some(server) = server {
                    server.serve();
                }
            }
        }
    }
}

impl Server {
    /// Answers everything that waits. A peer that went away meanwhile is not the server's concern.
    fn serve(&self) {
        let served = match &self.socket {
            Bound::Tcp(listener) => self.accept(listener, None),
            Bound::Association { listener, address } => self.accept(listener, Some(*address)),
            Bound::Udp { socket, port } => self.echo(socket, *port),
            Bound::Sctp {
                socket,
                family,
                arrivals,
            } => self.note(socket, *family, arrivals),
        };
        if let Err(error) = served {
            tracing::debug!(place = %self.place, %error, "probe server");
        }
    }

    /// Answers at the listener's own address, or at that of the accepted socket.
    fn accept(&self, listener: &TcpListener, address: Option<SocketAddr>) -> io::Result<()> {
        while let Some((mut stream, source)) = ready(listener.accept())? {
            // A probe that was answered half may have gone: the next one matters.
            if let Ok(arrived_at) = address.map_or_else(|| stream.local_addr(), Ok) {
                let answer = Answer {
                    place: self.place.clone(),
                    arrived_at,
                    source,
                };
                let _ = stream.write_all(answer::line(&answer).as_bytes());
            }
        }
        Ok(())
    }

    fn echo(&self, socket: &Socket, port: u16) -> io::Result<()> {
        let mut buffer = [0; 64];
        while let Some(datagram) = ready(packet::receive(socket, &mut buffer))? {
            let Some(address) = datagram.destination else {
                continue;
            };
            let arrived_at = SocketAddr::new(address, port);
            let answer = Answer {
                place: self.place.clone(),
                arrived_at,
                source: datagram.source,
            };
            let _ = packet::send_from(
                socket,
                answer::line(&answer).as_bytes(),
                datagram.source,
                address,
            );
        }
        Ok(())
    }

    fn note(&self, socket: &Socket, family: Family, arrivals: &Arrivals) -> io::Result<()> {
        let mut buffer = [0; 256];
        while let Some(datagram) = ready(packet::receive(socket, &mut buffer))? {
            let bytes = &buffer[..datagram.length];
            // Raw IPv4 sockets see the IP header, raw IPv6 sockets do not (raw(7), ipv6(7)).
            let found =
                match family {
                    Family::V4 => sctp::parse_ipv4(bytes),
                    Family::V6 => sctp::Init::parse(bytes).zip(datagram.destination).map(
                        |(init, destination)| {
                            let source = SocketAddr::new(datagram.source.ip(), init.source_port);
                            (
                                SocketAddr::new(destination, init.destination_port),
                                source,
                                init,
                            )
                        },
                    ),
                };
            if let Some((arrived_at, source, init)) = found {
                arrivals.tell(
                    init.tag,
                    Answer {
                        place: self.place.clone(),
                        arrived_at,
                        source,
                    },
                );
            }
        }
        Ok(())
    }
}

/// `None` when the call would have waited.
fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn tcp(domain: Domain, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn sctp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(SCTP))?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn udp(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), None)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    packet::tell_destination(
        &socket,
        if domain == Domain::IPV6 {
            Family::V6
        } else {
            Family::V4
        },
    )?;
    socket.bind(&address.into())?;
    Ok(socket)
}

const EVERY_ADDRESS: [(Domain, IpAddr); 2] = [
    (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
];
/// The event that ends the thread; sockets are numbered from 0.
const STOP: u64 = u64::MAX;
/// IP protocol number of SCTP.
pub(super) const SCTP: socket2::Protocol = socket2::Protocol::SCTP;
