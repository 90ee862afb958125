//! Tables that somebody took away while no agent ran, of one family or of both: what is left serves until all are there again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Kernel, Old, StartError};
use daymark_dataplane::nft::layout::{TABLES, Words};
use daymark_lab::bare::BareLab;
use daymark_model::{Desired, Family};
use daymark_netlink::nft::{ChainKind, Message};
use daymark_sys::ns::isolated_test;

use crate::traffic::{during_of, everybody, kernel, lab};
use crate::{LAYOUTS, LONG, agent, flags, living, names};

/// A table: its name and its family.
type At = (&'static str, Family);

/// How far an agent came that took over and was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// Its tables are whole, but at no hook.
    BeforeHook,
    /// The tables of both are at hooks.
    BeforeUnhook,
}

#[test]
fn what_is_left_of_two_layouts_serves_until_all_is_there_again() {
    let test = "halves::what_is_left_of_two_layouts_serves_until_all_is_there_again";
    isolated_test(test, || {
        let lab = lab();
        for flags in [TableFlags::NONE, flags(&lab)] {
            let mut rounds = Ground::new(&lab, flags).all(&[]);
            for families in [&[Family::V4][..], &[Family::V6], &Family::BOTH] {
                let (count, seen) =
                    during_of(&lab, families, || Ground::new(&lab, flags).all(families));
                seen.assert_whole(&format!("{families:?}"));
                rounds += count;
            }
            // Two names that are first, two deaths, any of four tables, three layouts.
            assert_eq!(rounds, 2 * 2 * 16 * 3);
        }
    });
}

/// A lab in which agents come and die.
struct Ground<'a> {
    lab: &'a BareLab,
    flags: TableFlags,
    desired: Desired,
    /// The commits of an agent that takes over.
    commits: usize,
}

impl<'a> Ground<'a> {
    fn new(lab: &'a BareLab, flags: TableFlags) -> Self {
        let desired = everybody().desired().clone();
        let mut commits = 0;
        for layout in LAYOUTS {
            let life = Rc::new(RefCell::new(LONG));
            living(lab, (layout, flags), &desired, &life).expect("a takeover");
            commits = LONG - *life.borrow();
        }
        Self {
            lab,
            flags,
            desired,
            commits,
        }
    }

    /// Every round in which just these families are served by what is left. Says how many there were.
    fn all(&self, families: &[Family]) -> usize {
        let mut rounds = 0;
        for first in [TABLES[0], TABLES[1]] {
            for killed in [Killed::BeforeHook, Killed::BeforeUnhook] {
                for left in subsets() {
                    let serves = served(&left, first, killed);
                    if !serves.iter().eq(families) {
                        continue;
                    }
                    for next in 0..LAYOUTS.len() {
                        let what = format!("{first}, {killed:?}, left {left:?}, {next}");
                        self.round((first, killed), &left, next, &what);
                        rounds += 1;
                    }
                }
            }
        }
        rounds
    }

    /// Two layouts, of which some tables are left, and an agent of one of them or of a third.
    fn round(
        &self,
        (first, killed): (&'static str, Killed),
        left: &BTreeSet<At>,
        next: usize,
        what: &str,
    ) {
        let layouts = self.two(first, killed, what);
        self.leave(left);
        let found = self.agent(layouts[next], LONG).expect(what);
        let second = other(first);
        let is_whole = |name| {
            Family::BOTH
                .iter()
                .all(|family| left.contains(&(name, *family)))
        };
        let adopts = match next {
            0 => is_whole(first),
            1 => is_whole(second) && killed == Killed::BeforeUnhook,
            _ => false,
        };
        let serves = served(left, first, killed).len() == Family::BOTH.len();
        let is_expected = match found {
            Found::Nothing => left.is_empty(),
            Found::Adopted => adopts,
            Found::ToReplace { old, .. } => {
                !adopts && !left.is_empty() && serves == (old == Old::Serves)
            }
        };
        assert!(is_expected, "{what}: {found:?}");
        assert_eq!(names(self.lab).len(), 1, "{what}");
        // One commit claims the tables, where they have an owner.
        let idle = self.agent(layouts[next], 1);
        assert_eq!(idle, Ok(Found::Adopted), "{what}: nothing is left to do");
    }

    /// Tables of a layout under this name, and those of the next that is killed. Says the layouts, and a third.
    fn two(&self, first: &str, killed: Killed, what: &str) -> [&'static str; 3] {
        let mut order = LAYOUTS;
        for _ in 0..2 * LAYOUTS.len() {
            self.agent(order[0], LONG).expect(what);
            if names(self.lab) == [first] {
                break;
            }
            order.rotate_left(1);
        }
        assert_eq!(names(self.lab), [first], "{what}");
        order.rotate_left(1);
        let (life, at_hooks) = match killed {
            Killed::BeforeHook => (self.commits - 2, 2),
            Killed::BeforeUnhook => (self.commits - 1, 4),
        };
        let death = self.agent(order[0], life);
        assert!(death.is_err(), "{what}: {death:?}");
        assert_eq!(names(self.lab).len(), 2, "{what}");
        assert_eq!(self.at_hooks(), at_hooks, "{what}");
        let [second, third, first] = order;
        [first, second, third]
    }

    fn agent(&self, layout: &'static str, life: usize) -> Result<Found, StartError> {
        agent(self.lab, (layout, self.flags), &self.desired, life)
    }

    /// The tables that packets meet.
    fn at_hooks(&self) -> usize {
        let mut kernel = kernel(self.lab);
        let mut is_at_hook = |(name, family): &At| {
            let read = kernel.read(&Words::of(*family).named(name).table());
            let chains = read.expect("an answer").map(|ruleset| ruleset.chains);
            let mut chains = chains.into_iter().flatten();
            chains.any(|chain| matches!(chain.kind, ChainKind::Base(_)))
        };
        tables().filter(&mut is_at_hook).count()
    }

    /// Takes all other tables away.
    fn leave(&self, left: &BTreeSet<At>) {
        let mut kernel = kernel(self.lab);
        for (name, family) in tables().filter(|at| !left.contains(at)) {
            let table = Words::of(family).named(name).table();
            if kernel.header(&table).expect("an answer").is_some() {
                kernel
                    .commit(&[Message::DelTable { table }])
                    .expect("nobody owns it");
            }
        }
    }
}

fn tables() -> impl Iterator<Item = At> {
    let names = TABLES.into_iter();
    names.flat_map(|name| Family::BOTH.map(|family| (name, family)))
}

fn other(first: &str) -> &'static str {
    if first == TABLES[0] {
        TABLES[1]
    } else {
        TABLES[0]
    }
}

/// Any of the tables of two names.
fn subsets() -> impl Iterator<Item = BTreeSet<At>> {
    let four: Vec<At> = tables().take(4).collect();
    (0..1 << four.len()).map(move |bits: u32| {
        let chosen = four
            .iter()
            .enumerate()
            .filter(|(at, _)| bits >> at & 1 == 1);
        chosen.map(|(_, table)| *table).collect()
    })
}

/// The families whose packets meet a table that is left.
fn served(left: &BTreeSet<At>, first: &str, killed: Killed) -> BTreeSet<Family> {
    let meets = |(name, _): &&At| *name == first || killed == Killed::BeforeUnhook;
    left.iter()
        .filter(meets)
        .map(|(_, family)| *family)
        .collect()
}
