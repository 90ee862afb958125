//! What a run found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use daymark_case::Case;
use daymark_model::{Packet, Protocol};

use super::difference::Finding;
use super::seen::Seen;
use super::variant::Variant;
use crate::out::say;

/// Says which configuration is next.
pub(super) fn begin(variant: Variant, clusters: usize) {
    say!("{clusters:>4} clusters: {variant}");
}

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
    met: BTreeMap<(&'static str, Protocol), usize>,
    found: BTreeMap<Finding, Vec<String>>,
}

impl Report {
    /// Counts a packet by what became of it beside kube-proxy.
    pub(crate) fn meets(&mut self, packet: &Packet, kube: &Seen) {
        self.packets += 1;
        *self
            .met
            .entry((kube.verdict(), packet.protocol))
            .or_default() += 1;
    }

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

    /// Whether every difference is meant, and something was compared: two labs in which no packet reaches anybody are
    /// alike, and prove nothing.
    pub(crate) fn is_good(&self) -> bool {
        !self.found.contains_key(&Finding::Unknown) && self.metrics.is_empty() && self.reached() > 0
    }

    fn reached(&self) -> usize {
        let reached = self.met.iter().filter(|((what, _), _)| *what == "reached");
        reached.map(|(_, count)| count).sum()
    }

    /// Prints the sum, and every difference that nobody meant.
    pub(crate) fn print(&self, seeds: &Range<u64>) {
        for (finding, lines) in &self.found {
            match finding {
                Finding::Meant(meant) => say!("meant    {:>6} {meant}", lines.len()),
                Finding::Unknown | Finding::Same => {
                    for line in lines.iter().take(SHOWN) {
                        say!("differs  {line}");
                    }
                }
            }
        }
        for line in &self.metrics {
            say!("metrics  {line}");
        }
        for ((what, protocol), count) in &self.met {
            say!("met      {count:>6} {what}, {protocol}");
        }
        if self.reached() == 0 {
            say!("no packet reached anybody: nothing was compared");
        }
        let unknown = self.found.get(&Finding::Unknown).map_or(0, Vec::len);
        let meant: usize = self.found.values().map(Vec::len).sum::<usize>() - unknown;
        say!(
            "{} clusters (seeds {} to {}), {} packets in each lab: {} the same, {meant} meant to differ, {unknown} differ; {} asked twice",
            self.clusters,
            seeds.start,
            seeds.end.saturating_sub(1),
            self.packets,
            self.packets - meant - unknown,
            self.repeated
        );
    }
}

/// Lines of differences printed at most.
const SHOWN: usize = 40;
