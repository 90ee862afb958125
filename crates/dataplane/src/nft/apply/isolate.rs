//! One element that the kernel refuses costs one Service, not the node.
//!
//! The kernel names what it refuses: the message and, from Linux 5.19 on, the element in it. What that belongs to is
//! taken out of the update, the rest is committed; [`super::Withheld`] keeps what was taken out until it changes or is
//! tried again. Where the kernel named only a list, everything in that list is taken out at first, and put back by
//! halves until each half is taken or one thing is left.
//!
//! Not every refusal is about what was sent: see [`Verdict`].

use std::collections::{BTreeMap, BTreeSet};

use daymark_model::Delta;
use daymark_netlink::nft::{Blame, Message, Part};

use super::rest;
use super::{CommitError, Doubt, Kernel, Plane, Refusal, Why};
use crate::nft::compile::{Subject, Update};
use crate::nft::layout::set;

/// Whether what the kernel holds is known, or assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It was just read.
    Read,
    /// It follows from what was committed.
    Assumed,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// These things cannot be in the tables.
    Content,
    /// The tables are not what they were taken for.
    Surprise,
    /// Another time it may go well, or nothing goes.
    Node,
}

impl Verdict {
    /// By the error number, as the kernel's nf_tables uses it (`net/netfilter/nf_tables_api.c`).
    fn of(refusal: &Refusal, trust: Trust) -> Self {
        match refusal.errno {
            _ if refusal.blame.is_empty() => Self::Node,
            EPERM | EINTR | EAGAIN | ENOMEM | EBUSY | ERESTART | ENOBUFS => Self::Node,
            ENOENT | EEXIST if trust == Trust::Assumed => Self::Surprise,
            _ => Self::Content,
        }
    }
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
/// A set is full.
const ENFILE: i32 = 23;
const ERESTART: i32 = 85;
const ENOBUFS: i32 = 105;

/// Things that were taken out together, though perhaps only one of them is refused.
type Group = BTreeSet<Subject>;

impl<K: Kernel> Plane<K> {
    /// Commits an update, or as much of it as the kernel takes. Returns how many elements and other objects changed.
    pub(super) fn carry_out(&mut self, update: Update, trust: Trust) -> Result<usize, CommitError> {
        let mut groups = Vec::new();
        let mut changed = self.commit_all(update, trust, &mut groups)?;
        while let Some(group) = groups.pop() {
            for half in halves(group) {
                let delta = self.withheld.release(&half);
                let update = self.compiler.update(&delta);
                changed += self.commit_all(update, trust, &mut groups)?;
            }
        }
        Ok(changed)
    }

    fn commit_all(
        &mut self,
        update: Update,
        trust: Trust,
        groups: &mut Vec<Group>,
    ) -> Result<usize, CommitError> {
        let mut todo = rest::joined(update.transactions);
        let mut changed = 0;
        while let Some(transaction) = todo.pop_front() {
            match self.kernel.commit(&transaction) {
                Ok(()) => changed += transaction.iter().map(Update::weight).sum::<usize>(),
                Err(CommitError::Refused(refusal)) => {
                    let Some(back) = self.isolate(&transaction, &refusal, trust, groups) else {
                        return Err(self.doubt(CommitError::Refused(refusal)));
                    };
                    todo.push_front(rest::behind(transaction, refusal.committed));
                    rest::take_back(&mut todo, back.transactions);
                }
                Err(error) => return Err(self.doubt(error)),
            }
        }
        Ok(changed)
    }

    fn doubt(&mut self, error: CommitError) -> CommitError {
        self.doubt = Doubt::ReadBack;
        error
    }

    /// Takes what was refused out of the state: the update that removes it. `None` if that would not help, or if the tables
    /// have to be read before anything else.
    fn isolate(
        &mut self,
        transaction: &[Message],
        refusal: &Refusal,
        trust: Trust,
        groups: &mut Vec<Group>,
    ) -> Option<Update> {
        if Verdict::of(refusal, trust) != Verdict::Content {
            return None;
        }
        let why = Why {
            shown: refusal.shown.clone(),
            reason: refusal.reason.clone(),
        };
        let mut all = Group::new();
        let mut vague = Group::new();
        for blame in &refusal.blame {
            let blamed = self.blamed(transaction, refusal, *blame);
            if blamed.len() > 1 && refusal.errno != ENFILE {
                vague.extend(blamed.iter().cloned());
            }
            all.extend(blamed);
        }
        let is_known = |subject: &Subject| !self.withheld.holds(subject);
        all.retain(is_known);
        let removal = self.withhold(&all, &why)?;
        groups.extend((vague.len() > 1).then_some(vague));
        let elements_alone = refusal.blame.iter().all(|blame| {
            matches!(transaction.get(blame.message),
                Some(Message::NewElems { elements, .. }) if *elements.set != *set::PLANS)
        });
        // A plan that is not in the kernel is not to be taken for one that is.
        elements_alone.then(|| self.compiler.update(&removal))
    }

    fn withhold(&mut self, subjects: &Group, why: &Why) -> Option<Delta> {
        let reasons: BTreeMap<Subject, Why> = subjects
            .iter()
            .map(|subject| (subject.clone(), why.clone()))
            .collect();
        let removal = self.withheld.take(self.compiler.desired(), reasons);
        (!subjects.is_empty()).then_some(removal)
    }

    /// What one refused message is about. A set that is full refuses everything behind the first element that it has no
    /// room for.
    fn blamed(&self, transaction: &[Message], refusal: &Refusal, blame: Blame) -> Group {
        let Some(message) = transaction.get(blame.message) else {
            return Group::new();
        };
        let Message::NewElems { elements, .. } = message else {
            return self.compiler.subjects(message, 0).into_iter().collect();
        };
        let begin = match refusal.committed {
            committed if committed.messages == blame.message => committed.elements,
            _ => 0,
        };
        let range = match blame.part {
            Part::Element(at) if refusal.errno == ENFILE => at..elements.elems.len(),
            Part::Element(at) => at..at + 1,
            Part::Whole | Part::Expression(_) => begin..elements.elems.len(),
        };
        let subjects = range.flat_map(|at| self.compiler.subjects(message, at));
        subjects.collect()
    }
}

/// Two halves; of one thing nothing, because it was refused alone.
fn halves(group: Group) -> Vec<Group> {
    if group.len() < 2 {
        return Vec::new();
    }
    let middle = group.len() / 2;
    let (left, right): (Vec<_>, Vec<_>) = group
        .into_iter()
        .enumerate()
        .partition(|(index, _)| *index < middle);
    let half = |all: Vec<(usize, Subject)>| all.into_iter().map(|(_, one)| one).collect();
    vec![half(left), half(right)]
}
