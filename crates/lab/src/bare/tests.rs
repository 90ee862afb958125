use std::time::Duration;

use daymark_sys::ns::isolated_test;

use super::*;

fn pod(name: &str, v4: &str, v6: &str) -> Pod {
    let addresses = PodAddresses {
        v4: Some(v4.parse().unwrap()),
        v6: Some(v6.parse().unwrap()),
    };
    Pod {
        name: name.into(),
        addresses,
        link: None,
    }
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter()
        .map(|address| address.parse().unwrap())
        .collect()
}

fn spec() -> Spec {
    Spec {
        nodes: vec![
            Node {
                name: "this".into(),
                addresses: addresses(&["192.0.2.1", "2001:db8::1"]),
                pods: vec![
                    pod("a", "10.1.1.5", "fd00:1::5"),
                    pod("b", "10.1.1.6", "fd00:1::6"),
                ],
            },
            Node {
                name: "other".into(),
                addresses: addresses(&["192.0.2.2", "2001:db8::2"]),
                pods: vec![pod("c", "10.1.2.3", "fd00:2::3")],
            },
        ],
        outside: addresses(&["198.51.100.9", "203.0.113.5", "2001:db8:9::9"]),
        ports: vec![80, 8080],
    }
}

fn place(text: &str) -> Place {
    match text.split_once('/') {
        Some(("pod", name)) => Place::Pod(name.into()),
        Some((_, name)) => Place::Node(name.into()),
        None if text == "fabric" => Place::Fabric,
        None => Place::Outside,
    }
}

fn probe(from: &str, to: &str, protocol: Protocol) -> Probe {
    Probe {
        from: place(from),
        source: None,
        to: to.parse().unwrap(),
        protocol,
    }
}

const PATIENCE: Duration = Duration::from_millis(500);
const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

#[test]
fn a_packet_that_nobody_translates_arrives_where_it_was_sent_or_at_the_fabric() {
    isolated_test(
        "bare::tests::a_packet_that_nobody_translates_arrives_where_it_was_sent_or_at_the_fabric",
        || {
            let lab = BareLab::new(&spec()).unwrap();
            let table = [
                ("pod/a", "10.1.1.6:8080", "pod/b", "10.1.1.5"),
                ("pod/a", "10.1.1.5:8080", "pod/a", "10.1.1.5"),
                ("pod/a", "10.1.2.3:80", "pod/c", "10.1.1.5"),
                ("pod/a", "[fd00:2::3]:80", "pod/c", "fd00:1::5"),
                ("node/this", "10.1.2.3:80", "pod/c", "192.0.2.1"),
                ("node/this", "[fd00:1::5]:80", "pod/a", "2001:db8::1"),
                ("outside", "192.0.2.1:8080", "node/this", "198.51.100.9"),
                (
                    "outside",
                    "[2001:db8::2]:8080",
                    "node/other",
                    "2001:db8:9::9",
                ),
                ("pod/c", "198.51.100.9:80", "outside", "10.1.2.3"),
                ("pod/a", "10.96.0.10:80", "fabric", "10.1.1.5"),
                ("node/other", "[fd00:10:96::a]:80", "fabric", "2001:db8::2"),
                ("outside", "10.96.0.10:80", "fabric", "198.51.100.9"),
            ];
            for protocol in ALL {
                let probes: Vec<_> = table
                    .iter()
                    .map(|(from, to, ..)| probe(from, to, protocol))
                    .collect();
                for (row, outcome) in table.iter().zip(lab.probe_all(&probes, PATIENCE)) {
                    let Outcome::Reached(answer) = outcome.unwrap() else {
                        panic!("{protocol:?} {row:?}")
                    };
                    assert_eq!(
                        (&answer.place, answer.arrived_at),
                        (&place(row.2), row.1.parse().unwrap()),
                        "{row:?}"
                    );
                    assert_eq!(
                        answer.source.ip(),
                        row.3.parse::<IpAddr>().unwrap(),
                        "{protocol:?} {row:?}"
                    );
                }
            }
        },
    );
}

#[test]
fn a_closed_port_is_told_from_a_dropped_packet() {
    isolated_test(
        "bare::tests::a_closed_port_is_told_from_a_dropped_packet",
        || {
            let mut lab = BareLab::new(&spec()).unwrap();
            for to in [
                "10.1.1.6:81",
                "[fd00:1::6]:81",
                "10.1.2.3:81",
                "[fd00:2::3]:81",
            ] {
                let outcomes = lab.probe_all(
                    &[
                        probe("pod/a", to, Protocol::Tcp),
                        probe("pod/a", to, Protocol::Udp),
                    ],
                    PATIENCE,
                );
                let refusals: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
                let expected = [Refusal::TcpReset, Refusal::PortUnreachable].map(Outcome::Refused);
                assert_eq!(refusals, expected, "{to}");
            }
            lab.set_cable("other", Cable::Cut).unwrap();
            for protocol in ALL {
                let outcome = lab
                    .probe(
                        &probe("pod/a", "10.1.2.3:80", protocol),
                        Duration::from_millis(100),
                    )
                    .unwrap();
                assert_eq!(outcome, Outcome::Timeout, "{protocol:?}");
            }
        },
    );
}

#[test]
fn a_place_with_several_addresses_probes_from_the_one_named() {
    isolated_test(
        "bare::tests::a_place_with_several_addresses_probes_from_the_one_named",
        || {
            let lab = BareLab::new(&spec()).unwrap();
            for protocol in ALL {
                let source = Some("203.0.113.5".parse().unwrap());
                let probe = Probe {
                    source,
                    ..probe("outside", "192.0.2.1:80", protocol)
                };
                let Outcome::Reached(answer) = lab.probe(&probe, PATIENCE).unwrap() else {
                    panic!("{protocol:?}")
                };
                assert_eq!(Some(answer.source.ip()), source);
            }
        },
    );
}

#[test]
fn the_outside_reaches_any_address_through_the_node_it_routes_to() {
    isolated_test(
        "bare::tests::the_outside_reaches_any_address_through_the_node_it_routes_to",
        || {
            let mut lab = BareLab::new(&spec()).unwrap();
            lab.route(&Place::Outside, "10.96.0.0/16".parse().unwrap(), "this")
                .unwrap();
            lab.set_cable("this", Cable::Cut).unwrap();
            let outcome = lab.probe(
                &probe("outside", "10.96.0.10:80", Protocol::Tcp),
                Duration::from_millis(100),
            );
            assert_eq!(
                outcome.unwrap(),
                Outcome::Timeout,
                "the packet must go to the node, whose cable is cut"
            );
        },
    );
}

#[test]
fn hundreds_of_probes_take_less_than_a_second() {
    isolated_test(
        "bare::tests::hundreds_of_probes_take_less_than_a_second",
        || {
            let lab = BareLab::new(&spec()).unwrap();
            let probes: Vec<_> = ALL
                .iter()
                .cycle()
                .take(600)
                .map(|p| probe("pod/a", "10.1.2.3:80", *p))
                .collect();
            let (done, outcomes) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                scope.spawn(|| done.send(lab.probe_all(&probes, PATIENCE)).unwrap());
                let outcomes = outcomes
                    .recv_timeout(Duration::from_secs(3))
                    .expect("600 probes within 3 s");
                assert!(
                    outcomes
                        .iter()
                        .all(|outcome| matches!(outcome, Ok(Outcome::Reached(_))))
                );
            });
        },
    );
}

#[test]
fn an_address_with_two_owners_is_refused_with_both_names() {
    let mut spec = spec();
    spec.nodes[1].pods[0].addresses.v4 = Some("10.1.1.5".parse().unwrap());
    let error = BareLab::new(&spec)
        .err()
        .expect("refused before anything is built")
        .to_string();
    assert_eq!(
        error,
        "10.1.1.5 belongs to both pod/a and pod/c: give each its own"
    );
}
