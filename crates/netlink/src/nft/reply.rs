//! What the kernel answers.

use super::object::{Chain, Elements, Object, Rule, Set, Table, TableId};

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
    Set(Held<Set>),
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
