//! Which endpoints a port may use: what the text of a case cannot say.

use std::sync::Arc;

use daymark_model::endpoints::{Lists, Presence, select};
use daymark_model::input::{Conditions, Hints, ServicePort, SliceAudience, SlicePort};
use daymark_model::{Endpoint, Family, Node, Protocol, Slice, SliceKey};

fn select_one(endpoint: Endpoint, node: &Node) -> Lists {
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: None,
    };
    let other = Endpoint {
        address: "10.244.1.9".parse().expect("an address"),
        ..endpoint.clone()
    };
    let other = Endpoint {
        hints: Some(Box::new(Hints {
            zones: vec!["zone-x".into()],
            nodes: vec!["node-x".into()],
        })),
        ..other
    };
    let slice = Slice {
        key: SliceKey {
            namespace: "default".into(),
            name: "web-1".into(),
        },
        service: "web".into(),
        family: Family::V4,
        audience: SliceAudience::Everyone,
        ports: vec![SlicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: vec![endpoint, other],
    };
    select([&Arc::new(slice)], &port, Family::V4, node)
}

fn hinted(zones: &[&str], nodes: &[&str]) -> Endpoint {
    Endpoint {
        address: "10.244.1.5".parse().expect("an address"),
        conditions: Conditions::default(),
        node: None,
        hints: Some(Box::new(Hints {
            zones: zones.iter().map(|zone| (*zone).into()).collect(),
            nodes: nodes.iter().map(|node| (*node).into()).collect(),
        })),
        hostname: None,
    }
}

#[test]
fn an_empty_name_is_no_place() {
    let nowhere = Node::default();
    let lists = select_one(hinted(&[""], &[""]), &nowhere);
    assert_eq!(
        lists.cluster.len(),
        2,
        "a node without a name or zone is hinted by nobody"
    );
}

#[test]
fn hints_name_a_place() {
    let node = Node {
        name: "node-1".into(),
        zone: "zone-a".into(),
        ..Node::default()
    };
    assert_eq!(
        select_one(hinted(&["zone-a"], &["node-2"]), &node)
            .cluster
            .len(),
        1
    );
    assert_eq!(
        select_one(hinted(&["zone-b"], &["node-1"]), &node)
            .cluster
            .len(),
        1
    );
    assert_eq!(
        select_one(hinted(&["zone-b"], &["node-2"]), &node)
            .cluster
            .len(),
        2
    );
}

#[test]
fn nothing_from_nothing() {
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: None,
    };
    let lists = select([], &port, Family::V4, &Node::default());
    assert_eq!(lists, Lists::default());
    assert_eq!(lists.anywhere, Presence::Absent);
}
