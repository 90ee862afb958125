//! What a rule loads: bytes and properties of the packet and its connection, numbers, hashes, routes.

use super::Reg;

codes! {
    /// Where a payload offset counts from (`enum nft_payload_bases`).
    pub enum Base {
        /// The link-layer header.
        Link = 0, "ll";
        /// The IP header.
        Network = 1, "nh";
        /// The TCP, UDP or SCTP header; no match on a fragment that has none.
        Transport = 2, "th";
    }
}

/// Packet bytes to a register. `nft_payload.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Payload {
    /// Where the offset counts from.
    pub base: Base,
    /// In bytes.
    pub offset: u32,
    /// In bytes.
    pub len: u32,
    /// The first register written; the rest of its last word becomes zero.
    pub dreg: Reg,
}

/// A property of the packet. `nft_meta.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Meta {
    /// Property to register.
    Load {
        /// Which property.
        key: MetaKey,
        /// Where to.
        dreg: Reg,
    },
    /// Register to property: mark, priority, pkttype or nftrace.
    Store {
        /// Which property.
        key: MetaKey,
        /// Where from.
        sreg: Reg,
    },
}

codes! {
    /// Which property of the packet (`enum nft_meta_keys`).
    pub enum MetaKey {
        /// Packet length in bytes, host order.
        Len = 0, "length";
        /// EtherType, network order.
        Protocol = 1, "protocol";
        /// Queueing priority.
        Priority = 2, "priority";
        /// The packet mark, host order.
        Mark = 3, "mark";
        /// Index of the incoming interface, host order.
        Iif = 4, "iif";
        /// Index of the outgoing interface, host order.
        Oif = 5, "oif";
        /// Name of the incoming interface, 16 bytes.
        IifName = 6, "iifname";
        /// Name of the outgoing interface, 16 bytes.
        OifName = 7, "oifname";
        /// Link type of the incoming interface.
        IifType = 8, "iiftype";
        /// Link type of the outgoing interface.
        OifType = 9, "oiftype";
        /// User id of the sending socket.
        SkUid = 10, "skuid";
        /// Group id of the sending socket.
        SkGid = 11, "skgid";
        /// Whether the packet is traced.
        NfTrace = 12, "nftrace";
        /// `NFPROTO_IPV4` 2 or `NFPROTO_IPV6` 10, one byte.
        NfProto = 15, "nfproto";
        /// The transport protocol, one byte.
        L4Proto = 16, "l4proto";
        /// To this host, broadcast, multicast, other.
        PktType = 19, "pkttype";
        /// The processor.
        Cpu = 20, "cpu";
        /// Group of the incoming interface.
        IifGroup = 21, "iifgroup";
        /// Group of the outgoing interface.
        OifGroup = 22, "oifgroup";
        /// A pseudo-random number.
        Prandom = 24, "random";
        /// Kind of the incoming interface, such as `veth`.
        IifKind = 26, "iifkind";
        /// Kind of the outgoing interface.
        OifKind = 27, "oifkind";
    }
}

/// A property of the packet's connection. `nft_ct.c`. A packet without one does not match.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ct {
    /// Property to register.
    Load {
        /// Which property.
        key: CtKey,
        /// Which tuple of the connection, for addresses and ports, which need one, and for counts and zones.
        /// Else `None`: the kernel takes one for the protocols but does not give it back.
        direction: Option<Direction>,
        /// Where to.
        dreg: Reg,
    },
    /// Register to property: mark, labels, zone (of a template).
    Store {
        /// Which property.
        key: CtKey,
        /// Where from.
        sreg: Reg,
    },
}

codes! {
    /// Which tuple of a connection (`enum ip_conntrack_dir`).
    pub enum Direction {
        /// As the first packet came in, before any translation.
        Original = 0, "original";
        /// As answers come in.
        Reply = 1, "reply";
    }
}

codes! {
    /// Which property of the connection (`enum nft_ct_keys`).
    pub enum CtKey {
        /// invalid 1, established 2, related 4, new 8, untracked 64; host order.
        State = 0, "state";
        /// The direction of this packet, one byte.
        Direction = 1, "direction";
        /// `IPS_*` bits, host order ([`crate::ct::Status`]).
        Status = 2, "status";
        /// The connection mark, host order.
        Mark = 3, "mark";
        /// Milliseconds until the entry ends.
        Expiration = 5, "expiration";
        /// The address family, one byte.
        L3Protocol = 7, "l3proto";
        /// Source address in the family of the connection; `SrcIp` and `SrcIp6` say which.
        Src = 8, "saddr";
        /// Destination address in the family of the connection.
        Dst = 9, "daddr";
        /// The transport protocol, one byte.
        Protocol = 10, "protocol";
        /// Source port, network order.
        ProtoSrc = 11, "proto-src";
        /// Destination port, network order.
        ProtoDst = 12, "proto-dst";
        /// 128 label bits.
        Labels = 13, "label";
        /// Packets, 8 bytes, host order.
        Packets = 14, "packets";
        /// Bytes, 8 bytes, host order.
        Bytes = 15, "bytes";
        /// The conntrack zone, 2 bytes, host order.
        Zone = 17, "zone";
        /// IPv4 source address.
        SrcIp = 19, "ip saddr";
        /// IPv4 destination address.
        DstIp = 20, "ip daddr";
        /// IPv6 source address.
        SrcIp6 = 21, "ip6 saddr";
        /// IPv6 destination address.
        DstIp6 = 22, "ip6 daddr";
        /// The id of the entry.
        Id = 23, "id";
    }
}

/// A number below `modulus`, plus `offset`, in host order. `nft_numgen.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Numgen {
    /// Where to.
    pub dreg: Reg,
    /// Above zero.
    pub modulus: u32,
    /// How it is chosen.
    pub kind: NumgenKind,
    /// Added to it.
    pub offset: u32,
}

codes! {
    /// How the number is chosen (`enum nft_ng_types`).
    pub enum NumgenKind {
        /// One after the other, over all processors.
        Incremental = 0, "inc";
        /// Evenly at random.
        Random = 1, "random";
    }
}

/// A hash below `modulus`, plus `offset`, in host order. `nft_hash.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hash {
    /// Jenkins hash of registers.
    Jenkins {
        /// The first register hashed.
        sreg: Reg,
        /// In bytes.
        len: u32,
        /// Where to.
        dreg: Reg,
        /// Above one.
        modulus: u32,
        /// The kernel chooses one of its own if `None`.
        seed: Option<u32>,
        /// Added to it.
        offset: u32,
    },
    /// The flow hash of the packet, the same both ways.
    Symmetric {
        /// Where to.
        dreg: Reg,
        /// Above one.
        modulus: u32,
        /// Added to it.
        offset: u32,
    },
}

/// A route look-up with the packet's addresses. `nft_fib.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fib {
    /// Where to.
    pub dreg: Reg,
    /// What is asked.
    pub result: FibResult,
    /// What the look-up uses; `SADDR` or `DADDR` is needed.
    pub flags: FibFlags,
}

codes! {
    /// What a route look-up is asked for (`enum nft_fib_result`).
    pub enum FibResult {
        /// The interface index; 0 if there is no route.
        Oif = 1, "oif";
        /// The interface name.
        OifName = 2, "oifname";
        /// `RTN_*` of `linux/rtnetlink.h`: unicast 1, local 2, broadcast 3, multicast 5; host order.
        AddrType = 3, "type";
    }
}

flags! {
    /// What a route look-up uses (`enum nft_fib_flags`).
    pub struct FibFlags {
        /// The source address.
        SADDR = 0x01, "saddr";
        /// The destination address.
        DADDR = 0x02, "daddr";
        /// The packet mark.
        MARK = 0x04, "mark";
        /// Restricted to the incoming interface.
        IIF = 0x08, "iif";
        /// Restricted to the outgoing interface.
        OIF = 0x10, "oif";
        /// Only whether there is a route.
        PRESENT = 0x20, "";
    }
}
