//! What a rule does to the packet, and what it leaves in a log.

use super::{Family, Name, Reg};

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
