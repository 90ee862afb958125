//! A whole program as a value: tables with chains, rules, sets and elements.
//!
//! It takes the messages that are sent to the kernel and refuses what the kernel would refuse, so that it
//! is the expected state, the fake kernel of tests, and what a dump decodes to, all in one.

mod elems;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use daymark_netlink::nft::{
    Chain, ChainKind, Data, Elements, Exists, Expr, LookupResult, Message, Name, Place, Role, Rule,
    Ruleset, Set, SetElem, SetKind, Table, TableId, Value, Verdict, Victim, show,
};
use thiserror::Error;

pub use elems::Elems;

/// Tables by family and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    tables: BTreeMap<TableId, Contents>,
}

/// What one table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The table itself.
    pub table: Table,
    /// Chains with their rules in order.
    pub chains: BTreeMap<Name, (Chain, Vec<Rule>)>,
    /// Sets with their elements.
    pub sets: BTreeMap<Name, Filled>,
}

/// A set with its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The set.
    pub set: Set,
    /// Its elements.
    pub elems: Elems,
}

/// Why a message was refused, as the kernel would.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// `ENOENT`.
    #[error("{0} does not exist")]
    Missing(String),
    /// `EEXIST`.
    #[error("{0} exists")]
    Exists(String),
    /// `EBUSY`.
    #[error("{0} is still used")]
    Busy(String),
    /// `EINVAL`.
    #[error("{0} does not fit")]
    Unfit(String),
    /// `EOPNOTSUPP`: nothing that this plane sends.
    #[error("{0} is not supported here")]
    Unsupported(&'static str),
}

impl Refused {
    /// The kernel's number for it.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Missing(_) => 2,
            Self::Busy(_) => 16,
            Self::Exists(_) => 17,
            Self::Unfit(_) => 22,
            Self::Unsupported(_) => 95,
        }
    }
}

impl Program {
    /// The program of a dump: the tables that were read.
    ///
    /// # Errors
    /// If a table does not fit together, which no dump of one generation does.
    pub fn from_rulesets(rulesets: impl IntoIterator<Item = Ruleset>) -> Result<Self, Refused> {
        let mut program = Self::default();
        for ruleset in rulesets {
            for message in Message::create(&ruleset, Exists::Keep) {
                program.take(&message)?;
            }
        }
        Ok(program)
    }

    /// Whether no set has an element.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        let sets = self.tables.values().flat_map(|table| table.sets.values());
        sets.into_iter().all(|filled| filled.elems.is_empty())
    }

    /// A table.
    #[must_use]
    pub fn table(&self, id: &TableId) -> Option<&Contents> {
        self.tables.get(id)
    }

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = &Contents> {
        self.tables.values()
    }

    /// All tables, to be edited: for tests of what an edit does.
    pub fn tables_mut(&mut self) -> impl Iterator<Item = &mut Contents> {
        self.tables.values_mut()
    }

    /// The messages that create the program.
    #[must_use]
    pub fn create(&self) -> Vec<Message> {
        let rulesets = self.tables.values().map(Contents::ruleset);
        rulesets
            .flat_map(|ruleset| Message::create(&ruleset, Exists::Keep))
            .collect()
    }

    /// The tables as `nft list ruleset` would print them, and what it has no words for as well.
    #[must_use]
    pub fn show(&self) -> String {
        let tables = self.tables.values();
        tables
            .map(|table| show::ruleset(&table.ruleset()))
            .collect()
    }

    /// What `other` has and this lacks, and what this has and `other` lacks, a line each as [`Program::show`] prints it:
    /// what the kernel holds against what it should hold.
    ///
    /// ```
    /// use daymark_dataplane::nft::{TableFlags, compile::Compiler, program::Program};
    /// let (compiler, _) = Compiler::new(TableFlags::NONE);
    /// assert!(compiler.program().diff(compiler.program()).is_empty());
    /// let missing = Program::default().diff(compiler.program());
    /// assert!(missing.iter().all(|line| line.starts_with("+ ")));
    /// ```
    #[must_use]
    pub fn diff(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.lines(), other.lines());
        let gone = mine.difference(&theirs).map(|line| format!("- {line}"));
        let come = theirs.difference(&mine).map(|line| format!("+ {line}"));
        gone.chain(come).collect()
    }

    /// Every chain, rule, set and element, each with the place where it is. The same rule twice in a chain is two lines.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for contents in self.tables.values() {
            let (id, ruleset) = (&contents.table.id, contents.ruleset());
            lines.insert(format!("table {id} {:?}", contents.table.flags));
            for (name, (chain, rules)) in &contents.chains {
                lines.insert(format!("table {id} chain {name} {:?}", chain.kind));
                for (number, rule) in (1..).zip(rules) {
                    let rule = show::rule(&ruleset, rule);
                    lines.insert(format!("table {id} chain {name} rule {number}: {rule}"));
                }
            }
            for (name, filled) in &contents.sets {
                lines.insert(format!("table {id} set {name} {:?}", filled.set.kind));
                for elem in filled.elems.iter() {
                    let elem = show::element(&filled.set, &elem);
                    lines.insert(format!("table {id} set {name} element {elem}"));
                }
            }
        }
        lines
    }

    /// Carries a transaction out: all of it, or nothing.
    ///
    /// # Errors
    /// The index of the refused message, and why.
    pub fn apply(&mut self, transaction: &[Message]) -> Result<(), (usize, Refused)> {
        let before = self.clone();
        for (index, message) in transaction.iter().enumerate() {
            if let Err(refused) = self.take(message) {
                *self = before;
                return Err((index, refused));
            }
        }
        Ok(())
    }

    /// Carries one message out.
    ///
    /// # Errors
    /// As the kernel refuses it; then nothing changed.
    pub fn take(&mut self, message: &Message) -> Result<(), Refused> {
        match message {
            Message::NewTable { table, exists } => self.new_table(table, *exists),
            Message::DelTable { table } => self
                .tables
                .remove(table)
                .map(|_| ())
                .ok_or_else(|| Refused::Missing(format!("table {table}"))),
            Message::NewObject { .. } | Message::DelObject { .. } => {
                Err(Refused::Unsupported("a named object"))
            }
            other => {
                let id = other.table();
                let missing = || Refused::Missing(format!("table {id}"));
                self.tables.get_mut(id).ok_or_else(missing)?.take(other)
            }
        }
    }

    fn new_table(&mut self, table: &Table, exists: Exists) -> Result<(), Refused> {
        match self.tables.get_mut(&table.id) {
            Some(_) if exists == Exists::Refuse => {
                Err(Refused::Exists(format!("table {}", table.id)))
            }
            Some(known) => {
                known.table.flags = table.flags;
                Ok(())
            }
            None => {
                let contents = Contents {
                    table: table.clone(),
                    chains: BTreeMap::new(),
                    sets: BTreeMap::new(),
                };
                self.tables.insert(table.id.clone(), contents);
                Ok(())
            }
        }
    }
}

impl Contents {
    /// The table as one value in the order of creation.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        let mut ruleset = Ruleset::new(self.table.clone());
        ruleset.sets = self
            .sets
            .values()
            .map(|filled| filled.set.clone())
            .collect();
        let (regular, base): (Vec<_>, Vec<_>) = self
            .chains
            .values()
            .map(|(chain, _)| chain.clone())
            .partition(|c| c.kind == ChainKind::Regular);
        ruleset.chains = regular.into_iter().chain(base).collect();
        ruleset.rules = self
            .chains
            .values()
            .flat_map(|(_, rules)| rules.clone())
            .collect();
        let filled = self
            .sets
            .iter()
            .filter(|(_, filled)| !filled.elems.is_empty());
        ruleset.elements = filled
            .map(|(name, filled)| Elements {
                set: name.clone(),
                elems: filled.elems.iter().collect(),
            })
            .collect();
        ruleset
    }

    /// Whether a set has any element.
    #[must_use]
    pub fn has(&self, set: &str) -> bool {
        self.sets
            .get(set)
            .is_some_and(|filled| !filled.elems.is_empty())
    }

    /// The elements of a set in the order of their keys; none if there is no such set.
    pub fn elements<'a>(&'a self, set: &str) -> impl Iterator<Item = SetElem> + use<'a> {
        let filled = self.sets.get(set).into_iter();
        filled.flat_map(|filled| filled.elems.iter())
    }

    /// The elements of a set whose keys begin with `prefix`.
    pub fn elements_from<'a>(
        &'a self,
        set: &str,
        prefix: &[u8],
    ) -> impl Iterator<Item = SetElem> + use<'a> {
        let prefix = Data::new(prefix);
        let elems = self.sets.get(set).map(|filled| filled.elems.from(&prefix));
        let elems = elems.into_iter().flatten();
        elems.take_while(move |elem| elem.key.starts_with(&prefix))
    }

    /// The data of an element of a map.
    #[must_use]
    pub fn data(&self, set: &str, key: &Data) -> Option<Data> {
        match self.sets.get(set)?.elems.get(key)?.value {
            Value::Data(data) => Some(data),
            Value::None | Value::Verdict(_) | Value::Object(_) => None,
        }
    }

    fn take(&mut self, message: &Message) -> Result<(), Refused> {
        match message {
            Message::NewChain { chain, exists, .. } => self.new_chain(chain, *exists),
            Message::DelChain { chain, .. } => self.del_chain(chain),
            Message::NewSet { set, exists, .. } => self.new_set(set, *exists),
            Message::DelSet { set, .. } => self.del_set(set),
            Message::NewRule { rule, place, .. } => self.new_rule(rule, *place),
            Message::DelRule { chain, which, .. } => self.del_rule(chain, *which),
            Message::NewElems {
                elements, exists, ..
            } => self.new_elems(elements, *exists),
            Message::DelElems { elements, .. } => self.del_elems(elements),
            Message::FlushSet { set, .. } => {
                self.set_mut(set)?.elems.clear();
                Ok(())
            }
            Message::NewTable { .. }
            | Message::DelTable { .. }
            | Message::NewObject { .. }
            | Message::DelObject { .. } => Err(Refused::Unsupported("a message for another place")),
        }
    }

    fn new_chain(&mut self, chain: &Chain, exists: Exists) -> Result<(), Refused> {
        let known = self.chains.contains_key(&chain.name);
        if known && exists == Exists::Refuse {
            return Err(Refused::Exists(format!("chain {}", chain.name)));
        }
        if !known {
            self.chains
                .insert(chain.name.clone(), (chain.clone(), Vec::new()));
        }
        Ok(())
    }

    fn del_chain(&mut self, name: &Name) -> Result<(), Refused> {
        let named = |verdict: &Verdict| matches!(verdict, Verdict::Goto(to) | Verdict::Jump(to) if to == name);
        let in_rule = |rule: &Rule| {
            rule.exprs
                .iter()
                .any(|e| matches!(e, Expr::Verdict(v) if named(v)))
        };
        let in_elem = |elem: SetElem| matches!(&elem.value, Value::Verdict(v) if named(v));
        let used = self
            .chains
            .values()
            .flat_map(|(_, rules)| rules)
            .any(in_rule)
            || self.leading().any(in_elem);
        if used {
            return Err(Refused::Busy(format!("chain {name}")));
        }
        self.chains
            .remove(name)
            .map(|_| ())
            .ok_or_else(|| Refused::Missing(format!("chain {name}")))
    }

    fn new_set(&mut self, set: &Set, exists: Exists) -> Result<(), Refused> {
        match self.sets.get(&set.name) {
            Some(_) if exists == Exists::Refuse => {
                Err(Refused::Exists(format!("set {}", set.name)))
            }
            Some(known) if known.set.key != set.key || known.set.kind != set.kind => {
                Err(Refused::Unfit(format!("set {}", set.name)))
            }
            Some(_) => Ok(()),
            None => {
                self.sets.insert(
                    set.name.clone(),
                    Filled {
                        set: set.clone(),
                        elems: Elems::of(set),
                    },
                );
                Ok(())
            }
        }
    }

    fn del_set(&mut self, name: &Name) -> Result<(), Refused> {
        let used = self
            .chains
            .values()
            .flat_map(|(_, rules)| rules)
            .flat_map(|rule| &rule.exprs);
        if used.filter_map(set_of).any(|used| used == name) {
            return Err(Refused::Busy(format!("set {name}")));
        }
        self.sets
            .remove(name)
            .map(|_| ())
            .ok_or_else(|| Refused::Missing(format!("set {name}")))
    }

    fn new_rule(&mut self, rule: &Rule, place: Place) -> Result<(), Refused> {
        for expr in &rule.exprs {
            self.check(expr)?;
        }
        let (_, rules) = self
            .chains
            .get_mut(&rule.chain)
            .ok_or_else(|| Refused::Missing(format!("chain {}", rule.chain)))?;
        match place {
            Place::Last => rules.push(rule.clone()),
            Place::First => rules.insert(0, rule.clone()),
            Place::After(_) | Place::Before(_) | Place::Replace(_) => {
                return Err(Refused::Unsupported("a rule placed by handle"));
            }
        }
        Ok(())
    }

    fn check(&self, expr: &Expr) -> Result<(), Refused> {
        if let Some(name) = set_of(expr) {
            let filled = self
                .sets
                .get(name)
                .ok_or_else(|| Refused::Missing(format!("set {name}")))?;
            let fits = match expr {
                Expr::Lookup(lookup) => match lookup.result {
                    LookupResult::Data(_) => matches!(filled.set.kind, SetKind::Map(_)),
                    LookupResult::Verdict => filled.set.kind == SetKind::Verdicts,
                    LookupResult::Member | LookupResult::NotMember => true,
                },
                _ => true,
            };
            fits.then_some(())
                .ok_or_else(|| Refused::Unfit(format!("set {name}")))?;
        }
        if let Expr::Verdict(Verdict::Goto(to) | Verdict::Jump(to)) = expr
            && !self.chains.contains_key(to)
        {
            return Err(Refused::Missing(format!("chain {to}")));
        }
        Ok(())
    }

    fn del_rule(&mut self, chain: &Name, which: Victim) -> Result<(), Refused> {
        let (_, rules) = self
            .chains
            .get_mut(chain)
            .ok_or_else(|| Refused::Missing(format!("chain {chain}")))?;
        match which {
            Victim::All => rules.clear(),
            Victim::Handle(_) => return Err(Refused::Unsupported("a rule named by handle")),
        }
        Ok(())
    }

    fn new_elems(&mut self, elements: &Elements, exists: Exists) -> Result<(), Refused> {
        for elem in &elements.elems {
            if let Value::Verdict(Verdict::Goto(to) | Verdict::Jump(to)) = &elem.value
                && !self.chains.contains_key(to)
            {
                return Err(Refused::Missing(format!("chain {to}")));
            }
        }
        let filled = self.set_mut(&elements.set)?;
        for elem in &elements.elems {
            filled.fits(elem)?;
            let known = filled.elems.add(elem);
            if known.is_some_and(|known| exists == Exists::Refuse || known.value != elem.value) {
                return Err(Refused::Exists(format!(
                    "element {:?} of {}",
                    elem.key, elements.set
                )));
            }
        }
        Ok(())
    }

    fn del_elems(&mut self, elements: &Elements) -> Result<(), Refused> {
        let filled = self.set_mut(&elements.set)?;
        for elem in &elements.elems {
            let gone = filled.elems.remove(&elem.key);
            gone.then_some(()).ok_or_else(|| {
                Refused::Missing(format!("element {:?} of {}", elem.key, elements.set))
            })?;
        }
        Ok(())
    }

    /// The elements that may lead to a chain.
    fn leading(&self) -> impl Iterator<Item = SetElem> + '_ {
        let verdicts = |filled: &&Filled| filled.set.kind == SetKind::Verdicts;
        let sets = self.sets.values().filter(verdicts);
        sets.flat_map(|filled| filled.elems.iter())
    }

    fn set_mut(&mut self, name: &Name) -> Result<&mut Filled, Refused> {
        self.sets
            .get_mut(name)
            .ok_or_else(|| Refused::Missing(format!("set {name}")))
    }
}

impl Filled {
    fn fits(&self, elem: &SetElem) -> Result<(), Refused> {
        let value = match (&self.set.kind, &elem.value) {
            (SetKind::Set, Value::None) | (SetKind::Verdicts, Value::Verdict(_)) => true,
            (SetKind::Map(of), Value::Data(data)) => of.len() == data.len(),
            _ => elem.role() == Role::IntervalEnd,
        };
        let fits = value && elem.key.len() == self.set.key.len();
        fits.then_some(())
            .ok_or_else(|| Refused::Unfit(format!("element {:?} of {}", elem.key, self.set.name)))
    }
}

/// The sets that rules and chains refer to are named here, for messages that must not break a reference.
fn set_of(expr: &Expr) -> Option<&Name> {
    match expr {
        Expr::Lookup(lookup) => Some(&lookup.set),
        Expr::Dynset(dynset) => Some(&dynset.set),
        _ => None,
    }
}

/// Names of all chains that some rule or element leads to.
#[must_use]
pub fn targets(contents: &Contents) -> BTreeSet<Name> {
    let rules = contents
        .chains
        .values()
        .flat_map(|(_, rules)| rules)
        .flat_map(|rule| &rule.exprs);
    let by_rule = rules.filter_map(|expr| {
        if let Expr::Verdict(verdict) = expr {
            Some(verdict)
        } else {
            None
        }
    });
    let by_elem = contents.leading().filter_map(|elem| {
        if let Value::Verdict(verdict) = elem.value {
            Some(verdict)
        } else {
            None
        }
    });
    let all = by_rule.cloned().chain(by_elem);
    all.filter_map(|verdict| match verdict {
        Verdict::Goto(to) | Verdict::Jump(to) => Some(to),
        _ => None,
    })
    .collect()
}
