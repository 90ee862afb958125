//! Connections that the kernel tracks (ctnetlink): as values, and their messages.
//!
//! Numbers are those of `include/uapi/linux/netfilter/nfnetlink_conntrack.h` unless another source is named.

mod wire;

use std::fmt;
use std::net::IpAddr;

use crate::nft::Family;

/// One tracked connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// As the first packet came in: to the address that the client asked for.
    pub original: Tuple,
    /// As answers come in: from the endpoint that was chosen.
    pub reply: Tuple,
    /// The conntrack zone; 0 unless a rule set one, be it for one direction alone.
    pub zone: u16,
    /// What happened to it.
    pub status: Status,
    /// The connection mark.
    pub mark: u32,
    /// Seconds until the entry ends without another packet.
    pub timeout: Option<u32>,
    /// The number of the entry: a new connection of the same tuple has another.
    pub id: Option<u32>,
    /// What is kept of a TCP connection.
    pub tcp: Option<Tcp>,
}

/// What is kept of a TCP connection (`struct nf_conn::proto`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tcp {
    /// How far it has come.
    pub state: TcpState,
    /// Of the side that sent the first packet.
    pub original: TcpFlags,
    /// Of the other.
    pub reply: TcpFlags,
}

flags! {
    /// What is known of one side of a TCP connection (`IP_CT_TCP_FLAG_*`, `linux/netfilter/nf_conntrack_tcp.h`).
    pub struct TcpFlags {
        /// It scales its window.
        WINDOW_SCALE = 0x01, "WINDOW_SCALE";
        /// It acknowledges selectively.
        SACK_PERM = 0x02, "SACK_PERM";
        /// It was the first to send its last.
        CLOSE_INIT = 0x04, "CLOSE_INIT";
        /// Its packets are not held against the window.
        BE_LIBERAL = 0x08, "BE_LIBERAL";
        /// The other side has not acknowledged everything of it, its last included.
        DATA_UNACKNOWLEDGED = 0x10, "DATA_UNACKNOWLEDGED";
    }
}

/// The state of a TCP connection (`enum tcp_conntrack`, `linux/netfilter/nf_conntrack_tcp.h`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TcpState(pub u8);

impl TcpState {
    /// Both sides may send.
    pub const ESTABLISHED: Self = Self(3);
    /// One side has sent its last.
    pub const FIN_WAIT: Self = Self(4);
    /// And the other has heard that.
    pub const CLOSE_WAIT: Self = Self(5);
    /// Both have, or one has said it again.
    pub const LAST_ACK: Self = Self(6);

    /// Whether somebody has sent his last, and not yet both and in order.
    #[must_use]
    pub fn is_half_closed(self) -> bool {
        [Self::FIN_WAIT, Self::CLOSE_WAIT, Self::LAST_ACK].contains(&self)
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// The transport protocol: TCP 6, UDP 17, SCTP 132, ICMP 1, ICMPv6 58.
    pub protocol: u8,
    /// What else tells connections apart.
    pub ports: Ports,
}

/// What tells connections between two addresses apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ports {
    /// Ports, for TCP, UDP, SCTP and their like.
    Pair {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// An exchange of ICMP or ICMPv6 messages.
    Icmp {
        /// The identifier.
        id: u16,
        /// The type of the message.
        kind: u8,
        /// The code of the message.
        code: u8,
    },
    /// Nothing, for other protocols.
    None,
}

flags! {
    /// What happened to a connection (`enum ip_conntrack_status`, `linux/netfilter/nf_conntrack_common.h`).
    pub struct Status {
        /// Another connection announced it.
        EXPECTED = 0x001, "EXPECTED";
        /// Packets went both ways.
        SEEN_REPLY = 0x002, "SEEN_REPLY";
        /// It is not dropped early when the table is full.
        ASSURED = 0x004, "ASSURED";
        /// It is in the table.
        CONFIRMED = 0x008, "CONFIRMED";
        /// Its source is translated.
        SRC_NAT = 0x010, "SRC_NAT";
        /// Its destination is translated.
        DST_NAT = 0x020, "DST_NAT";
        /// It was asked whether its source is to be translated.
        SRC_NAT_DONE = 0x080, "SRC_NAT_DONE";
        /// It was asked whether its destination is to be translated.
        DST_NAT_DONE = 0x100, "DST_NAT_DONE";
        /// It is being removed.
        DYING = 0x200, "DYING";
        /// A flowtable forwards it, past conntrack.
        OFFLOAD = 0x4000, "OFFLOAD";
    }
}

/// Which connections. Everything that is `None` matches all.
///
/// The kernel is asked for them, as far as it knows how: the tuple since Linux 5.8, the status since 5.19.
/// An older one answers with more, so that [`Filter::matches`] decides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// `Ip` or `Ip6`; taken from an address of the tuples if there is one.
    pub family: Option<Family>,
    /// The original direction.
    pub original: TupleFilter,
    /// The reply direction.
    pub reply: TupleFilter,
    /// These bits of the status are all set.
    pub status: Status,
    /// These bits of the status are all clear.
    pub without: Status,
    /// The mark, under a mask.
    pub mark: Option<Masked>,
    /// The conntrack zone.
    pub zone: Option<u16>,
}

/// Which tuples. Everything that is `None` matches all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TupleFilter {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// The transport protocol.
    pub protocol: Option<u8>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
}

/// A number under a mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Masked {
    /// What the bits must be.
    pub value: u32,
    /// Which bits.
    pub mask: u32,
}

/// A request about connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Every connection that a filter matches; the answer is a dump of [`Flow`]s.
    Dump(Filter),
    /// Removes one connection, by its original tuple; ENOENT if it is gone.
    ///
    /// There is no request without a tuple here: the kernel would remove every connection.
    Delete {
        /// The original direction.
        original: Tuple,
        /// The conntrack zone.
        zone: u16,
        /// Only the entry of this number.
        id: Option<u32>,
    },
    /// Adds a connection that no packet made. For tests and for moving state.
    Insert(Flow),
}

impl Request {
    /// Removes this very connection, not a later one of the same tuple.
    #[must_use]
    pub const fn delete(flow: &Flow) -> Self {
        Self::Delete {
            original: flow.original,
            zone: flow.zone,
            id: flow.id,
        }
    }
}

impl Filter {
    /// Whether it matches a connection.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.family
            .is_none_or(|family| family == flow.original.family())
            && self.original.matches(&flow.original)
            && self.reply.matches(&flow.reply)
            && flow.status.contains(self.status)
            && flow.status.bits() & self.without.bits() == 0
            && self
                .mark
                .is_none_or(|mark| flow.mark & mark.mask == mark.value)
            && self.zone.is_none_or(|zone| zone == flow.zone)
    }

    fn family(&self) -> Option<Family> {
        let tuples = [self.original, self.reply];
        let mut addrs = tuples
            .iter()
            .flat_map(|tuple| [tuple.src, tuple.dst])
            .flatten();
        self.family.or_else(|| addrs.next().map(family_of))
    }
}

impl TupleFilter {
    /// Whether it matches one direction of a connection.
    #[must_use]
    pub fn matches(&self, tuple: &Tuple) -> bool {
        let ports = match tuple.ports {
            Ports::Pair { src, dst } => (Some(src), Some(dst)),
            Ports::Icmp { .. } | Ports::None => (None, None),
        };
        self.src.is_none_or(|src| src == tuple.src)
            && self.dst.is_none_or(|dst| dst == tuple.dst)
            && self
                .protocol
                .is_none_or(|protocol| protocol == tuple.protocol)
            && (self.src_port.is_none() || self.src_port == ports.0)
            && (self.dst_port.is_none() || self.dst_port == ports.1)
    }
}

impl Tuple {
    /// A direction with ports.
    #[must_use]
    pub const fn new(
        protocol: u8,
        (src, src_port): (IpAddr, u16),
        (dst, dst_port): (IpAddr, u16),
    ) -> Self {
        Self {
            src,
            dst,
            protocol,
            ports: Ports::Pair {
                src: src_port,
                dst: dst_port,
            },
        }
    }

    /// What the other direction is if nothing is translated.
    #[must_use]
    pub const fn reversed(self) -> Self {
        let ports = match self.ports {
            Ports::Pair { src, dst } => Ports::Pair { src: dst, dst: src },
            other => other,
        };
        Self {
            src: self.dst,
            dst: self.src,
            ports,
            ..self
        }
    }

    /// `Ip` or `Ip6`.
    #[must_use]
    pub const fn family(&self) -> Family {
        family_of(self.dst)
    }
}

const fn family_of(addr: IpAddr) -> Family {
    match addr {
        IpAddr::V4(_) => Family::Ip,
        IpAddr::V6(_) => Family::Ip6,
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src={} dst={}", self.src, self.dst)?;
        match self.ports {
            Ports::Pair { src, dst } => write!(f, " sport={src} dport={dst}"),
            Ports::Icmp { id, kind, code } => write!(f, " type={kind} code={code} id={id}"),
            Ports::None => Ok(()),
        }
    }
}

/// As `conntrack -L` prints it.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.original.protocol {
            1 => f.write_str("icmp 1")?,
            6 => f.write_str("tcp 6")?,
            17 => f.write_str("udp 17")?,
            58 => f.write_str("icmpv6 58")?,
            132 => f.write_str("sctp 132")?,
            other => write!(f, "unknown {other}")?,
        }
        if let Some(timeout) = self.timeout {
            write!(f, " {timeout}")?;
        }
        write!(f, " {} {}", self.original, self.reply)?;
        if self.status.contains(Status::ASSURED) {
            f.write_str(" [ASSURED]")?;
        }
        write!(f, " mark={}", self.mark)?;
        if self.zone != 0 {
            write!(f, " zone={}", self.zone)?;
        }
        Ok(())
    }
}
