//! The transactions of one update, being gathered.

use std::collections::BTreeMap;

use daymark_netlink::nft::{Elements, Exists, Message, SetElem};

use crate::nft::layout::{Words, set};
use crate::nft::program::Program;

/// The transactions that carry an update out, in order. Each may be cut between any two elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Never empty ones.
    pub transactions: Vec<Vec<Message>>,
}

/// One family's part of an update, by stage and set.
pub(super) struct Draft {
    pub(super) words: Words,
    /// New plans: chains, rules, numbers.
    pub(super) plans: Vec<Message>,
    /// Elements that change places with others in one piece: those that go, those that come.
    replace: Vec<(&'static str, [Vec<SetElem>; 2])>,
    /// The same, behind everything that is published: what would be dropped meanwhile has its reasons first.
    replace_late: Vec<(&'static str, [Vec<SetElem>; 2])>,
    /// Second copies of frontends, and ranges that must make room, which go before anything else.
    first: Stage,
    /// Ranges that come: in a commit of their own, since a packet may find a frontend before it finds a range of the same commit.
    ranges: Stage,
    publish: Stage,
    withdraw: Stage,
    bury: Stage,
    /// Plans that go, behind everything else.
    pub(super) retired: Vec<Message>,
}

/// In any order, some perhaps twice: a first load is large, and order costs memory.
type Stage = BTreeMap<&'static str, Vec<SetElem>>;

/// What a frontend refers to comes before it; what refers to frontends comes behind.
const PUBLISHED: [&str; 14] = [
    set::RANGES[0],
    set::RANGES[1],
    set::MEMBERS,
    set::SLOTS,
    set::LOCAL_BACKENDS,
    set::FRONTENDS[0],
    set::FRONTENDS[1],
    set::NODE_PORTS[0],
    set::NODE_PORTS[1],
    set::NODE_PORT_ADDRESSES,
    set::SPARED_ADDRESSES,
    set::SERVICE_ADDRESSES,
    set::OUTER_ADDRESSES,
    set::ENDPOINT_PORTS,
];

impl Update {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// How many elements and other objects change.
    #[must_use]
    pub fn len(&self) -> usize {
        let messages = self.transactions.iter().flatten();
        messages.map(Self::weight).sum()
    }

    /// The same of one message.
    #[must_use]
    pub fn weight(message: &Message) -> usize {
        match message {
            Message::NewElems { elements, .. } | Message::DelElems { elements, .. } => {
                elements.elems.len()
            }
            _ => 1,
        }
    }

    /// Adds a family's part: its stages join the stages of the other.
    pub(super) fn add(&mut self, draft: Draft) {
        let stages = draft.stages();
        self.transactions
            .resize(self.transactions.len().max(stages.len()), Vec::new());
        for (transaction, stage) in self.transactions.iter_mut().zip(stages) {
            transaction.extend(stage);
        }
    }

    /// Drops empty transactions and carries the others out on the program.
    pub(super) fn record_in(&mut self, program: &mut Program) {
        self.transactions
            .retain(|transaction| !transaction.is_empty());
        for message in self.transactions.iter().flatten() {
            let taken = program.take(message);
            debug_assert_eq!(
                taken,
                Ok(()),
                "the compiler emits what its own program takes"
            );
        }
    }
}

impl Draft {
    pub(super) fn new(words: Words) -> Self {
        let [ranges, publish, withdraw, bury] = [(); 4].map(|()| Stage::new());
        Self {
            words,
            plans: Vec::new(),
            replace: Vec::new(),
            replace_late: Vec::new(),
            first: Stage::new(),
            ranges,
            publish,
            withdraw,
            bury,
            retired: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, to: &'static str, elem: SetElem) {
        self.publish.entry(to).or_default().push(elem);
    }

    pub(super) fn withdraw(&mut self, from: &'static str, elem: SetElem) {
        self.withdraw.entry(from).or_default().push(elem);
    }

    pub(super) fn bury(&mut self, from: &'static str, elem: SetElem) {
        self.bury.entry(from).or_default().push(elem);
    }

    pub(super) fn publish_all(&mut self, elements: Vec<(&'static str, SetElem)>) {
        elements
            .into_iter()
            .for_each(|(to, elem)| self.publish(to, elem));
    }

    pub(super) fn bury_all(&mut self, elements: Vec<(&'static str, SetElem)>) {
        elements
            .into_iter()
            .for_each(|(from, elem)| self.bury(from, elem));
    }

    /// An element that is looked up before frontends: it goes before they do.
    pub(super) fn change_outer(&mut self, name: &'static str, elem: SetElem, present: bool) {
        if present {
            self.publish(name, elem)
        } else {
            self.withdraw(name, elem)
        }
    }

    /// An element that frontends need: it goes after they do.
    pub(super) fn change_inner(&mut self, name: &'static str, elem: SetElem, present: bool) {
        if present {
            self.publish(name, elem)
        } else {
            self.bury(name, elem)
        }
    }

    /// Makes the boundaries of a set's ranges these, in one piece: they only mean something together.
    pub(super) fn replace_boundaries(
        &mut self,
        program: &Program,
        name: &'static str,
        new: Vec<SetElem>,
    ) {
        let table = program.table(&self.words.table());
        let old = table.into_iter().flat_map(|table| table.elements(name));
        let old: Vec<SetElem> = old.collect();
        if old == new {
            return;
        }
        let when = match name {
            set::SERVICE_NETWORKS => &mut self.replace_late,
            _ => &mut self.replace,
        };
        when.push((name, [old, new]));
    }

    /// Makes an element another of the same key, in a piece in which neither is missing, behind everything that is published. Those of one set
    /// are a piece together, as many as may be.
    pub(super) fn change_place(&mut self, name: &'static str, goes: SetElem, comes: SetElem) {
        let last = self.replace_late.last_mut();
        let last = last.filter(|(of, [go, _])| *of == name && go.len() < IN_ONE_PIECE / 2);
        match last {
            Some((_, [go, come])) => {
                go.push(goes);
                come.push(comes);
            }
            None => self.replace_late.push((name, [vec![goes], vec![comes]])),
        }
    }

    /// A second copy of a frontend that is in both maps, or a range that others have no room beside: it goes before anything
    /// else.
    pub(super) fn drop_first(&mut self, from: &'static str, elem: SetElem) {
        self.first.entry(from).or_default().push(elem);
    }

    /// A range that comes.
    pub(super) fn admit(&mut self, to: &'static str, elem: SetElem) {
        self.ranges.entry(to).or_default().push(elem);
    }

    fn stages(self) -> [Vec<Message>; 6] {
        let Self {
            words,
            plans,
            replace,
            replace_late,
            first,
            ranges,
            publish,
            withdraw,
            bury,
            retired,
        } = self;
        let elements = |name: &str, elems: Vec<SetElem>| Elements {
            set: name.into(),
            elems,
        };
        let add = |name: &str, elems| Message::NewElems {
            table: words.table(),
            elements: elements(name, elems),
            exists: Exists::Keep,
        };
        let del = |name: &str, elems| Message::DelElems {
            table: words.table(),
            elements: elements(name, elems),
        };
        let mut first: Vec<Message> = in_order(first, PUBLISHED)
            .map(|(name, elems)| del(name, elems))
            .collect();
        let exchange = |(name, [old, new]): (&'static str, [Vec<SetElem>; 2])| {
            let old = (!old.is_empty()).then(|| del(name, old));
            let new = (!new.is_empty()).then(|| add(name, new));
            old.into_iter().chain(new)
        };
        first.extend(replace.into_iter().flat_map(exchange));
        let ranges = in_order(ranges, PUBLISHED).map(|(name, elems)| add(name, elems));
        let ranges = ranges.collect();
        let late = replace_late.into_iter().flat_map(exchange).collect();
        let mut second = plans;
        second.extend(in_order(publish, PUBLISHED).map(|(name, elems)| add(name, elems)));
        let mut backwards = PUBLISHED;
        backwards.reverse();
        let third = in_order(withdraw, backwards)
            .map(|(name, elems)| del(name, elems))
            .collect();
        let mut fourth: Vec<Message> = in_order(bury, backwards)
            .map(|(name, elems)| del(name, elems))
            .collect();
        fourth.extend(retired);
        [first, ranges, second, late, third, fourth]
    }
}

fn in_order(
    mut stage: Stage,
    order: [&'static str; 14],
) -> impl Iterator<Item = (&'static str, Vec<SetElem>)> {
    order
        .into_iter()
        .filter_map(move |name| Some((name, sorted(stage.remove(name)?))))
}

fn sorted(mut elems: Vec<SetElem>) -> Vec<SetElem> {
    elems.sort_by(|a, b| a.key.cmp(&b.key));
    elems.dedup_by(|a, b| a.key == b.key);
    elems
}

/// How many elements may change places at once: 100 bytes each at most, in transactions of 200,000.
const IN_ONE_PIECE: usize = 1_000;
