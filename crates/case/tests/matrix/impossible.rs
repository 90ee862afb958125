//! Cells that no packet can meet, each with the reason.

use daymark_model::desired::Origin;

use crate::cell::{Cell, Source};
use crate::rule::Rule;

/// Why no packet can meet a cell; `None` if one can.
pub(crate) fn reason(cell: &Cell) -> Option<&'static str> {
    let inside = cell.source != Source::Outside;
    let outer = cell.kind != Origin::ClusterIp;
    match cell.rule {
        Rule::Here | Rule::NoLocalEndpoint | Rule::Elsewhere | Rule::LastResortHere
            if outer && inside =>
        {
            Some(SHORT)
        }
        Rule::ShortCircuit if !outer => Some(INTERNAL),
        Rule::ShortCircuit if !inside => Some(OUTSIDE_SHORT),
        Rule::Admitted | Rule::NotAdmitted if cell.kind != Origin::LoadBalancerIp => Some(RANGES),
        Rule::UnknownPort if cell.kind == Origin::NodePort => Some(NUMBER),
        Rule::Unallocated if outer => Some(NETWORK),
        Rule::Unallocated if cell.source == Source::Itself => Some(NOBODY),
        Rule::NoDetector if matches!(cell.source, Source::Pod | Source::Itself) => Some(UNTOLD),
        Rule::Kept if cell.source == Source::Node && outer => Some(NODE_LOSES),
        _ => None,
    }
}

/// Every reason, in the order of the notes.
pub(crate) const REASONS: [&str; 9] = [
    SHORT,
    INTERNAL,
    OUTSIDE_SHORT,
    RANGES,
    NUMBER,
    NETWORK,
    NOBODY,
    UNTOLD,
    NODE_LOSES,
];

const SHORT: &str =
    "clients inside take the short circuit at external addresses, whatever the policy";
const INTERNAL: &str = "a cluster IP follows internalTrafficPolicy, which has no short circuit";
const OUTSIDE_SHORT: &str = "the short circuit is for clients inside";
const RANGES: &str = "loadBalancerSourceRanges bind load-balancer IPs alone";
const NUMBER: &str = "a node port is a number: one that no Service has is no node port";
const NETWORK: &str = "ServiceCIDRs hold cluster IPs alone";
const NOBODY: &str = "an address that no Service has, has no endpoints";
const UNTOLD: &str = "a Pod that cannot be told from others counts as outside";
const NODE_LOSES: &str = "external addresses take the node's own source under both policies";
