//! Which node answers for an address: decided by every agent alone, from the same facts.
//!
//! In order:
//! 1. the address is in a pool, and an L2Advertisement names that pool;
//! 2. a Service with the address has an endpoint that takes connections;
//! 3. candidates are the nodes whose announcer lives, whose network is available, and that can serve every
//!    such Service (`externalTrafficPolicy: Local`: they have an endpoint);
//! 4. of those, the nodes that are not labelled `node.kubernetes.io/exclude-from-external-load-balancers`, unless
//!    that leaves none (kubeadm labels the only node of a cluster so);
//! 5. of those, the nodes that are on the address's link, unless that leaves none;
//! 6. the one with the least SHA-256 of `NODE#ADDRESS`, as in MetalLB.
//!
//! Nothing is remembered: an address goes back to a node that comes back. A sticky owner would need a record
//! that all agents agree on; a hash needs none.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::{Balancing, ClusterNode, Network};
use daymark_model::Cidr;
use sha2::{Digest, Sha256};

use crate::usable::Usable;

/// Who answers for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node.
    Node(Arc<str>),
    /// Nobody, and why.
    Nobody(Nobody),
}

/// Why nobody answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// It is in no pool.
    NoPool,
    /// It is a Node's, a Pod's or a cluster IP.
    Reserved,
    /// Its pool is named by no L2Advertisement.
    NotAdvertised,
    /// No Service that has it has an endpoint that takes connections.
    NoEndpoint,
    /// No node with a living announcer can serve it.
    NoNode,
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => out.write_str(node),
            Self::Nobody(why) => write!(out, "nobody: {why}"),
        }
    }
}

impl fmt::Display for Nobody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoPool => "the address is in no IPAddressPool",
            Self::Reserved => "the address belongs to a Node, to Pods or to a ServiceCIDR",
            Self::NotAdvertised => "no L2Advertisement names its IPAddressPool",
            Self::NoEndpoint => "its Service has no ready endpoint",
            Self::NoNode => "no node with a living announcer can serve it",
        })
    }
}

/// The nodes whose announcers live, with the prefixes they are on the link of.
pub type Living = BTreeMap<Arc<str>, Vec<Cidr>>;

/// The node that answers for an address, given the facts of points 3 to 6.
#[must_use]
pub fn elect(
    address: IpAddr,
    living: &Living,
    nodes: &BTreeMap<Arc<str>, Arc<ClusterNode>>,
    usable: &[&Usable],
) -> Option<Arc<str>> {
    let can_serve = |name: &str| usable.iter().all(|usable| usable.on(name));
    let available = |name: &str| {
        nodes
            .get(name)
            .is_some_and(|node| node.network == Network::Available)
    };
    let candidates: Vec<_> = living
        .keys()
        .filter(|name| can_serve(name) && available(name))
        .collect();
    let candidates = prefer(candidates, |name| {
        nodes
            .get(name)
            .is_some_and(|n| n.balancing == Balancing::Included)
    });
    let candidates = prefer(candidates, |name| {
        living
            .get(name)
            .is_some_and(|prefixes| prefixes.iter().any(|prefix| prefix.contains(address)))
    });
    candidates
        .into_iter()
        .min_by_key(|name| rank(name, address))
        .cloned()
}

/// Those that fit, or all if none does.
fn prefer(all: Vec<&Arc<str>>, fits: impl Fn(&str) -> bool) -> Vec<&Arc<str>> {
    let fitting: Vec<_> = all.iter().copied().filter(|name| fits(name)).collect();
    if fitting.is_empty() { all } else { fitting }
}

/// metallb `speaker/layer2_controller.go`: the node that sorts first wins.
fn rank(node: &str, address: IpAddr) -> [u8; 32] {
    Sha256::digest(format!("{node}#{address}")).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{ip, node};

    fn living(names: &[(&str, &str)]) -> Living {
        let prefixes = |text: &str| {
            text.split_whitespace()
                .map(|text| Cidr::parse(text).unwrap())
                .collect()
        };
        names
            .iter()
            .map(|(name, text)| (Arc::from(*name), prefixes(text)))
            .collect()
    }

    fn nodes(names: &[&str]) -> BTreeMap<Arc<str>, Arc<ClusterNode>> {
        names
            .iter()
            .map(|name| (Arc::from(*name), Arc::new(node(name))))
            .collect()
    }

    const LINK: &str = "172.30.0.0/24";
    const ALL: [(&str, &str); 3] = [("node-1", LINK), ("node-2", LINK), ("node-3", LINK)];

    fn on(names: &[&str]) -> Usable {
        Usable::On(
            names
                .iter()
                .map(|name| Arc::from(*name))
                .collect::<BTreeSet<_>>(),
        )
    }

    #[test]
    fn the_least_hash_of_node_and_address_wins() {
        // printf 'node-3#172.30.0.200' | sha256sum: 0b82...; node-1: aee1..., node-2: e248...
        let nodes = nodes(&["node-1", "node-2", "node-3"]);
        let winner = elect(
            ip("172.30.0.200"),
            &living(&ALL),
            &nodes,
            &[&Usable::Anywhere],
        );
        assert_eq!(winner.as_deref(), Some("node-3"));
        let winner = elect(
            ip("172.30.0.200"),
            &living(&ALL[..2]),
            &nodes,
            &[&Usable::Anywhere],
        );
        assert_eq!(winner.as_deref(), Some("node-1"));
    }

    #[test]
    fn only_candidates_are_elected() {
        let address = ip("172.30.0.200");
        let mut known = nodes(&["node-1", "node-2", "node-3"]);
        let check = |names: &[(&str, &str)],
                     known: &BTreeMap<_, _>,
                     usable: &[&Usable],
                     expected: Option<&str>| {
            let found = elect(address, &living(names), known, usable);
            assert_eq!(found.as_deref(), expected);
        };
        check(&ALL[1..2], &known, &[&Usable::Anywhere], Some("node-2"));
        check(&[], &known, &[&Usable::Anywhere], None);
        check(&ALL, &known, &[&on(&["node-3"])], Some("node-3"));
        check(&ALL, &known, &[&on(&["node-3"]), &on(&["node-1"])], None);
        check(&ALL, &known, &[&Usable::Nowhere], None);
        check(&[("stranger", LINK)], &known, &[&Usable::Anywhere], None);
        // Off the link: only if nobody is on it.
        check(
            &[("node-1", ""), ("node-2", "10.0.0.0/8"), ("node-3", LINK)],
            &known,
            &[&Usable::Anywhere],
            Some("node-3"),
        );
        check(
            &[("node-1", "")],
            &known,
            &[&Usable::Anywhere],
            Some("node-1"),
        );
        // Excluded by label: only if all are.
        for name in ["node-1", "node-3"] {
            let excluded = ClusterNode {
                balancing: Balancing::Excluded,
                ..node(name)
            };
            known.insert(name.into(), Arc::new(excluded));
        }
        check(&ALL, &known, &[&Usable::Anywhere], Some("node-2"));
        check(&ALL[..1], &known, &[&Usable::Anywhere], Some("node-1"));
        // Without network: never.
        known.insert(
            "node-2".into(),
            Arc::new(ClusterNode {
                network: Network::Unavailable,
                ..node("node-2")
            }),
        );
        check(&ALL[1..2], &known, &[&Usable::Anywhere], None);
    }

    #[test]
    fn addresses_spread_over_the_nodes() {
        let nodes = nodes(&["node-1", "node-2", "node-3"]);
        let mut count: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for last in 0..=255 {
            let address = IpAddr::from([172, 30, 0, last]);
            let winner = elect(address, &living(&ALL), &nodes, &[&Usable::Anywhere]).unwrap();
            *count.entry(winner).or_default() += 1;
        }
        assert!(
            count.values().all(|count| (60..=110).contains(count)),
            "{count:?}"
        );
    }
}
