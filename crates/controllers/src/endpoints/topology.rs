//! Hints by the processors of zones: the annotation `service.kubernetes.io/topology-mode: Auto`.
//!
//! 1. A zone's share of the endpoints should be its share of the cluster's allocatable CPU; with [`OVERLOAD`] more load
//!    on each endpoint it may be less.
//! 2. Every ready endpoint starts with a hint for its own zone.
//! 3. A zone below its minimum gets endpoints of the zone that has most above its share.
//!
//! If that cannot be done safely no endpoint has a hint, and the Service says why. Equal inputs give equal hints, so that
//! nothing moves without a reason. Source: `k8s.io/endpointslice`, `topologycache/topologycache.go`, and KEP-2433.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForZone};

use super::endpoint::ZONE_LABEL;

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
/// Nodes with these labels serve no clients of their own.
const CONTROL_PLANES: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];
/// How much more load than its share an endpoint may get.
const OVERLOAD: f64 = 0.2;

/// Whether the Service asks for hints by CPU. Of the two annotations the older one counts.
pub(crate) fn is_asked_by(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let value = |key| annotations.and_then(|annotations| annotations.get(key));
    let value = value(TOPOLOGY_HINTS).or_else(|| value(TOPOLOGY_MODE));
    value.is_some_and(|value| value.eq_ignore_ascii_case("auto"))
}

/// Why there are no hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsafe {
    /// Some node that is ready does not say how much CPU it has, or where it is.
    UnknownNodes,
    /// All nodes that are ready are in one zone.
    OneZone,
    /// An endpoint is in no zone.
    EndpointWithoutZone,
    /// Some zone would have none.
    TooFewEndpoints { endpoints: usize, zones: usize },
    /// The least that each zone needs is more than there is.
    TooUneven { endpoints: usize, zones: usize },
}

impl fmt::Display for Unsafe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNodes => out.write_str(
                "insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
            ),
            Self::OneZone => out.write_str("nodes are ready in one zone only"),
            Self::EndpointWithoutZone => out.write_str("an endpoint has no zone"),
            Self::TooFewEndpoints { endpoints, zones } => write!(
                out,
                "{endpoints} endpoints are too few to give each of {zones} zones one"
            ),
            Self::TooUneven { endpoints, zones } => write!(
                out,
                "{endpoints} endpoints cannot be spread over {zones} zones without more than 20 % overload"
            ),
        }
    }
}

/// Each zone's share of the CPU of all nodes that are ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shares(BTreeMap<String, f64>);

impl Shares {
    /// Of these nodes.
    ///
    /// # Errors
    /// If they do not tell enough.
    pub(crate) fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Result<Self, Unsafe> {
        let mut zones: BTreeMap<String, f64> = BTreeMap::new();
        for node in nodes.into_iter().filter(|node| serves(node)) {
            let (zone, cpu) = zone(node).zip(cpu(node)).ok_or(Unsafe::UnknownNodes)?;
            *zones.entry(zone.to_owned()).or_default() += cpu;
        }
        if zones.len() < 2 {
            return Err(Unsafe::OneZone);
        }
        let total: f64 = zones.values().sum();
        zones.values_mut().for_each(|cpu| *cpu /= total);
        Ok(Self(zones))
    }
}

fn serves(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let is_control_plane = |key: &&str| labels.is_some_and(|labels| labels.contains_key(*key));
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !CONTROL_PLANES.iter().any(is_control_plane)
}

fn zone(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get(ZONE_LABEL).map(String::as_str)
}

/// Allocatable CPUs; `None` if there are none, or nobody says.
fn cpu(node: &Node) -> Option<f64> {
    let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
    let text = allocatable.get("cpu")?.0.trim();
    let (number, unit) = match text.chars().last()? {
        'n' => (&text[..text.len() - 1], 1e-9),
        'u' => (&text[..text.len() - 1], 1e-6),
        'm' => (&text[..text.len() - 1], 1e-3),
        'k' => (&text[..text.len() - 1], 1e3),
        _ => (text, 1.0),
    };
    let cpus = number.parse::<f64>().ok()? * unit;
    (cpus.is_finite() && cpus > 0.0).then_some(cpus)
}

/// What is told of a node here: another value may change every hint.
pub(crate) fn facts(node: &Node) -> (bool, Option<String>, Option<String>) {
    let cpu = cpu(node).map(|cpu| cpu.to_string());
    (serves(node), zone(node).map(str::to_owned), cpu)
}

/// How many endpoints a zone should have, and how many it must.
struct Allocation {
    desired: f64,
    minimum: usize,
    hints: Vec<usize>,
}

/// Gives every endpoint, all of them ready and of one family, a hint; or none of them.
///
/// # Errors
/// Why none.
pub(crate) fn give(endpoints: &mut [&mut Endpoint], shares: &Shares) -> Result<(), Unsafe> {
    let (count, zones) = (endpoints.len(), shares.0.len());
    if count < zones {
        return Err(Unsafe::TooFewEndpoints {
            endpoints: count,
            zones,
        });
    }
    if endpoints.iter().any(|endpoint| endpoint.zone.is_none()) {
        return Err(Unsafe::EndpointWithoutZone);
    }
    endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    let mut allocations: BTreeMap<&str, Allocation> = shares
        .0
        .iter()
        .map(|(zone, share)| (zone.as_str(), Allocation::of(*share, count)))
        .collect();
    let minimum: usize = allocations.values().map(|zone| zone.minimum).sum();
    if minimum > count {
        return Err(Unsafe::TooUneven {
            endpoints: count,
            zones,
        });
    }
    // Those whose zone has no node that serves are nobody's.
    let mut free = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let own = endpoint.zone.as_deref().unwrap_or_default();
        match allocations.get_mut(own) {
            Some(zone) => zone.hints.push(index),
            None => free.push(index),
        }
    }
    for index in free {
        let neediest = allocations
            .values_mut()
            .max_by(|a, b| a.lack().total_cmp(&b.lack()));
        neediest.into_iter().for_each(|zone| zone.hints.push(index));
    }
    while let Some(needy) = needy(&allocations) {
        // There is one, or the minimums would be more than all endpoints.
        let above = allocations
            .values_mut()
            .filter(|zone| zone.hints.len() > zone.minimum);
        let richest = above.min_by(|a, b| a.lack().total_cmp(&b.lack()));
        let given = richest.and_then(|zone| zone.hints.pop());
        let taken = allocations.get_mut(needy.as_str()).zip(given);
        taken
            .into_iter()
            .for_each(|(zone, index)| zone.hints.push(index));
    }
    for (zone, allocation) in allocations {
        for index in allocation.hints {
            let name = zone.to_owned();
            endpoints[index].hints = Some(EndpointHints {
                for_zones: Some(vec![ForZone { name }]),
                for_nodes: None,
            });
        }
    }
    Ok(())
}

/// The first zone that has less than it must.
fn needy(allocations: &BTreeMap<&str, Allocation>) -> Option<String> {
    let below = |(_, zone): &(&&str, &Allocation)| zone.hints.len() < zone.minimum;
    allocations
        .iter()
        .find(below)
        .map(|(name, _)| (*name).to_owned())
}

impl Allocation {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "counts of endpoints, all far below 2^52 and not negative"
    )]
    fn of(share: f64, endpoints: usize) -> Self {
        let desired = share * endpoints as f64;
        // Rounding must not ask for one more where the share is met exactly.
        let minimum = (desired / (1.0 + OVERLOAD) - 1e-9).ceil().max(0.0) as usize;
        Self {
            desired: desired.max(minimum as f64),
            minimum,
            hints: Vec::new(),
        }
    }

    /// How many it has less than it should; below zero if more.
    #[allow(clippy::cast_precision_loss, reason = "a count of endpoints")]
    fn lack(&self) -> f64 {
        self.desired - self.hints.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn node(zone: Option<&str>, cpu: Option<&str>, ready: &str) -> Node {
        let labels = zone.map(|zone| json!({ ZONE_LABEL: zone }));
        let object = json!({
            "metadata": { "labels": labels },
            "status": {
                "allocatable": cpu.map(|cpu| json!({ "cpu": cpu })),
                "conditions": [{ "type": "Ready", "status": ready }],
            },
        });
        serde_json::from_value(object).expect("a Node")
    }

    #[test]
    fn shares_are_those_of_ready_nodes_that_tell_enough() {
        let a = || node(Some("a"), Some("1"), "True");
        let shares = Shares::of(&[
            a(),
            node(Some("b"), Some("3000m"), "True"),
            node(None, None, "False"),
        ]);
        let expected = BTreeMap::from([("a".to_owned(), 0.25), ("b".to_owned(), 0.75)]);
        assert_eq!(shares, Ok(Shares(expected)));
        let rows = [
            (node(Some("a"), Some("4"), "True"), Unsafe::OneZone),
            (node(Some("b"), Some("4"), "False"), Unsafe::OneZone),
            (node(None, Some("4"), "True"), Unsafe::UnknownNodes),
            (node(Some("b"), None, "True"), Unsafe::UnknownNodes),
            (node(Some("b"), Some("0"), "True"), Unsafe::UnknownNodes),
        ];
        for (other, expected) in rows {
            assert_eq!(Shares::of(&[a(), other]), Err(expected));
        }
    }

    fn endpoints(zones: &[&str]) -> Vec<Endpoint> {
        let one = |(number, zone): (usize, &&str)| Endpoint {
            addresses: vec![format!("10.244.0.{number:03}")],
            zone: (!zone.is_empty()).then(|| (*zone).to_owned()),
            ..Endpoint::default()
        };
        zones.iter().enumerate().map(one).collect()
    }

    fn shares(zones: &[(&str, f64)]) -> Shares {
        let share = |(zone, share): &(&str, f64)| ((*zone).to_owned(), *share);
        Shares(zones.iter().map(share).collect())
    }

    /// The zones of the hints.
    fn given(zones: &[&str], of: &Shares) -> Result<String, Unsafe> {
        let mut all = endpoints(zones);
        let result = give(&mut all.iter_mut().collect::<Vec<_>>(), of);
        let hint = |endpoint: &Endpoint| {
            let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
            Some(zones[0].name.clone())
        };
        let hints: Vec<String> = all.iter().filter_map(hint).collect();
        assert!(result.is_ok() || hints.is_empty(), "all or none");
        result.map(|()| hints.join(""))
    }

    #[test]
    fn endpoints_keep_their_zone_as_far_as_no_zone_is_overloaded() {
        let even = shares(&[("a", 0.5), ("b", 0.5)]);
        let rows: [(&[&str], &Shares, Result<&str, Unsafe>); 7] = [
            (&["a", "b"], &even, Ok("ab")),
            // Two of five are 0.4 of the endpoints for half of the load: within 20 %... three are needed.
            (
                &["a", "a", "a", "b", "b"],
                &even,
                Err(Unsafe::TooUneven {
                    endpoints: 5,
                    zones: 2,
                }),
            ),
            (&["a", "a", "a", "a", "b", "b"], &even, Ok("aaabbb")),
            (&["a", "a", "a", "a"], &even, Ok("aabb")),
            (&["c", "a", "b", "c"], &even, Ok("aabb")),
            (
                &["a"],
                &even,
                Err(Unsafe::TooFewEndpoints {
                    endpoints: 1,
                    zones: 2,
                }),
            ),
            (&["a", ""], &even, Err(Unsafe::EndpointWithoutZone)),
        ];
        for (zones, shares, expected) in rows {
            let found = given(zones, shares).map(|text| {
                let mut letters: Vec<char> = text.chars().collect();
                letters.sort_unstable();
                letters.into_iter().collect::<String>()
            });
            assert_eq!(found, expected.map(str::to_owned), "{zones:?}");
        }
    }

    proptest! {
        #[test]
        fn every_zone_has_its_minimum_and_nobody_moves_without_need(
            zones in prop::collection::vec(0..4_usize, 1..60),
            cpus in prop::collection::vec(1..64_u32, 2..4),
        ) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let total: u32 = cpus.iter().sum();
            let parts = NAMES.iter().zip(&cpus);
            let parts: Vec<(&str, f64)> =
                parts.map(|(zone, cpu)| (*zone, f64::from(*cpu) / f64::from(total))).collect();
            let of = shares(&parts);
            let own: Vec<&str> = zones.iter().map(|zone| NAMES[*zone]).collect();
            let Ok(hints) = given(&own, &of) else { return Ok(()) };
            prop_assert_eq!(hints.len(), own.len());
            let allocations: Vec<Allocation> =
                parts.iter().map(|(_, share)| Allocation::of(*share, own.len())).collect();
            let count = |zone: &str| hints.matches(zone).count();
            for ((zone, _), allocation) in parts.iter().zip(&allocations) {
                prop_assert!(count(zone) >= allocation.minimum, "{zone} of {hints}");
            }
            // Where every zone has enough of its own, everybody stays.
            let enough = parts.iter().zip(&allocations).all(|((zone, _), allocation)| {
                own.iter().filter(|own| *own == zone).count() >= allocation.minimum
            });
            if enough && own.iter().all(|zone| parts.iter().any(|(name, _)| name == zone)) {
                prop_assert_eq!(&hints, &own.concat());
            }
            prop_assert_eq!(given(&own, &of), Ok(hints));
        }
    }
}
