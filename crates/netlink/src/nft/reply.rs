//! What the kernel answers.

use super::object::{Chain, Elements, Object, Rule, Ruleset, Set, Table, TableId};

/// An object of the kernel, and what the kernel alone knows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held<T> {
    /// Its table.
    pub table: TableId,
    /// The number under which it can be named.
    pub handle: u64,
    /// The object.
    pub object: T,
}

/// One message of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A table.
    Table {
        /// The table.
        held: Held<Table>,
        /// The netlink port of the socket that owns it.
        owner: Option<u32>,
    },
    /// A chain.
    Chain(Held<Chain>),
    /// A set or map.
    Set {
        /// The set.
        held: Held<Set>,
        /// How many elements it has, those too that have run out and were not collected yet; older kernels do not say.
        count: Option<u32>,
    },
    /// A named object.
    Object(Held<Object>),
    /// A rule.
    Rule(Held<Rule>),
    /// Elements of one set; a large set comes in several.
    Elements {
        /// Its table.
        table: TableId,
        /// The set and its elements.
        elements: Elements,
    },
    /// The current generation of the ruleset.
    Generation(Generation),
}

/// What the kernel tells of a commit: one message for each thing that changed, and last the generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Something came, changed or went.
    Change {
        /// In this table; it may be the table itself.
        table: TableId,
    },
    /// The commit is done (`NFT_MSG_NEWGEN`).
    Generation,
}

/// A generation of the ruleset: each commit makes a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generation {
    /// Its number.
    pub id: u32,
    /// The process that committed it, in its own pid namespace.
    pub process: Option<u32>,
    /// The name of that process, at most 15 bytes.
    pub name: Option<String>,
}

/// A whole table as the kernel holds it, with handles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The generation of the ruleset that it was read from.
    pub generation: u32,
    /// The table itself.
    pub table: Held<Table>,
    /// The netlink port of the socket that owns it.
    pub owner: Option<u32>,
    /// Named objects, in the order of the kernel.
    pub objects: Vec<Held<Object>>,
    /// Sets and maps, in the order of their creation.
    pub sets: Vec<Held<Set>>,
    /// Chains, in the order of their creation.
    pub chains: Vec<Held<Chain>>,
    /// Rules, in order within their chain.
    pub rules: Vec<Held<Rule>>,
    /// Elements, by set, in the order of the kernel.
    pub elements: Vec<Elements>,
}

impl Snapshot {
    /// The table without handles.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        fn bare<T: Clone>(held: &[Held<T>]) -> Vec<T> {
            held.iter().map(|held| held.object.clone()).collect()
        }
        Ruleset {
            table: self.table.object.clone(),
            objects: bare(&self.objects),
            sets: bare(&self.sets),
            chains: bare(&self.chains),
            rules: bare(&self.rules),
            elements: self.elements.clone(),
        }
    }
}
