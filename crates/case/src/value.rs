//! What a case says, as data.

use std::collections::BTreeMap;

use daymark_model::desired::Reason;
use daymark_model::{Change, Options, Packet, Target};

/// One behaviour: objects, packets, and the verdict each packet must get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// The file it was read from, for messages.
    pub file: String,
    /// The comment at the top, a line each, without the `#`.
    pub about: Vec<String>,
    /// The proxy's settings, in force throughout.
    pub options: Options,
    /// Addresses and prefixes that an object does not write in the canonical way (`10.0.0.07`), from
    /// the canonical form to the one to give an API.
    pub spelling: BTreeMap<String, String>,
    /// The states of the cluster, one after the other. The first one is there when the node starts.
    pub steps: Vec<Step>,
}

/// One state of the cluster, as changes of the one before, and what packets meet in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The line of the `step` word; 1 for the first step, which has none.
    pub line: usize,
    /// What happens, in words; empty for the first step.
    pub name: String,
    /// What is different from the step before: the node, then Services, then slices, each by name.
    pub changes: Vec<Change>,
    /// The packets to send once all changes are in force.
    pub checks: Vec<Check>,
}

/// A packet, and what must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The line that says so.
    pub line: usize,
    /// The first packet of a new connection.
    pub packet: Packet,
    /// The verdict it must get.
    pub expect: Expect,
    /// The reason, in words. A refusal or drop has the reason's own word first.
    pub because: String,
}

/// The verdict that a packet must get, in terms that can be seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It reaches one of these endpoints, and over many connections each of them.
    Forward {
        /// The endpoints, and the source address that each sees; sorted, never empty.
        targets: Vec<Target>,
        /// How one of them is chosen.
        choice: Choice,
    },
    /// It is refused at once.
    Refuse(Reason),
    /// Nothing comes back and nobody gets it.
    Drop(Reason),
    /// It goes on as if there were no Services.
    Untouched,
}

/// How a connection's endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Each connection anew.
    Anew,
    /// The client's connections all go to the same endpoint.
    Sticky,
    /// And the packets of the case that carry this mark go to the same one too.
    StickyWith(String),
}

impl Case {
    /// The behaviour in words: the file's name without folder and ending, `_` read as space.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".case").unwrap_or(name).replace('_', " ")
    }

    /// The number of packets.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.steps.iter().map(|step| step.checks.len()).sum()
    }

    /// The way in which the case writes an address or prefix to an API.
    #[must_use]
    pub fn spell(&self, canonical: &impl ToString) -> String {
        let canonical = canonical.to_string();
        self.spelling.get(&canonical).cloned().unwrap_or(canonical)
    }

    /// The same case with all line numbers and the file name taken out: what the text means, apart
    /// from how it is laid out.
    #[must_use]
    pub fn without_places(mut self) -> Self {
        self.file.clear();
        for step in &mut self.steps {
            step.line = 0;
            for check in &mut step.checks {
                check.line = 0;
            }
        }
        self
    }
}
