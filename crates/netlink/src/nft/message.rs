//! Changes, which go into a batch, and queries, which do not.

use super::object::{
    Chain, Elements, Family, Name, Object, ObjectType, Rule, Ruleset, Set, SetElem, Table, TableId,
};

/// One change of the ruleset. Several make a transaction: all of them happen, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Creates a table, changes its flags, or adopts it.
    NewTable {
        /// The table.
        table: Table,
        /// What if it exists.
        exists: Exists,
    },
    /// Deletes a table with all it holds.
    DelTable {
        /// Which.
        table: TableId,
    },
    /// Creates a chain, or changes the policy of a base chain.
    NewChain {
        /// Where.
        table: TableId,
        /// The chain.
        chain: Chain,
        /// What if it exists.
        exists: Exists,
    },
    /// Deletes a chain with its rules, unless something still refers to it (`EBUSY`).
    DelChain {
        /// Where.
        table: TableId,
        /// Which.
        chain: Name,
    },
    /// Creates a set or map. Its type must not change if it exists.
    NewSet {
        /// Where.
        table: TableId,
        /// The set.
        set: Set,
        /// What if it exists.
        exists: Exists,
    },
    /// Deletes a set with its elements, unless a rule still uses it (`EBUSY`).
    DelSet {
        /// Where.
        table: TableId,
        /// Which.
        set: Name,
    },
    /// Creates a named object.
    NewObject {
        /// Where.
        table: TableId,
        /// The object.
        object: Object,
        /// What if it exists.
        exists: Exists,
    },
    /// Deletes a named object, unless something still refers to it (`EBUSY`).
    DelObject {
        /// Where.
        table: TableId,
        /// Its type.
        kind: ObjectType,
        /// Which.
        object: Name,
    },
    /// Adds a rule, or replaces one.
    NewRule {
        /// Where.
        table: TableId,
        /// The rule.
        rule: Rule,
        /// Where in its chain.
        place: Place,
    },
    /// Deletes rules.
    DelRule {
        /// Where.
        table: TableId,
        /// The chain.
        chain: Name,
        /// Which of its rules.
        which: Victim,
    },
    /// Adds elements to a set.
    NewElems {
        /// Where.
        table: TableId,
        /// The set, and its new elements.
        elements: Elements,
        /// What if one exists. With [`Exists::Keep`] an element with other data is still refused (`EEXIST`).
        exists: Exists,
    },
    /// Deletes elements from a set; one that is not there is refused (`ENOENT`).
    DelElems {
        /// Where.
        table: TableId,
        /// The set, and the elements; their values are not sent.
        elements: Elements,
    },
    /// Deletes every element of a set.
    FlushSet {
        /// Where.
        table: TableId,
        /// Which.
        set: Name,
    },
}

/// What happens if the object exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exists {
    /// It stays (`NLM_F_CREATE`).
    Keep,
    /// The message is refused with `EEXIST` (`NLM_F_CREATE | NLM_F_EXCL`).
    Refuse,
}

/// Where a rule goes. Handles are what the kernel gave ([`super::reply::Held`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// Behind the last rule.
    Last,
    /// Before the first rule.
    First,
    /// Behind this rule.
    After(u64),
    /// Before this rule.
    Before(u64),
    /// In place of this rule.
    Replace(u64),
}

/// Which rules of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Victim {
    /// All.
    All,
    /// The one with this handle.
    Handle(u64),
}

/// One question. The answer is one [`super::reply::Reply`], or a dump of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// The number of the current generation of the ruleset, and who committed it.
    Generation,
    /// Every table, of one family or of all.
    Tables(Option<Family>),
    /// One table; `ENOENT` if there is none.
    Table(TableId),
    /// Every chain of a family; other tables' too, which [`super::reply::Reply`] names.
    Chains(Family),
    /// Every set of a table.
    Sets(TableId),
    /// Every element of a set.
    Elements {
        /// Where.
        table: TableId,
        /// Which set.
        set: Name,
    },
    /// One element of a set, by its key; `ENOENT` if there is none, or no such set.
    Element {
        /// Where.
        table: TableId,
        /// Which set.
        set: Name,
        /// What names it: its key, and of a range the end.
        elem: SetElem,
    },
    /// Every rule of a table.
    Rules(TableId),
    /// Every rule of a chain; none if there is no such chain.
    ChainRules {
        /// Where.
        table: TableId,
        /// Which chain.
        chain: Name,
    },
    /// Every named object of a table.
    Objects(TableId),
}

impl Message {
    /// The messages that create a whole table: objects before their users, elements last.
    ///
    /// Every prefix is valid for the kernel. Rules refer to chains and sets, verdicts of elements to chains;
    /// `super::batch` may split between any two if hooks are only added last.
    #[must_use]
    pub fn create(ruleset: &Ruleset, exists: Exists) -> Vec<Self> {
        let table = &ruleset.table.id;
        let mut out = vec![Self::NewTable {
            table: ruleset.table.clone(),
            exists,
        }];
        let new_object = |object: &Object| Self::NewObject {
            table: table.clone(),
            object: object.clone(),
            exists,
        };
        out.extend(ruleset.objects.iter().map(new_object));
        let new_set = |set: &Set| Self::NewSet {
            table: table.clone(),
            set: set.clone(),
            exists,
        };
        out.extend(ruleset.sets.iter().map(new_set));
        let new_chain = |chain: &Chain| Self::NewChain {
            table: table.clone(),
            chain: chain.clone(),
            exists,
        };
        out.extend(ruleset.chains.iter().map(new_chain));
        let new_rule = |rule: &Rule| Self::NewRule {
            table: table.clone(),
            rule: rule.clone(),
            place: Place::Last,
        };
        out.extend(ruleset.rules.iter().map(new_rule));
        let new_elems = |elements: &Elements| Self::NewElems {
            table: table.clone(),
            elements: elements.clone(),
            exists,
        };
        out.extend(ruleset.elements.iter().map(new_elems));
        out
    }

    /// The table that is changed.
    #[must_use]
    pub const fn table(&self) -> &TableId {
        match self {
            Self::NewTable { table, .. } => &table.id,
            Self::DelTable { table }
            | Self::NewChain { table, .. }
            | Self::DelChain { table, .. }
            | Self::NewSet { table, .. }
            | Self::DelSet { table, .. }
            | Self::NewObject { table, .. }
            | Self::DelObject { table, .. }
            | Self::NewRule { table, .. }
            | Self::DelRule { table, .. }
            | Self::NewElems { table, .. }
            | Self::DelElems { table, .. }
            | Self::FlushSet { table, .. } => table,
        }
    }
}
