//! Addresses, prefixes and protocols, with the lenient reading that Kubernetes promises.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP family. Every Service address, endpoint and rule belongs to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in the order in which they are reported.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Bits in an address of this family.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol that a Service port can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
    /// SCTP, protocol number 132.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IANA protocol number, as in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Reads the API's word for a protocol: `TCP`, `UDP` or `SCTP`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// A prefix: an address and the number of leading bits that count. Bits after those are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// The prefix of `length` bits that holds `address`; `None` if the family has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let spare = Family::of(address).bits().checked_sub(length)?;
        let first = match address {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(
                a.to_bits() & u32::MAX.checked_shl(spare.into()).unwrap_or(0),
            )),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(
                a.to_bits() & u128::MAX.checked_shl(spare.into()).unwrap_or(0),
            )),
        };
        Some(Self { first, length })
    }

    /// The prefix that holds this address alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self {
            first: address,
            length: Family::of(address).bits(),
        }
    }

    /// The lowest address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The highest address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        // Bits after the prefix are zero in the first address, so that nothing is carried.
        let spare = u32::from(self.family().bits() - self.length);
        match self.first {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(
                a.to_bits() + 1u32.checked_shl(spare).map_or(u32::MAX, |bit| bit - 1),
            )),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(
                a.to_bits() + 1u128.checked_shl(spare).map_or(u128::MAX, |bit| bit - 1),
            )),
        }
    }

    /// How many leading bits count.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// The family of the prefix.
    #[must_use]
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// Whether the address lies inside; an address of the other family never does.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.length) == Some(self) && Family::of(address) == self.family()
    }

    /// Reads `address/length` as [`parse_address`] reads addresses: spaces around it and leading
    /// zeros are forgiven, bits beyond the prefix are cleared.
    ///
    /// ```
    /// use daymark_model::Cidr;
    /// assert_eq!(Cidr::parse(" 10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    /// assert!(Cidr::parse("10.0.0.0/33").is_none());
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.trim().split_once('/')?;
        Self::new(parse_address(address)?, length.parse().ok()?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.first, self.length)
    }
}

/// Whether an address means something on one host or link alone, or is nobody's: unspecified, loopback, link-local, multicast,
/// broadcast. No Pod or load balancer has one that others could reach (kubernetes `validation.ValidateNonSpecialIP`).
///
/// ```
/// use daymark_model::address::{is_special, parse_address};
/// let special = |text| parse_address(text).is_some_and(is_special);
/// assert!(special("127.0.0.1") && special("169.254.169.254") && special("fe80::1") && special("ff02::1"));
/// assert!(!special("10.0.0.1") && !special("fd00::1"));
/// ```
#[must_use]
pub fn is_special(ip: IpAddr) -> bool {
    let here_alone = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    here_alone || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()
}

/// Reads an address as leniently as Kubernetes does for stored objects: surrounding spaces, leading
/// zeros (decimal, never octal) and IPv4 written inside IPv6 are understood, everything that comes
/// out is canonical (k8s.io/utils/net, `ParseIPSloppy`).
///
/// ```
/// use daymark_model::address::parse_address;
/// assert_eq!(parse_address("172.30.0.041"), parse_address("172.30.0.41"));
/// assert_eq!(parse_address("::ffff:10.0.0.1"), parse_address("10.0.0.1"));
/// assert_eq!(parse_address("10.0.0"), None);
/// ```
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        return text
            .parse::<Ipv6Addr>()
            .ok()
            .map(|six| IpAddr::V6(six).to_canonical());
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 32 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part
            .trim_start_matches('0')
            .parse()
            .or_else(|_| part.parse())
            .ok()?;
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}
