//! What a run found.

use std::collections::{BTreeMap, BTreeSet};

use daymark_case::Case;
use daymark_model::Packet;

use super::difference::Finding;
use super::seen::Seen;

/// Counts and differences.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Clusters played.
    pub(crate) clusters: usize,
    /// Packets compared.
    pub(crate) packets: usize,
    /// Of those, asked a second time.
    pub(crate) repeated: usize,
    /// What differs between the names and labels of `/metrics`.
    pub(crate) metrics: BTreeSet<String>,
    found: BTreeMap<Finding, Vec<String>>,
}

impl Report {
    /// Notes a difference.
    pub(crate) fn differs(
        &mut self,
        case: &Case,
        packet: &Packet,
        finding: &Finding,
        kube: &Seen,
        daymark: &Seen,
    ) {
        let line = format!(
            "{}: {:?} {} -> {}:{}/{}: kube-proxy: {kube}; daymark: {daymark}",
            case.file,
            packet.arrival,
            packet.source,
            packet.destination,
            packet.port,
            packet.protocol
        );
        self.found.entry(*finding).or_default().push(line);
    }

    /// Whether a difference that nobody meant was found in a case.
    pub(crate) fn differs_in(&self, case: &Case) -> bool {
        let unknown = self.found.get(&Finding::Unknown);
        unknown.is_some_and(|lines| lines.iter().any(|line| line.starts_with(&case.file)))
    }

    /// Whether every difference is meant.
    pub(crate) fn is_good(&self) -> bool {
        !self.found.contains_key(&Finding::Unknown) && self.metrics.is_empty()
    }

    /// Prints the sum, and every difference that nobody meant.
    #[allow(
        clippy::disallowed_macros,
        reason = "the binary is the one place that prints"
    )]
    pub(crate) fn print(&self) {
        for (finding, lines) in &self.found {
            match finding {
                Finding::Meant(meant) => println!("meant    {:>6} {meant}", lines.len()),
                Finding::Unknown | Finding::Same => {
                    for line in lines.iter().take(SHOWN) {
                        println!("differs  {line}");
                    }
                }
            }
        }
        for line in &self.metrics {
            println!("metrics  {line}");
        }
        let unknown = self.found.get(&Finding::Unknown).map_or(0, Vec::len);
        let meant: usize = self.found.values().map(Vec::len).sum::<usize>() - unknown;
        println!(
            "{} clusters, {} packets in each lab: {} the same, {meant} meant to differ, {unknown} differ; {} asked twice",
            self.clusters,
            self.packets,
            self.packets - meant - unknown,
            self.repeated
        );
    }
}

/// Lines of differences printed at most.
const SHOWN: usize = 40;
