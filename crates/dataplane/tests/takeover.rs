//! Agents end, die and are replaced, by others of the same build or of another layout: no packet is lost.

#[path = "takeover/halves.rs"]
mod halves;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use daymark_case::random::Random;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Found, Kernel, Old, Plane, StartError};
use daymark_dataplane::nft::base;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{TABLES, Words};
use daymark_lab::bare::BareLab;
use daymark_model::{Desired, Family};
use daymark_netlink::nft::{Message, Ruleset, Table, TableId};
use daymark_sys::ns::isolated_test;
use daymark_sys::probe;

use traffic::{during, everybody, kernel, lab, some};

/// A build of daymark with a layout of its own, as far as tables tell; it dies after so many commits.
struct Build {
    kernel: Netlink,
    /// What stands in the comment of its tables.
    layout: &'static str,
    /// Commits that it lives to see.
    life: Rc<RefCell<usize>>,
}

impl Build {
    fn renamed(table: &mut Table, from: &str, to: &str) {
        if table.comment.as_deref() == Some(from) {
            table.comment = Some(to.into());
        }
    }
}

impl Kernel for Build {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let mut life = self.life.borrow_mut();
        *life = life
            .checked_sub(1)
            .ok_or_else(|| CommitError::Socket("killed".to_owned()))?;
        let mut messages = messages.to_vec();
        for message in &mut messages {
            if let Message::NewTable { table, .. } = message {
                Self::renamed(table, &base::comment(), self.layout);
            }
        }
        self.kernel.commit(&messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        let mut read = self.kernel.read(table)?;
        if let Some(Ruleset { table, .. }) = &mut read {
            if table.comment.as_deref() == Some(self.layout) {
                Self::renamed(table, self.layout, &base::comment());
            } else {
                table.comment = Some("daymark layout of another build".into());
            }
        }
        Ok(read)
    }
}

const LAYOUTS: [&str; 3] = ["daymark layout 7", "daymark layout 8", "daymark layout 9"];

/// Tables as an agent would ask for here.
fn flags(lab: &BareLab) -> TableFlags {
    let answer = probe::persistent_owner(kernel(lab).socket()).expect("an answer");
    if answer.is_yes() {
        TableFlags::OWNER | TableFlags::PERSIST
    } else {
        TableFlags::NONE
    }
}

/// An agent comes, brings the tables to `desired`, and goes; or is killed on the way. Says how it came up, if it did.
fn agent(
    lab: &BareLab,
    (layout, flags): (&'static str, TableFlags),
    desired: &Desired,
    life: usize,
) -> Result<Found, StartError> {
    let life = Rc::new(RefCell::new(life));
    living(lab, (layout, flags), desired, &life)
}

/// The same; what is left of its life is told.
fn living(
    lab: &BareLab,
    (layout, flags): (&'static str, TableFlags),
    desired: &Desired,
    life: &Rc<RefCell<usize>>,
) -> Result<Found, StartError> {
    let build = Build {
        kernel: kernel(lab),
        layout,
        life: Rc::clone(life),
    };
    let (mut plane, found) = Plane::start(build, flags)?;
    plane.reconcile(desired.clone())?;
    Ok(found)
}

/// The names of the tables that are there, in either family.
fn names(lab: &BareLab) -> Vec<&'static str> {
    let mut kernel = kernel(lab);
    let mut is_there = |name: &&'static str| {
        Family::BOTH.iter().any(|family| {
            let id = Words::of(*family).named(name).table();
            kernel.header(&id).expect("an answer").is_some()
        })
    };
    TABLES.into_iter().filter(&mut is_there).collect()
}

const LONG: usize = usize::MAX;

#[test]
fn another_layout_takes_over_up_and_down_without_losing_a_packet() {
    let test = "another_layout_takes_over_up_and_down_without_losing_a_packet";
    isolated_test(test, || {
        let lab = lab();
        for flags in [TableFlags::NONE, flags(&lab)] {
            let mut world = everybody();
            let slices = world.inputs().slices_in_order();
            let first = agent(&lab, (LAYOUTS[0], flags), world.desired(), LONG);
            // Tables of an agent that asked for no owner are replaced by those of one that does.
            assert!(first.is_ok(), "{first:?}");
            let mut random = Random::new(1);
            let ((), seen) = during(&lab, || {
                let mut before = names(&lab);
                for round in 1..=40 {
                    let layout = LAYOUTS[round % LAYOUTS.len()];
                    world.apply(some(&mut random, &slices));
                    let found = agent(&lab, (layout, flags), world.desired(), LONG);
                    assert!(
                        matches!(
                            found,
                            Ok(Found::ToReplace {
                                old: Old::Serves,
                                ..
                            })
                        ),
                        "round {round}: {found:?}"
                    );
                    let after = names(&lab);
                    assert_eq!(after.len(), 1, "round {round}");
                    assert_ne!(after, before, "round {round}");
                    before = after;
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            seen.assert_whole(&format!("{flags:?}"));
        }
    });
}

#[test]
fn whoever_is_killed_at_any_commit_is_followed_without_losing_a_packet() {
    let test = "whoever_is_killed_at_any_commit_is_followed_without_losing_a_packet";
    isolated_test(test, || {
        let lab = lab();
        let flags = flags(&lab);
        let mut world = everybody();
        let slices = world.inputs().slices_in_order();
        agent(&lab, (LAYOUTS[0], flags), world.desired(), LONG).expect("the first state");
        let mut random = Random::new(2);
        let (killed, seen) = during(&lab, || {
            let mut killed = [0; 12];
            for _ in 0..120 {
                let layout = LAYOUTS[random.below(LAYOUTS.len())];
                world.apply(some(&mut random, &slices));
                let life = random.below(killed.len());
                match agent(&lab, (layout, flags), world.desired(), life) {
                    Ok(_) => {}
                    Err(StartError::Commit(CommitError::Socket(why))) if why == "killed" => {
                        killed[life] += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            killed
        });
        seen.assert_whole("killed and followed");
        // Claim, prepare, fill in three, hook, unhook.
        assert!(killed[..5].iter().all(|count| *count > 1), "{killed:?}");
        let found = agent(&lab, (LAYOUTS[0], flags), world.desired(), LONG);
        assert!(found.is_ok(), "{found:?}");
        assert_eq!(names(&lab).len(), 1, "nothing is left over");
        let idle = agent(&lab, (LAYOUTS[0], flags), world.desired(), 1);
        assert_eq!(idle, Ok(Found::Adopted), "nothing to do but to claim");
    });
}
