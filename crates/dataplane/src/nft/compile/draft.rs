//! The transactions of one update, being gathered.

use std::collections::{BTreeMap, BTreeSet};

use daymark_model::FrontendKey;
use daymark_model::desired::Sources;
use daymark_netlink::nft::{Data, Elements, Exists, Message, SetElem};

use super::wanted;
use crate::nft::layout::{Words, frontend_key, set};
use crate::nft::program::Program;

/// The transactions that carry an update out, in order. Each may be cut between any two elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Never empty ones.
    pub transactions: Vec<Vec<Message>>,
}

/// One family's part of an update, by stage and set.
pub(super) struct Draft {
    words: Words,
    /// New plans: chains, rules, numbers.
    pub(super) plans: Vec<Message>,
    /// Elements that change places with others in one piece: those that go, those that come.
    replace: Vec<(&'static str, [Vec<SetElem>; 2])>,
    /// The same, behind everything that is published: what would be dropped meanwhile has its reasons first.
    replace_late: Vec<(&'static str, [Vec<SetElem>; 2])>,
    /// Second copies of frontends, and ranges that must make room, which go before anything else.
    first: Stage,
    /// Ranges that come: in a commit of their own, since a packet may find a frontend before it finds a range of the same commit.
    ranges: Vec<SetElem>,
    publish: Stage,
    withdraw: Stage,
    bury: Stage,
    /// Plans that go, behind everything else.
    pub(super) retired: Vec<Message>,
}

/// In any order, some perhaps twice: a first load is large, and order costs memory.
type Stage = BTreeMap<&'static str, Vec<SetElem>>;

/// What a frontend refers to comes before it; what refers to frontends comes behind.
const PUBLISHED: [&str; 13] = [
    set::RANGES,
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
        let [publish, withdraw, bury] = [Stage::new(), Stage::new(), Stage::new()];
        Self {
            words,
            plans: Vec::new(),
            replace: Vec::new(),
            replace_late: Vec::new(),
            first: Stage::new(),
            ranges: Vec::new(),
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

    /// Makes the ranges of a frontend those of `sources`. What comes is published and what goes is buried, but ranges
    /// must not overlap in the kernel: those that do change places in one transaction.
    pub(super) fn replace_ranges(
        &mut self,
        program: &Program,
        key: &FrontendKey,
        sources: &Sources,
    ) {
        let FrontendKey::Address { .. } = key else {
            return;
        };
        let wanted: BTreeSet<_> = wanted::ranges(key, sources)
            .into_iter()
            .map(Order)
            .collect();
        let at = frontend_key(key);
        let table = program.table(&self.words.table());
        let present = table
            .into_iter()
            .flat_map(|table| table.elements_from(set::RANGES, &at));
        let present: BTreeSet<_> = present.map(Order).collect();
        let come = wanted
            .difference(&present)
            .map(|Order(elem)| (elem, Way::In));
        let go = present
            .difference(&wanted)
            .map(|Order(elem)| (elem, Way::Out));
        for [go, come] in overlapping(come.chain(go).collect()) {
            self.replace_overlapping(go, come);
        }
    }

    /// Ranges that overlap each other and no others.
    fn replace_overlapping(&mut self, go: Vec<SetElem>, come: Vec<SetElem>) {
        if go.is_empty() {
            self.ranges.extend(come);
        } else if come.is_empty() {
            go.into_iter().for_each(|elem| self.bury(set::RANGES, elem));
        } else if go.len() + come.len() <= IN_ONE_PIECE {
            self.replace.push((set::RANGES, [go, come]));
        } else {
            // More than a transaction holds. Clients inside them are dropped for the moment in between.
            self.first.entry(set::RANGES).or_default().extend(go);
            self.ranges.extend(come);
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

    /// Makes elements others of the same keys, in pieces in which none is missing, behind everything that is published.
    pub(super) fn change_places(
        &mut self,
        name: &'static str,
        go: Vec<SetElem>,
        come: Vec<SetElem>,
    ) {
        let pieces = go
            .chunks(IN_ONE_PIECE / 2)
            .zip(come.chunks(IN_ONE_PIECE / 2));
        let pieces = pieces.map(|(go, come)| (name, [go.to_vec(), come.to_vec()]));
        self.replace_late.extend(pieces);
    }

    /// A second copy of a frontend that is in both maps: it goes before anything else.
    pub(super) fn drop_double(&mut self, map: &'static str, elem: SetElem) {
        self.first.entry(map).or_default().push(elem);
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
        let ranges = (!ranges.is_empty()).then(|| add(set::RANGES, sorted(ranges)));
        let ranges = ranges.into_iter().collect();
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
    order: [&'static str; 13],
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

/// An element, ordered by both ends of its range.
#[derive(PartialEq, Eq)]
struct Order(SetElem);

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.0.key, self.0.key_end()).cmp(&(&other.0.key, other.0.key_end()))
    }
}

/// Whether an element comes or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// Groups of ranges, each overlapping nothing outside of its group: those that go, those that come.
fn overlapping(mut ranges: Vec<(&SetElem, Way)>) -> Vec<[Vec<SetElem>; 2]> {
    ranges.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    let mut groups: Vec<[Vec<SetElem>; 2]> = Vec::new();
    let mut end: Option<Data> = None;
    for (elem, way) in ranges {
        let last = elem.key_end().unwrap_or(&elem.key);
        if end.as_ref().is_none_or(|end| *end < elem.key) {
            groups.push(Default::default());
        }
        end = end.max(Some(last.clone()));
        if let Some([go, come]) = groups.last_mut() {
            if way == Way::Out { go } else { come }.push(elem.clone());
        }
    }
    groups
}

/// How many ranges may change places at once: 100 bytes each at most, in transactions of 200,000.
const IN_ONE_PIECE: usize = 1_000;
