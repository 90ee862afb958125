//! Of random clusters: the verdict is the reference's, and endpoints that are called used are its targets.

use daymark_case::random::{self, Random, packets};
use daymark_model::decide::{Arrival, decision};
use daymark_model::explain::{Answer, Asker, PortAsked, Question, Sender, Standing, explain};
use daymark_model::input::Detector;
use daymark_model::{Target, Verdict, World, decide};
use proptest::prelude::*;

use super::from;

/// Endpoints that the explanation calls used.
fn used(answer: &Answer) -> Vec<Target> {
    let used = answer.endpoints.iter().filter_map(|e| match e.standing {
        Standing::Used(source) => Some(Target {
            address: e.address,
            port: e.port.expect("a candidate has a number"),
            source,
        }),
        _ => None,
    });
    used.collect()
}

/// An answer says what the reference says of its packet, and leaves no refusal without a cause.
fn holds(world: &World, answer: &Answer) -> Result<(), TestCaseError> {
    let Some(packet) = answer.packet else {
        prop_assert!(!answer.causes.is_empty());
        return Ok(());
    };
    let reference = decision(world.desired(), &packet);
    prop_assert_eq!(answer.verdict.as_ref(), Some(&reference.verdict));
    prop_assert_eq!(
        answer.verdict.clone(),
        Some(decide(world.desired(), &packet))
    );
    let own = reference
        .caught
        .is_some_and(|(_, frontend)| frontend.port == answer.port);
    match reference.verdict {
        Verdict::Forward(targets) if own => {
            prop_assert!(answer.is_forwarded(), "{:?}", answer.causes);
            prop_assert_eq!(used(answer), targets);
            let eligible = answer
                .endpoints
                .iter()
                .any(|e| e.standing == Standing::Eligible);
            prop_assert!(!eligible);
        }
        _ => {
            prop_assert!(!answer.is_forwarded());
            prop_assert!(!answer.causes.is_empty());
            prop_assert_eq!(used(answer), vec![]);
        }
    }
    let words = answer.steps.iter().map(ToString::to_string);
    let words = words.chain(answer.causes.iter().map(ToString::to_string));
    for said in words {
        prop_assert!(!said.is_empty());
    }
    Ok(())
}

fn drawn(seed: u64) -> (Random, World) {
    let mut random = Random::new(seed);
    let mut world = World::new(random::options(&mut random));
    let changes: Vec<_> = (0..40).map(|_| random::change(random.draw())).collect();
    world.apply(changes);
    (random, world)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_for_a_packet_is_that_of_the_reference(seed in any::<u64>()) {
        let (mut random, world) = drawn(seed);
        for mut packet in packets(&mut random, &world, 40) {
            // Nobody asks for an interface: it is that of own Pods where those are known by it.
            let own = &world.here().node.pod_cidrs;
            let is_own = own.iter().any(|cidr| cidr.contains(packet.source));
            packet.interface = match world.here().options.detector {
                Detector::Interface(pattern) if is_own && packet.arrival == Arrival::Link => {
                    Some(pattern.least())
                }
                _ => None,
            };
            let caught = decision(world.desired(), &packet).caught;
            let Some((_, frontend)) = caught else { continue };
            let question = Question {
                service: frontend.port.service.clone(),
                port: Some(PortAsked::Number(packet.port)),
                address: Some(packet.destination),
                client: Asker {
                    sender: match packet.arrival {
                        Arrival::Node => Sender::Node,
                        Arrival::Link => Sender::Somebody,
                    },
                    addresses: vec![packet.source],
                },
            };
            let answers = explain(&world, &question).expect("the Service has the place");
            let mut its = answers.iter().filter(|a| a.packet == Some(packet) && a.port == frontend.port);
            let answer = its.next();
            prop_assert!(answer.is_some(), "{packet:?} is in none of {answers:?}");
            for answer in &answers {
                holds(&world, answer)?;
            }
        }
    }

    #[test]
    fn every_place_of_every_service_is_answered(seed in any::<u64>()) {
        let (_, world) = drawn(seed);
        let clients = ["node", "10.244.1.9,fd00:10:244:1::9", "192.0.2.7,2001:db8::7"];
        for service in world.inputs().services.keys() {
            for client in clients.map(from) {
                let question = Question { service: service.clone(), port: None, address: None, client };
                match explain(&world, &question) {
                    Err(cause) => prop_assert!(!cause.to_string().is_empty()),
                    Ok(answers) => {
                        prop_assert!(!answers.is_empty());
                        let places: Vec<_> = answers.iter().map(|a| a.at).collect();
                        for at in world.frontends_of(service) {
                            prop_assert!(places.contains(&at), "{at} has no answer");
                        }
                        for answer in &answers {
                            holds(&world, answer)?;
                        }
                    }
                }
            }
        }
    }
}

/// Where Pods are known by their interface, an address says nothing: whoever asks for a Pod of this node knows that it is one.
#[test]
fn a_pod_of_this_node_comes_in_at_the_interface_that_the_detector_names() {
    // The detector's names, and a Node without prefixes.
    let text = "options detector=interface:veth*\n\
                node node-1 172.30.0.11\n\
                service web ClusterIP 80->8080/TCP cluster=10.96.0.7 internal-policy=Cluster\n\
                endpoint 10.244.2.5 ready on node-2\n";
    let case = daymark_case::Case::parse("here", text).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    let seen = |sender| {
        let question = Question {
            client: Asker {
                sender,
                addresses: vec!["10.244.7.9".parse().expect("an address")],
            },
            ..super::ask("node")
        };
        let answers = explain(&world, &question).expect("the Service has a place");
        answers[0].endpoints[0].standing
    };
    let told = [Sender::OwnPod, Sender::Somebody].map(|sender| seen(sender).to_string());
    assert_ne!(told[0], told[1], "the one keeps its source: {told:?}");
}
