//! Sets, maps and their elements as values.

use super::{Name, ObjectType};
use crate::nft::data::{Data, Type};
use crate::nft::expr::{Expr, Verdict};

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

    /// Whether it is a key and a value and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.more.is_none()
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

/// Elements of one set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Elements {
    /// The name of the set.
    pub set: Name,
    /// In any order.
    pub elems: Vec<SetElem>,
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
