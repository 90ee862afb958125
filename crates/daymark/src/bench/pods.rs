//! A lab of one node with some Pods.

use std::net::{IpAddr, Ipv4Addr};

use daymark_lab::bare::{Node, Place, Pod, Spec};
use daymark_lab::net::PodAddresses;

/// The node.
pub(super) const NODE: &str = "node-1";
/// Its address.
pub(super) const NODE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 0, 11));

/// The node, and Pods with these numbers at the end of their addresses.
pub(super) fn spec(pods: &[u8]) -> Spec {
    let pods = pods.iter().map(|last| Pod {
        name: address(*last).to_string(),
        addresses: PodAddresses {
            v4: Some(address(*last)),
            v6: None,
        },
        link: None,
    });
    Spec {
        nodes: vec![Node {
            name: NODE.to_owned(),
            addresses: vec![NODE_ADDRESS],
            pods: pods.collect(),
        }],
        outside: Vec::new(),
        ports: Vec::new(),
    }
}

/// The address of a Pod.
pub(super) fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, last)
}

/// Where it is.
pub(super) fn pod(last: u8) -> Place {
    Place::Pod(address(last).to_string())
}
