//! Bytes of connections and requests about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Filter, Flow, Ports, Request, Status, Tcp, TcpFlags, TcpState, Tuple, TupleFilter};
use crate::attr::{DecodeError, Fields, Writer};
use crate::frame::{self, Frame, Header};
use crate::nft::Family;

impl Request {
    /// Appends one netlink message. Deletions answer only on failure, insertions always.
    pub fn encode(&self, out: &mut Writer, seq: u32) {
        let (kind, flags, family) = match self {
            Self::Dump(filter) => (IPCTNL_MSG_CT_GET, frame::NLM_F_DUMP, filter.family()),
            Self::Delete { original, .. } => (IPCTNL_MSG_CT_DELETE, 0, Some(original.family())),
            Self::Insert(flow) => {
                let flags = frame::NLM_F_CREATE | frame::NLM_F_EXCL | frame::NLM_F_ACK;
                (IPCTNL_MSG_CT_NEW, flags, Some(flow.original.family()))
            }
        };
        let header = Header {
            kind: frame::SUBSYS_CTNETLINK << 8 | kind,
            flags: frame::NLM_F_REQUEST | flags,
            seq,
            port: 0,
        };
        let start = frame::start(out, header, family.map_or(AF_UNSPEC, address_family), 0);
        match self {
            Self::Dump(filter) => put_filter(out, filter),
            Self::Delete { original, zone, id } => {
                put_tuple(out, CTA_TUPLE_ORIG, original);
                put_zone(out, *zone);
                if let Some(id) = id {
                    out.be32(CTA_ID, *id);
                }
            }
            Self::Insert(flow) => flow.put(out),
        }
        frame::finish(out, start);
    }
}

impl Flow {
    /// Decodes one message of a dump or an event.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is none of ctnetlink's or does not describe a connection.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let kind = frame.header.kind;
        if kind != frame::SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW {
            return Err(DecodeError::Kind { kind });
        }
        let (_, attrs) = frame.netfilter()?;
        let fields = Fields::parse("connection", attrs)?;
        let (original, reply) = (
            fields.bytes(CTA_TUPLE_ORIG)?,
            fields.bytes(CTA_TUPLE_REPLY)?,
        );
        let zone = match fields.opt_be16(CTA_ZONE)? {
            None => take_zone(original)?.or(take_zone(reply)?),
            both => both,
        };
        Ok(Self {
            original: take_tuple(original)?,
            reply: take_tuple(reply)?,
            zone: zone.unwrap_or_default(),
            status: Status::from_bits(fields.opt_be32(CTA_STATUS)?.unwrap_or_default()),
            mark: fields.opt_be32(CTA_MARK)?.unwrap_or_default(),
            timeout: fields.opt_be32(CTA_TIMEOUT)?,
            id: fields.opt_be32(CTA_ID)?,
            tcp: take_tcp(&fields)?,
        })
    }

    fn put(&self, out: &mut Writer) {
        put_tuple(out, CTA_TUPLE_ORIG, &self.original);
        put_tuple(out, CTA_TUPLE_REPLY, &self.reply);
        put_zone(out, self.zone);
        if self.status != Status::NONE {
            out.be32(CTA_STATUS, self.status.bits());
        }
        if self.mark != 0 {
            out.be32(CTA_MARK, self.mark);
        }
        if let Some(timeout) = self.timeout {
            out.be32(CTA_TIMEOUT, timeout);
        }
        if let Some(id) = self.id {
            out.be32(CTA_ID, id);
        }
        if let Some(tcp) = self.tcp {
            out.nest(CTA_PROTOINFO, |out| {
                out.nest(CTA_PROTOINFO_TCP, |out| put_tcp(out, tcp));
            });
        }
    }
}

/// The zone of one direction.
fn take_zone(tuple: &[u8]) -> Result<Option<u16>, DecodeError> {
    Fields::parse("tuple", tuple)?.opt_be16(CTA_TUPLE_ZONE)
}

fn put_tcp(out: &mut Writer, tcp: Tcp) {
    out.u8(CTA_PROTOINFO_TCP_STATE, tcp.state.0);
    let sides = [
        (CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, tcp.original),
        (CTA_PROTOINFO_TCP_FLAGS_REPLY, tcp.reply),
    ];
    for (attr, flags) in sides {
        // A byte, as `struct nf_ct_tcp_flags` has it; and which of its bits are meant: those that are set.
        let flags = flags.bits().to_le_bytes()[0];
        out.put(attr, &[flags, flags]);
    }
}

fn take_tcp(fields: &Fields<'_>) -> Result<Option<Tcp>, DecodeError> {
    let Some(bytes) = fields.opt(CTA_PROTOINFO) else {
        return Ok(None);
    };
    let info = Fields::parse("protocol state", bytes)?;
    let Some(bytes) = info.opt(CTA_PROTOINFO_TCP) else {
        return Ok(None);
    };
    let tcp = Fields::parse("TCP state", bytes)?;
    let flags = |attr| {
        let side = tcp.sized::<2>(attr)?;
        let flags = side.map(|[flags, _mask]| TcpFlags::from_bits(u32::from(flags)));
        Ok(flags.unwrap_or_default())
    };
    let (original, reply) = (
        flags(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL)?,
        flags(CTA_PROTOINFO_TCP_FLAGS_REPLY)?,
    );
    let state = tcp.opt_u8(CTA_PROTOINFO_TCP_STATE)?.map(TcpState);
    Ok(state.map(|state| Tcp {
        state,
        original,
        reply,
    }))
}

fn put_zone(out: &mut Writer, zone: u16) {
    if zone != 0 {
        out.be16(CTA_ZONE, zone);
    }
}

fn put_tuple(out: &mut Writer, attr: u16, tuple: &Tuple) {
    out.nest(attr, |out| {
        out.nest(CTA_TUPLE_IP, |out| {
            put_addr(out, CTA_IP_V4_SRC, tuple.src);
            put_addr(out, CTA_IP_V4_DST, tuple.dst);
        });
        out.nest(CTA_TUPLE_PROTO, |out| {
            out.u8(CTA_PROTO_NUM, tuple.protocol);
            put_ports(out, tuple);
        });
    });
}

/// IPv6 has the attribute two behind that of IPv4.
fn put_addr(out: &mut Writer, v4: u16, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => out.put(v4, &addr.octets()),
        IpAddr::V6(addr) => out.put(v4 + 2, &addr.octets()),
    }
}

fn put_ports(out: &mut Writer, tuple: &Tuple) {
    match tuple.ports {
        Ports::Pair { src, dst } => {
            out.be16(CTA_PROTO_SRC_PORT, src);
            out.be16(CTA_PROTO_DST_PORT, dst);
        }
        Ports::Icmp { id, kind, code } => {
            let base = if tuple.family() == Family::Ip6 {
                CTA_PROTO_ICMPV6_ID
            } else {
                CTA_PROTO_ICMP_ID
            };
            out.be16(base, id);
            out.u8(base + 1, kind);
            out.u8(base + 2, code);
        }
        Ports::None => {}
    }
}

fn take_tuple(bytes: &[u8]) -> Result<Tuple, DecodeError> {
    let fields = Fields::parse("tuple", bytes)?;
    let ip = Fields::parse("tuple address", fields.bytes(CTA_TUPLE_IP)?)?;
    let proto = Fields::parse("tuple protocol", fields.bytes(CTA_TUPLE_PROTO)?)?;
    let missing = DecodeError::Missing {
        object: "tuple protocol",
        attr: CTA_PROTO_NUM,
    };
    Ok(Tuple {
        src: take_addr(&ip, CTA_IP_V4_SRC)?,
        dst: take_addr(&ip, CTA_IP_V4_DST)?,
        protocol: proto.opt_u8(CTA_PROTO_NUM)?.ok_or(missing)?,
        ports: take_ports(&proto)?,
    })
}

fn take_addr(fields: &Fields<'_>, v4: u16) -> Result<IpAddr, DecodeError> {
    if let Some(bytes) = fields.sized::<4>(v4)? {
        return Ok(IpAddr::V4(Ipv4Addr::from(bytes)));
    }
    let missing = DecodeError::Missing {
        object: "tuple address",
        attr: v4,
    };
    fields
        .sized::<16>(v4 + 2)?
        .map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)))
        .ok_or(missing)
}

fn take_ports(fields: &Fields<'_>) -> Result<Ports, DecodeError> {
    let pair = (
        fields.opt_be16(CTA_PROTO_SRC_PORT)?,
        fields.opt_be16(CTA_PROTO_DST_PORT)?,
    );
    if let (Some(src), Some(dst)) = pair {
        return Ok(Ports::Pair { src, dst });
    }
    for base in [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID] {
        if let Some(id) = fields.opt_be16(base)? {
            let kind = fields.opt_u8(base + 1)?.unwrap_or_default();
            let code = fields.opt_u8(base + 2)?.unwrap_or_default();
            return Ok(Ports::Icmp { id, kind, code });
        }
    }
    Ok(Ports::None)
}

/// `ctnetlink_alloc_filter`: a tuple with holes, and flags for what is in it. A filter over tuples needs a
/// family; ports need the protocol.
fn put_filter(out: &mut Writer, filter: &Filter) {
    if let Some(mark) = filter.mark {
        out.be32(CTA_MARK, mark.value);
        out.be32(CTA_MARK_MASK, mark.mask);
    }
    let mask = filter.status.bits() | filter.without.bits();
    if mask != 0 {
        out.be32(CTA_STATUS, filter.status.bits());
        out.be32(CTA_STATUS_MASK, mask);
    }
    if filter.family().is_none() {
        return;
    }
    let original = put_holes(out, CTA_TUPLE_ORIG, &filter.original);
    let reply = put_holes(out, CTA_TUPLE_REPLY, &filter.reply);
    if original | reply == 0 {
        return;
    }
    put_zone(out, filter.zone.unwrap_or_default());
    out.nest(CTA_FILTER, |out| {
        out.put(CTA_FILTER_ORIG_FLAGS, &original.to_ne_bytes());
        out.put(CTA_FILTER_REPLY_FLAGS, &reply.to_ne_bytes());
    });
}

/// The parts of a tuple that are given; returns the flags that say which.
fn put_holes(out: &mut Writer, attr: u16, tuple: &TupleFilter) -> u32 {
    let ports = [
        (tuple.src_port, F_PROTO_SRC_PORT),
        (tuple.dst_port, F_PROTO_DST_PORT),
    ];
    let addrs = [(tuple.src, F_IP_SRC), (tuple.dst, F_IP_DST)];
    let mut flags = 0;
    flags |= addrs
        .iter()
        .filter(|(addr, _)| addr.is_some())
        .map(|(_, flag)| flag)
        .sum::<u32>();
    if tuple.protocol.is_some() {
        flags |= F_PROTO_NUM;
        flags |= ports
            .iter()
            .filter(|(port, _)| port.is_some())
            .map(|(_, flag)| flag)
            .sum::<u32>();
    }
    if flags == 0 {
        return 0;
    }
    out.nest(attr, |out| {
        out.nest(CTA_TUPLE_IP, |out| {
            for (addr, attr) in [(tuple.src, CTA_IP_V4_SRC), (tuple.dst, CTA_IP_V4_DST)] {
                addr.iter().for_each(|addr| put_addr(out, attr, *addr));
            }
        });
        let Some(protocol) = tuple.protocol else {
            return;
        };
        out.nest(CTA_TUPLE_PROTO, |out| {
            out.u8(CTA_PROTO_NUM, protocol);
            for (port, attr) in [
                (tuple.src_port, CTA_PROTO_SRC_PORT),
                (tuple.dst_port, CTA_PROTO_DST_PORT),
            ] {
                port.iter().for_each(|port| out.be16(attr, *port));
            }
        });
    });
    flags
}

const fn address_family(family: Family) -> u8 {
    match family {
        Family::Ip => AF_INET,
        Family::Ip6 => AF_INET6,
        _ => AF_UNSPEC,
    }
}

// `linux/socket.h`.
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

// `enum cntl_msg_types`.
const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

// `enum ctattr_type`.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;

// `enum ctattr_protoinfo`, `ctattr_protoinfo_tcp`.
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;

// `enum ctattr_tuple`, `ctattr_ip`, `ctattr_l4proto`.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMPV6_ID: u16 = 7;

// `enum ctattr_filter`, and `CTA_FILTER_F_*` of `net/netfilter/nf_internals.h`.
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const F_IP_SRC: u32 = 1 << 0;
const F_IP_DST: u32 = 1 << 1;
const F_PROTO_NUM: u32 = 1 << 3;
const F_PROTO_SRC_PORT: u32 = 1 << 4;
const F_PROTO_DST_PORT: u32 = 1 << 5;

#[cfg(test)]
mod tests;
