//! Names of network interfaces, and patterns of them.

use std::fmt;

/// The name of a network interface as the kernel takes it (`linux/net/core/dev.c`, `dev_valid_name`): 1 to 15 bytes, no `/`
/// and no space, neither `.` nor `..`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface([u8; Self::SIZE]);

impl Interface {
    /// `IFNAMSIZ`: the bytes of a name in the kernel, with at least one zero at its end.
    pub const SIZE: usize = 16;

    /// The interface of this name, if it can be one.
    ///
    /// ```
    /// use daymark_model::Interface;
    /// assert_eq!(Interface::parse("cni0").unwrap().to_string(), "cni0");
    /// assert!(Interface::parse("a-name-of-16-byt").is_none());
    /// ```
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::SIZE];
        let fits = (1..Self::SIZE).contains(&name.len());
        // `isspace` of C, and the colon of old aliases.
        let odd = |b: u8| matches!(b, b'/' | b':' | b' ' | b'\t'..=b'\r' | 0);
        if !fits || name.bytes().any(odd) || name == "." || name == ".." {
            return None;
        }
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// The name in 16 bytes, zeroes behind it.
    #[must_use]
    pub fn bytes(self) -> [u8; Self::SIZE] {
        self.0
    }

    /// The name's own bytes.
    fn name(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        &self.0[..end.unwrap_or(Self::SIZE)]
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&String::from_utf8_lossy(self.name()))
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{self}\"")
    }
}

/// Interfaces by their names: how a detector tells own Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfacePattern {
    /// The one of this name: `BridgeInterface`.
    Named(Interface),
    /// All whose names begin so: `InterfaceNamePrefix`.
    Beginning(Interface),
}

impl InterfacePattern {
    /// Reads `NAME`, or `BEGINNING*`.
    ///
    /// ```
    /// use daymark_model::{Interface, InterfacePattern};
    /// let veths = InterfacePattern::parse("veth*").unwrap();
    /// assert!(veths.fits(Interface::parse("veth1234").unwrap()));
    /// assert!(!veths.fits(Interface::parse("vetx").unwrap()));
    /// assert_eq!(veths.to_string(), "veth*");
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some(beginning) => Interface::parse(beginning).map(Self::Beginning),
            None => Interface::parse(text).map(Self::Named),
        }
    }

    /// Whether an interface is one of them.
    #[must_use]
    pub fn fits(self, interface: Interface) -> bool {
        match self {
            Self::Named(name) => name == interface,
            Self::Beginning(beginning) => interface.name().starts_with(beginning.name()),
        }
    }

    /// One of them.
    #[must_use]
    pub fn least(self) -> Interface {
        match self {
            Self::Named(name) | Self::Beginning(name) => name,
        }
    }

    /// The first and the last name of the pattern, as 16 bytes that compare as numbers do.
    #[must_use]
    pub fn range(self) -> [[u8; Interface::SIZE]; 2] {
        match self {
            Self::Named(name) => [name.bytes(); 2],
            Self::Beginning(beginning) => {
                let mut last = [u8::MAX; Interface::SIZE];
                let length = beginning.name().len();
                last[..length].copy_from_slice(beginning.name());
                [beginning.bytes(), last]
            }
        }
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(out, "{name}"),
            Self::Beginning(beginning) => write!(out, "{beginning}*"),
        }
    }
}
