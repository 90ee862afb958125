//! Tables, chains, sets, elements, rules and counters as values.
//!
//! No object here names its table: a message or a [`Ruleset`] does. Handles and use counts, which the kernel
//! chooses, stand beside an object in a [`super::reply::Held`], so that what is read back equals what was sent.

mod set;

pub use set::{Elements, Role, Set, SetElem, SetFlags, SetKind, SetPolicy, Value};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::expr::{Counter, Expr};

/// The name of a table, chain, set or object, or a comment: cheap to clone, at most 255 bytes
/// (`NFT_NAME_MAXLEN`; a comment at most 127, `NFTNL_UDATA_COMMENT_MAXLEN`).
pub type Name = Arc<str>;

codes! {
    /// What packets a table sees (`NFPROTO_*`, `linux/netfilter.h`).
    pub enum Family {
        /// IPv4 and IPv6.
        Inet = 1, "inet";
        /// IPv4.
        Ip = 2, "ip";
        /// ARP.
        Arp = 3, "arp";
        /// One interface, before routing.
        Netdev = 5, "netdev";
        /// A bridge.
        Bridge = 7, "bridge";
        /// IPv6.
        Ip6 = 10, "ip6";
    }
}

/// A table, by family and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableId {
    /// The family.
    pub family: Family,
    /// The name, unique in its family.
    pub name: Name,
}

impl TableId {
    /// A table, by family and name.
    pub fn new(family: Family, name: impl Into<Name>) -> Self {
        Self {
            family,
            name: name.into(),
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// A table without what it holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Table {
    /// Family and name.
    pub id: TableId,
    /// Who may edit it, and whether it works.
    pub flags: TableFlags,
    /// Shown by `nft`; kept by the kernel as user data. Only set when the table is created.
    pub comment: Option<Name>,
}

impl Table {
    /// A table without flags.
    #[must_use]
    pub const fn new(id: TableId) -> Self {
        Self {
            id,
            flags: TableFlags::NONE,
            comment: None,
        }
    }
}

flags! {
    /// Flags of a table (`enum nft_table_flags`).
    pub struct TableFlags {
        /// Its hooks are not registered.
        DORMANT = 0x1, "dormant";
        /// Only the socket that created or adopted it may change it; others get `EPERM`. Since Linux 5.12.
        OWNER = 0x2, "owner";
        /// It outlives its owner and may then be adopted. Since Linux 6.9.
        PERSIST = 0x4, "persist";
    }
}

/// A chain without its rules.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Chain {
    /// Unique in its table.
    pub name: Name,
    /// Called by a hook, or by other chains.
    pub kind: ChainKind,
    /// Shown by `nft` from 1.0.
    pub comment: Option<Name>,
}

/// Who calls a chain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ChainKind {
    /// Rules of other chains, by `jump` or `goto`.
    Regular,
    /// A hook of the kernel.
    Base(BaseChain),
}

/// How a hook calls a chain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BaseChain {
    /// What its rules may do.
    pub kind: ChainType,
    /// Where packets are seen.
    pub hook: Hook,
    /// Lower runs earlier (`NF_IP_PRI_*`: raw -300, conntrack -200, dstnat -100, filter 0, srcnat 100).
    pub priority: i32,
    /// What happens to a packet that no rule decided.
    pub policy: Policy,
    /// The interface, for [`Hook::Ingress`] and [`Hook::Egress`].
    pub device: Option<Name>,
}

codes! {
    /// What the rules of a base chain may do; the word is what goes over the wire.
    pub enum ChainType {
        /// See and decide every packet.
        Filter = 0, "filter";
        /// See the first packet of a connection and translate it.
        Nat = 1, "nat";
        /// Route again if a mark or address changed; hook output.
        Route = 2, "route";
    }
}

codes! {
    /// Where packets are seen. The number is that of inet tables (`enum nf_inet_hooks`); see [`Hook::number`].
    pub enum Hook {
        /// Every packet that comes in.
        Prerouting = 0, "prerouting";
        /// Packets for this host.
        Input = 1, "input";
        /// Packets for others.
        Forward = 2, "forward";
        /// Packets of this host.
        Output = 3, "output";
        /// Every packet that goes out.
        Postrouting = 4, "postrouting";
        /// Before prerouting, on one interface.
        Ingress = 5, "ingress";
        /// After postrouting, on one interface; netdev tables only.
        Egress = 6, "egress";
    }
}

impl Hook {
    /// The number of the hook in a family: netdev has its own (`enum nf_dev_hooks`).
    #[must_use]
    pub const fn number(self, family: Family) -> u32 {
        match (family, self) {
            (Family::Netdev, Self::Ingress) => 0,
            (Family::Netdev, Self::Egress) => 1,
            _ => self.code(),
        }
    }

    /// The hook of a number in a family.
    #[must_use]
    pub const fn from_number(number: u32, family: Family) -> Option<Self> {
        match (family, number) {
            (Family::Netdev, 0) => Some(Self::Ingress),
            (Family::Netdev, 1) => Some(Self::Egress),
            (Family::Netdev, _) => None,
            _ => Self::from_code(number),
        }
    }
}

codes! {
    /// What happens to a packet that no rule of a base chain decided (`NF_DROP`, `NF_ACCEPT`).
    pub enum Policy {
        /// Dropped.
        Drop = 0, "drop";
        /// Goes on.
        Accept = 1, "accept";
    }
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// The chain it stands in.
    pub chain: Name,
    /// What it does, in order.
    pub exprs: Vec<Expr>,
    /// Shown by `nft`.
    pub comment: Option<Name>,
}

impl Rule {
    /// A rule without a comment.
    pub fn new(chain: impl Into<Name>, exprs: Vec<Expr>) -> Self {
        Self {
            chain: chain.into(),
            exprs,
            comment: None,
        }
    }

    /// The same rule with a comment.
    #[must_use]
    pub fn commented(mut self, comment: impl Into<Name>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The same rule without what the kernel counts by itself: to compare a dump with what was sent.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self {
            exprs: self.exprs.iter().map(Expr::at_rest).collect(),
            ..self.clone()
        }
    }
}

/// A named object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Object {
    /// Unique among the objects of its type in its table.
    pub name: Name,
    /// What it is.
    pub kind: ObjectKind,
    /// Shown by `nft` from 1.0.
    pub comment: Option<Name>,
}

/// What a named object is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ObjectKind {
    /// Counts packets and bytes.
    Counter(Counter),
    /// Another program's: kept and sent as it is.
    Other {
        /// `NFT_OBJECT_*`.
        kind: u32,
        /// The bytes of `NFTA_OBJ_DATA`.
        bytes: Box<[u8]>,
    },
}

impl Object {
    /// A counter at zero.
    pub fn counter(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            kind: ObjectKind::Counter(Counter::default()),
            comment: None,
        }
    }

    /// Its type.
    #[must_use]
    pub const fn object_type(&self) -> ObjectType {
        match &self.kind {
            ObjectKind::Counter(_) => ObjectType::COUNTER,
            ObjectKind::Other { kind, .. } => ObjectType(*kind),
        }
    }

    /// The same object without what the kernel counts by itself.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        match self.kind {
            ObjectKind::Counter(_) => Self {
                kind: ObjectKind::Counter(Counter::default()),
                ..self.clone()
            },
            ObjectKind::Other { .. } => self.clone(),
        }
    }
}

/// The type of a named object (`NFT_OBJECT_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectType(pub u32);

impl ObjectType {
    /// A counter.
    pub const COUNTER: Self = Self(1);

    /// The word of `nft`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self.0 {
            1 => "counter",
            2 => "quota",
            3 => "ct helper",
            4 => "limit",
            5 => "ct count",
            7 => "ct timeout",
            8 => "secmark",
            9 => "ct expectation",
            10 => "synproxy",
            _ => "object",
        }
    }
}

/// A whole table: a program as a value.
///
/// Rules stand in the order of their chain; rules of different chains may be mixed. Chains, sets and objects
/// are in the order in which they are created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruleset {
    /// The table itself.
    pub table: Table,
    /// Named objects.
    pub objects: Vec<Object>,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Elements, by set.
    pub elements: Vec<Elements>,
}

impl Ruleset {
    /// An empty table.
    #[must_use]
    pub const fn new(table: Table) -> Self {
        Self {
            table,
            objects: Vec::new(),
            sets: Vec::new(),
            chains: Vec::new(),
            rules: Vec::new(),
            elements: Vec::new(),
        }
    }

    /// A set or map by name.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| &*set.name == name)
    }

    /// A chain by name.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| &*chain.name == name)
    }

    /// The rules of a chain, in order.
    pub fn rules_of<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| &*rule.chain == chain)
    }

    /// The elements of a set.
    pub fn elements_of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a SetElem> {
        self.elements
            .iter()
            .filter(move |list| &*list.set == set)
            .flat_map(|list| &list.elems)
    }

    /// The same program in one order, however it was written or dumped, and without what the kernel counts by
    /// itself: objects, sets and chains by name, rules by chain, elements by key, each set's in one list, empty
    /// lists left out. Two tables do the same if these are equal.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut elements = BTreeMap::<Name, Vec<SetElem>>::new();
        for list in &self.elements {
            let known = elements.entry(list.set.clone()).or_default();
            known.extend(list.elems.iter().map(SetElem::at_rest));
        }
        let mut out = Self {
            table: self.table.clone(),
            objects: self.objects.iter().map(Object::at_rest).collect(),
            sets: self.sets.iter().map(Set::at_rest).collect(),
            chains: self.chains.clone(),
            rules: self.rules.iter().map(Rule::at_rest).collect(),
            elements: Vec::new(),
        };
        out.objects
            .sort_by_key(|object| (object.object_type(), object.name.clone()));
        out.sets.sort_by_key(|set| set.name.clone());
        out.chains.sort_by_key(|chain| chain.name.clone());
        out.rules.sort_by_key(|rule| rule.chain.clone());
        for (set, mut elems) in elements {
            elems.sort_by(|a, b| {
                (&a.key, a.key_end(), a.role()).cmp(&(&b.key, b.key_end(), b.role()))
            });
            if !elems.is_empty() {
                out.elements.push(Elements { set, elems });
            }
        }
        out
    }
}
