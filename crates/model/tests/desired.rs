//! What the kernel should do, as a value: its differences, its conflicts, its names.

use std::collections::BTreeSet;
use std::sync::Arc;

use daymark_case::Case;
use daymark_case::random::{self, Size};
use daymark_model::desire::{Wishes, desire};
use daymark_model::desired::{OwnPods, Sources};
use daymark_model::{Change, Delta, Desired, Family, Protocol, Slice, World};
use proptest::prelude::*;

fn world(text: &str) -> World {
    let case = Case::parse("here", text).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    for step in &case.steps {
        world.apply(step.changes.iter().cloned());
    }
    world
}

#[test]
fn the_losers_of_a_conflict_are_named_with_the_holder() {
    let world = world(
        "node node-1 172.30.0.11\n\
         service alpha LoadBalancer 80/TCP@30080 cluster=10.96.0.20 lb=172.30.0.200 created=3000\n\
         service beta LoadBalancer http:80/TCP@30080 cluster=10.96.0.21 lb=172.30.0.200 created=1000\n\
         service gamma LoadBalancer 80/TCP cluster=10.96.0.22 lb=172.30.0.200 created=2000\n",
    );
    let refusals = world.refusals();
    let shown: Vec<String> = refusals
        .iter()
        .map(|refusal| {
            let refusal = refusal.clone();
            format!(
                "{} at {}: {} {}",
                refusal.port, refusal.at, refusal.held_by, refusal.why
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "default/gamma/TCP at 172.30.0.200:80/TCP: default/beta:http/TCP is older",
            "default/alpha/TCP at 172.30.0.200:80/TCP: default/beta:http/TCP is older",
            "default/alpha/TCP at node-port 30080/TCP (IPv4): default/beta:http/TCP is older",
        ]
    );
}

#[test]
fn a_place_goes_by_field_then_by_age_then_by_name() {
    let world = world(
        "service one ClusterIP 80/TCP cluster=10.96.0.20 external=172.30.0.200,172.30.0.201 created=1\n\
         service two LoadBalancer 80/TCP cluster=10.96.0.21 lb=172.30.0.200 external=172.30.0.200 created=2\n\
         service three ClusterIP 80/TCP cluster=172.30.0.201 external=172.30.0.200 created=3\n\
         service four LoadBalancer 80/TCP cluster=10.96.0.23 lb=172.30.0.200 created=2\n\
         service five LoadBalancer 80/TCP cluster=10.96.0.24 lb=172.30.0.200 created=3\n",
    );
    let shown: Vec<String> = (world.refusals().iter())
        .map(|refusal| {
            format!(
                "{} at {}: {} {}",
                refusal.port, refusal.at, refusal.held_by, refusal.why
            )
        })
        .collect();
    let lost = |who: &str, why: &str| {
        format!("default/{who}/TCP at 172.30.0.200:80/TCP: default/four/TCP {why}")
    };
    let field = "names it in status.loadBalancer.ingress, which goes before spec.externalIPs";
    assert_eq!(
        shown,
        [
            lost("two", "is as old, and its name comes first"),
            lost("five", "is older"),
            lost("one", field),
            lost("three", field),
            "default/one/TCP at 172.30.0.201:80/TCP: default/three/TCP names it in spec.clusterIPs, \
             which goes before spec.externalIPs"
                .to_owned(),
        ]
    );
}

#[test]
fn frontends_are_named_as_people_write_them() {
    let world = world("service web NodePort 80/TCP@30080 cluster=10.96.0.20,fd00:10:96::20\n");
    let names: Vec<String> = world
        .desired()
        .frontends
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        [
            "10.96.0.20:80/TCP",
            "[fd00:10:96::20]:80/TCP",
            "node-port 30080/TCP (IPv4)",
            "node-port 30080/TCP (IPv6)",
        ]
    );
    let parts = world.desired().frontends.keys();
    let parts: Vec<_> = parts
        .map(|key| (key.family(), key.protocol_port()))
        .collect();
    assert_eq!(
        parts,
        [
            (Family::V4, (Protocol::Tcp, 80)),
            (Family::V6, (Protocol::Tcp, 80)),
            (Family::V4, (Protocol::Tcp, 30080)),
            (Family::V6, (Protocol::Tcp, 30080)),
        ]
    );
}

#[test]
fn a_pool_exists_only_while_something_forwards_to_it() {
    let pools = |service: &str| {
        let world = world(&format!(
            "node node-1 172.30.0.11\n{service}\nendpoint 10.244.1.5 ready on node-1\n\
             endpoint 10.244.2.5 ready on node-2\n"
        ));
        let pools = world.desired().pools_in_order().into_iter();
        let sizes = pools.map(|(key, pool)| (format!("{:?}", key.list), pool.backends.len()));
        sizes.collect::<Vec<_>>()
    };
    let cluster = || ("Cluster".to_owned(), 2);
    let local = || ("Local".to_owned(), 1);
    assert_eq!(
        pools("service web ClusterIP 80/TCP cluster=10.96.0.20"),
        [cluster()]
    );
    assert_eq!(
        pools("service web ClusterIP 80/TCP cluster=10.96.0.20 internal-policy=Local"),
        [local()]
    );
    assert_eq!(
        pools("service web NodePort 80/TCP@30080 cluster=10.96.0.20 external-policy=Local"),
        [cluster(), local()]
    );
    assert_eq!(pools("service web ExternalName=example.com 80/TCP"), []);
}

#[test]
fn a_world_shows_the_slices_of_a_service() {
    let world = world(
        "service web ClusterIP 80/TCP cluster=10.96.0.20\n\
         slice one of web IPv4 80/TCP\nslice two of web IPv4 80/TCP\nslice three of other IPv4 80/TCP\n\
         step one slice goes\nremove slice one\n",
    );
    let service = world
        .inputs()
        .services
        .keys()
        .next()
        .expect("there is one")
        .clone();
    let names: Vec<String> = world
        .slices_of(&service)
        .map(|slice| slice.key.name.to_string())
        .collect();
    assert_eq!(names, ["two"]);
}

#[test]
fn the_nodes_own_addresses_are_those_of_its_interfaces_and_of_its_node_object() {
    let mut world =
        world("node node-1 172.30.0.11 pods=10.244.1.0/24\nmachine 172.30.0.11 172.30.0.14\n");
    let ip = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
    let both = [ip("172.30.0.11"), ip("172.30.0.14")];
    assert_eq!(world.desired().own_addresses, both.into());
    let delta = world.apply([Change::MachineAddresses([].into())]);
    assert_eq!(delta.own_addresses, [(both[1], false)].into());
    let mut carried = Desired::default();
    for step in Delta::from_nothing(world.desired(), 1) {
        step.apply_to(&mut carried);
    }
    assert_eq!(carried.own_addresses, [both[0]].into());
}

#[test]
fn a_node_change_is_told_by_its_own_fields() {
    let mut world = world("service web NodePort 80/TCP@30080 cluster=10.96.0.20\n");
    let case = Case::parse("here", "node node-1 172.30.0.11 pods=10.244.1.0/24\n").expect("a case");
    let delta = world.apply(case.steps[0].changes.iter().cloned());
    assert_eq!(
        delta.own_pods.as_ref().map(|own| own.prefixes.len()),
        Some(1)
    );
    assert_eq!(delta.node_port_addresses.len(), 1);
    assert_eq!(delta.own_addresses, delta.node_port_addresses);
    assert!(!delta.is_empty());
    assert!(delta.frontends.is_empty());
    let gone = world.apply([Change::Node(None)]);
    assert_eq!(gone.own_pods, Some(OwnPods::default()));
    assert_eq!(
        gone.node_port_addresses
            .values()
            .copied()
            .collect::<Vec<_>>(),
        [false]
    );
}

/// The state that a random case ends in.
fn ends_in(seed: u64) -> Desired {
    let case = random::case(
        seed,
        Size {
            packets: 0,
            ..Size::default()
        },
    );
    let mut world = World::new(case.options);
    for step in case.steps {
        world.apply(step.changes);
    }
    world.desired().clone()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_step_between_two_states_leads_from_one_to_the_other(one in any::<u64>(), other in any::<u64>()) {
        let (old, new) = (ends_in(one), ends_in(other));
        let delta = Delta::between(&old, &new);
        let mut followed = old.clone();
        delta.apply_to(&mut followed);
        prop_assert_eq!(&followed, &new);
        prop_assert!(Delta::between(&new, &new).is_empty());
        prop_assert_eq!(delta.is_empty(), old == new);
        delta.apply_to(&mut followed);
        prop_assert_eq!(&followed, &new, "twice is once");
    }
}

#[test]
fn the_steps_from_nothing_are_whole_and_refer_to_nothing_later() {
    for seed in 600..640 {
        let case = random::case(seed, Size::default());
        let mut world = World::new(case.options.clone());
        for step in &case.steps {
            world.apply(step.changes.iter().cloned());
        }
        for size in [0, 1, 4, 10_000] {
            let mut built = Desired::default();
            let mut steps = 0;
            for delta in Delta::from_nothing(world.desired(), size) {
                delta.apply_to(&mut built);
                steps += 1;
                for (at, frontend) in &built.frontends {
                    let ports = built.frontends.values().filter(|f| f.port == frontend.port);
                    let all = world.desired().frontends.values();
                    let all = all.filter(|f| f.port == frontend.port);
                    assert_eq!(ports.count(), all.count(), "{at} came without its port");
                }
                for (key, pool) in &world.desired().pools {
                    let mut ports = built.frontends.values().map(|frontend| &frontend.port);
                    let wanted = ports.any(|port| *port == key.port);
                    assert!(!wanted || built.pools.get(key) == Some(pool), "{key:?}");
                }
            }
            assert_eq!(&built, world.desired(), "seed {seed}, size {size}");
            assert!(steps >= 1 && (size < 10_000 || steps == 1));
            if size <= 1 {
                let frontends = world.desired().frontends.values();
                let ports: BTreeSet<_> = frontends.map(|frontend| &frontend.port).collect();
                assert_eq!(steps, ports.len().max(1), "a step for each Service port");
            }
        }
    }
}

#[test]
fn the_tcp_ports_of_endpoints_are_known_where_invalid_packets_are_dropped() {
    let ports = |options: &str| {
        let world = world(&format!(
            "{options}service web ClusterIP http:80->8080/TCP dns:53->5353/UDP sig:90->9090/SCTP cluster=10.96.0.20\n\
             endpoint 10.244.1.5 ready on node-1\nendpoint 10.244.1.6 ready on node-1\n\
             service other ClusterIP 81->8081/TCP cluster=10.96.0.21\nendpoint 10.244.1.5 ready on node-1\n\
             service away ClusterIP 82->8082/TCP cluster=10.96.0.22\nendpoint 10.244.1.5 not-ready on node-1\n"
        ));
        let ports = world.desired().endpoint_ports.iter().copied();
        ports.collect::<Vec<u16>>()
    };
    assert_eq!(ports(""), [8080, 8081]);
    assert_eq!(ports("options invalid=let-through\n"), []);
}

/// What one Service of a case asks for.
fn wishes(text: &str) -> Wishes {
    let case = Case::parse("here", text).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    let (key, service) = world.inputs().services.iter().next().expect("a Service");
    let slices: Vec<_> = world.slices_of(key).collect();
    desire(service, &slices, world.here())
}

#[test]
fn a_service_that_asks_for_one_thing_alone_is_not_forgotten() {
    for text in [
        "service web ClusterIP 80/TCP\n",
        "service web ClusterIP 80/TCP cluster=None\n",
        "service web ExternalName=example.com 80/TCP\n",
        "options unknown-ports=let-through\nmachine 10.96.0.20\nservice web ClusterIP cluster=10.96.0.20\n",
    ] {
        assert!(wishes(text).is_empty(), "{text}");
        assert_eq!(wishes(text), Wishes::default(), "{text}");
    }
    for text in [
        "service web ClusterIP cluster=10.96.0.20\n",
        "machine 10.96.0.20\nservice web ClusterIP 80/TCP cluster=10.96.0.20\n",
        "machine 10.96.0.20\nservice web ClusterIP cluster=10.96.0.20 external=172.30.0.200\n",
        "machine 10.96.0.20\nservice web LoadBalancer cluster=10.96.0.20 external-policy=Local health=31000\n",
        "options unknown-ports=let-through\nservice web ClusterIP cluster=10.96.0.20\n",
        "service web ClusterIP 80/TCP cluster=10.96.0.20 proxy-name=mesh\n",
    ] {
        assert!(!wishes(text).is_empty(), "{text}");
    }
}

#[test]
fn source_ranges_are_in_order_and_none_lies_inside_another() {
    let world = world(
        "node node-1 172.30.0.11\n\
         service web LoadBalancer 80/TCP cluster=10.96.0.20 lb=172.30.0.200 \
         ranges=203.0.113.0/24,198.51.100.7/32,198.51.0.0/16,203.0.113.0/25,198.51.0.0/16,198.52.0.0/32\n",
    );
    let frontends = world.desired().frontends.values();
    let mut sources = frontends.filter_map(|frontend| match &frontend.sources {
        Sources::Only(ranges) => Some(ranges.iter().map(ToString::to_string)),
        Sources::Any => None,
    });
    let ranges: Vec<String> = sources.next().expect("a load-balancer address").collect();
    assert_eq!(ranges, ["198.51.0.0/16", "198.52.0.0/32", "203.0.113.0/24"]);
}

/// Whoever keeps the name finds it by its address then, and it is there once.
#[test]
fn a_port_keeps_its_name_while_endpoints_change() {
    let mut world = world(
        "node node-1 172.30.0.11\n\
         service one ClusterIP 80/TCP cluster=10.96.0.20,fd00:10:96::20\n\
         endpoint 10.244.1.5 ready\nendpoint 10.244.1.6 ready\n\
         endpoint fd00:10:244::5 ready\nendpoint fd00:10:244::6 ready\n\
         service two ClusterIP http:80/TCP dns:53/UDP cluster=10.96.0.21,fd00:10:96::21\n\
         endpoint 10.244.1.5 ready\nendpoint 10.244.1.6 ready\n\
         endpoint fd00:10:244::5 ready\nendpoint fd00:10:244::6 ready\n",
    );
    let slices = world.inputs().slices_in_order().into_iter();
    let fewer = slices.map(|slice| {
        let mut slice = Slice::clone(&slice);
        slice.endpoints.truncate(1);
        Change::Slice(slice.key.clone(), Some(Arc::new(slice)))
    });
    let fewer: Vec<Change> = fewer.collect();
    let delta = world.apply(fewer);
    assert_eq!((delta.pools.len(), delta.frontends.len()), (6, 0));
    let frontends = world.desired().frontends.values();
    let kept: Vec<_> = frontends.map(|frontend| &frontend.port).collect();
    for key in delta.pools.keys() {
        let is_kept = kept.iter().any(|name| Arc::ptr_eq(name, &key.port));
        assert!(is_kept, "{key:?}");
    }
}
