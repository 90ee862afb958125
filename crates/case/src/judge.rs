//! How a case is put before a judge.
//!
//! A judge is brought from step to step and says what becomes of each packet. It may know (the
//! reference, the trace of a program) or have tried (real packets); [`Spread`] tells which, and the
//! comparison is the same for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use daymark_model::desired::Reason;
use daymark_model::input::Affinity;
use daymark_model::{Delta, Desired, Packet, Target, Verdict, World, decide};

use crate::value::{Case, Check, Choice, Expect};

/// Somebody who can say what becomes of packets.
pub trait Judge {
    /// Brings the thing under test into a step's state: `world` is that state, `delta` what is new in it.
    ///
    /// # Errors
    /// Why it cannot be brought there, in words; all checks of the step then fail with them.
    fn enter(&mut self, world: &World, delta: &Delta) -> Result<(), String>;

    /// Says what becomes of a packet in the state entered last.
    ///
    /// # Errors
    /// Why it cannot be said, in words; the check then fails with them.
    fn see(&mut self, packet: &Packet) -> Result<Seen, String>;
}

/// What a judge says about one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What becomes of it.
    pub outcome: Outcome,
    /// What is known about the choice among several endpoints.
    pub spread: Spread,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reaches these endpoints, which see these sources.
    Forward(BTreeSet<Target>),
    /// It is refused at once; the reason, where the judge can know it.
    Refuse(Option<Reason>),
    /// It is dropped in silence; the reason, where the judge can know it.
    Drop(Option<Reason>),
    /// It goes on as if there were no Services.
    Untouched,
    /// Something that no case asks for, in words: a TCP reset, an answer from elsewhere.
    Other(String),
}

/// What is known about the choice among several endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All endpoints possible are in the outcome, and each connection chooses anew.
    Anew,
    /// All endpoints possible are in the outcome, and whatever carries this mark gets the same one.
    Together(String),
    /// The outcome holds the endpoints that many connections of this client did reach.
    Probed,
}

/// What a judge found in a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The packets judged.
    pub checks: usize,
    /// Those that did not get their verdict, in the order of the file.
    pub failures: Vec<Failure>,
}

/// A packet that did not get the verdict that the case asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The packet, as the file writes it.
    pub packet: String,
    /// What the case asks for.
    pub expected: String,
    /// What the judge says.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file, line, packet, ..
        } = self;
        write!(
            out,
            "{file}:{line}: packet {packet}: expected {}, got {}",
            self.expected, self.got
        )
    }
}

/// Puts a case before a judge.
pub fn judge(case: &Case, judge: &mut impl Judge) -> Report {
    let mut world = World::new(case.options.clone());
    let mut report = Report::default();
    let mut groups = Groups::default();
    for step in &case.steps {
        let delta = world.apply(step.changes.iter().cloned());
        let entered = judge.enter(&world, &delta);
        for check in &step.checks {
            let seen = entered.clone().and_then(|()| judge.see(&check.packet));
            report.checks += 1;
            if let Err(got) = seen.and_then(|seen| compare(check, &seen, &mut groups)) {
                report.failures.push(Failure {
                    file: case.file.clone(),
                    line: check.line,
                    packet: crate::write::route(&check.packet),
                    expected: check.expect.to_string(),
                    got,
                });
            }
        }
    }
    report
}

/// Judges a case by the reference, `daymark_model::decide`.
#[must_use]
pub fn judge_model(case: &Case) -> Report {
    judge_with(case, decide)
}

/// Judges a case by a function from what the kernel should do to a verdict. The stickiness of a
/// frontend is taken as the model has it.
pub fn judge_with(case: &Case, verdict: impl FnMut(&Desired, &Packet) -> Verdict) -> Report {
    judge(
        case,
        &mut ByFunction {
            verdict,
            desired: Desired::default(),
        },
    )
}

struct ByFunction<F> {
    verdict: F,
    desired: Desired,
}

impl<F: FnMut(&Desired, &Packet) -> Verdict> Judge for ByFunction<F> {
    fn enter(&mut self, world: &World, _delta: &Delta) -> Result<(), String> {
        self.desired.clone_from(world.desired());
        Ok(())
    }

    fn see(&mut self, packet: &Packet) -> Result<Seen, String> {
        Ok(Seen {
            outcome: (self.verdict)(&self.desired, packet).into(),
            spread: spread(&self.desired, packet),
        })
    }
}

/// The model's affinity for a packet. The mark is the client and the Service port: the addresses of
/// one Service port share their affinity.
#[must_use]
pub fn spread(desired: &Desired, packet: &Packet) -> Spread {
    match decide::frontend(desired, packet) {
        Some(frontend) if frontend.affinity != Affinity::None => {
            Spread::Together(format!("{} {}", packet.source, frontend.port))
        }
        _ => Spread::Anew,
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward(targets) => Self::Forward(targets.into_iter().collect()),
            Verdict::Reject(reason) => Self::Refuse(Some(reason)),
            Verdict::Drop(reason) => Self::Drop(Some(reason)),
            Verdict::Untouched => Self::Untouched,
        }
    }
}

/// What the packets of each sticky group have met so far: a mark, or an endpoint.
type Groups = BTreeMap<String, String>;

/// Holds what was seen against what the case asks for.
///
/// # Errors
/// What was seen instead, in words.
fn compare(check: &Check, seen: &Seen, groups: &mut Groups) -> Result<(), String> {
    let agrees = match (&check.expect, &seen.outcome) {
        (Expect::Forward { targets, choice }, Outcome::Forward(got)) => {
            return compare_choice(targets, choice, got, &seen.spread, groups);
        }
        (Expect::Refuse(asked), Outcome::Refuse(got))
        | (Expect::Drop(asked), Outcome::Drop(got)) => got.is_none_or(|got| got == *asked),
        (Expect::Untouched, Outcome::Untouched) => true,
        _ => false,
    };
    agrees.then_some(()).ok_or_else(|| seen.to_string())
}

fn compare_choice(
    targets: &[Target],
    choice: &Choice,
    got: &BTreeSet<Target>,
    spread: &Spread,
    groups: &mut Groups,
) -> Result<(), String> {
    let shown = || {
        Seen {
            outcome: Outcome::Forward(got.clone()),
            spread: spread.clone(),
        }
        .to_string()
    };
    let asked: BTreeSet<Target> = targets.iter().copied().collect();
    let (whole, one) = (*got == asked, got.len() == 1 && got.is_subset(&asked));
    let mark = match (choice, spread) {
        (Choice::Anew, Spread::Anew | Spread::Probed) => {
            return whole.then_some(()).ok_or_else(shown);
        }
        (Choice::Anew, Spread::Together(_))
        | (Choice::Sticky | Choice::StickyWith(_), Spread::Anew) => return Err(shown()),
        (_, Spread::Together(mark)) if whole => mark.clone(),
        (_, Spread::Probed) if one => write_places(got),
        _ => return Err(shown()),
    };
    if let Choice::StickyWith(group) = choice {
        let first = groups.entry(group.clone()).or_insert_with(|| mark.clone());
        if *first != mark {
            return Err(format!(
                "{}, while packets marked {group} before it met {first}",
                shown()
            ));
        }
    }
    Ok(())
}

fn write_places(targets: &BTreeSet<Target>) -> String {
    let places = targets
        .iter()
        .map(|t| crate::write::endpoint(t.address, t.port));
    places.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |reason: &Option<Reason>| {
            reason.map_or_else(String::new, |reason| format!(" because {reason}"))
        };
        match &self.outcome {
            Outcome::Forward(targets) => {
                let targets: Vec<Target> = targets.iter().copied().collect();
                out.write_str(&crate::write::targets(&targets))?;
                match &self.spread {
                    Spread::Anew => Ok(()),
                    Spread::Together(mark) => write!(out, " sticky (by {mark})"),
                    Spread::Probed => out.write_str(" (as probed)"),
                }
            }
            Outcome::Refuse(reason) => write!(out, "refuse{}", because(reason)),
            Outcome::Drop(reason) => write!(out, "drop{}", because(reason)),
            Outcome::Untouched => out.write_str("untouched"),
            Outcome::Other(what) => out.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests;
