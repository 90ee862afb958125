//! An address with a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// An address with a prefix length: `10.244.1.0/24`. The host bits may be set, as on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address as written.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// An address with a prefix length, which is cut to what the family has.
    pub fn new(address: impl Into<IpAddr>, length: u8) -> Self {
        let address = address.into();
        Self {
            address,
            length: length.min(bits(address)),
        }
    }

    /// One address alone: /32 or /128.
    pub fn host(address: impl Into<IpAddr>) -> Self {
        Self::new(address, 128)
    }

    /// Everything of the family of `like`: 0.0.0.0/0 or ::/0.
    pub fn everything(like: IpAddr) -> Self {
        match like {
            IpAddr::V4(_) => Self::new(Ipv4Addr::UNSPECIFIED, 0),
            IpAddr::V6(_) => Self::new(Ipv6Addr::UNSPECIFIED, 0),
        }
    }

    /// The prefix with its host bits cleared, as a route wants it.
    pub fn network(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.length))
                    .unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.length))
                    .unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Self {
            address,
            length: self.length,
        }
    }

    /// Whether the prefix covers the address.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self::new(address, self.length).network() == self.network()
    }

    /// The address `number` after the first of the prefix, if the prefix has so many.
    pub fn nth(self, number: u64) -> Option<IpAddr> {
        let free = u32::from(bits(self.address) - self.length);
        if free < 64 && number >> free != 0 {
            return None;
        }
        Some(match self.network().address {
            IpAddr::V4(address) => {
                Ipv4Addr::from_bits(address.to_bits() + u32::try_from(number).ok()?).into()
            }
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() + u128::from(number)).into()
            }
        })
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Why a text is no prefix.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no address with a prefix length, such as 10.244.1.0/24 or fd00:10:244:1::/64")]
pub struct ParsePrefixError(String);

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
            (length <= bits(address)).then_some(Self { address, length })
        };
        parse().ok_or_else(|| ParsePrefixError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_parsed_and_printed() {
        for text in [
            "10.244.1.0/24",
            "0.0.0.0/0",
            "fd00:10:244:1::/64",
            "::/0",
            "10.0.0.7/8",
        ] {
            assert_eq!(prefix(text).to_string(), text);
        }
        for text in [
            "10.244.1.0",
            "10.244.1.0/33",
            "::/129",
            "a/1",
            "1.2.3/8",
            "",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_has_no_host_bits() {
        for (text, network) in [
            ("10.0.0.7/8", "10.0.0.0/8"),
            ("10.0.0.7/0", "0.0.0.0/0"),
            ("10.0.0.7/32", "10.0.0.7/32"),
            ("fd00::1/64", "fd00::/64"),
            ("fd00::1/0", "::/0"),
        ] {
            assert_eq!(prefix(text).network(), prefix(network), "{text}");
        }
    }

    #[test]
    fn addresses_are_counted_from_the_first() {
        assert_eq!(
            prefix("10.244.1.0/24").nth(2),
            Some("10.244.1.2".parse().unwrap())
        );
        assert_eq!(
            prefix("10.244.1.0/24").nth(255),
            Some("10.244.1.255".parse().unwrap())
        );
        assert_eq!(prefix("10.244.1.0/24").nth(256), None);
        assert_eq!(
            prefix("fd00:10:244:1::/64").nth(1 << 40),
            Some("fd00:10:244:1:0:100::".parse().unwrap())
        );
        assert_eq!(prefix("fd00::/120").nth(256), None);
    }

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        assert!(prefix("10.0.0.0/8").contains("10.9.9.9".parse().unwrap()));
        assert!(!prefix("10.0.0.0/8").contains("11.0.0.0".parse().unwrap()));
        assert!(!prefix("::/0").contains("10.9.9.9".parse().unwrap()));
    }
}
