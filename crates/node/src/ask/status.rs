//! How the agent is, put together.

use std::sync::Arc;
use std::time::Duration;

use daymark_dataplane::nft::compare::{Comparison, Count, Difference};

use super::wire;

/// Parts of the agent that this crate does not run, and how they are: feed, DNS, announcer.
pub type Parts = Arc<dyn Fn() -> Vec<wire::Part> + Send + Sync>;

/// How the plane's thread is.
#[derive(Clone, Debug)]
pub struct Standing {
    /// A number that is another one after each attempt to change the tables.
    pub(crate) moment: u64,
    pub(crate) node: String,
    pub(crate) generation: Option<u64>,
    pub(crate) last_change: Option<Duration>,
    pub(crate) behind: Option<Duration>,
    pub(crate) parts: Vec<wire::Part>,
    pub(crate) refused: Vec<wire::Refused>,
    pub(crate) conflicts: Vec<wire::Conflict>,
    pub(crate) unusable: Vec<wire::Unusable>,
    pub(crate) unusable_total: usize,
}

/// All of it. Healthy is an agent whose parts are well, whose kernel holds what it should, and from which nothing was
/// refused. That another Service has a place, or an object has values that cannot be used, is no fault of the node.
pub(super) fn status(
    standing: Standing,
    compared: Result<Comparison, String>,
    others: Vec<wire::Part>,
) -> wire::Status {
    let (found, unread) = match compared {
        Ok(found) => (found, None),
        Err(why) => (Comparison::default(), Some(why)),
    };
    let parts: Vec<wire::Part> = others.into_iter().chain(standing.parts).collect();
    let well = parts.iter().all(|part| part.healthy);
    let as_wanted = found.total == 0 && unread.is_none() && standing.refused.is_empty();
    wire::Status {
        node: standing.node,
        healthy: well && as_wanted,
        generation: standing.generation,
        last_change_seconds: standing.last_change.map(|since| since.as_secs_f64()),
        behind_seconds: standing.behind.map(|since| since.as_secs_f64()),
        parts,
        counts: found.counts.iter().map(count).collect(),
        differences: found.differences.iter().map(difference).collect(),
        differences_total: found.total,
        unread,
        refused: standing.refused,
        conflicts: standing.conflicts,
        unusable: standing.unusable,
        unusable_total: standing.unusable_total,
    }
}

fn count(count: &Count) -> wire::Count {
    wire::Count {
        table: count.table.to_string(),
        of: count.of.to_string(),
        wanted: count.wanted,
        held: count.held,
    }
}

fn difference(difference: &Difference) -> wire::Difference {
    wire::Difference {
        table: difference.table.to_string(),
        object: difference.object.as_ref().map(ToString::to_string),
        shown: difference.shown.clone(),
        agreement: difference.agreement.word().to_owned(),
        about: difference.about.iter().map(ToString::to_string).collect(),
    }
}
