//! Which addresses of a node serve node ports (`nodePortAddresses`).
//!
//! The list is a union: an address serves if any entry names it.
//! 1. `primary`: the Node object's first address of each family, internal ones before external ones, followed live; a
//!    loopback address there counts as none;
//! 2. `localhost`: 127.0.0.0/8 and ::1;
//! 3. `all`: every address of the machine;
//! 4. a prefix: the machine's addresses inside it.
//!
//! Loopback addresses are never served by the kernel, whatever names them: what it translated there would leave with
//! a loopback source, which every router throws away. They are a listener's business, for which they have to be
//! named, by `localhost` or by a prefix that begins inside: `all` does not count (KEP-6032).
//!
//! A family that no entry names is closed. kube-proxy serves it at every address, also where `primary` found
//! none; [`UnnamedFamily::Open`] does the same. (kubernetes `pkg/proxy/util/nodeport_addresses.go`, and
//! `cmd/kube-proxy/app/server.go` for the keywords.)

use std::fmt;
use std::net::IpAddr;

use crate::address::{Cidr, Family};

/// One entry of `nodePortAddresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodePortAddress {
    /// `primary`: the Node object's first address of each family.
    Primary,
    /// `localhost`: 127.0.0.0/8 and ::1.
    Localhost,
    /// `all`: every address.
    All,
    /// The machine's addresses inside a prefix.
    Cidr(Cidr),
}

impl NodePortAddress {
    /// The words that stand for addresses, in the order in which messages name them.
    pub const KEYWORDS: [(&'static str, Self); 3] = [
        ("primary", Self::Primary),
        ("localhost", Self::Localhost),
        ("all", Self::All),
    ];

    /// Reads a keyword, exactly as written here, or a prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let keyword = Self::KEYWORDS.into_iter().find(|(word, _)| *word == text);
        keyword
            .map(|(_, entry)| entry)
            .or_else(|| Cidr::parse(text).map(Self::Cidr))
    }
}

impl fmt::Display for NodePortAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::KEYWORDS
            .into_iter()
            .find(|(_, entry)| entry == self)
            .map(|(word, _)| word);
        match (self, known) {
            (Self::Cidr(cidr), _) => cidr.fmt(out),
            (_, word) => out.write_str(word.unwrap_or_default()),
        }
    }
}

/// The whole list. The default is `primary` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortAddresses(pub Vec<NodePortAddress>);

impl Default for NodePortAddresses {
    fn default() -> Self {
        Self(vec![NodePortAddress::Primary])
    }
}

impl NodePortAddresses {
    /// Reads a list as kube-proxy's configuration writes it. A prefix may stand there twice, a keyword may not.
    ///
    /// # Errors
    /// One for each entry that is none.
    ///
    /// ```
    /// use daymark_model::node_ports::NodePortAddresses;
    /// assert!(NodePortAddresses::parse(&["primary", "10.0.0.0/8"]).is_ok());
    /// let errors = NodePortAddresses::parse(&["all", "all"]).unwrap_err();
    /// assert_eq!(format!("nodePortAddresses{}", errors[0]), "nodePortAddresses[1]: Duplicate value: \"all\"");
    /// ```
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<EntryError>> {
        let mut entries = Vec::with_capacity(texts.len());
        let mut errors = Vec::new();
        for (index, text) in texts.iter().map(AsRef::as_ref).enumerate() {
            let entry = NodePortAddress::parse(text);
            let repeats = |entry: &NodePortAddress| {
                !matches!(entry, NodePortAddress::Cidr(_)) && entries.contains(entry)
            };
            let why = match entry {
                None => Some(EntryFault::Invalid),
                Some(entry) => repeats(&entry).then_some(EntryFault::Duplicate),
            };
            entries.extend(entry.filter(|_| why.is_none()));
            errors.extend(why.map(|why| EntryError {
                index,
                value: text.to_owned(),
                why,
            }));
        }
        if errors.is_empty() {
            Ok(Self(entries))
        } else {
            Err(errors)
        }
    }

    /// The addresses at which the kernel serves node ports, sorted, without doubles. `node` are the Node object's
    /// addresses in their order, `machine` those of the interfaces.
    #[must_use]
    pub fn serving(
        &self,
        node: &[IpAddr],
        machine: &[IpAddr],
        unnamed: UnnamedFamily,
    ) -> Vec<IpAddr> {
        let primary = primary(node);
        let mut found: Vec<IpAddr> = Vec::new();
        for family in Family::BOTH {
            let named = self.0.iter().any(|entry| entry.names(family, &primary));
            let open = !named && unnamed == UnnamedFamily::Open;
            let served = |ip: &IpAddr| {
                open || self
                    .0
                    .iter()
                    .any(|entry| entry.names_address(*ip, &primary))
            };
            let of_family = |ip: &IpAddr| Family::of(*ip) == family && !ip.is_loopback();
            // What the Node object says is served whether an interface has it or not (yet).
            let all = primary.iter().chain(machine).copied();
            found.extend(all.filter(of_family).filter(served));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether every address of a family serves, those included that the machine will get.
    #[must_use]
    pub fn covers_all(&self, family: Family, node: &[IpAddr], unnamed: UnnamedFamily) -> bool {
        let primary = primary(node);
        let all = |entry: &NodePortAddress| match entry {
            NodePortAddress::All => true,
            NodePortAddress::Cidr(cidr) => cidr.family() == family && cidr.length() == 0,
            NodePortAddress::Primary | NodePortAddress::Localhost => false,
        };
        let named = self.0.iter().any(|entry| entry.names(family, &primary));
        self.0.iter().any(all) || (!named && unnamed == UnnamedFamily::Open)
    }

    /// Whether an entry other than `primary` names an address, loopback included.
    #[must_use]
    pub fn name(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|entry| entry.names_address(ip, &[]))
    }

    /// Whether an entry names a family: one that none names may be open at every address ([`UnnamedFamily`]). `node` are the
    /// Node object's addresses.
    #[must_use]
    pub fn name_family(&self, family: Family, node: &[IpAddr]) -> bool {
        let primary = primary(node);
        self.0.iter().any(|entry| entry.names(family, &primary))
    }

    /// Whether an entry names loopback of this family: asks for a listener there.
    #[must_use]
    pub fn name_loopback(&self, family: Family) -> bool {
        self.0.iter().any(|entry| match entry {
            NodePortAddress::Localhost => true,
            NodePortAddress::Cidr(cidr) => cidr.family() == family && cidr.first().is_loopback(),
            NodePortAddress::Primary | NodePortAddress::All => false,
        })
    }
}

impl NodePortAddress {
    fn names(self, family: Family, primary: &[IpAddr]) -> bool {
        match self {
            Self::Primary => primary.iter().any(|ip| Family::of(*ip) == family),
            Self::Localhost | Self::All => true,
            Self::Cidr(cidr) => cidr.family() == family,
        }
    }

    fn names_address(self, ip: IpAddr, primary: &[IpAddr]) -> bool {
        match self {
            Self::Primary => primary.contains(&ip),
            Self::Localhost => ip.is_loopback(),
            Self::All => true,
            Self::Cidr(cidr) => cidr.contains(ip),
        }
    }
}

/// The Node object's first address of each family; a loopback address is nobody's.
fn primary(node: &[IpAddr]) -> Vec<IpAddr> {
    let mut first: Vec<IpAddr> = Vec::new();
    for ip in node {
        let is_other = |known: &IpAddr| Family::of(*known) != Family::of(*ip);
        if first.iter().all(is_other) {
            first.push(*ip);
        }
    }
    first.retain(|ip| !ip.is_loopback());
    first
}

/// What becomes of a family that no entry names, or for which `primary` finds no address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnnamedFamily {
    /// It serves no node port.
    #[default]
    Closed,
    /// It serves them at every address of the machine, as in kube-proxy.
    Open,
}

/// An entry of a list that cannot be used.
///
/// Its text begins with the index, for the field's name to stand before it, and goes on as Kubernetes words it
/// (`pkg/proxy/apis/config/validation`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryError {
    /// Its position, from 0.
    pub index: usize,
    /// What stands there.
    pub value: String,
    /// What is wrong with it.
    pub why: EntryFault,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFault {
    /// A keyword that stood there already.
    Duplicate,
    /// Neither a keyword nor a prefix.
    Invalid,
}

impl fmt::Display for EntryError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, value, why } = self;
        match why {
            EntryFault::Duplicate => write!(out, "[{index}]: Duplicate value: {value:?}"),
            EntryFault::Invalid => {
                let words = NodePortAddress::KEYWORDS.map(|(word, _)| word);
                write!(
                    out,
                    "[{index}]: Invalid value: {value:?}: must be a prefix such as 10.0.0.0/8, or one of the keywords {}",
                    words.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for EntryError {}
