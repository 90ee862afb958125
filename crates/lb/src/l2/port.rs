//! One interface that is answered on: its sockets, and a thread that holds no capability.
//!
//! The thread opens its packet sockets, gives up every capability, and only then reads the first frame.
//! The fence (until when it may answer) is checked by that thread, frame by frame, so that an agent
//! that hangs falls silent too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daymark_sys::packet::{self, PacketSocket, Traffic};
use daymark_sys::process::drop_capabilities;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::thread::CapabilitySet;
use socket2::{Domain, Socket, Type};

use super::frame::solicited_node;
use super::links::Link;
use super::responder::Responder;
use crate::clock;
use crate::metrics::{Metrics, add};
use crate::moment::Moment;

/// A handle on the thread; dropping it ends the thread, and with it every answer on the interface.
#[derive(Debug)]
pub(crate) struct Port {
    shared: Arc<Shared>,
    link: Link,
}

#[derive(Debug)]
struct Shared {
    orders: Mutex<Orders>,
    wake: OwnedFd,
    ended: AtomicBool,
}

/// What the thread should do from now on.
#[derive(Clone, Debug, Default)]
struct Orders {
    /// Never changed in place: another set is another `Arc`, so that the thread sees at a glance whether it is.
    addresses: Arc<BTreeSet<IpAddr>>,
    until: Moment,
    stop: bool,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// Starts to listen on the link, in the network namespace of the calling thread. Answers nothing yet.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`; ENODEV when the interface is gone.
    pub(crate) fn open(link: &Link, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            orders: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ended: AtomicBool::new(false),
        });
        let sockets = [
            packet::open(link.index, Traffic::Arp)?,
            packet::open(link.index, Traffic::Neighbours)?,
        ];
        let worker = Worker {
            responder: Responder::new(link.mac),
            sockets,
            groups: Groups {
                interface: link.index,
                sockets: Vec::new(),
                joined: BTreeMap::new(),
                missing: Missing::None,
            },
            obeyed: Orders::default(),
            shared: Arc::clone(&shared),
            metrics,
            name: link.name.clone(),
        };
        std::thread::Builder::new()
            .name(format!("l2-{}", link.name))
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            link: link.clone(),
        })
    }

    /// Whether the link could be listened on: opens its sockets and closes them.
    ///
    /// # Errors
    /// As [`Port::open`].
    pub(crate) fn probe(link: &Link) -> io::Result<()> {
        packet::open(link.index, Traffic::Arp)?;
        packet::open(link.index, Traffic::Neighbours)?;
        Ok(())
    }

    /// The interface.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the thread ended by itself, because the interface went away.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Makes these the addresses it answers for, until that moment.
    pub(crate) fn order(&self, addresses: &BTreeSet<IpAddr>, until: Moment) {
        // Compared without the lock: the thread takes it between frames. Nobody else gives orders.
        let known = Arc::clone(&self.orders().addresses);
        let addresses = match *known == *addresses {
            true => known,
            false => Arc::new(addresses.clone()),
        };
        let mut orders = self.orders();
        if Arc::ptr_eq(&orders.addresses, &addresses) && orders.until == until {
            return;
        }
        orders.addresses = addresses;
        orders.until = until;
        drop(orders);
        self.wake();
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.shared.orders()
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.orders().stop = true;
        self.wake();
    }
}

/// Tells that the thread ends, also by a panic: the announcer opens another port then.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

struct Worker {
    responder: Responder,
    sockets: [PacketSocket; 2],
    groups: Groups,
    /// The orders that responder and groups follow.
    obeyed: Orders,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    name: String,
}

impl Worker {
    fn run(mut self) {
        let _end = End(Arc::clone(&self.shared));
        if let Err(error) = self.work() {
            tracing::warn!(interface = %self.name, %error, "load-balancer addresses are no longer answered on this interface");
            add(&self.metrics.interface_failures);
        }
    }

    fn work(&mut self) -> io::Result<()> {
        drop_capabilities(CapabilitySet::empty())?;
        let mut buffer = [0_u8; 2048];
        loop {
            // Whatever woke the thread: from here on nothing is answered that was taken away. It costs a lock and a
            // count.
            let orders = self.shared.orders().clone();
            if orders.stop {
                return Ok(());
            }
            self.obey(clock::now(), orders);
            for at in 0..self.sockets.len() {
                self.answer(at, &mut buffer)?;
            }
            self.announce(clock::now());
            self.wait()?;
        }
    }

    /// Follows the orders. Those about the same addresses as before cost nothing, however many there are.
    fn obey(&mut self, now: Moment, orders: Orders) {
        let renewed = orders.until != self.obeyed.until;
        let others = !Arc::ptr_eq(&orders.addresses, &self.obeyed.addresses);
        if others {
            self.responder.assign(now, &orders.addresses);
        }
        self.responder.allow(now, orders.until);
        // What could not be joined is tried again with every renewal.
        if others || renewed && self.groups.missing == Missing::Some {
            self.groups.follow(&orders.addresses, &self.name);
        }
        self.obeyed = orders;
    }

    fn announce(&mut self, now: Moment) {
        for frame in self.responder.due(now) {
            // An announcement for IPv4 or IPv6: every packet socket of the interface sends both.
            match self.sockets[0].send(&frame) {
                Ok(()) => add(&self.metrics.announced),
                Err(error) => self.not_sent(&error),
            }
        }
    }

    /// Waits for a frame, an order, or the next announcement.
    fn wait(&self) -> io::Result<()> {
        let timeout = self.responder.deadline().map(|at| {
            let left = at.since(clock::now());
            // Both fit: a deadline is at most seconds away.
            Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut ready = [
            PollFd::new(&self.sockets[0], PollFlags::IN),
            PollFd::new(&self.sockets[1], PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !ready[2].revents().is_empty() {
            let mut count = [0; 8];
            // The counter may have been read already; its value means nothing.
            let _ = rustix::io::read(&self.shared.wake, &mut count);
        }
        Ok(())
    }

    /// Answers what is waiting, but not for so long that orders would have to wait.
    fn answer(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        let socket = &self.sockets[at];
        for _ in 0..FRAMES_AT_ONCE {
            let length = match socket.receive(buffer) {
                Ok(length) => length.min(buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Down for now; when it comes up again frames arrive again.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => return Ok(()),
                Err(error) => return Err(error),
            };
            match self.responder.receive(clock::now(), &buffer[..length]) {
                Ok(reply) => match socket.send(&reply) {
                    Ok(()) => add(&self.metrics.answered),
                    Err(error) => self.not_sent(&error),
                },
                Err(reason) => self.metrics.count_drop(reason),
            }
        }
        Ok(())
    }

    fn not_sent(&self, error: &io::Error) {
        tracing::debug!(interface = %self.name, %error, "a frame was not sent");
        add(&self.metrics.send_failures);
    }
}

/// Frames of one socket that are answered before anything else is looked at.
const FRAMES_AT_ONCE: usize = 64;

/// The solicited-node groups that the interface is a member of.
///
/// Joined by ordinary sockets, not by packet-socket membership: the kernel then also tells switches that
/// snoop multicast (MLD reports), and answers their queries.
struct Groups {
    interface: u32,
    sockets: Vec<Socket>,
    /// Which socket joined a group.
    joined: BTreeMap<Ipv6Addr, usize>,
    missing: Missing,
}

/// Whether a group that is needed could not be joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    None,
    Some,
}

impl Groups {
    fn follow(&mut self, addresses: &BTreeSet<IpAddr>, name: &str) {
        let wanted: BTreeSet<Ipv6Addr> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(six) => Some(solicited_node(*six)),
            })
            .collect();
        let gone: Vec<Ipv6Addr> = self
            .joined
            .keys()
            .filter(|group| !wanted.contains(group))
            .copied()
            .collect();
        for group in gone {
            if let Some(at) = self.joined.remove(&group) {
                // Fails only when the interface is gone, and the membership with it.
                let _ = self.sockets[at].leave_multicast_v6(&group, self.interface);
            }
        }
        self.missing = Missing::None;
        for group in wanted {
            if self.joined.contains_key(&group) {
                continue;
            }
            if let Err(error) = self.join(group) {
                self.missing = Missing::Some;
                tracing::warn!(interface = name, %group, %error, "the multicast group of an address cannot be joined");
            }
        }
    }

    /// Joins with the newest socket, or with a fresh one when that holds as many as the kernel allows
    /// (`net.core.optmem_max`).
    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        if let Some(at) = self.sockets.len().checked_sub(1)
            && self.sockets[at]
                .join_multicast_v6(&group, self.interface)
                .is_ok()
        {
            self.joined.insert(group, at);
            return Ok(());
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.join_multicast_v6(&group, self.interface)?;
        self.joined.insert(group, self.sockets.len());
        self.sockets.push(socket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_has_ended() {
        let shared = Arc::new(Shared {
            orders: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
            ended: AtomicBool::new(false),
        });
        let end = End(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let _end = end;
            panic!("such a frame");
        });
        assert!(thread.join().is_err());
        assert!(shared.ended.load(Ordering::Acquire));
    }
}
