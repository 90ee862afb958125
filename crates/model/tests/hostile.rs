//! What somebody writes to harm others, or by mistake: it costs the Service that it is of, and every other goes on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use daymark_case::Case;
use daymark_case::random::{self, Random, Size};
use daymark_model::desire::MOST_LOOKED_AT;
use daymark_model::desired::List;
use daymark_model::endpoints::{Lists, Presence, anywhere, local_by_node, named, select, serving};
use daymark_model::explain::{Cause, PortAsked, Question};
use daymark_model::flows::{self, Flow, Stage};
use daymark_model::input::ServicePort;
use daymark_model::{
    Change, Desired, Family, FrontendKey, Node, Packet, ServiceKey, Verdict, World, decide,
};
use proptest::prelude::*;

use crate::explain::{ask, causes_of};

fn world(text: &str) -> World {
    let case = Case::parse("here", text).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::new(case.options.clone());
    for step in &case.steps {
        world.apply(step.changes.iter().cloned());
    }
    world
}

const NEIGHBOUR: &str = "node node-1 172.30.0.11 pods=10.244.1.0/24\n\
    service neighbour NodePort 80->8080/TCP@30080 cluster=10.96.0.99 external=172.30.0.240\n\
    endpoint 10.244.1.5 ready on node-1\n";

/// The frontends and pools of one Service.
fn of(desired: &Desired, name: &str) -> Desired {
    let key = ServiceKey::new("default", name);
    let mut part = Desired {
        frontends: desired.frontends.clone(),
        pools: desired.pools.clone(),
        ..Desired::default()
    };
    part.frontends
        .retain(|_, frontend| frontend.port.service == key);
    part.pools.retain(|pool, _| pool.port.service == key);
    part
}

#[test]
fn whatever_one_service_is_its_neighbour_stays_as_it_is() {
    let alone = of(world(NEIGHBOUR).desired(), "neighbour");
    assert_eq!(alone.frontends.len(), 3);
    let many = |what: &dyn Fn(usize) -> String| (1..=1000).map(what).collect::<Vec<String>>();
    let ports = many(&|port| format!("p{port}:{port}->{port}/TCP"));
    let copies = many(&|port| format!("same:{port}/TCP"));
    let names = many(&|port| format!("http:{port}/TCP"));
    let ips = many(&|n| format!("10.{}.{}.1", n / 250, n % 250));
    for (what, hostile) in [
        ("a thousand ports", format!("service taker ClusterIP {} cluster=10.96.0.20 external=10.96.0.99,172.30.0.240 created=9", ports.join(" "))),
        ("the neighbour's cluster IP", "service taker ClusterIP 80/TCP cluster=10.96.0.99 created=9".to_owned()),
        ("the neighbour's addresses, as its own", "service taker LoadBalancer 80/TCP@30080 cluster=10.96.0.20 external=10.96.0.99 created=9".to_owned()),
        ("one name for a thousand ports", format!("service taker ClusterIP {} cluster=10.96.0.20", copies.join(" "))),
        ("a slice of a thousand ports", format!("service taker ClusterIP http:81/TCP cluster=10.96.0.20\nslice x of taker IPv4 {}\nendpoint 10.244.1.6 ready on node-1", names.join(" "))),
        ("a slice of the neighbour's, by another's name", "slice neighbour-ipv4 of taker IPv6 80/TCP\nslice neighbour of other IPv4 8080/TCP\nendpoint 10.244.2.9 ready".to_owned()),
        ("a thousand external IPs", format!("service taker ClusterIP 80/TCP cluster=10.96.0.20 external={},172.30.0.240 created=9", ips.join(","))),
        ("special addresses", "service taker LoadBalancer 80/TCP cluster=10.96.0.20 lb=127.0.0.1,169.254.1.1 external=0.0.0.0,224.0.0.1\nendpoint 127.0.0.1 ready on node-1".to_owned()),
        ("a range of nobody", "service taker LoadBalancer 80/TCP cluster=10.96.0.20 lb=172.30.0.241 ranges=0.0.0.0/32,::/128".to_owned()),
    ] {
        // Of this slice's name there may be one: it moves to the other Service, as the API says.
        let moves = hostile.starts_with("slice neighbour-ipv4");
        let world = world(&format!("{NEIGHBOUR}{hostile}\n"));
        let found = of(world.desired(), "neighbour");
        if moves {
            assert_eq!(found.frontends.len(), 3, "{what}");
        } else {
            assert_eq!(found, alone, "{what}");
        }
    }
}

#[test]
fn each_of_a_thousand_ports_has_its_own_endpoints() {
    let ports: Vec<String> = (1..=1000)
        .map(|port| format!("p{port}:{port}->{port}/TCP"))
        .collect();
    let mut text = format!(
        "{NEIGHBOUR}service wide ClusterIP {} cluster=10.96.0.20\n",
        ports.join(" ")
    );
    for pod in 1..=50 {
        text.push_str(&format!("endpoint 10.244.1.{pod} ready on node-1\n"));
    }
    let world = world(&text);
    let wide = of(world.desired(), "wide");
    assert_eq!((wide.frontends.len(), wide.pools.len()), (1000, 1000));
    assert!(wide.pools.values().all(|pool| pool.backends.len() == 50));
}

#[test]
fn a_service_of_more_places_than_one_may_have_is_served_as_far_as_that() {
    let ports: Vec<String> = (1..=400)
        .map(|port| format!("p{port}:{port}/TCP"))
        .collect();
    let ips: Vec<String> = (0..400)
        .map(|n| format!("10.9.{}.{}", n / 200, n % 200))
        .collect();
    let wide = format!(
        "service wide ClusterIP {} cluster=10.96.0.20 external={}\n",
        ports.join(" "),
        ips.join(",")
    );
    let mut world = world(&format!("{wide}{NEIGHBOUR}"));
    let key = ServiceKey::new("default", "wide");
    // 401 places a port: 164 ports are the first that pass the number.
    assert_eq!(of(world.desired(), "wide").frontends.len(), 164 * 401);
    assert_eq!(world.beyond().get(&key), Some(&236));
    assert_eq!(of(world.desired(), "neighbour").frontends.len(), 3);
    let question = Question {
        service: key.clone(),
        port: Some(PortAsked::Number(400)),
        address: Some("10.96.0.20".parse().expect("an address")),
        ..ask("node")
    };
    let causes = causes_of(&world, &question);
    let codes: Vec<&str> = causes.iter().map(Cause::code).collect();
    assert_eq!(codes, ["too-many-places"]);
    world.apply([Change::Service(key, None)]);
    assert!(world.beyond().is_empty());
    assert_eq!(of(world.desired(), "wide"), Desired::default());
}

#[test]
fn a_service_of_more_endpoints_times_ports_than_one_may_have_is_served_as_far_as_that() {
    // A slice of 600 endpoints for each of 1000 ports, of which one is enough.
    let ports = |count: u16| -> Vec<String> {
        let ports = 1..=count;
        ports.map(|port| format!("p{port}:{port}/TCP")).collect()
    };
    let mut text = format!(
        "{NEIGHBOUR}service wide ClusterIP {} cluster=10.96.0.20\n",
        ports(1000).join(" ")
    );
    for pod in 0..600 {
        text.push_str(&format!(
            "endpoint 10.9.{}.{} ready on node-2\n",
            pod / 200,
            pod % 200
        ));
    }
    let mut world = world(&text);
    let key = ServiceKey::new("default", "wide");
    // 873 ports of 600 endpoints are below 524,288, and 874 are not.
    let wide = of(world.desired(), "wide");
    assert_eq!((wide.frontends.len(), wide.pools.len()), (874, 874));
    assert_eq!(world.beyond().get(&key), Some(&126));
    assert_eq!(of(world.desired(), "neighbour").frontends.len(), 3);
    let question = Question {
        service: key.clone(),
        port: Some(PortAsked::Number(1000)),
        ..ask("node")
    };
    let causes = causes_of(&world, &question);
    let codes: Vec<&str> = causes.iter().map(Cause::code).collect();
    assert_eq!(codes, ["too-many-places"]);
    // With fewer ports all are served.
    let fewer = format!(
        "service wide ClusterIP {} cluster=10.96.0.20\n",
        ports(800).join(" ")
    );
    let case = Case::parse("here", &fewer).unwrap_or_else(|error| panic!("{error}"));
    world.apply(case.steps[0].changes.iter().cloned());
    assert!(world.beyond().is_empty());
    assert_eq!(of(world.desired(), "wide").pools.len(), 800);
}

/// A Service of a thousand ports.
fn wide() -> String {
    let ports: Vec<String> = (1..=1000)
        .map(|port| format!("p{port}:{port}->{port}/TCP"))
        .collect();
    format!(
        "service wide ClusterIP {} cluster=10.96.0.20\n",
        ports.join(" ")
    )
}

#[test]
fn ten_thousand_endpoints_behind_a_thousand_ports_are_looked_at_once_a_change() {
    let endpoint = |pod: usize, condition: &str| {
        let (high, low) = (pod / 250, pod % 250 + 1);
        format!("endpoint 10.9.{high}.{low} {condition} on node-2 of wide\n")
    };
    let mut text = format!("{NEIGHBOUR}{}", wide());
    text.extend((0..10_000).map(|pod| endpoint(pod, "not-ready")));
    let case = Case::parse("here", &text).unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    assert_eq!(of(world.desired(), "wide").frontends.len(), 1000);
    assert!(
        world
            .desired()
            .pools
            .keys()
            .all(|pool| pool.port.service.name.as_ref() != "wide")
    );
    // One of them is ready: a thousand pools, and no second look at the others.
    let slices = case.steps[0]
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Slice(_, Some(slice)) if slice.endpoints.len() == 10_000 => Some(slice.clone()),
            _ => None,
        });
    let [slice] = <[_; 1]>::try_from(slices.collect::<Vec<_>>()).expect("one slice");
    let mut ready = (*slice).clone();
    ready.endpoints[7].conditions.ready = Some(true);
    let before = world.looked_at();
    let changes = [Change::Slice(slice.key.clone(), Some(ready.into()))];
    let suspects = flows::suspects(&world, &changes);
    world.apply(changes);
    assert!(!suspects.judge(&world).is_empty());
    assert_eq!(world.looked_at() - before, 10_000);
    let wide = of(world.desired(), "wide");
    assert_eq!(wide.pools.len(), 1000);
    for (key, pool) in &wide.pools {
        let [one] = &pool.backends[..] else {
            panic!("{key:?} has {}", pool.backends.len())
        };
        assert_eq!(format!("p{}", one.port), *key.port.port);
    }
    assert!(world.beyond().is_empty());
    // A change of another Service looks at none of them.
    let before = world.looked_at();
    let case = Case::parse("here", NEIGHBOUR).unwrap_or_else(|error| panic!("{error}"));
    let others = case.steps[0]
        .changes
        .iter()
        .filter(|change| !matches!(change, Change::Node(_)));
    world.apply(others.cloned());
    assert_eq!(world.looked_at() - before, 1);
}

#[test]
fn endpoints_of_ports_that_each_have_slices_of_their_own_are_looked_at_as_far_as_a_service_may_ask()
{
    // Ten slices of a thousand endpoints; each port is named by those that the bits of its number say.
    let mut text = format!("{NEIGHBOUR}{}", wide());
    for slice in 0..10 {
        let named = (1..=1000).filter(|port| port >> slice & 1 == 1);
        let ports: Vec<String> = named.map(|port| format!("p{port}:{port}/TCP")).collect();
        text.push_str(&format!(
            "slice s{slice} of wide IPv4 {}\n",
            ports.join(" ")
        ));
        text.extend((0..1000).map(|pod| {
            format!(
                "endpoint 10.{}.{}.{} not-ready on node-2\n",
                10 + slice,
                pod / 250,
                pod % 250 + 1
            )
        }));
    }
    let world = world(&text);
    let wide = of(world.desired(), "wide");
    let beyond = world.beyond().get(&ServiceKey::new("default", "wide"));
    let beyond = beyond.copied().unwrap_or_default();
    assert_eq!(wide.frontends.len() + beyond, 1000);
    let cost: usize = (1..=1000_u32)
        .map(|port| port.count_ones() as usize * 1000)
        .sum();
    assert!(cost > 4 * MOST_LOOKED_AT, "{cost}");
    assert!(
        (200..300).contains(&wide.frontends.len()),
        "{}",
        wide.frontends.len()
    );
    let looked_at = usize::try_from(world.looked_at()).unwrap();
    assert!(
        (MOST_LOOKED_AT - 10_000..=MOST_LOOKED_AT + 1).contains(&looked_at),
        "{looked_at}"
    );
    assert_eq!(of(world.desired(), "neighbour").frontends.len(), 3);
}

/// Nothing is forwarded to nobody.
fn holds_together(world: &World) {
    let desired = world.desired();
    for (at, frontend) in &desired.frontends {
        let (protocol, port) = at.protocol_port();
        let FrontendKey::Address { ip, .. } = *at else {
            continue;
        };
        let packet = Packet {
            arrival: decide::Arrival::Link,
            interface: None,
            source: ip,
            destination: ip,
            protocol,
            port,
        };
        let verdict = decide(desired, &packet);
        let is_empty = matches!(&verdict, Verdict::Forward(targets) if targets.is_empty());
        assert!(!is_empty, "{at} of {} forwards to nobody", frontend.port);
    }
    for (pool, backends) in &desired.pools {
        assert!(!backends.backends.is_empty(), "{pool:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is looked at once for all ports is what each port finds by itself.
    #[test]
    fn each_port_has_what_it_would_have_alone(seed in any::<u64>()) {
        let case = random::case(seed, Size { steps: 3, packets: 0, ..Size::default() });
        let mut world = World::new(case.options.clone());
        for step in &case.steps {
            world.apply(step.changes.iter().cloned());
            for (key, pool) in &world.desired().pools {
                let service = &world.inputs().services[&key.port.service];
                let mut ports = service.ports.iter();
                let is_it = |port: &&ServicePort| (&port.name, port.protocol) == (&key.port.port, key.port.protocol);
                let port = ports.find(is_it).expect("a port");
                let slices: Vec<_> = world.slices_of(&service.key).collect();
                let Lists { cluster, local, .. } = select(slices, port, key.family, &world.here().node);
                let alone = match key.list {
                    List::Cluster => cluster,
                    List::Local => local,
                };
                prop_assert_eq!(&pool.backends, &alone, "{:?}", key);
            }
        }
    }

    /// And flows may go on to the endpoints that answer for their port.
    #[test]
    fn flows_may_go_on_where_each_port_by_itself_says(seed in any::<u64>()) {
        let case = random::case(seed, Size { steps: 1, packets: 0, ..Size::default() });
        let mut world = World::new(case.options.clone());
        let changes = &case.steps[0].changes;
        let suspects = flows::suspects(&world, changes);
        world.apply(changes.iter().cloned());
        let verdicts = suspects.judge(&world);
        for (at, frontend) in &world.desired().frontends {
            let FrontendKey::Address { ip, protocol, port: number } = *at else {
                continue;
            };
            let name = &frontend.port;
            let mut ports = world.inputs().services[&name.service].ports.iter();
            let is_it = |port: &&ServicePort| (&port.name, port.protocol) == (&name.port, name.protocol);
            let port = ports.find(is_it).expect("a port");
            let slices = || world.slices_of(&name.service);
            let living = serving(slices(), port, at.family());
            let all = named(slices(), port, at.family());
            let beside = |one: &SocketAddr| SocketAddr::new(one.ip(), one.port() ^ 1);
            let others: Vec<SocketAddr> = all.iter().map(beside).collect();
            for answers in all.into_iter().chain(others) {
                let original = SocketAddr::new(ip, number);
                let flow = Flow { protocol, stage: Stage::Opening, original, answers };
                prop_assert_eq!(verdicts.is_stale(&flow), !living.contains(&answers), "{} to {}", at, answers);
            }
        }
    }

    /// And so are the nodes that have endpoints of some port.
    #[test]
    fn all_nodes_at_once_are_each_by_itself(seed in any::<u64>()) {
        let case = random::case(seed, Size { steps: 1, packets: 0, ..Size::default() });
        let mut world = World::new(case.options.clone());
        world.apply(case.steps[0].changes.iter().cloned());
        for service in world.inputs().services.values() {
            let slices: Vec<_> = world.slices_of(&service.key).collect();
            let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
            let nodes: BTreeSet<_> = endpoints.filter_map(|one| one.node.clone()).collect();
            for family in Family::BOTH {
                let lists = |name: &Arc<str>| {
                    let node = Node { name: name.clone(), ..Node::default() };
                    let ports = service.ports.iter();
                    let lists = ports.map(|port| select(slices.iter().copied(), port, family, &node));
                    lists.collect::<Vec<Lists>>()
                };
                let addresses = |name: &Arc<str>| -> BTreeSet<_> {
                    let all = lists(name).into_iter().flat_map(|lists| lists.local);
                    all.map(|backend| backend.address).collect()
                };
                let each = nodes.iter().map(|name| (name.clone(), addresses(name)));
                let each = each.filter(|(_, addresses)| !addresses.is_empty()).collect();
                let at_once = local_by_node(slices.iter().copied(), &service.ports, family);
                prop_assert_eq!(at_once, each);
                let some = lists(&"nobody".into()).iter().any(|lists| lists.anywhere == Presence::Present);
                let at_once = anywhere(slices.iter().copied(), &service.ports, family);
                prop_assert_eq!(at_once == Presence::Present, some);
            }
        }
    }

    /// One more Service may have a better right to a place; it leaves none to nobody, and when it goes all is as before.
    #[test]
    fn who_comes_and_goes_leaves_the_others_as_they_were(seed in any::<u64>(), extra in any::<u64>()) {
        let case = random::case(seed, Size { steps: 1, packets: 0, ..Size::default() });
        let mut world = World::new(case.options.clone());
        world.apply(case.steps[0].changes.iter().cloned());
        let before = world.desired().clone();
        let refused = world.refusals();
        let mut random = Random::new(extra);
        let hostile = hostile(&mut random);
        world.apply(hostile.clone());
        holds_together(&world);
        for (at, frontend) in &before.frontends {
            let now = world.desired().frontends.get(at);
            prop_assert!(now.is_some(), "{} lost {}", frontend.port, at);
        }
        world.apply(hostile.into_iter().map(gone));
        prop_assert_eq!(world.desired(), &before);
        prop_assert_eq!(world.refusals(), refused);
    }
}

fn gone(change: Change) -> Change {
    match change {
        Change::Service(key, _) => Change::Service(key, None),
        Change::Slice(key, _) => Change::Slice(key, None),
        other => other,
    }
}

/// A Service with everything that is contested, under a name that no other has.
fn hostile(random: &mut Random) -> Vec<Change> {
    let pick = |random: &mut Random, all: &[&str]| {
        random.pick(&all.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let ips = [
        "10.96.0.20",
        "172.30.0.200",
        "172.30.0.11",
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
    ];
    let (cluster, external, lb) = (pick(random, &ips), pick(random, &ips), pick(random, &ips));
    let created = random.below(3);
    let target = pick(
        random,
        &["127.0.0.1", "10.244.1.5", "172.30.0.11", "255.255.255.255"],
    );
    let text = format!(
        "service taker LoadBalancer 80->8080/TCP@30080 same:443/TCP same:53/UDP@30053 cluster={cluster} external={external} lb={lb} \
         created={created} external-policy=Local health=32000\nendpoint {target} ready on node-1\n"
    );
    let case = Case::parse("here", &text).unwrap_or_else(|error| panic!("{error}"));
    case.steps[0].changes.clone()
}
