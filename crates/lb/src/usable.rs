//! Where a Service's load-balancer traffic can be served: what `model` says about endpoints, asked for every node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::endpoints::{self, Presence};
use daymark_model::input::TrafficPolicy;
use daymark_model::{Family, Service, Slice, audience};

/// The nodes that can serve one family of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// None: no port has an endpoint that takes connections. Nobody announces the address, so that clients
    /// learn at once that nothing is there.
    Nowhere,
    /// All: `externalTrafficPolicy: Cluster`.
    Anywhere,
    /// These alone: `externalTrafficPolicy: Local`, and they have an endpoint.
    On(BTreeSet<Arc<str>>),
}

impl Usable {
    /// Whether a node can serve it.
    #[must_use]
    pub fn on(&self, node: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Anywhere => true,
            Self::On(nodes) => nodes.contains(node),
        }
    }
}

/// The nodes that can serve the Service in this family.
///
/// With `externalTrafficPolicy: Local`: those with a ready endpoint of any port. If there is none in the whole
/// cluster, those where one still serves while it terminates (KEP-1669).
#[must_use]
pub fn usable(service: &Service, slices: &[&Arc<Slice>], family: Family) -> Usable {
    match service.external_policy {
        TrafficPolicy::Cluster => anywhere(service, slices, family),
        TrafficPolicy::Local => local(service, slices, family),
    }
}

fn anywhere(service: &Service, slices: &[&Arc<Slice>], family: Family) -> Usable {
    let ports = &service.ports;
    if endpoints::anywhere(slices.iter().copied(), ports, family) == Presence::Present {
        Usable::Anywhere
    } else {
        Usable::Nowhere
    }
}

fn local(service: &Service, slices: &[&Arc<Slice>], family: Family) -> Usable {
    let read = slices
        .iter()
        .filter(|slice| audience::proxy_reads_slice(slice) && slice.family == family);
    let ready: BTreeSet<IpAddr> = read
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.conditions.is_ready())
        .map(|endpoint| endpoint.address)
        .collect();
    let local = endpoints::local_by_node(slices.iter().copied(), &service.ports, family);
    let is_ready = |addresses: &BTreeSet<IpAddr>| addresses.iter().any(|one| ready.contains(one));
    let with_ready: BTreeSet<Arc<str>> = local
        .iter()
        .filter(|(_, addresses)| is_ready(addresses))
        .map(|(node, _)| Arc::clone(node))
        .collect();
    let with_any = local.into_keys().collect();
    let nodes = if with_ready.is_empty() {
        with_any
    } else {
        with_ready
    };
    if nodes.is_empty() {
        Usable::Nowhere
    } else {
        Usable::On(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{service, slice};

    #[test]
    fn nodes_that_can_serve_are_found() {
        let check = |policy, endpoints: &[(&str, &str, &str)], expected: &str| {
            let mut service = service("web", &[]);
            service.external_policy = policy;
            let slice = Arc::new(slice("web", endpoints));
            let found = match usable(&service, &[&slice], Family::V4) {
                Usable::Nowhere => "nowhere".to_owned(),
                Usable::Anywhere => "anywhere".to_owned(),
                Usable::On(nodes) => nodes
                    .iter()
                    .map(|node| &**node)
                    .collect::<Vec<_>>()
                    .join(" "),
            };
            assert_eq!(found, expected, "{endpoints:?}");
        };
        let (cluster, local) = (TrafficPolicy::Cluster, TrafficPolicy::Local);
        check(cluster, &[("10.0.0.1", "a", "ready")], "anywhere");
        check(cluster, &[("10.0.0.1", "a", "serving")], "anywhere");
        check(cluster, &[("10.0.0.1", "a", "unready")], "nowhere");
        check(cluster, &[], "nowhere");
        check(cluster, &[("fd00::1", "a", "ready")], "nowhere");
        check(
            local,
            &[("10.0.0.1", "a", "ready"), ("10.0.0.2", "b", "unready")],
            "a",
        );
        check(
            local,
            &[("10.0.0.1", "a", "ready"), ("10.0.0.2", "b", "serving")],
            "a",
        );
        check(
            local,
            &[("10.0.0.1", "a", "serving"), ("10.0.0.2", "b", "unready")],
            "a",
        );
        check(
            local,
            &[("10.0.0.1", "a", "ready"), ("10.0.0.2", "b", "ready")],
            "a b",
        );
        check(local, &[("10.0.0.1", "a", "unready")], "nowhere");
    }
}
