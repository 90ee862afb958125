//! What a kernel holds against what it should hold: every table, chain, set and element.
//!
//! The two are walked side by side, in the order of their keys: nothing is copied but what differs, and of that no more than
//! was asked for. What packets write (`sticky`, `hits`) is not read, only counted, where the kernel says how many there are.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use daymark_netlink::nft::{
    Exists, Message, Name, Rule, Ruleset, SetElem, SetFlags, TableId, show,
};

use super::apply::{Kernel, StartError};
use super::compile::{Compiler, Subject};
use super::inspect::{Agreement, Object};
use super::layout::all_tables;
use super::program::{Contents, Filled, Program};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How much each table holds of each kind.
    pub counts: Vec<Count>,
    /// What differs, the first of it.
    pub differences: Vec<Difference>,
    /// How much differs.
    pub total: usize,
}

/// How many there are of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// In which table.
    pub table: TableId,
    /// Of what: `chains`, `rules`, or the name of a set, whose elements these are.
    pub of: Name,
    /// How many there should be; `None` where packets write them.
    pub wanted: Option<usize>,
    /// How many the kernel holds; `None` where packets write them and the kernel does not count them.
    pub held: Option<usize>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In which table.
    pub table: TableId,
    /// What it is; `None`: the table itself.
    pub object: Option<Object>,
    /// As `nft` would print it: what should be there, or else what is.
    pub shown: String,
    /// The element, if it is one.
    pub elem: Option<SetElem>,
    /// In which way.
    pub agreement: Agreement,
    /// What it is there for, as far as that can be told.
    pub about: Vec<Subject>,
}

/// What a kernel holds.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Every table of ours, without the elements that packets write.
    pub program: Program,
    /// How many of those there are in each set, where the kernel says it.
    pub written: BTreeMap<(TableId, Name), usize>,
}

/// Every table of ours that a kernel holds. Clients with affinity are not read: there may be hundreds of thousands, and more
/// every moment.
///
/// # Errors
/// If it cannot be read, or does not fit together.
pub fn read(kernel: &mut impl Kernel) -> Result<Holding, StartError> {
    let (mut rulesets, mut written) = (Vec::new(), BTreeMap::new());
    for table in all_tables() {
        let Some(ruleset) = kernel.read_program(&table)? else {
            continue;
        };
        let mut counts = kernel.counts(&table)?;
        let by_packets = ruleset
            .sets
            .iter()
            .filter(|set| set.flags.contains(SetFlags::DYNAMIC));
        for set in by_packets {
            if let Some(count) = counts.remove(&set.name) {
                written.insert((table.clone(), set.name.clone()), count);
            }
        }
        rulesets.push(ruleset);
    }
    let program = Program::from_rulesets(rulesets)?;
    Ok(Holding { program, written })
}

impl Compiler {
    /// Compares the tables that were read with the program. At most so many differences are kept.
    #[must_use]
    pub fn compare(&self, held: &Holding, most: usize) -> Comparison {
        let mut found = self.program().compare(held, most);
        self.name(&mut found);
        found
    }

    /// Says of each difference what it is there for.
    pub fn name(&self, found: &mut Comparison) {
        for difference in &mut found.differences {
            if let (Some(Object::Element(set)), Some(elem)) = (&difference.object, &difference.elem)
            {
                difference.about = self.about(&difference.table, set, elem);
            }
        }
    }
}

impl Program {
    /// Compares what should be with what was read; of no difference is said what it is there for ([`Compiler::name`]).
    #[must_use]
    pub fn compare(&self, held: &Holding, most: usize) -> Comparison {
        let Holding {
            program: held,
            written,
        } = held;
        let mut walk = Walk {
            most,
            written,
            found: Comparison::default(),
        };
        for wanted in self.tables() {
            match held.table(&wanted.table.id) {
                Some(held) => walk.table(wanted, held),
                None => walk.differ(wanted, None, Agreement::Missing, || "the table".to_owned()),
            }
        }
        let unexpected = held.tables();
        for table in unexpected.filter(|held| self.table(&held.table.id).is_none()) {
            let shown = || format!("the table, comment {:?}", table.table.comment);
            walk.differ(table, None, Agreement::Unexpected, shown);
        }
        walk.found
    }
}

struct Walk<'a> {
    most: usize,
    written: &'a BTreeMap<(TableId, Name), usize>,
    found: Comparison,
}

impl Walk<'_> {
    fn table(&mut self, wanted: &Contents, held: &Contents) {
        let (should, is) = (&wanted.table, &held.table);
        if (should.flags, &should.comment) != (is.flags, &is.comment) {
            let shown = || format!("flags {:?}, comment {:?}", is.flags, is.comment);
            self.differ(wanted, None, Agreement::Different, shown);
        }
        self.chains(wanted, held);
        let names: BTreeSet<&Name> = wanted.sets.keys().chain(held.sets.keys()).collect();
        for name in names {
            self.set(name, wanted, held);
        }
    }

    fn chains(&mut self, wanted: &Contents, held: &Contents) {
        let rules = |contents: &Contents| contents.chains.values().map(|(_, r)| r.len()).sum();
        self.count(
            wanted,
            "chains",
            Some(wanted.chains.len()),
            Some(held.chains.len()),
        );
        self.count(wanted, "rules", Some(rules(wanted)), Some(rules(held)));
        let names: BTreeSet<&Name> = wanted.chains.keys().chain(held.chains.keys()).collect();
        for name in names {
            let (should, is) = (wanted.chains.get(name), held.chains.get(name));
            let agreement = match (should, is) {
                (Some((a, first)), Some((b, second))) => {
                    if a.kind == b.kind && same_rules(first, second) {
                        continue;
                    }
                    Agreement::Different
                }
                (Some(_), None) => Agreement::Missing,
                (None, _) => Agreement::Unexpected,
            };
            let object = Object::Chain(name.clone());
            let shown = || shown_rules(wanted, should.or(is).map_or(&[], |(_, rules)| rules));
            self.differ(wanted, Some(object), agreement, shown);
        }
    }

    fn set(&mut self, name: &Name, wanted: &Contents, held: &Contents) {
        let (should, is) = (wanted.sets.get(name), held.sets.get(name));
        let len = |filled: Option<&Filled>| filled.map_or(0, |filled| filled.elems.len());
        let by_packets = should.is_some_and(|f| f.set.flags.contains(SetFlags::DYNAMIC));
        let count = (!by_packets).then_some(len(should));
        let at = (wanted.table.id.clone(), name.clone());
        let there = if by_packets {
            self.written.get(&at).copied()
        } else {
            Some(len(is))
        };
        self.count(wanted, name, count, there);
        let agreement = match (should, is) {
            (Some(a), Some(b)) if a.set.key == b.set.key && a.set.kind == b.set.kind => {
                if !by_packets {
                    self.elements(wanted, a, b);
                }
                return;
            }
            (Some(_), Some(_)) => Agreement::Different,
            (Some(_), None) => Agreement::Missing,
            (None, _) => Agreement::Unexpected,
        };
        let object = Object::Element(name.clone());
        self.differ(wanted, Some(object), agreement, || "the set".to_owned());
    }

    /// Two sorted lists, side by side.
    fn elements(&mut self, table: &Contents, wanted: &Filled, held: &Filled) {
        let (mut should, mut is) = (wanted.elems.iter().peekable(), held.elems.iter().peekable());
        loop {
            let order = match (should.peek(), is.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.key.cmp(&b.key),
            };
            match order {
                Ordering::Less => {
                    self.element(table, wanted, should.next(), Agreement::Missing);
                }
                Ordering::Greater => {
                    self.element(table, wanted, is.next(), Agreement::Unexpected);
                }
                Ordering::Equal => {
                    let (a, b) = (should.next(), is.next());
                    if a != b {
                        self.element(table, wanted, a, Agreement::Different);
                    }
                }
            }
        }
    }

    fn element(
        &mut self,
        table: &Contents,
        filled: &Filled,
        elem: Option<SetElem>,
        agreement: Agreement,
    ) {
        let Some(elem) = elem else { return };
        let set = &filled.set;
        self.note(|| Difference {
            table: table.table.id.clone(),
            object: Some(Object::Element(set.name.clone())),
            shown: show::element(set, &elem),
            elem: Some(elem),
            agreement,
            about: Vec::new(),
        });
    }

    fn count(&mut self, table: &Contents, of: &str, wanted: Option<usize>, held: Option<usize>) {
        self.found.counts.push(Count {
            table: table.table.id.clone(),
            of: of.into(),
            wanted,
            held,
        });
    }

    /// Something that is there for all Services.
    fn differ(
        &mut self,
        table: &Contents,
        object: Option<Object>,
        agreement: Agreement,
        shown: impl FnOnce() -> String,
    ) {
        self.note(|| Difference {
            table: table.table.id.clone(),
            object,
            shown: shown(),
            elem: None,
            agreement,
            about: Vec::new(),
        });
    }

    fn note(&mut self, difference: impl FnOnce() -> Difference) {
        self.found.total += 1;
        if self.found.differences.len() < self.most {
            self.found.differences.push(difference());
        }
    }
}

fn same_rules(first: &[Rule], second: &[Rule]) -> bool {
    let exprs = |rule: &Rule| rule.at_rest().exprs;
    first.len() == second.len() && first.iter().zip(second).all(|(a, b)| exprs(a) == exprs(b))
}

/// Rules in one line; names of sets are those of `table`.
fn shown_rules(table: &Contents, rules: &[Rule]) -> String {
    let mut bare = Ruleset::new(table.table.clone());
    bare.sets = table
        .sets
        .values()
        .map(|filled| filled.set.clone())
        .collect();
    let rules = rules.iter().map(|rule| show::rule(&bare, rule));
    rules.collect::<Vec<_>>().join("; ")
}

impl Compiler {
    fn about(&self, table: &TableId, set: &Name, elem: &SetElem) -> Vec<Subject> {
        let elements = daymark_netlink::nft::Elements {
            set: set.clone(),
            elems: vec![elem.clone()],
        };
        let message = Message::NewElems {
            table: table.clone(),
            elements,
            exists: Exists::Keep,
        };
        self.subjects(&message, 0)
    }
}
