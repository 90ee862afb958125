//! The source ranges of one frontend.
//!
//! Ranges of one set must not overlap, and a commit that exchanges some for others shows packets neither for a moment: kernels
//! before 6.17 hide what goes when the generation changes, and show what comes behind everything else (`nft_pipapo_commit`). So
//! there are two sets, and packets ask both. All ranges of a frontend are in one; where one that comes overlaps one that goes,
//! all go to the other: first those that come, in a commit of their own, and behind all else those that go. In between who is in
//! either may come, and nobody else.

use std::collections::BTreeSet;

use daymark_model::FrontendKey;
use daymark_model::desired::Sources;
use daymark_netlink::nft::{Data, SetElem};

use super::draft::Draft;
use super::wanted;
use crate::nft::layout::{Side, frontend_key};
use crate::nft::program::{Contents, Program};

impl Draft {
    /// Makes the ranges of a frontend those of `sources`, whatever is in the two sets.
    pub(super) fn replace_ranges(
        &mut self,
        program: &Program,
        key: &FrontendKey,
        sources: &Sources,
    ) {
        let FrontendKey::Address { .. } = key else {
            return;
        };
        let table = program.table(&self.words.table());
        let has_any = |table: &Contents| Side::BOTH.iter().any(|side| table.has(side.ranges()));
        if *sources == Sources::Any && !table.is_some_and(has_any) {
            return;
        }
        let wanted: Ranges = wanted::ranges(key, sources)
            .into_iter()
            .map(Range)
            .collect();
        let at = frontend_key(key);
        let held = Side::BOTH.map(|side| -> Ranges {
            let table = table.into_iter();
            let elems = table.flat_map(|table| table.elements_from(side.ranges(), &at));
            elems.map(Range).collect()
        });
        let (home, room) = home(&held, &wanted);
        let (here, there) = (&held[home as usize], &held[home.other() as usize]);
        for Range(elem) in wanted.difference(here) {
            self.admit(home.ranges(), elem.clone());
        }
        for Range(elem) in here.difference(&wanted) {
            match room {
                Room::Beside => self.bury(home.ranges(), elem.clone()),
                Room::InPlace => self.drop_first(home.ranges(), elem.clone()),
            }
        }
        for Range(elem) in there {
            self.bury(home.other().ranges(), elem.clone());
        }
    }
}

type Ranges = BTreeSet<Range>;

/// An element, ordered by both ends of its range.
#[derive(PartialEq, Eq)]
struct Range(SetElem);

impl Range {
    fn ends(&self) -> [&Data; 2] {
        let Self(elem) = self;
        [&elem.key, elem.key_end().unwrap_or(&elem.key)]
    }
}

impl PartialOrd for Range {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Range {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ends().cmp(&other.ends())
    }
}

/// Where the ranges that come have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Beside those that go.
    Beside,
    /// In their place alone. This is so where an agent died while it exchanged ranges, or somebody else wrote into the sets, and
    /// what is wanted now overlaps what is in either.
    InPlace,
}

/// The set that the ranges of a frontend are to be in: the one with room for those that it lacks, and of two the one that lacks
/// fewer.
fn home(held: &[Ranges; 2], wanted: &Ranges) -> (Side, Room) {
    let has_room = |side: &Side| {
        let here = &held[*side as usize];
        !overlap(wanted.difference(here).chain(here.difference(wanted)))
    };
    let missing = |side: &Side| wanted.difference(&held[*side as usize]).count();
    let sides = Side::BOTH.into_iter().filter(has_room);
    if let Some(side) = sides.min_by_key(missing) {
        return (side, Room::Beside);
    }
    let [a, b] = held;
    let fewer = if a.len() <= b.len() { Side::A } else { Side::B };
    (fewer, Room::InPlace)
}

/// Whether any two of them overlap.
fn overlap<'a>(ranges: impl Iterator<Item = &'a Range>) -> bool {
    let mut all: Vec<_> = ranges.map(Range::ends).collect();
    all.sort_unstable();
    all.windows(2).any(|pair| pair[1][0] <= pair[0][1])
}
