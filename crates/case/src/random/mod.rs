//! Clusters, changes and packets out of a seed: small, crowded and nasty on purpose.
//!
//! Everything is drawn from a few names, addresses and ports, so that Services collide, slices repeat
//! each other's endpoints, and packets hit something. Much of it no API would accept. The same seed
//! gives the same values on every machine.

mod admissible;
mod buildable;
mod objects;
mod packets;

use std::collections::BTreeMap;

use daymark_model::{Change, Options, World, decide};

use crate::judge::spread;
use crate::value::{Case, Check, Choice, Expect, Step};
use crate::{Outcome, Spread};

pub use objects::{change, options};
pub use packets::packets;

/// A small generator of numbers (Steele, Lea, Flood 2014: SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 if the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.draw() % bound).unwrap_or(0)
    }

    /// True in so many cases of a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the values, which must not be none.
    pub fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// Up to `most` values, each drawn anew.
    pub fn some<T: Clone>(&mut self, most: usize, values: &[T]) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| self.pick(values)).collect()
    }
}

/// What may be drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Everything that a record can say.
    #[default]
    Anything,
    /// What a lab of namespaces can build, and packets whose fate it can see.
    Buildable,
    /// Of that, what an API server admits, in any order of writing: no two Services claim one address and port, and
    /// what a Service may not change stays as it is.
    Admissible,
}

/// How large a random case is, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// What may be drawn.
    pub manner: Manner,
    /// Changes that make the first state.
    pub start: usize,
    /// Steps after the first.
    pub steps: usize,
    /// Changes in each of them.
    pub changes: usize,
    /// Packets in each step; of those that a lab sends, no two are alike.
    pub packets: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            manner: Manner::Anything,
            start: 30,
            steps: 3,
            changes: 5,
            packets: 25,
        }
    }
}

/// A random case. What it expects is what the reference says, so that it can put another judge to
/// the test; as text it can be kept as a file.
#[must_use]
pub fn case(seed: u64, size: Size) -> Case {
    let mut random = Random::new(seed);
    let options = match size.manner {
        Manner::Admissible => Options::default(),
        Manner::Anything | Manner::Buildable => options(&mut random),
    };
    drawn(random, seed, size, options)
}

/// The same with settings that are given.
#[must_use]
pub fn case_with(seed: u64, size: Size, options: Options) -> Case {
    drawn(Random::new(seed), seed, size, options)
}

fn drawn(mut random: Random, seed: u64, size: Size, options: Options) -> Case {
    let mut case = Case {
        file: format!("seed-{seed}.case"),
        about: vec![format!("Drawn from seed {seed}.")],
        options,
        ..Case::default()
    };
    let mut world = World::new(case.options.clone());
    for number in 0..=size.steps {
        let drawn = changes(&mut random, seed, size, number);
        let changes = in_order(&world, drawn);
        world.apply(changes.iter().cloned());
        let packets = match size.manner {
            Manner::Anything => packets(&mut random, &world, size.packets),
            Manner::Buildable | Manner::Admissible => {
                buildable::packets(&mut random, &world, size.packets)
            }
        };
        case.steps.push(Step {
            line: 0,
            name: if number == 0 {
                String::new()
            } else {
                format!("step {number}")
            },
            changes,
            checks: packets.into_iter().map(|p| expected(&world, p)).collect(),
        });
    }
    case
}

/// The changes of a step, as they are drawn.
fn changes(random: &mut Random, seed: u64, size: Size, step: usize) -> Vec<Change> {
    if size.manner == Manner::Admissible {
        return admissible::changes(random, seed, size, step);
    }
    let count = if step == 0 { size.start } else { size.changes };
    let drawn = (0..count).map(|_| change(random.draw()));
    let mut drawn: Vec<Change> = match size.manner {
        Manner::Anything => drawn.collect(),
        Manner::Buildable | Manner::Admissible => drawn.filter_map(buildable::change).collect(),
    };
    match (step, size.manner) {
        (0, Manner::Anything) => drawn.push(objects::start(random)),
        (0, Manner::Buildable) => drawn.extend(buildable::start()),
        _ => {}
    }
    drawn
}

/// A packet with the verdict of the reference.
#[must_use]
pub fn expected(world: &World, packet: daymark_model::Packet) -> Check {
    let desired = world.desired();
    let (expect, because) = match Outcome::from(decide(desired, &packet)) {
        Outcome::Forward(targets) => {
            let choice = match spread(desired, &packet) {
                Spread::Together(_) => Choice::Sticky,
                Spread::Anew | Spread::Probed => Choice::Anew,
            };
            let targets = targets.into_iter().collect();
            (Expect::Forward { targets, choice }, None)
        }
        Outcome::Refuse(Some(reason)) => (Expect::Refuse(reason), Some(reason)),
        Outcome::Drop(Some(reason)) => (Expect::Drop(reason), Some(reason)),
        _ => (Expect::Untouched, None),
    };
    let because = because.map_or_else(|| "the model says so".to_owned(), |r| r.to_string());
    Check {
        line: 0,
        packet,
        expect,
        because,
    }
}

/// The changes as a case's step holds them: one for each object, the node first, then Services, then
/// slices; nothing is removed that is not there.
fn in_order(world: &World, changes: Vec<Change>) -> Vec<Change> {
    let (mut node, mut machine) = (None, None);
    let mut service_cidrs = BTreeMap::new();
    let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
    for change in changes {
        match change {
            Change::Node(_) => node = Some(change),
            Change::MachineAddresses(_) => machine = Some(change),
            Change::ServiceCidr(ref name, _) => drop(service_cidrs.insert(name.clone(), change)),
            Change::Service(ref key, _) => drop(services.insert(key.clone(), change)),
            Change::Slice(ref key, _) => drop(slices.insert(key.clone(), change)),
        }
    }
    let all = node.into_iter().chain(machine);
    let all = all.chain(service_cidrs.into_values());
    let all = all.chain(services.into_values().chain(slices.into_values()));
    let there = |change: &Change| match change {
        Change::ServiceCidr(name, None) => world.inputs().service_cidrs.contains_key(name),
        Change::Service(key, None) => world.inputs().services.contains_key(key),
        Change::Slice(key, None) => world.inputs().slices.contains_key(key),
        _ => true,
    };
    all.filter(there).collect()
}

#[cfg(test)]
mod tests;
