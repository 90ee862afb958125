//! What is taken, rebuilt from the Services: for a store that was filled by an import, and as a check at start.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::address::{self, IP_ADDRESSES, ip_address};
use super::port::{self, NODE_PORTS, node_port};
use super::{Addresses, Owner, Ports};
use crate::registry::validate::ip::parse_sloppy;
use crate::registry::validate::read::{int, list, text, texts};
use crate::registry::{Effects, View};

/// Where Services are stored.
pub const SERVICES: &str = "services";

/// The operations that make IPAddresses and node ports agree with the Services: missing ones are added, those of
/// Services that do not hold them are removed. Nothing to do in a store that only this server has written.
/// Where two Services claim one number, the first in key order keeps it and the others are told in the warnings.
pub fn reconcile(view: &dyn View) -> Effects {
    let mut effects = Effects::default();
    let mut ips: BTreeMap<String, Owner<'_>> = BTreeMap::new();
    let mut ports: BTreeMap<u16, Owner<'_>> = BTreeMap::new();
    for service in view.list(SERVICES, None) {
        let owner = owner_of(service);
        for ip in cluster_ips(service).filter_map(parse_sloppy) {
            claim(&mut ips, ip.to_string(), owner, &mut effects);
        }
        for port in node_ports(service) {
            claim(&mut ports, port, owner, &mut effects);
        }
    }
    for (name, owner) in &ips {
        let stored = view.get(IP_ADDRESSES, "", name);
        if let (false, Ok(ip)) = (
            stored.is_some_and(|object| address::belongs_to(object, *owner)),
            name.parse(),
        ) {
            effects.put(IP_ADDRESSES, ip_address(ip, *owner));
        }
    }
    for object in view.list(IP_ADDRESSES, None) {
        let name = text(&object["metadata"], "name");
        if text(&object["spec"]["parentRef"], "resource") == "services" && !ips.contains_key(name) {
            effects.delete(IP_ADDRESSES, "", name);
        }
    }
    for (number, owner) in &ports {
        let stored = view.get(NODE_PORTS, "", &number.to_string());
        if !stored.is_some_and(|object| port::belongs_to(object, *owner)) {
            effects.put(NODE_PORTS, node_port(*number, *owner));
        }
    }
    for object in view.list(NODE_PORTS, None) {
        let name = text(&object["metadata"], "name");
        if !name
            .parse()
            .is_ok_and(|number: u16| ports.contains_key(&number))
        {
            effects.delete(NODE_PORTS, "", name);
        }
    }
    effects
}

fn claim<'a, K: Ord + ToString>(
    taken: &mut BTreeMap<K, Owner<'a>>,
    key: K,
    owner: Owner<'a>,
    effects: &mut Effects,
) {
    let shown = key.to_string();
    let first = *taken.entry(key).or_insert(owner);
    if first != owner {
        effects.warn(format!(
            "{shown} is held by Service {}/{} and claimed by Service {}/{}: change one of them",
            first.namespace, first.name, owner.namespace, owner.name
        ));
    }
}

/// Gives back everything that a Service holds.
pub fn release_all(view: &dyn View, service: &Value, effects: &mut Effects) {
    let owner = owner_of(service);
    for ip in cluster_ips(service) {
        Addresses::release(view, owner, ip, effects);
    }
    let mut ports = Ports::new(view, port::DEFAULT_RANGE);
    for number in node_ports(service) {
        ports.release(number.into());
    }
    ports.commit(owner, effects);
}

/// The namespace and name of a Service.
pub fn owner_of(service: &Value) -> Owner<'_> {
    let meta = &service["metadata"];
    Owner {
        namespace: text(meta, "namespace"),
        name: text(meta, "name"),
    }
}

fn cluster_ips(service: &Value) -> impl Iterator<Item = &str> {
    let spec = &service["spec"];
    let held = text(spec, "type") != "ExternalName";
    texts(spec, "clusterIPs")
        .into_iter()
        .filter(move |ip| held && *ip != "None")
}

fn node_ports(service: &Value) -> BTreeSet<u16> {
    let spec = &service["spec"];
    let numbers = list(spec, "ports")
        .iter()
        .map(|port| int(port, "nodePort"))
        .chain([int(spec, "healthCheckNodePort")]);
    numbers
        .filter(|number| *number != 0)
        .filter_map(|number| u16::try_from(number).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::alloc::testing::Memory;

    fn service(name: &str, ip: &str, port: u16) -> Value {
        json!({
            "metadata": { "namespace": "ns", "name": name },
            "spec": { "type": "NodePort", "clusterIPs": [ip], "ports": [{ "port": 80, "nodePort": port }] },
        })
    }

    #[test]
    fn an_imported_store_learns_what_is_taken() {
        let mut memory = Memory::with_cidrs(&["10.96.0.0/16"]);
        memory.put(SERVICES, service("a", "10.96.0.7", 30007));
        let gone = Owner {
            namespace: "ns",
            name: "gone",
        };
        memory.put(NODE_PORTS, node_port(31000, gone));
        memory.put(
            IP_ADDRESSES,
            ip_address("10.96.0.8".parse().expect("an address"), gone),
        );
        memory.apply(reconcile(&memory));
        for (kind, name, there) in [
            (NODE_PORTS, "30007", true),
            (NODE_PORTS, "31000", false),
            (IP_ADDRESSES, "10.96.0.7", true),
            (IP_ADDRESSES, "10.96.0.8", false),
        ] {
            assert_eq!(memory.get(kind, "", name).is_some(), there, "{kind} {name}");
        }
        assert_eq!(
            reconcile(&memory).operations,
            [],
            "the second time nothing is left to do"
        );
    }

    #[test]
    fn a_number_claimed_twice_is_told() {
        let mut memory = Memory::default();
        memory.put(SERVICES, service("a", "10.96.0.7", 30007));
        memory.put(SERVICES, service("b", "10.96.0.8", 30007));
        let effects = reconcile(&memory);
        assert_eq!(
            effects.warnings,
            ["30007 is held by Service ns/a and claimed by Service ns/b: change one of them"]
        );
    }
}
