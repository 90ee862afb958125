//! Tables, chains, sets, elements, rules and counters as values.
//!
//! No object here names its table: a message or a [`Ruleset`] does. Handles and use counts, which the kernel
//! chooses, stand beside an object in a [`super::reply::Held`], so that what is read back equals what was sent.

use std::fmt;
use std::sync::Arc;

use super::data::{Data, Type};
use super::expr::{Counter, Expr, Verdict};

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

/// A set or map without its elements.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Set {
    /// Unique in its table.
    pub name: Name,
    /// The type of its keys.
    pub key: Type,
    /// Set or map, and of what.
    pub kind: SetKind,
    /// What it is for: decides which backend the kernel picks.
    pub flags: SetFlags,
    /// Speed or memory.
    pub policy: SetPolicy,
    /// The most elements it can hold: a hard cap, and with it a hash of fixed size; without it the hash grows
    /// with its elements. A [`SetFlags::DYNAMIC`] set needs one.
    pub size: Option<u32>,
    /// Milliseconds that an element lives, if it has no own timeout. Needs [`SetFlags::TIMEOUT`].
    pub timeout: Option<u64>,
    /// Milliseconds between collections of expired elements.
    pub gc_interval: Option<u32>,
    /// Expressions that every new element gets, such as a counter; a look-up evaluates them.
    pub exprs: Vec<Expr>,
    /// Shown by `nft` from 1.0.
    pub comment: Option<Name>,
}

impl Set {
    /// A set or map with nothing out of the ordinary.
    pub fn new(name: impl Into<Name>, key: impl Into<Type>, kind: SetKind) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            kind,
            flags: SetFlags::NONE,
            policy: SetPolicy::Performance,
            size: None,
            timeout: None,
            gc_interval: None,
            exprs: Vec::new(),
            comment: None,
        }
    }

    /// The same set without what the kernel counts by itself.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self {
            exprs: self.exprs.iter().map(Expr::at_rest).collect(),
            ..self.clone()
        }
    }
}

/// What an element of a set carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SetKind {
    /// Nothing: a set.
    Set,
    /// Data of this type.
    Map(Type),
    /// A verdict. Each change of one makes the kernel validate the whole table again.
    Verdicts,
    /// The name of an object.
    Objects(ObjectType),
}

flags! {
    /// Flags of a set (`enum nft_set_flags`). Those that follow from the other fields (map, object, concat,
    /// several expressions) are added when it is encoded and are not part of this value.
    pub struct SetFlags {
        /// Belongs to one rule. Only ever decoded: named sets can be compared and changed.
        ANONYMOUS = 0x01, "anonymous";
        /// Its elements do not change once a rule uses it.
        CONSTANT = 0x02, "constant";
        /// Elements are ranges.
        INTERVAL = 0x04, "interval";
        /// Elements may have a timeout.
        TIMEOUT = 0x10, "timeout";
        /// Rules may write elements (`NFT_SET_EVAL`).
        DYNAMIC = 0x20, "dynamic";
    }
}

codes! {
    /// What a set is optimised for (`enum nft_set_policies`).
    pub enum SetPolicy {
        /// Speed.
        Performance = 0, "performance";
        /// Memory.
        Memory = 1, "memory";
    }
}

/// One element of a set or map.
///
/// Most elements are a key and a value; the rest is behind [`SetElem::with_timeout`] and its siblings, in one
/// allocation that such elements do not have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SetElem {
    /// The key, padded as [`Data::concat`] does; empty for [`Role::CatchAll`].
    pub key: Data,
    /// What it carries.
    pub value: Value,
    more: Option<Box<More>>,
}

/// What an element carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    /// Nothing: an element of a set.
    None,
    /// Data.
    Data(Data),
    /// A verdict.
    Verdict(Verdict),
    /// The name of an object.
    Object(Name),
}

/// What an element stands for (`enum nft_set_elem_flags`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Role {
    /// Its key; in an interval set the first key of a range.
    #[default]
    Key,
    /// The first key after a range (`NFT_SET_ELEM_INTERVAL_END`).
    IntervalEnd,
    /// Every key without an element (`NFT_SET_ELEM_CATCHALL`).
    CatchAll,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct More {
    key_end: Option<Data>,
    role: Role,
    timeout: Option<u64>,
    expires: Option<u64>,
    comment: Option<Name>,
    exprs: Vec<Expr>,
}

impl SetElem {
    /// An element of a set.
    #[must_use]
    pub const fn key(key: Data) -> Self {
        Self::new(key, Value::None)
    }

    /// An element of a map.
    #[must_use]
    pub const fn data(key: Data, data: Data) -> Self {
        Self::new(key, Value::Data(data))
    }

    /// An element of a verdict map.
    #[must_use]
    pub const fn verdict(key: Data, verdict: Verdict) -> Self {
        Self::new(key, Value::Verdict(verdict))
    }

    /// An element with this value.
    #[must_use]
    pub const fn new(key: Data, value: Value) -> Self {
        Self {
            key,
            value,
            more: None,
        }
    }

    /// The element for every key without one.
    #[must_use]
    pub fn catch_all(value: Value) -> Self {
        Self::new(Data::new(&[]), value).with_role(Role::CatchAll)
    }

    /// The last key of the range, in a concatenation with intervals.
    #[must_use]
    pub fn with_key_end(self, key_end: Data) -> Self {
        self.change(|more| more.key_end = Some(key_end))
    }

    /// What it stands for.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        self.change(|more| more.role = role)
    }

    /// Milliseconds that it lives.
    #[must_use]
    pub fn with_timeout(self, timeout: u64) -> Self {
        self.change(|more| more.timeout = Some(timeout))
    }

    /// Milliseconds that are left of its life.
    #[must_use]
    pub fn with_expires(self, expires: u64) -> Self {
        self.change(|more| more.expires = Some(expires))
    }

    /// A comment, shown by `nft`.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<Name>) -> Self {
        self.change(|more| more.comment = Some(comment.into()))
    }

    /// Its expressions, such as a counter.
    #[must_use]
    pub fn with_exprs(self, exprs: Vec<Expr>) -> Self {
        self.change(|more| more.exprs = exprs)
    }

    /// The last key of the range, in a concatenation with intervals.
    #[must_use]
    pub fn key_end(&self) -> Option<&Data> {
        self.more.as_ref()?.key_end.as_ref()
    }

    /// What it stands for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.more.as_ref().map_or(Role::Key, |more| more.role)
    }

    /// Milliseconds that it lives, if not the set's own.
    #[must_use]
    pub fn timeout(&self) -> Option<u64> {
        self.more.as_ref()?.timeout
    }

    /// Milliseconds that are left of its life.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.more.as_ref()?.expires
    }

    /// A comment.
    #[must_use]
    pub fn comment(&self) -> Option<&Name> {
        self.more.as_ref()?.comment.as_ref()
    }

    /// Its expressions.
    #[must_use]
    pub fn exprs(&self) -> &[Expr] {
        self.more.as_ref().map_or(&[], |more| &more.exprs)
    }

    /// The same element without what the kernel counts by itself (time left, counters): to compare a dump
    /// with what was sent.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        if self.more.is_none() {
            return self.clone();
        }
        self.clone().change(|more| {
            more.expires = None;
            more.exprs = more.exprs.iter().map(Expr::at_rest).collect();
        })
    }

    /// Equal elements are equal values: an empty remainder is none.
    fn change(mut self, change: impl FnOnce(&mut More)) -> Self {
        let mut more = self.more.take().unwrap_or_default();
        change(&mut more);
        self.more = (*more != More::default()).then_some(more);
        self
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

/// Elements of one set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Elements {
    /// The name of the set.
    pub set: Name,
    /// In any order.
    pub elems: Vec<SetElem>,
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
        let mut elements = std::collections::BTreeMap::<Name, Vec<SetElem>>::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred thousand of them are held by an agent of 80 MB.
    #[test]
    fn an_element_is_small() {
        assert_eq!(size_of::<Data>(), 32);
        assert!(size_of::<SetElem>() <= 80, "{}", size_of::<SetElem>());
    }

    #[test]
    fn an_element_without_its_counts_is_the_element_as_it_was_sent() {
        let sent = SetElem::key(Data::host(1)).with_timeout(5_000);
        assert_eq!(sent.clone().with_expires(4_321).at_rest(), sent);
        let plain = SetElem::key(Data::host(1));
        assert_eq!(plain.clone().with_expires(1).at_rest(), plain);
        assert_eq!(plain.clone().with_exprs(Vec::new()), plain);
    }

    #[test]
    fn a_type_survives_its_number() {
        use crate::nft::data::Field;
        let types = [
            Type::single(Field::Integer(3)),
            Type::from([Field::Ipv6Addr, Field::InetProto, Field::InetService]),
            Type::from([Field::Mark, Field::Integer(4), Field::IfName]),
            Type::single(Field::Other { id: 63, len: 9 }),
        ];
        for kind in types {
            assert_eq!(Type::from_kernel(kind.id(), kind.len()), kind);
        }
        let other = Type::single(Field::Other {
            id: 7 << 6 | 12,
            len: 4,
        });
        assert_eq!(
            Type::from_kernel(7 << 6 | 12, 4),
            other,
            "lengths that do not add up"
        );
    }
}
