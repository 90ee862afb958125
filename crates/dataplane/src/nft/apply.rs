//! Carrying updates out: a compiler and a kernel kept in step.
//!
//! After an error nothing is assumed: the tables are read back, adopted again, and compared with what is
//! wanted.

mod borders;
mod error;
mod isolate;
mod open;
mod rest;
mod withheld;

use std::collections::{BTreeMap, BTreeSet};

use daymark_model::{Delta, Desired};
use daymark_netlink::nft::{
    Blame, Message, Name, Part, Rule, Ruleset, SetElem, Table, TableFlags, TableId,
};

use super::compile::{Compiler, Subject};
use super::program::Program;
pub use borders::Borders;
pub use error::{CommitError, Committed, Refusal, StartError};
use isolate::Trust;
pub use open::Places;
use open::{Opened, Takeover, open};
pub use withheld::{Why, Withheld};

/// What takes transactions: the kernel, or a stand-in.
pub trait Kernel {
    /// Commits messages as few transactions as the socket allows, in order. A transaction is committed
    /// whole or not at all; after an error the ones before it stay.
    ///
    /// # Errors
    /// What was refused.
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError>;

    /// Reads a table; `None` if there is none.
    ///
    /// # Errors
    /// What went wrong on the socket.
    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError>;

    /// Reads a table without the elements that packets write, which nobody adopts: clients with affinity, at most some hundred
    /// thousands, and while there are more every moment they cannot even be read. `None` if there is no such table.
    ///
    /// # Errors
    /// What went wrong on the socket.
    fn read_program(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.read(table)
    }

    /// How many elements the sets of a table have, as far as the kernel says it without giving them out.
    ///
    /// # Errors
    /// What went wrong on the socket.
    fn counts(&mut self, table: &TableId) -> Result<BTreeMap<Name, usize>, CommitError> {
        let elements = self.read(table)?.map(|ruleset| ruleset.elements);
        let counted = elements.into_iter().flatten();
        Ok(counted.map(|list| (list.set, list.elems.len())).collect())
    }

    /// One element of a set, by its key; `None` if there is none.
    ///
    /// # Errors
    /// What went wrong on the socket.
    fn element(
        &mut self,
        table: &TableId,
        set: &Name,
        key: &SetElem,
    ) -> Result<Option<SetElem>, CommitError> {
        let elements = self.read(table)?.map(|ruleset| ruleset.elements);
        let lists = elements
            .into_iter()
            .flatten()
            .filter(|list| list.set == *set);
        let mut elems = lists.flat_map(|list| list.elems);
        Ok(elems.find(|elem| elem.key == key.key))
    }

    /// The rules of a chain; none if there is no such chain.
    ///
    /// # Errors
    /// What went wrong on the socket.
    fn rules(&mut self, table: &TableId, chain: &Name) -> Result<Vec<Rule>, CommitError> {
        let rules = self.read(table)?.map(|ruleset| ruleset.rules);
        let of_chain = |rule: &Rule| rule.chain == *chain;
        Ok(rules.into_iter().flatten().filter(of_chain).collect())
    }

    /// Reads a table without what is in it; `None` if there is none.
    ///
    /// # Errors
    /// What went wrong on the socket.
    fn header(&mut self, table: &TableId) -> Result<Option<Table>, CommitError> {
        Ok(self.read(table)?.map(|ruleset| ruleset.table))
    }
}

/// How a plane came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There was no table.
    Nothing,
    /// A table of this layout was adopted; packets did not notice.
    Adopted,
    /// A table was there but cannot be adopted, for this reason. It goes on working until the first
    /// [`Plane::reconcile`] has built another beside it.
    ToReplace {
        /// Why it cannot be adopted.
        why: String,
        /// What it does meanwhile.
        old: Old,
    },
}

/// What tables do that are to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Packets of both families meet one: they go where the agent before decided.
    Serves,
    /// Packets of a family, or of both, do not meet them.
    Idle,
}

/// A plane and its tables in the kernel.
#[derive(Debug)]
pub struct Plane<K> {
    kernel: K,
    compiler: Compiler,
    flags: TableFlags,
    doubt: Doubt,
    /// How the tables come into the place of others, until they are.
    takeover: Option<Takeover>,
    withheld: Withheld,
    places: Places,
}

/// Whether the compiler knows what the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// An update failed half-way, or somebody else committed.
    ReadBack,
}

impl<K: Kernel> Plane<K> {
    /// Adopts the tables that are there, or creates them. Nothing is removed from an adopted table
    /// before [`Plane::reconcile`] knows what is wanted.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn start(mut kernel: K, flags: TableFlags) -> Result<(Self, Found), StartError> {
        let Opened {
            compiler,
            takeover,
            found,
            places,
        } = open(&mut kernel, flags)?;
        let doubt = Doubt::None;
        let plane = Self {
            kernel,
            compiler,
            flags,
            doubt,
            takeover,
            withheld: Withheld::default(),
            places,
        };
        Ok((plane, found))
    }

    /// What the tables captured that were found at the start; nothing the second time.
    pub fn take_places(&mut self) -> Places {
        std::mem::take(&mut self.places)
    }

    /// Whether the tables that were found at the start captured anything: those of an agent that never had a state do not.
    /// No more is known once [`Plane::take_places`] has taken it.
    #[must_use]
    pub fn found_any(&self) -> bool {
        !self.places.frontends.is_empty()
    }

    /// What the kernel should hold now.
    #[must_use]
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The kernel, for questions beside the plane.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// What the kernel refused, and is left out of the tables for now.
    #[must_use]
    pub fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// Carries a change out. Returns how many elements and other objects changed in the kernel.
    ///
    /// What the kernel refuses because of what it is, is left out and kept in [`Plane::withheld`]; it is tried again
    /// with every change of it, and by [`Plane::retry`].
    ///
    /// # Errors
    /// What the kernel refused for another reason; call [`Plane::reconcile`] with the whole state then.
    pub fn update(&mut self, delta: &Delta) -> Result<usize, CommitError> {
        let delta = self.withheld.admit(delta);
        let update = self.compiler.update(&delta);
        self.carry_out(update, Trust::Assumed)
    }

    /// Tries these again that were left out.
    ///
    /// # Errors
    /// As [`Plane::update`].
    pub fn retry(&mut self, subjects: &BTreeSet<Subject>) -> Result<usize, CommitError> {
        let delta = self.withheld.release(subjects);
        let update = self.compiler.update(&delta);
        self.carry_out(update, Trust::Assumed)
    }

    /// Brings the kernel to `desired`, whatever it holds, but for what is left out of it. Returns how much had to be
    /// changed there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn reconcile(&mut self, desired: Desired) -> Result<usize, StartError> {
        let desired = self.withheld.without(desired);
        self.bring(desired)
    }

    /// Whether the next [`Self::reconcile`] begins with reading the tables, since nobody knows what is there.
    #[must_use]
    pub fn reads_back(&self) -> bool {
        self.doubt == Doubt::ReadBack
    }

    fn bring(&mut self, desired: Desired) -> Result<usize, StartError> {
        if self.doubt == Doubt::ReadBack {
            let opened = open(&mut self.kernel, self.flags)?;
            (self.compiler, self.takeover) = (opened.compiler, opened.takeover);
            self.doubt = Doubt::None;
        }
        let Some(takeover) = self.takeover.take() else {
            return self.fill(desired);
        };
        // Whatever fails from here on: what is there then is looked at anew.
        self.doubt = Doubt::ReadBack;
        self.commit(&takeover.prepare)?;
        let changed = self.fill(desired)?;
        for step in [&takeover.hook, &takeover.unhook] {
            self.commit(step)?;
        }
        self.doubt = Doubt::None;
        Ok(changed)
    }

    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        if messages.is_empty() {
            return Ok(());
        }
        self.kernel.commit(messages)
    }

    fn fill(&mut self, desired: Desired) -> Result<usize, StartError> {
        if self.compiler.is_empty() {
            return Ok(self.load(&desired)?);
        }
        let update = self.compiler.reconcile(desired);
        Ok(self.carry_out(update, Trust::Read)?)
    }

    /// Fills empty tables. One piece after the other is translated, sent and forgotten: what a large cluster
    /// needs beside the program itself is a piece, not all of it a second and a third time.
    fn load(&mut self, desired: &Desired) -> Result<usize, CommitError> {
        let pieces = Delta::from_nothing(desired, PIECE);
        pieces.map(|piece| self.update(&piece)).sum()
    }

    /// Compares the kernel with what it should hold, and mends it. Returns how much had to be changed.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn verify(&mut self) -> Result<usize, StartError> {
        self.doubt = Doubt::ReadBack;
        self.bring(self.compiler.desired().clone())
    }
}

/// How many frontends a first load takes at a time.
const PIECE: usize = 500;

/// A program in the place of a kernel: for tests, and to see what an update would do.
impl Kernel for Program {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        self.apply(messages).map_err(|(message, refused)| {
            CommitError::Refused(Box::new(Refusal {
                shown: format!("{:?}", messages[message]),
                reason: refused.to_string(),
                errno: refused.errno(),
                blame: vec![Blame {
                    message,
                    part: Part::Whole,
                }],
                committed: Committed::default(),
            }))
        })
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        Ok(self.table(table).map(super::program::Contents::ruleset))
    }

    fn element(
        &mut self,
        table: &TableId,
        set: &Name,
        key: &SetElem,
    ) -> Result<Option<SetElem>, CommitError> {
        let filled = self.table(table).and_then(|held| held.sets.get(set));
        Ok(filled.and_then(|filled| filled.elems.get(&key.key)))
    }
}
