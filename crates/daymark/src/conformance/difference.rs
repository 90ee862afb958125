//! Where daymark and kube-proxy may differ, and where they must not.
//!
//! Each meant difference has a row in docs/semantics.md, with its reason.

use std::fmt;

use daymark_model::{Verdict, World, decide};

use super::seen::{End, Seen};
use super::site::{Question, Tries};

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// The same happened.
    Same,
    /// Something else, on purpose.
    Meant(Meant),
    /// Something else, and nobody knows why.
    Unknown,
}

/// A difference that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meant {
    /// daymark refuses a port that no Service has at an external or load-balancer address; kube-proxy lets such a
    /// packet out to wherever the address leads.
    UnknownPortOutside,
}

impl fmt::Display for Meant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::UnknownPortOutside => {
                "an unknown port of an external or load-balancer address is refused"
            }
        })
    }
}

/// Compares what became of one packet.
pub(crate) fn compare(world: &World, question: &Question, kube: &Seen, daymark: &Seen) -> Finding {
    if kube == daymark || (is_sticky(question) && both_at_one_of(world, question, kube, daymark)) {
        return Finding::Same;
    }
    meant(world, question, kube, daymark).map_or(Finding::Unknown, Finding::Meant)
}

fn is_sticky(question: &Question) -> bool {
    matches!(question.tries, Tries::InTurn(_))
}

/// A sticky client has one endpoint, another one in each lab.
fn both_at_one_of(world: &World, question: &Question, kube: &Seen, daymark: &Seen) -> bool {
    let Verdict::Forward(targets) = decide(world.desired(), &question.packet) else {
        return false;
    };
    let one = |seen: &Seen| {
        seen.is_forwarded()
            && seen.reached.len() == 1
            && seen.reached.iter().all(|(at, _)| {
                targets
                    .iter()
                    .any(|target| (target.address, target.port) == (at.ip(), at.port()))
            })
    };
    one(kube) && one(daymark)
}

fn meant(world: &World, question: &Question, kube: &Seen, daymark: &Seen) -> Option<Meant> {
    let to = question.packet.destination;
    let outer = world.desired().service_addresses.contains(&to)
        && !world
            .inputs()
            .services
            .values()
            .any(|service| service.cluster_ips.all().contains(&to));
    (outer && daymark.is_always(&End::Refused) && kube.is_always(&End::Untouched))
        .then_some(Meant::UnknownPortOutside)
}
