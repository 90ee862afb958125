//! Bytes in registers and set keys, and the types that give them a meaning.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

/// Bytes of a key, a value or a constant: at most 64 (`NFT_DATA_VALUE_MAXLEN`).
///
/// Short ones (every key and value of a Service) are held inline, so that a hundred thousand elements
/// need no allocation each.
#[derive(Clone)]
pub struct Data(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

/// Keeps [`Data`] at 32 bytes; an IPv6 frontend key has 24.
const INLINE: usize = 30;

impl Data {
    /// The bytes as they are.
    #[must_use]
    pub fn new(from: &[u8]) -> Self {
        if from.len() > INLINE {
            return Self(Repr::Heap(from.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..from.len()].copy_from_slice(from);
        let len = u8::try_from(from.len()).expect("INLINE is below 256");
        Self(Repr::Inline { len, bytes })
    }

    /// A concatenation: every field is padded with zeroes to whole 32-bit registers
    /// (`netlink_gen_concat_data` in nft; `pipapo` and `rhash` compare the padding too).
    #[must_use]
    pub fn concat(fields: &[&[u8]]) -> Self {
        let mut all = Vec::with_capacity(64);
        for field in fields {
            all.extend_from_slice(field);
            all.resize(all.len().next_multiple_of(4), 0);
        }
        Self::new(&all)
    }

    /// A number in the byte order of this machine: marks, interface indexes, conntrack state, own words.
    #[must_use]
    pub fn host(word: u32) -> Self {
        Self::new(&word.to_ne_bytes())
    }

    /// A port, as it stands in a packet.
    #[must_use]
    pub fn port(port: u16) -> Self {
        Self::new(&port.to_be_bytes())
    }

    /// An address, as it stands in a packet.
    #[must_use]
    pub fn addr(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => Self::from(v4),
            IpAddr::V6(v6) => Self::from(v6),
        }
    }

    /// An interface name as `ifname` keys hold it: 16 bytes, zero-padded (`IFNAMSIZ`). Longer names are cut.
    #[must_use]
    pub fn ifname(name: &str) -> Self {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
            *to = from;
        }
        Self::new(&bytes)
    }

    /// The word at register `index` of a concatenation, in the byte order of this machine.
    #[must_use]
    pub fn host_word(&self, index: usize) -> Option<u32> {
        let bytes = self.get(index * 4..index * 4 + 4)?;
        Some(u32::from_ne_bytes(
            bytes.try_into().expect("four bytes were taken"),
        ))
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Data {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<Ipv4Addr> for Data {
    fn from(addr: Ipv4Addr) -> Self {
        Self::new(&addr.octets())
    }
}

impl From<Ipv6Addr> for Data {
    fn from(addr: Ipv6Addr) -> Self {
        Self::new(&addr.octets())
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Data {}

impl PartialOrd for Data {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Data {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Data {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The type of one field of a key or value: `nft` derives from it how to print the bytes.
///
/// The kernel stores the number and gives it back, nothing more. The numbers are `enum datatypes` of
/// nft's `include/datatype.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Field {
    /// `ipv4_addr`, 4 bytes.
    Ipv4Addr,
    /// `ipv6_addr`, 16 bytes.
    Ipv6Addr,
    /// `ether_addr`, 6 bytes.
    EtherAddr,
    /// `inet_proto`, 1 byte: TCP 6, UDP 17, SCTP 132.
    InetProto,
    /// `inet_service`, 2 bytes in network order.
    InetService,
    /// `mark`, 4 bytes in host order. Also for own words: `nft` 1.0.6 prints it in every position, which
    /// it cannot do for a bare `integer`.
    Mark,
    /// `iface_index`, 4 bytes in host order.
    IfIndex,
    /// `ifname`, 16 bytes.
    IfName,
    /// `nf_proto`, 1 byte: 2 for IPv4, 10 for IPv6.
    NfProto,
    /// `ct_state`, 4 bytes in host order.
    CtState,
    /// `fib_addrtype`, 4 bytes in host order.
    AddrType,
    /// `integer` of this many bytes in network order.
    Integer(u8),
    /// A number of another program: kept and sent as it is.
    Other {
        /// The whole type number, six bits a field.
        id: u32,
        /// Length of key or value in bytes.
        len: u16,
    },
}

impl Field {
    const NAMED: [Self; 11] = [
        Self::Ipv4Addr,
        Self::Ipv6Addr,
        Self::EtherAddr,
        Self::InetProto,
        Self::InetService,
        Self::Mark,
        Self::IfIndex,
        Self::IfName,
        Self::NfProto,
        Self::CtState,
        Self::AddrType,
    ];

    /// The number that `nft` gives the type.
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::NfProto => 2,
            Self::Integer(_) => 4,
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::EtherAddr => 9,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::IfIndex => 20,
            Self::CtState => 26,
            Self::AddrType => 38,
            Self::IfName => 41,
            Self::Other { id, .. } => id,
        }
    }

    /// The length in bytes, without padding.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Ipv4Addr | Self::Mark | Self::IfIndex | Self::CtState | Self::AddrType => 4,
            Self::Ipv6Addr | Self::IfName => 16,
            Self::EtherAddr => 6,
            Self::InetProto | Self::NfProto => 1,
            Self::InetService => 2,
            Self::Integer(len) => len as usize,
            Self::Other { len, .. } => len as usize,
        }
    }

    /// Whether the field has no byte at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The word of the type in `nft`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::EtherAddr => "ether_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::IfIndex => "iface_index",
            Self::IfName => "ifname",
            Self::NfProto => "nf_proto",
            Self::CtState => "ct_state",
            Self::AddrType => "fib_addrtype",
            Self::Integer(_) => "integer",
            Self::Other { .. } => "unknown",
        }
    }

    /// Whether the bytes are in the byte order of this machine.
    #[must_use]
    pub const fn is_host_order(self) -> bool {
        matches!(
            self,
            Self::Mark | Self::IfIndex | Self::IfName | Self::CtState | Self::AddrType
        )
    }

    fn from_id(id: u32) -> Option<Self> {
        Self::NAMED.into_iter().find(|field| field.id() == id)
    }
}

/// The type of a key or of a map's values: one field, or a concatenation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Type(Vec<Field>);

impl Type {
    /// A single field.
    #[must_use]
    pub fn single(field: Field) -> Self {
        Self(vec![field])
    }

    /// A concatenation in this order. `nft` can name at most five fields.
    #[must_use]
    pub fn concat(fields: &[Field]) -> Self {
        Self(fields.to_vec())
    }

    /// The fields in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.0
    }

    /// The length in bytes: the field's own, or the sum of fields padded to whole registers.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0.as_slice() {
            [one] => one.len(),
            many => many
                .iter()
                .map(|field| field.len().next_multiple_of(4))
                .sum(),
        }
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number in `NFTA_SET_KEY_TYPE` or `NFTA_SET_DATA_TYPE`: six bits a field (`TYPE_BITS` of nft).
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0
            .iter()
            .fold(0, |id, field| (id << TYPE_BITS) | field.id())
    }

    /// The type of a number and a length that the kernel gave back.
    ///
    /// A length that does not fit the fields is another program's; then one [`Field::Other`] holds both.
    #[must_use]
    pub fn from_kernel(id: u32, len: usize) -> Self {
        let mut ids = Vec::new();
        let mut rest = id;
        while rest != 0 {
            ids.push(rest & ((1 << TYPE_BITS) - 1));
            rest >>= TYPE_BITS;
        }
        ids.reverse();
        Self::named(&ids, len).unwrap_or_else(|| {
            let len = u16::try_from(len).unwrap_or(u16::MAX);
            Self(vec![Field::Other { id, len }])
        })
    }

    /// The fields of `ids` if their lengths add up; one integer field takes what the others leave.
    fn named(ids: &[u32], len: usize) -> Option<Self> {
        let single = ids.len() == 1;
        let padded = |field: Field| {
            if single {
                field.len()
            } else {
                field.len().next_multiple_of(4)
            }
        };
        let known: usize = ids
            .iter()
            .filter_map(|id| Field::from_id(*id))
            .map(padded)
            .sum();
        let rest = u8::try_from(len.checked_sub(known)?).ok()?;
        let integer = Field::Integer(rest);
        let fields: Vec<_> = ids
            .iter()
            .map(|id| Field::from_id(*id).or((*id == integer.id() && rest > 0).then_some(integer)))
            .collect::<Option<_>>()?;
        let found = Self(fields);
        (!ids.is_empty() && found.len() == len).then_some(found)
    }
}

impl From<Field> for Type {
    fn from(field: Field) -> Self {
        Self::single(field)
    }
}

impl<const N: usize> From<[Field; N]> for Type {
    fn from(fields: [Field; N]) -> Self {
        Self::concat(&fields)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { " . " };
            write!(f, "{dot}{}", field.word())?;
        }
        Ok(())
    }
}

const TYPE_BITS: u32 = 6;
