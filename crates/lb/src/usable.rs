//! Where a Service's load-balancer traffic can be served: what `model` says about endpoints, asked for every node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::endpoints::{Presence, select};
use daymark_model::input::TrafficPolicy;
use daymark_model::{Family, Node, Service, Slice, audience};

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
    let node = Node::default();
    let has =
        |port| select(slices.iter().copied(), port, family, &node).anywhere == Presence::Present;
    if service.ports.iter().any(has) {
        Usable::Anywhere
    } else {
        Usable::Nowhere
    }
}

fn local(service: &Service, slices: &[&Arc<Slice>], family: Family) -> Usable {
    let read = slices
        .iter()
        .filter(|slice| audience::proxy_reads_slice(slice) && slice.family == family);
    let endpoints: Vec<_> = read.flat_map(|slice| &slice.endpoints).collect();
    let ready: BTreeSet<IpAddr> = endpoints
        .iter()
        .filter(|e| e.conditions.is_ready())
        .map(|e| e.address)
        .collect();
    let names: BTreeSet<&Arc<str>> = endpoints.iter().filter_map(|e| e.node.as_ref()).collect();
    let mut with_ready = BTreeSet::new();
    let mut with_any = BTreeSet::new();
    for name in names {
        let node = Node {
            name: Arc::clone(name),
            ..Node::default()
        };
        let lists = service
            .ports
            .iter()
            .map(|port| select(slices.iter().copied(), port, family, &node));
        let backends: Vec<IpAddr> = lists
            .flat_map(|lists| lists.local)
            .map(|backend| backend.address)
            .collect();
        if backends.iter().any(|address| ready.contains(address)) {
            with_ready.insert(Arc::clone(name));
        }
        if !backends.is_empty() {
            with_any.insert(Arc::clone(name));
        }
    }
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
