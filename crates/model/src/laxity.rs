//! What a node lets pass for a Service that daymark's own rules would not.
//!
//! A node that is started with a KubeProxyConfiguration has the rules of its `mode` ([`Rules::of_mode`]), some of which are laxer
//! than [`Rules::default`]. Of those, three let in, or through, what a Service's own fields seem to keep out:
//! 1. `ranges-of-one-family=open`: `loadBalancerSourceRanges` that name one family alone leave the other open;
//! 2. `unnamed-family=open`: a family that `nodePortAddresses` does not name serves node ports at every address;
//! 3. `without-local=cluster`: a traffic policy `Local` does not keep connections on the node.
//!
//! It is told by a Service's own fields and this node's settings, whatever its endpoints are: every node says the same. What the
//! other choices let pass (ports and addresses that nobody has, packets outside of the window) is no Service's: see
//! [`unowned`].

use std::fmt;

use crate::address::Family;
use crate::audience;
use crate::desire::{Here, Named, names_other_family_alone, places};
use crate::desired::Origin;
use crate::input::{Options, Service, TrafficPolicy};
use crate::node_ports::UnnamedFamily;
use crate::rules::{Gap, Rules, WithoutLocal};

/// One thing that passes, and that daymark's own rules would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Laxity {
    /// Everybody of this family reaches the load balancer's addresses, although the source ranges name others alone.
    OpenRanges(Family),
    /// Node ports answer in this family at every address, although `nodePortAddresses` names none of it.
    OpenNodePorts(Family),
    /// Connections to a cluster IP go to other nodes, although `internalTrafficPolicy` is `Local`.
    InternalLeavesNode,
    /// Connections to external addresses go to other nodes, although `externalTrafficPolicy` is `Local`.
    ExternalLeavesNode,
}

impl fmt::Display for Laxity {
    /// The field, what passes, and the remedy.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenRanges(family) => write!(
                out,
                "spec.loadBalancerSourceRanges names no {family} prefix, which leaves the load balancer's {family} addresses open \
                 to everybody: name one ({}, for nobody), or start the nodes with --choice ranges-of-one-family=closed",
                match family {
                    Family::V4 => "127.0.0.1/32",
                    Family::V6 => "::1/128",
                }
            ),
            Self::OpenNodePorts(family) => write!(
                out,
                "spec.ports[].nodePort is served at every {family} address of a node whose nodePortAddresses names none of that \
                 family: name one there, or start the nodes with --choice unnamed-family=closed"
            ),
            Self::InternalLeavesNode => leaves(out, "internalTrafficPolicy"),
            Self::ExternalLeavesNode => leaves(out, "externalTrafficPolicy"),
        }
    }
}

fn leaves(out: &mut fmt::Formatter<'_>, field: &str) -> fmt::Result {
    write!(
        out,
        "spec.{field} is Local, and a node without an endpoint of its own sends connections to other nodes': to have them dropped, \
         start the nodes with --choice without-local=drop"
    )
}

/// Whether these settings are laxer than daymark's own in anything that [`laxities`] tells.
#[must_use]
pub fn is_lax(options: &Options) -> bool {
    options.rules.unnamed_family == UnnamedFamily::Open
        || options.rules.ranges_of_one_family == Gap::Open
        || options.rules.without_local == WithoutLocal::Cluster
}

/// What the node `here` lets pass for a Service, sorted.
#[must_use]
pub fn laxities(service: &Service, here: &Here) -> Vec<Laxity> {
    let mut found = Vec::new();
    if audience::proxy(service).is_err() {
        return found;
    }
    for family in Family::BOTH {
        let open = open_ranges(service, family, here)
            && has(service, family, here, |o| o == Origin::LoadBalancerIp);
        found.extend(open.then_some(Laxity::OpenRanges(family)));
        let open =
            open_node_ports(family, here) && has(service, family, here, |o| o == Origin::NodePort);
        found.extend(open.then_some(Laxity::OpenNodePorts(family)));
    }
    let outer = |family| has(service, family, here, |origin| origin != Origin::ClusterIp);
    if here.options.rules.without_local == WithoutLocal::Cluster
        && Family::BOTH.into_iter().any(outer)
    {
        // A Service with nothing but cluster IPs is refused there: no laxer than a drop.
        let is_local = |policy| policy == TrafficPolicy::Local;
        found.extend(is_local(service.internal_policy).then_some(Laxity::InternalLeavesNode));
        found.extend(is_local(service.external_policy).then_some(Laxity::ExternalLeavesNode));
    }
    found.sort_unstable();
    found
}

fn open_ranges(service: &Service, family: Family, here: &Here) -> bool {
    here.options.rules.ranges_of_one_family == Gap::Open
        && names_other_family_alone(service, family)
}

fn open_node_ports(family: Family, here: &Here) -> bool {
    let Options {
        node_port_addresses,
        rules,
        ..
    } = &here.options;
    rules.unnamed_family == UnnamedFamily::Open
        && !node_port_addresses.name_family(family, &here.node.addresses)
}

/// Whether the Service is served at a place that such a field names.
fn has(service: &Service, family: Family, here: &Here, wanted: impl Fn(Origin) -> bool) -> bool {
    let rules = &here.options.rules;
    let mut all = service
        .ports
        .iter()
        .flat_map(|port| places(service, port, family, rules));
    all.any(|Named { origin, served, .. }| served.is_ok() && wanted(origin))
}

/// The choices, as [`Rules::set`] takes them, that let pass what belongs to no Service, and that daymark's own rules would not: ports
/// and addresses that no Service has, and packets of connections that are not known.
#[must_use]
pub fn unowned(rules: &Rules) -> Vec<(&'static str, String)> {
    let mut all = rules.words();
    all.retain(|(name, _)| ["unknown-ports", "unallocated", "invalid"].contains(name));
    all
}
