//! The expressions a rule consists of, and the registers they work on.
//!
//! Expressions run in order; one that does not match ends the rule. Registers do not survive a rule.
//! Each type names the kernel file that evaluates it; `trace` in `dataplane` follows the same files.

use super::data::Data;
use super::object::{Family, Hook, Name, ObjectType};

/// One 32-bit register, `NFT_REG32_00` + index. A longer value occupies the following ones too.
///
/// The kernel dumps every fourth register under its old 16-byte name (`nft_dump_register`): the same
/// register, so that decoding gives this index again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reg(u32);

macro_rules! registers {
    ($($name:ident = $index:literal),+) => {
        impl Reg { $(#[doc = concat!("Register ", $index, ".")] pub const $name: Self = Self($index);)+ }
    };
}
registers!(
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R5 = 5,
    R6 = 6,
    R7 = 7
);
registers!(
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15
);

impl Reg {
    /// How many there are (`NFT_REG32_COUNT`).
    pub const COUNT: u32 = 16;

    /// The register of an index below [`Reg::COUNT`].
    #[must_use]
    pub const fn at(index: u32) -> Option<Self> {
        if index < Self::COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index, 0 to 15.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The register `words` further on.
    #[must_use]
    pub const fn plus(self, words: u32) -> Option<Self> {
        Self::at(self.0 + words)
    }

    /// The number on the wire (`NFT_REG32_00` is 8).
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0 + NFT_REG32_00
    }

    /// The register of a number on the wire, under either name; 0 is the verdict register and none of these.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1..=4 => Self::at((code - 1) * 4),
            NFT_REG32_00.. => Self::at(code - NFT_REG32_00),
            _ => None,
        }
    }
}

const NFT_REG32_00: u32 = 8;

/// What happens to the packet, or where evaluation goes on (`enum nft_verdicts`, `linux/netfilter.h`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Ends this base chain; other tables still see the packet.
    Accept,
    /// Ends everything in silence.
    Drop,
    /// Hands the packet to a program.
    Queue(u16),
    /// The next rule.
    Continue,
    /// The next rule; as the value of a map that has no better one.
    Break,
    /// Back to the calling chain, or to the policy of a base chain.
    Return,
    /// Into a chain, and back.
    Jump(Name),
    /// Into a chain, and back to where this chain would return to.
    Goto(Name),
}

/// One expression of a rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expr {
    /// Packet bytes to a register.
    Payload(Payload),
    /// A property of the packet to a register, or a register to it.
    Meta(Meta),
    /// A property of the packet's connection.
    Ct(Ct),
    /// Goes on only if a register compares so with a constant.
    Cmp(Cmp),
    /// Goes on only if a register lies within (or without) two constants.
    Range(Range),
    /// Mask and xor, or a shift.
    Bitwise(Bitwise),
    /// Between host and network order.
    ByteOrder(ByteOrder),
    /// A constant to a register.
    Immediate {
        /// The first register written.
        dreg: Reg,
        /// The constant.
        data: Data,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Asks a set or map.
    Lookup(Lookup),
    /// Writes an element of a set or map from the packet path.
    Dynset(Dynset),
    /// A random or counting number.
    Numgen(Numgen),
    /// A hash of registers.
    Hash(Hash),
    /// A route look-up.
    Fib(Fib),
    /// Address and port translation with given values.
    Nat(Nat),
    /// Source translation to the address of the outgoing interface.
    Masq(Masq),
    /// Destination translation to this machine.
    Redir(Redir),
    /// Refuses the packet with an answer.
    Reject(Reject),
    /// Counts packets and bytes.
    Counter(Counter),
    /// Goes on only below (or above) a rate.
    Limit(Limit),
    /// Refers to a named object.
    ObjRef(ObjRef),
    /// Leaves a line in a log.
    Log(Log),
    /// The packet gets no connection. `nft_ct.c`, `notrack`.
    NoTrack,
    /// Another program's expression: kept and sent as it is.
    Other {
        /// The name of the expression.
        name: Name,
        /// The bytes of `NFTA_EXPR_DATA`.
        bytes: Box<[u8]>,
    },
}

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

/// Goes on only if the register compares so with the constant, byte by byte. `nft_cmp.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cmp {
    /// The first register compared.
    pub sreg: Reg,
    /// How.
    pub op: CmpOp,
    /// The constant; its length is what is compared.
    pub data: Data,
}

codes! {
    /// A comparison (`enum nft_cmp_ops`), as of unsigned numbers in network order.
    pub enum CmpOp {
        /// Equal.
        Eq = 0, "==";
        /// Not equal.
        Neq = 1, "!=";
        /// Less.
        Lt = 2, "<";
        /// Less or equal.
        Lte = 3, "<=";
        /// Greater.
        Gt = 4, ">";
        /// Greater or equal.
        Gte = 5, ">=";
    }
}

/// Goes on only if the register lies within the two constants, both included. `nft_range.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// The first register compared.
    pub sreg: Reg,
    /// Within or without.
    pub op: RangeOp,
    /// The lowest value within.
    pub from: Data,
    /// The highest value within.
    pub to: Data,
}

codes! {
    /// Within or without (`enum nft_range_ops`).
    pub enum RangeOp {
        /// Within.
        Within = 0, "==";
        /// Without.
        Without = 1, "!=";
    }
}

/// Arithmetic on bits. `nft_bitwise.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Bitwise {
    /// `dreg = (sreg & mask) ^ xor`, over the length of `mask`.
    Mask {
        /// Where from.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// As long as `xor`.
        mask: Data,
        /// As long as `mask`.
        xor: Data,
    },
    /// `dreg = sreg << by`, or `>>`, over `len` bytes.
    Shift {
        /// Which way.
        shift: Shift,
        /// Where from.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// In bytes.
        len: u32,
        /// In bits, below 32.
        by: u32,
    },
}

codes! {
    /// Which way to shift (`enum nft_bitwise_ops`).
    pub enum Shift {
        /// Towards the high bits.
        Left = 1, "<<";
        /// Towards the low bits.
        Right = 2, ">>";
    }
}

/// Between host and network order. `nft_byteorder.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ByteOrder {
    /// Where from.
    pub sreg: Reg,
    /// Where to.
    pub dreg: Reg,
    /// Which way.
    pub op: ByteOrderOp,
    /// In bytes, all units together.
    pub len: u32,
    /// One unit: 2, 4 or 8 bytes.
    pub size: u32,
}

codes! {
    /// Which way (`enum nft_byteorder_ops`).
    pub enum ByteOrderOp {
        /// Network to host.
        ToHost = 0, "ntoh";
        /// Host to network.
        ToNetwork = 1, "hton";
    }
}

/// Asks a set or map of the same table. `nft_lookup.c`. No element means no match, but for `NotMember`.
///
/// The key is as long as the set's key type and starts at `key`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lookup {
    /// The name of the set or map.
    pub set: Name,
    /// The first register of the key.
    pub key: Reg,
    /// What is done with the answer.
    pub result: LookupResult,
}

/// What a look-up does with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LookupResult {
    /// Goes on if there is such an element.
    Member,
    /// Goes on if there is none (`NFT_LOOKUP_F_INV`).
    NotMember,
    /// Writes the element's data from this register on.
    Data(Reg),
    /// Follows the element's verdict.
    Verdict,
}

/// Writes an element from the packet path. `nft_dynset.c`. The set needs [`SetFlags::DYNAMIC`].
///
/// Where the set itself names expressions ([`Set::exprs`]) its elements get those, and `exprs` must be empty:
/// the kernel then dumps none here.
///
/// [`SetFlags::DYNAMIC`]: super::object::SetFlags::DYNAMIC
/// [`Set::exprs`]: super::object::Set::exprs
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Dynset {
    /// The name of the set or map.
    pub set: Name,
    /// What is done.
    pub op: DynsetOp,
    /// The first register of the key.
    pub key: Reg,
    /// The first register of the data, for a map.
    pub data: Option<Reg>,
    /// Milliseconds that the element lives; the set's own if `None`.
    pub timeout: Option<u64>,
    /// Expressions of the new element.
    pub exprs: Vec<Expr>,
}

codes! {
    /// What is done to the element (`enum nft_dynset_ops`).
    pub enum DynsetOp {
        /// Added if it is not there.
        Add = 0, "add";
        /// Added, or its timeout starts again.
        Update = 1, "update";
        /// Removed.
        Delete = 2, "delete";
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

/// Two registers holding the ends of a range of addresses or ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RegRange {
    /// The first register of the lowest value.
    pub min: Reg,
    /// The first register of the highest value.
    pub max: Reg,
}

impl RegRange {
    /// The range of one value: what the kernel makes of a missing maximum.
    #[must_use]
    pub const fn one(reg: Reg) -> Self {
        Self { min: reg, max: reg }
    }
}

impl From<Reg> for RegRange {
    fn from(reg: Reg) -> Self {
        Self::one(reg)
    }
}

/// Address and port translation; ends the rule with accept. `nft_nat.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Nat {
    /// Of source or destination.
    pub kind: NatKind,
    /// `Ip` or `Ip6`: the family of the address.
    pub family: Family,
    /// The new address, if it changes.
    pub addr: Option<RegRange>,
    /// The new port (network order), if it changes.
    pub port: Option<RegRange>,
    /// How the port is chosen.
    pub flags: NatFlags,
}

codes! {
    /// Of source or destination (`enum nft_nat_types`).
    pub enum NatKind {
        /// The source: in postrouting and input.
        Snat = 0, "snat";
        /// The destination: in prerouting and output.
        Dnat = 1, "dnat";
    }
}

flags! {
    /// How a port is chosen (`NF_NAT_RANGE_*`, `linux/netfilter/nf_nat.h`). The kernel adds the bits that
    /// say which values are given; they are not part of this value.
    pub struct NatFlags {
        /// From a random start.
        RANDOM = 0x04, "random";
        /// The same for every connection of one client.
        PERSISTENT = 0x08, "persistent";
        /// Entirely at random: two connections at the same moment do not collide.
        FULLY_RANDOM = 0x10, "fully-random";
        /// The port is shifted by an offset.
        OFFSET = 0x20, "";
        /// Prefix to prefix.
        NETMAP = 0x40, "";
    }
}

/// Source translation to the address of the outgoing interface. `nft_masq.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Masq {
    /// How the port is chosen.
    pub flags: NatFlags,
    /// The new port, if it is given.
    pub port: Option<RegRange>,
}

/// Destination translation to this machine. `nft_redir.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Redir {
    /// The new port, if it changes.
    pub port: Option<RegRange>,
    /// How the port is chosen.
    pub flags: NatFlags,
}

/// Refuses the packet with an answer. `nft_reject_inet.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reject {
    /// A TCP reset; the rule must have matched TCP before.
    TcpReset,
    /// An ICMP or ICMPv6 "unreachable", whichever the packet needs (`NFT_REJECT_ICMPX_UNREACH`).
    Icmpx(RejectCode),
    /// An "unreachable" of the table's own family with this code (`NFT_REJECT_ICMP_UNREACH`).
    Icmp(u8),
}

codes! {
    /// Why, in either family (`enum nft_reject_inet_code`).
    pub enum RejectCode {
        /// No route.
        NoRoute = 0, "no-route";
        /// No such port: what a host answers for a closed port.
        PortUnreachable = 1, "port-unreachable";
        /// No such host.
        HostUnreachable = 2, "host-unreachable";
        /// Not allowed.
        AdminProhibited = 3, "admin-prohibited";
    }
}

/// Packets and bytes counted so far. `nft_counter.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, link-layer header not included.
    pub bytes: u64,
}

/// Goes on only below (or above) a rate. `nft_limit.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limit {
    /// Packets or bytes.
    pub kind: LimitKind,
    /// How many per unit.
    pub rate: u64,
    /// Seconds per unit.
    pub unit: LimitUnit,
    /// How many at once; the kernel makes 5 of 0 packets, so name it.
    pub burst: u32,
    /// Which side of the rate matches.
    pub side: RangeOp,
}

codes! {
    /// What is counted (`enum nft_limit_type`).
    pub enum LimitKind {
        /// Packets.
        Packets = 0, "packets";
        /// Bytes.
        Bytes = 1, "bytes";
    }
}

codes! {
    /// The unit of a rate, in seconds (`NFTA_LIMIT_UNIT`).
    pub enum LimitUnit {
        /// A second.
        Second = 1, "second";
        /// A minute.
        Minute = 60, "minute";
        /// An hour.
        Hour = 3600, "hour";
        /// A day.
        Day = 86400, "day";
        /// A week.
        Week = 604800, "week";
    }
}

/// Refers to a named object of the same table. `nft_objref.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ObjRef {
    /// Always this one.
    Named {
        /// Its type.
        kind: ObjectType,
        /// Its name.
        name: Name,
    },
    /// The one that an object map names for the key.
    Map {
        /// The name of the map.
        set: Name,
        /// The first register of the key.
        key: Reg,
    },
}

/// Leaves a line in a log. `nft_log.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log {
    /// In front of the line; at most 127 bytes.
    pub prefix: Option<Name>,
    /// Which log.
    pub to: LogTo,
}

/// Which log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LogTo {
    /// The kernel's. Lines of other network namespaces than the first are dropped unless
    /// `net.netfilter.nf_log_all_netns` is 1.
    Kernel {
        /// How important.
        level: LogLevel,
        /// What else the line has.
        flags: LogFlags,
    },
    /// A program that listens to this `NFNETLINK_LOG` group.
    Group {
        /// The group.
        group: u16,
        /// Bytes of each packet that are copied; all if `None`.
        snaplen: Option<u32>,
        /// Packets that are gathered before they are sent.
        threshold: u16,
    },
}

codes! {
    /// How important (`enum nft_log_level`).
    pub enum LogLevel {
        /// `LOG_EMERG`.
        Emerg = 0, "emerg";
        /// `LOG_ALERT`.
        Alert = 1, "alert";
        /// `LOG_CRIT`.
        Crit = 2, "crit";
        /// `LOG_ERR`.
        Err = 3, "err";
        /// `LOG_WARNING`, what `nft` takes if none is named.
        Warning = 4, "warn";
        /// `LOG_NOTICE`.
        Notice = 5, "notice";
        /// `LOG_INFO`.
        Info = 6, "info";
        /// `LOG_DEBUG`.
        Debug = 7, "debug";
        /// To the audit log, without prefix.
        Audit = 8, "audit";
    }
}

flags! {
    /// What else a line has (`NF_LOG_*`, `linux/netfilter/nf_log.h`).
    pub struct LogFlags {
        /// TCP sequence numbers.
        TCP_SEQUENCE = 0x01, "tcp sequence";
        /// TCP options.
        TCP_OPTIONS = 0x02, "tcp options";
        /// IP options.
        IP_OPTIONS = 0x04, "ip options";
        /// The user of the sending socket.
        SKUID = 0x08, "skuid";
        /// The link-layer header.
        ETHER = 0x20, "ether";
    }
}

impl Expr {
    /// The kernel's name of the expression (`nft_expr_type::name`).
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Payload(_) => "payload",
            Self::Meta(_) => "meta",
            Self::Ct(_) => "ct",
            Self::Cmp(_) => "cmp",
            Self::Range(_) => "range",
            Self::Bitwise(_) => "bitwise",
            Self::ByteOrder(_) => "byteorder",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Lookup(_) => "lookup",
            Self::Dynset(_) => "dynset",
            Self::Numgen(_) => "numgen",
            Self::Hash(_) => "hash",
            Self::Fib(_) => "fib",
            Self::Nat(_) => "nat",
            Self::Masq(_) => "masq",
            Self::Redir(_) => "redir",
            Self::Reject(_) => "reject",
            Self::Counter(_) => "counter",
            Self::Limit(_) => "limit",
            Self::ObjRef(_) => "objref",
            Self::Log(_) => "log",
            Self::NoTrack => "notrack",
            Self::Other { name, .. } => name,
        }
    }

    /// The same expression without what the kernel counts by itself: to compare a dump with what was sent.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        match self {
            Self::Counter(_) => Self::Counter(Counter::default()),
            Self::Dynset(dynset) => Self::Dynset(Dynset {
                exprs: dynset.exprs.iter().map(Self::at_rest).collect(),
                ..dynset.clone()
            }),
            other => other.clone(),
        }
    }

    /// Whether a base chain of this hook and type may hold the expression, as far as this crate knows:
    /// `nft_nat_validate`, `nft_masq_validate`, `nft_redir_validate`, `nft_reject_validate`.
    #[must_use]
    pub const fn allowed_in(&self, hook: Hook) -> bool {
        match self {
            Self::Nat(Nat {
                kind: NatKind::Dnat,
                ..
            })
            | Self::Redir(_) => {
                matches!(hook, Hook::Prerouting | Hook::Output)
            }
            Self::Nat(Nat {
                kind: NatKind::Snat,
                ..
            }) => matches!(hook, Hook::Postrouting | Hook::Input),
            Self::Masq(_) => matches!(hook, Hook::Postrouting),
            Self::Reject(_) => matches!(
                hook,
                Hook::Prerouting | Hook::Input | Hook::Forward | Hook::Output | Hook::Ingress
            ),
            _ => true,
        }
    }
}
