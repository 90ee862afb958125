//! Where daymark and kube-proxy may differ, and where they must not.
//!
//! Each meant difference has a row in docs/semantics.md, with its reason.

use std::fmt;
use std::net::SocketAddr;

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
    /// daymark leaves the addresses of another proxy's Service alone; to kube-proxy they are unallocated, and it drops
    /// what is sent there.
    OtherProxysAddress,
}

impl fmt::Display for Meant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::OtherProxysAddress => "an address of another proxy's Service is left alone",
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

/// A sticky client has one endpoint, perhaps another one in each lab: both must be among those that it may have, and see
/// the same source.
fn both_at_one_of(world: &World, question: &Question, kube: &Seen, daymark: &Seen) -> bool {
    let client = question.packet.source;
    let Verdict::Forward(targets) = decide(world.desired(), &question.packet) else {
        return false;
    };
    let may = |at: SocketAddr| {
        targets
            .iter()
            .any(|target| (target.address, target.port) == (at.ip(), at.port()))
    };
    match (kube.only(), daymark.only()) {
        (Some((kube, source)), Some((daymark, seen))) => {
            // Whoever reaches himself is masqueraded, whatever the others see.
            let hairpin = kube.ip() == client || daymark.ip() == client;
            may(kube) && may(daymark) && (source == seen || (hairpin && kube.ip() != daymark.ip()))
        }
        _ => false,
    }
}

fn meant(world: &World, question: &Question, kube: &Seen, daymark: &Seen) -> Option<Meant> {
    let to = question.packet.destination;
    let mut services = world.inputs().services.values();
    let others = services
        .any(|service| service.proxy_name.is_some() && service.cluster_ips.all().contains(&to));
    (others && daymark.is_always(&End::Untouched) && kube.is_always(&End::Dropped))
        .then_some(Meant::OtherProxysAddress)
}
