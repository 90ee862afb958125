//! Names, registers and flags: everything that gives the bytes in the kernel a meaning.
//!
//! A change here is a new layout: raise [`VERSION`], so that an agent that finds another one builds it beside.

use std::net::{IpAddr, SocketAddr};

use daymark_model::{Family, FrontendKey, Protocol};
use daymark_netlink::nft::{self, Data, Field, Reg, Set, SetFlags, SetKind, TableId, Type};

/// The number of this layout; it stands in the table's comment.
pub const VERSION: u32 = 9;

/// The name of the tables, one in `ip`, one in `ip6`.
pub const TABLE: &str = "daymark";

/// All names that they may have: what replaces tables in use is built beside them, under the first name that is free. Two are
/// enough as long as nobody takes a table away; the third is for where the one name serves IPv4 alone and the other IPv6.
pub const TABLES: [&str; 3] = [TABLE, "daymark-b", "daymark-c"];

/// Every table that may be there, of both families.
pub fn all_tables() -> impl Iterator<Item = TableId> {
    let of = |family| TABLES.map(|name| Words::of(family).named(name).table());
    Family::BOTH.into_iter().flat_map(of)
}

/// Names of sets and maps.
pub mod set {
    /// `daddr . proto . dport`: what is captured at an address. Two of them: see [`super::Side`].
    pub const FRONTENDS: [&str; 2] = ["fe-a", "fe-b"];
    /// `proto . dport`: what is captured at node-port addresses.
    pub const NODE_PORTS: [&str; 2] = ["np-a", "np-b"];
    /// Plan number to chain. The only verdicts; grows with the number of distinct plans alone.
    pub const PLANS: &str = "plans";
    /// `pool . slot`: the backends.
    pub const SLOTS: &str = "slots";
    /// `pool . addr . port`: the backends of pools with affinity, to tell whether a stored one is still there.
    pub const MEMBERS: &str = "members";
    /// `saddr . port number`: which backend a client keeps. Written by packets.
    pub const STICKY: &str = "sticky";
    /// `port number`: how many new connections were translated. Written by packets.
    pub const HITS: &str = "hits";
    /// `daddr . proto . dport . saddr`: who may come, for frontends that ask. Two of them: see [`super::Side`].
    pub const RANGES: [&str; 2] = ["ranges-a", "ranges-b"];
    /// Prefixes of this node's own Pods.
    pub const OWN_PODS: &str = "own-pods";
    /// Addresses of this node at which node ports answer.
    pub const NODE_PORT_ADDRESSES: &str = "node-port-addrs";
    /// Names of the interfaces that own Pods' packets come in at.
    pub const OWN_INTERFACES: &str = "own-ifs";
    /// Addresses that belong to Services alone.
    pub const SERVICE_ADDRESSES: &str = "service-addrs";
    /// Addresses that belong to Services for clients outside.
    pub const OUTER_ADDRESSES: &str = "outer-addrs";
    /// Prefixes that cluster IPs are taken from.
    pub const SERVICE_NETWORKS: &str = "service-nets";
    /// Addresses inside those that somebody has.
    pub const SPARED_ADDRESSES: &str = "spared-addrs";
    /// TCP ports at which endpoints answer.
    pub const ENDPOINT_PORTS: &str = "endpoint-ports";
    /// `addr . addr`, twice the same: backends on this node, to recognise one that reaches itself.
    pub const LOCAL_BACKENDS: &str = "local-backends";
}

/// Names of chains. Those of plans are made by [`super::plan::Plan::chain`].
pub mod chain {
    /// nat, prerouting.
    pub const PREROUTING: &str = "prerouting";
    /// nat, output.
    pub const OUTPUT: &str = "output";
    /// nat, postrouting.
    pub const POSTROUTING: &str = "postrouting";
    /// filter, input, forward and output.
    pub const FILTERS: [&str; 3] = ["filter-input", "filter-forward", "filter-output"];
    /// Clients inside: the node and its own Pods.
    pub const INSIDE: &str = "inside";
    /// Clients outside.
    pub const OUTSIDE: &str = "outside";
    /// Clients inside, at a node-port address.
    pub const INSIDE_NODE_PORT: &str = "inside-np";
    /// Clients outside, at a node-port address.
    pub const OUTSIDE_NODE_PORT: &str = "outside-np";
    /// New connections that were not translated.
    pub const STRAY: &str = "stray";
    /// The same, at a node-port address.
    pub const STRAY_NODE_PORT: &str = "stray-np";
    /// The same, if they came from a link.
    pub const STRAY_LINK: &str = "stray-link";
    /// Drops what goes to an address of a ServiceCIDR that nobody has.
    pub const UNALLOCATED: &str = "unallocated";
    /// Drops answers of endpoints that connection tracking calls invalid.
    pub const INVALID: &str = "invalid";
    /// The same, to loopback.
    pub const STRAY_LOOPBACK: &str = "stray-lo";
    /// Refuses what goes to a node port on loopback; its rules count TCP, UDP and SCTP apart.
    pub const REFUSE_LOOPBACK: &str = "refuse-lo";
    /// Refuses what goes to a frontend without an endpoint.
    pub const REFUSE: &str = "refuse";
    /// Refuses what goes to an address of a Service at a port that it does not have: counted apart, and so a chain of its own.
    pub const REFUSE_PORT: &str = "refuse-port";
    /// Drops what is a known frontend and was not translated.
    pub const LOST: &str = "lost";
    /// Source translation, by kind of client.
    pub const MASQUERADE: [&str; 3] = ["masq-node", "masq-own-pod", "masq-outside"];
    /// The same, at a node-port address.
    pub const MASQUERADE_NODE_PORT: [&str; 3] =
        ["masq-node-np", "masq-own-pod-np", "masq-outside-np"];
}

/// Bits of a frontend's flags word.
pub mod flag {
    /// Masquerade connections of the node, of its own Pods, of everybody else.
    pub const MASQUERADE: [u32; 3] = [1, 2, 4];
    /// Refuse what was not translated.
    pub const REFUSE: u32 = 8;
    /// Refuse on loopback, where the number is a node port's.
    pub const REFUSE_LOOPBACK: u32 = 16;
}

/// Where a frontend's five words lie after a look-up, and the slot number behind the last.
///
/// The order is not free: the pool and the slot number together are the key of `slots`, and the port
/// number follows the place where the client's address is loaded for the key of `sticky`. The plans are not
/// the first word, because nft 1.0.6 aborts on a result register that begins the next key.
pub mod reg {
    use super::Reg;

    /// Flags.
    pub const FLAGS: Reg = Reg::R4;
    /// Plan of clients inside.
    pub const INSIDE: Reg = Reg::R5;
    /// Plan of clients outside.
    pub const OUTSIDE: Reg = Reg::R6;
    /// The number of the Service port.
    pub const PORT: Reg = Reg::R7;
    /// The pool.
    pub const POOL: Reg = Reg::R8;
    /// The slot; afterwards the backend's address and port.
    pub const SLOT: Reg = Reg::R9;
    /// Where a key begins.
    pub const KEY: Reg = Reg::R0;
}

/// One of the two maps that hold frontends, or of the two sets that hold their source ranges.
///
/// A changed value is put into the other map first and taken out of the old one afterwards, so that at
/// every moment a packet finds one of them. So are ranges that overlap those in whose place they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The first map.
    A,
    /// The second map.
    B,
}

impl Side {
    /// Both, in the order of look-up.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The map of this side that holds such a frontend.
    #[must_use]
    pub fn map(self, key: &FrontendKey) -> &'static str {
        match key {
            FrontendKey::Address { .. } => set::FRONTENDS[self as usize],
            FrontendKey::NodePort { .. } => set::NODE_PORTS[self as usize],
        }
    }

    /// The set of this side that holds ranges.
    #[must_use]
    pub fn ranges(self) -> &'static str {
        set::RANGES[self as usize]
    }
}

/// The value of a frontend in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrontendValue {
    /// Bits of [`flag`].
    pub flags: u32,
    /// Plan of clients inside.
    pub inside: u32,
    /// Plan of clients outside.
    pub outside: u32,
    /// The number of the Service port: as long as the port lives, for affinity.
    pub port: u32,
    /// The Cluster pool, an even number; the Local pool is the next one. New with every change of either.
    pub pool: u32,
}

impl FrontendValue {
    /// The bytes in the kernel.
    #[must_use]
    pub fn encode(&self) -> Data {
        let words = [self.flags, self.inside, self.outside, self.port, self.pool];
        Data::concat(
            &words
                .map(u32::to_ne_bytes)
                .each_ref()
                .map(|word| word.as_slice()),
        )
    }

    /// The value of those bytes, if they are five words.
    #[must_use]
    pub fn decode(data: &Data) -> Option<Self> {
        let word = |index| data.host_word(index);
        (data.len() == 20).then_some(())?;
        Some(Self {
            flags: word(0)?,
            inside: word(1)?,
            outside: word(2)?,
            port: word(3)?,
            pool: word(4)?,
        })
    }
}

/// What differs between the tables of the two families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// The family.
    pub family: Family,
    /// The table's name, one of [`TABLES`].
    pub name: &'static str,
    /// The table's family.
    pub nft: nft::Family,
    /// The type of an address.
    pub address: Field,
    /// Offset of the source address in the IP header, bytes.
    pub saddr: u32,
    /// Offset of the destination address in the IP header, bytes.
    pub daddr: u32,
    /// Length of an address, bytes.
    pub len: u32,
    /// The same in registers.
    pub regs: u32,
}

impl Words {
    /// Those of a family.
    #[must_use]
    pub const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                family,
                name: TABLE,
                nft: nft::Family::Ip,
                address: Field::Ipv4Addr,
                saddr: 12,
                daddr: 16,
                len: 4,
                regs: 1,
            },
            Family::V6 => Self {
                family,
                name: TABLE,
                nft: nft::Family::Ip6,
                address: Field::Ipv6Addr,
                saddr: 8,
                daddr: 24,
                len: 16,
                regs: 4,
            },
        }
    }

    /// The same of a table of another name.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The family's table.
    #[must_use]
    pub fn table(&self) -> TableId {
        TableId::new(self.nft, self.name)
    }

    /// The register `words` behind `reg`.
    ///
    /// # Panics
    /// If that is behind the last: the layout would not fit the kernel.
    #[must_use]
    pub fn after(reg: Reg, words: u32) -> Reg {
        reg.plus(words).expect("the layout fits the registers")
    }

    /// Every set and map, empty.
    #[must_use]
    pub fn sets(&self) -> Vec<Set> {
        let value: Type = [Field::Mark; 5].into();
        let at_address: Type = [self.address, Field::InetProto, Field::InetService].into();
        let at_port: Type = [Field::InetProto, Field::InetService].into();
        let backend: Type = [self.address, Field::InetService].into();
        let map = |name, key: &Type, value: &Type| {
            Set::new(name, key.clone(), SetKind::Map(value.clone()))
        };
        let plain = |name, key: Type| Set::new(name, key, SetKind::Set);
        let flagged = |set: Set, flags| Set { flags, ..set };
        let ranges = [
            self.address,
            Field::InetProto,
            Field::InetService,
            self.address,
        ];
        let sticky = map(set::STICKY, &[self.address, Field::Mark].into(), &backend);
        vec![
            map(set::FRONTENDS[0], &at_address, &value),
            map(set::FRONTENDS[1], &at_address, &value),
            map(set::NODE_PORTS[0], &at_port, &value),
            map(set::NODE_PORTS[1], &at_port, &value),
            Set::new(set::PLANS, Field::Mark, SetKind::Verdicts),
            map(set::SLOTS, &[Field::Mark, Field::Mark].into(), &backend),
            plain(
                set::MEMBERS,
                [Field::Mark, self.address, Field::InetService].into(),
            ),
            Set {
                size: Some(STICKY_SIZE),
                ..flagged(sticky, SetFlags::DYNAMIC | SetFlags::TIMEOUT)
            },
            Set {
                size: Some(HITS_SIZE),
                ..flagged(
                    plain(set::HITS, Field::Mark.into()),
                    SetFlags::DYNAMIC | SetFlags::TIMEOUT,
                )
            },
            flagged(plain(set::RANGES[0], ranges.into()), SetFlags::INTERVAL),
            flagged(plain(set::RANGES[1], ranges.into()), SetFlags::INTERVAL),
            flagged(
                plain(set::OWN_PODS, self.address.into()),
                SetFlags::INTERVAL,
            ),
            flagged(
                plain(set::OWN_INTERFACES, Field::IfName.into()),
                SetFlags::INTERVAL,
            ),
            plain(set::NODE_PORT_ADDRESSES, self.address.into()),
            plain(set::SERVICE_ADDRESSES, self.address.into()),
            plain(set::OUTER_ADDRESSES, self.address.into()),
            flagged(
                plain(set::SERVICE_NETWORKS, self.address.into()),
                SetFlags::INTERVAL,
            ),
            plain(set::SPARED_ADDRESSES, self.address.into()),
            plain(set::ENDPOINT_PORTS, Field::InetService.into()),
            plain(set::LOCAL_BACKENDS, [self.address, self.address].into()),
        ]
    }
}

/// The most clients that keep a backend, each family. When it is full, the addresses of further clients choose.
pub const STICKY_SIZE: u32 = 262_144;

/// The most Service ports whose connections are counted, each family. When it is full, those of further ones are served
/// uncounted.
pub const HITS_SIZE: u32 = 65_536;

/// The key of a frontend in its map.
#[must_use]
pub fn frontend_key(key: &FrontendKey) -> Data {
    match *key {
        FrontendKey::Address { ip, protocol, port } => {
            Data::concat(&[&octets(ip), &[protocol.number()], &port.to_be_bytes()])
        }
        FrontendKey::NodePort { protocol, port, .. } => {
            Data::concat(&[&[protocol.number()], &port.to_be_bytes()])
        }
    }
}

/// The frontend of a key in one of the maps.
#[must_use]
pub fn decode_frontend_key(family: Family, map: &str, data: &Data) -> Option<FrontendKey> {
    let tail = data.len().checked_sub(8)?;
    let number = data[tail];
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)?;
    let port = u16::from_be_bytes([data[tail + 4], data[tail + 5]]);
    if set::NODE_PORTS.contains(&map) {
        return Some(FrontendKey::NodePort {
            family,
            protocol,
            port,
        });
    }
    Some(FrontendKey::Address {
        ip: address(&data[..tail])?,
        protocol,
        port,
    })
}

/// The bytes of a backend: address and port.
#[must_use]
pub fn backend(address: IpAddr, port: u16) -> Data {
    Data::concat(&[&octets(address), &port.to_be_bytes()])
}

/// The backend of those bytes.
#[must_use]
pub fn backend_of(words: &Words, data: &Data) -> Option<SocketAddr> {
    let (ip, port) = data.split_at_checked(words.len as usize)?;
    let port = u16::from_be_bytes(*port.first_chunk()?);
    Some(SocketAddr::new(address(ip)?, port))
}

/// The address in 4 or 16 bytes.
#[must_use]
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

/// The bytes of an address.
#[must_use]
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
