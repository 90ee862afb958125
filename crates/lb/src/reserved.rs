//! Addresses that no load balancer may have, whatever a pool says: those of Nodes, Pods and Services.
//!
//! Answering for a Node's address would cut that Node off; an address of a Pod or a cluster IP means something
//! else inside of the cluster than it would outside.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::{AddressRange, ClusterNode};
use daymark_model::Cidr;

/// What addresses are taken for other uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Ordered by first address.
    parts: Vec<(AddressRange, Holder)>,
}

/// Whose an address is already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A Node has it in `status.addresses`.
    Node {
        /// The Node's name.
        name: Arc<str>,
        /// The address.
        address: IpAddr,
    },
    /// It is in `spec.podCIDRs` of a Node.
    Pods {
        /// The Node's name.
        name: Arc<str>,
        /// The range.
        cidr: Cidr,
    },
    /// It is in a range of cluster IPs.
    Services(Cidr),
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name, address } => write!(out, "{address} is the address of Node {name}"),
            Self::Pods { name, cidr } => write!(out, "{cidr} is for the Pods of Node {name}"),
            Self::Services(cidr) => write!(out, "{cidr} is for cluster IPs (ServiceCIDR)"),
        }
    }
}

impl Reserved {
    /// What these nodes and the cluster IPs take.
    #[must_use]
    pub fn new<'a>(
        nodes: impl IntoIterator<Item = &'a Arc<ClusterNode>>,
        service_cidrs: &[Cidr],
    ) -> Self {
        let mut parts: Vec<(AddressRange, Holder)> = service_cidrs
            .iter()
            .map(|cidr| (range(*cidr), Holder::Services(*cidr)))
            .collect();
        for node in nodes {
            parts.extend(node.addresses.iter().map(|address| {
                let holder = Holder::Node {
                    name: Arc::clone(&node.name),
                    address: *address,
                };
                (range(Cidr::host(*address)), holder)
            }));
            parts.extend(node.pod_cidrs.iter().map(|cidr| {
                let holder = Holder::Pods {
                    name: Arc::clone(&node.name),
                    cidr: *cidr,
                };
                (range(*cidr), holder)
            }));
        }
        parts.sort_unstable();
        Self { parts }
    }

    /// Whose the address is already.
    #[must_use]
    pub fn holder(&self, address: IpAddr) -> Option<&Holder> {
        self.within(AddressRange {
            first: address,
            last: address,
        })
        .next()
        .map(|(_, holder)| holder)
    }

    /// What is taken of a range, ordered by first address; parts may overlap.
    pub fn within(&self, range: AddressRange) -> impl Iterator<Item = (AddressRange, &Holder)> {
        // Sorted, IPv4 first; a range has one family, and so has each part.
        self.parts
            .iter()
            .take_while(move |(part, _)| part.first <= range.last)
            .filter(move |(part, _)| part.last >= range.first)
            .map(move |(part, holder)| {
                let both = AddressRange {
                    first: part.first.max(range.first),
                    last: part.last.min(range.last),
                };
                (both, holder)
            })
    }
}

/// The ranges of cluster IPs of a cluster that was not told otherwise: 10.96.0.0/16 and fd00:10:96::/112.
#[must_use]
pub fn default_service_cidrs() -> Vec<Cidr> {
    ["10.96.0.0/16", "fd00:10:96::/112"]
        .into_iter()
        .filter_map(Cidr::parse)
        .collect()
}

fn range(cidr: Cidr) -> AddressRange {
    AddressRange {
        first: cidr.first(),
        last: cidr.last(),
    }
}

/// Whether two states of a Node reserve the same.
pub(crate) fn same(one: Option<&Arc<ClusterNode>>, other: Option<&Arc<ClusterNode>>) -> bool {
    let of = |node: Option<&Arc<ClusterNode>>| {
        node.map(|node| (node.addresses.clone(), node.pod_cidrs.clone()))
    };
    of(one) == of(other)
}

/// Nodes by name.
pub(crate) type Nodes = BTreeMap<Arc<str>, Arc<ClusterNode>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, node};

    #[test]
    fn what_is_reserved_names_its_holder() {
        let mut one = node("node-1");
        one.addresses = vec![ip("172.30.0.11"), ip("fd00:30::11")];
        one.pod_cidrs = vec![Cidr::parse("10.244.1.0/24").unwrap()];
        let reserved = Reserved::new([&Arc::new(one)], &default_service_cidrs());
        let check = |address: &str, expected: Option<&str>| {
            let found = reserved.holder(ip(address)).map(ToString::to_string);
            assert_eq!(found.as_deref(), expected, "{address}");
        };
        check(
            "172.30.0.11",
            Some("172.30.0.11 is the address of Node node-1"),
        );
        check(
            "fd00:30::11",
            Some("fd00:30::11 is the address of Node node-1"),
        );
        check(
            "10.244.1.9",
            Some("10.244.1.0/24 is for the Pods of Node node-1"),
        );
        check(
            "10.96.0.1",
            Some("10.96.0.0/16 is for cluster IPs (ServiceCIDR)"),
        );
        check(
            "fd00:10:96::a",
            Some("fd00:10:96::/112 is for cluster IPs (ServiceCIDR)"),
        );
        check("172.30.0.12", None);
        check("10.97.0.0", None);
        check("fd00:10:97::", None);
    }
}
