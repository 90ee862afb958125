//! Which flows go on when endpoints and Services change.

use daymark_case::Case;
use daymark_model::flows::{self, Flow, Leave, Stage};
use daymark_model::{Options, Protocol, World};

/// A cluster, one change of it, and flows with what becomes of them.
struct Row {
    what: &'static str,
    before: &'static str,
    after: &'static str,
    protocol: Protocol,
    stage: Stage,
    /// Where to, who answers, whether it must go.
    flows: &'static [(&'static str, &'static str, Fate)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
}
use Fate::{Goes, Stays};

const NODE: &str = "node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24\n";
const TWO: &str = "service dns NodePort 53/UDP@30053 cluster=10.96.0.10,fd00:10:96::a
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1";

const WEB: &str = "service web NodePort 80/TCP@30080 cluster=10.96.0.20
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2";

const ROWS: &[Row] = &[
    Row {
        what: "an endpoint goes",
        before: TWO,
        after: "remove endpoint 10.244.2.5 of dns",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("10.96.0.10:53", "10.244.1.5:53", Stays),
            ("10.96.0.10:53", "10.244.2.5:53", Goes),
            ("172.30.0.11:30053", "10.244.2.5:53", Goes),
            ("172.30.0.11:30053", "10.244.1.5:53", Stays),
            ("172.30.0.12:30053", "10.244.2.5:53", Stays),
            ("10.96.0.10:54", "10.244.2.5:54", Stays),
            ("[fd00:10:96::a]:53", "[fd00:10:244:1::5]:53", Stays),
        ],
    },
    Row {
        what: "an endpoint terminates and serves on",
        before: TWO,
        after: "endpoint 10.244.2.5 draining on node-2 of dns",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[("10.96.0.10:53", "10.244.2.5:53", Stays)],
    },
    Row {
        what: "an endpoint terminates and is silent",
        before: TWO,
        after: "endpoint 10.244.2.5 terminating on node-2 of dns",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[("10.96.0.10:53", "10.244.2.5:53", Goes)],
    },
    Row {
        what: "the policy becomes Local: what works goes on",
        before: TWO,
        after: "service dns NodePort 53/UDP@30053 cluster=10.96.0.10,fd00:10:96::a internal-policy=Local external-policy=Local",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[("10.96.0.10:53", "10.244.2.5:53", Stays)],
    },
    Row {
        what: "the last endpoint of a family goes",
        before: TWO,
        after: "remove endpoint fd00:10:244:1::5 of dns",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("[fd00:10:96::a]:53", "[fd00:10:244:1::5]:53", Goes),
            ("10.96.0.10:53", "10.244.1.5:53", Stays),
        ],
    },
    Row {
        what: "the Service goes",
        before: TWO,
        after: "remove service dns",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("10.96.0.10:53", "10.244.1.5:53", Goes),
            ("172.30.0.11:30053", "10.244.1.5:53", Goes),
            ("[fd00:10:96::a]:53", "[fd00:10:244:1::5]:53", Goes),
        ],
    },
    Row {
        what: "the Service comes after its clients",
        before: "",
        after: TWO,
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("10.96.0.10:53", "10.96.0.10:53", Goes),
            ("10.96.0.99:53", "10.96.0.99:53", Stays),
        ],
    },
    Row {
        what: "a node port changes its number",
        before: TWO,
        after: "service dns NodePort 53/UDP@30054 cluster=10.96.0.10,fd00:10:96::a",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("172.30.0.11:30053", "10.244.1.5:53", Goes),
            ("10.96.0.10:53", "10.244.1.5:53", Stays),
        ],
    },
    Row {
        what: "a connection that stands belongs to its endpoint",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Answered,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "a connection that nobody answered looks for another endpoint",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Opening,
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:80", Goes),
            ("10.96.0.20:80", "10.244.2.5:80", Stays),
            ("172.30.0.11:30080", "10.244.1.5:80", Goes),
            ("10.96.0.20:81", "10.244.1.5:80", Stays),
        ],
    },
    Row {
        what: "an endpoint that is not ready any more answers no opening",
        before: WEB,
        after: "endpoint 10.244.1.5 not-ready on node-1 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Opening,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Goes)],
    },
    Row {
        what: "protocols are apart",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Udp,
        stage: Stage::Opening,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "SCTP is as TCP",
        before: "service sig ClusterIP 80/SCTP cluster=10.96.0.20\nendpoint 10.244.1.5 ready on node-1",
        after: "remove service sig",
        protocol: Protocol::Sctp,
        stage: Stage::Opening,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Goes)],
    },
    Row {
        what: "the node moves to another address",
        before: TWO,
        after: "node node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("172.30.0.11:30053", "10.244.1.5:53", Goes),
            ("172.30.0.13:30053", "10.244.1.5:53", Stays),
            ("172.30.0.13:30053", "172.30.0.13:30053", Goes),
            ("172.30.0.13:30054", "172.30.0.13:30054", Stays),
            ("[fd00:30::11]:30053", "[fd00:10:244:1::5]:53", Stays),
            ("10.96.0.10:53", "10.244.1.5:53", Stays),
        ],
    },
    Row {
        what: "the node says something else",
        before: TWO,
        after: "node node-1 172.30.0.11 fd00:30::11 pods=10.244.9.0/24",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[("172.30.0.11:30053", "10.244.9.9:53", Stays)],
    },
    Row {
        what: "connections that stand end with their endpoint, if that is asked for",
        before: RESET,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Answered,
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:80", Goes),
            ("172.30.0.11:30080", "10.244.1.5:80", Goes),
            ("10.96.0.20:80", "10.244.2.5:80", Stays),
            ("10.96.0.21:80", "10.244.1.5:80", Stays),
            ("10.96.0.20:80", "10.96.0.20:80", Stays),
        ],
    },
    Row {
        what: "an abandoned connection goes with its endpoint, whatever was asked for",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Silent(Leave::EndpointHeard),
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:80", Goes),
            ("172.30.0.11:30080", "10.244.1.5:80", Goes),
            ("10.96.0.20:80", "10.244.2.5:80", Stays),
            ("10.96.0.21:80", "10.244.1.5:80", Stays),
            ("10.96.0.20:80", "10.96.0.20:80", Stays),
            ("172.30.0.12:30080", "10.244.1.5:80", Stays),
        ],
    },
    Row {
        what: "so does one whose client took leave and was not heard",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Silent(Leave::ClientUnheard),
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:80", Goes),
            ("10.96.0.20:80", "10.244.2.5:80", Stays),
        ],
    },
    Row {
        what: "a client that took leave and was heard waits for its answer, however long",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Silent(Leave::ClientHeard),
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:80", Stays),
            ("172.30.0.11:30080", "10.244.1.5:80", Stays),
        ],
    },
    Row {
        what: "an endpoint that took leave and was not heard says it again",
        before: WEB,
        after: "remove endpoint 10.244.1.5 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Silent(Leave::EndpointUnheard),
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "not while a slice names it, in whatever condition",
        before: WEB,
        after: "endpoint 10.244.1.5 not-ready on node-1 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Silent(Leave::EndpointHeard),
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "nor when its Service is gone: there nobody comes by the same port",
        before: WEB,
        after: "remove service web",
        protocol: Protocol::Tcp,
        stage: Stage::Silent(Leave::EndpointHeard),
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "nor one of SCTP",
        before: "service sig ClusterIP 80/SCTP cluster=10.96.0.20\nendpoint 10.244.1.5 ready on node-1",
        after: "remove endpoint 10.244.1.5 of sig",
        protocol: Protocol::Sctp,
        stage: Stage::Silent(Leave::EndpointHeard),
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "even then not while it terminates",
        before: RESET,
        after: "endpoint 10.244.1.5 terminating on node-1 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Answered,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "nor while it is not ready",
        before: RESET,
        after: "endpoint 10.244.1.5 not-ready on node-1 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Answered,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "nor when the Service alone goes: its Pods may live on",
        before: RESET,
        after: "remove service web",
        protocol: Protocol::Tcp,
        stage: Stage::Answered,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "SCTP connections that stand are left alone even then",
        before: "options gone-endpoints=reset
service sig ClusterIP 80/SCTP cluster=10.96.0.20
endpoint 10.244.1.5 ready on node-1",
        after: "remove endpoint 10.244.1.5 of sig",
        protocol: Protocol::Sctp,
        stage: Stage::Answered,
        flows: &[("10.96.0.20:80", "10.244.1.5:80", Stays)],
    },
    Row {
        what: "the ports of a Service are apart by name",
        before: PORTS,
        after: "endpoint 10.244.1.6 ready on node-1 of web",
        protocol: Protocol::Udp,
        stage: Stage::Answered,
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:8080", Stays),
            ("10.96.0.20:80", "10.244.1.5:8081", Goes),
            ("10.96.0.20:81", "10.244.1.5:8081", Stays),
            ("10.96.0.20:81", "10.244.1.5:8080", Goes),
        ],
    },
    Row {
        what: "and by protocol, where they have one name",
        before: PORTS,
        after: "endpoint 10.244.1.6 ready on node-1 of web",
        protocol: Protocol::Tcp,
        stage: Stage::Opening,
        flows: &[
            ("10.96.0.20:80", "10.244.1.5:9090", Stays),
            ("10.96.0.20:80", "10.244.1.5:8080", Goes),
        ],
    },
    Row {
        what: "nor at an address that served node ports",
        before: RESET,
        after: "node node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24",
        protocol: Protocol::Tcp,
        stage: Stage::Answered,
        flows: &[("172.30.0.11:30080", "10.244.1.5:80", Stays)],
    },
];

const PORTS: &str =
    "service web ClusterIP a:80->8080/UDP b:81->8081/UDP a:80->9090/TCP cluster=10.96.0.20
endpoint 10.244.1.5 ready on node-1";

const RESET: &str = "options gone-endpoints=reset
service web NodePort 80/TCP@30080 cluster=10.96.0.20
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2";

#[test]
fn places_of_before_are_judged_when_nobody_names_them_any_more() {
    let case = Case::parse("now", &format!("{NODE}{TWO}\n")).expect("a case");
    let mut world = World::new(case.options.clone());
    let changes = case.steps[0].changes.clone();
    let mut suspects = flows::suspects(&world, &changes);
    let at = |ip: &str, port| daymark_model::FrontendKey::Address {
        ip: ip.parse().expect("an address"),
        protocol: Protocol::Udp,
        port,
    };
    let node_port = daymark_model::FrontendKey::NodePort {
        family: daymark_model::Family::V4,
        protocol: Protocol::Udp,
        port: 30053,
    };
    let before = [at("10.96.0.66", 53), at("10.96.0.10", 53), node_port];
    suspects.remember(before, ["172.30.0.77".parse().expect("an address")]);
    world.apply(changes);
    let verdicts = suspects.judge(&world);
    for (original, answers, fate) in [
        ("10.96.0.66:53", "10.244.1.5:53", Goes),
        ("10.96.0.10:53", "10.244.1.5:53", Stays),
        ("172.30.0.77:30053", "10.244.1.5:53", Goes),
        ("172.30.0.11:30053", "10.244.1.5:53", Stays),
    ] {
        let flow = Flow {
            protocol: Protocol::Udp,
            stage: Stage::Answered,
            original: original.parse().expect("an address and port"),
            answers: answers.parse().expect("an address and port"),
        };
        assert_eq!(verdicts.is_stale(&flow), fate == Goes, "{flow:?}");
    }
}

/// What is judged after the change of a row.
fn verdicts_of(row: &Row) -> flows::Verdicts {
    let (options, before) = match row.before.split_once('\n') {
        Some((first, rest)) if first.starts_with("options") => (format!("{first}\n"), rest),
        _ => (String::new(), row.before),
    };
    let text = format!("{options}{NODE}{before}\nstep then\n{}\n", row.after);
    judged(&text).pop().expect("two steps")
}

#[test]
fn a_flow_goes_when_its_endpoint_answers_no_more() {
    for row in ROWS {
        let verdicts = verdicts_of(row);
        for (original, answers, fate) in row.flows {
            let flow = Flow {
                stage: row.stage,
                ..answered(row.protocol, original, answers)
            };
            let goes = verdicts.is_stale(&flow);
            assert_eq!(goes, *fate == Goes, "{}: {flow:?}", row.what);
        }
    }
}

/// What is judged after each step of a case.
fn judged(text: &str) -> Vec<flows::Verdicts> {
    let case = Case::parse("steps", text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut world = World::new(case.options.clone());
    let judge = |step: &daymark_case::Step| {
        let suspects = flows::suspects(&world, &step.changes);
        world.apply(step.changes.iter().cloned());
        suspects.judge(&world)
    };
    case.steps.iter().map(judge).collect()
}

fn answered(protocol: Protocol, original: &str, answers: &str) -> Flow {
    Flow {
        protocol,
        stage: Stage::Answered,
        original: original.parse().expect("an address and port"),
        answers: answers.parse().expect("an address and port"),
    }
}

fn udp(original: &str, answers: &str) -> Flow {
    answered(Protocol::Udp, original, answers)
}

/// Whatever changes: a half-closed connection whose leave abandons nothing fares as one that is open, and one that is
/// abandoned never fares better.
#[test]
fn who_is_heard_fares_as_if_nobody_had_taken_leave() {
    for row in ROWS.iter().filter(|row| row.protocol == Protocol::Tcp) {
        let verdicts = verdicts_of(row);
        for (original, answers, _) in row.flows {
            let open = answered(Protocol::Tcp, original, answers);
            let stale = |stage| verdicts.is_stale(&Flow { stage, ..open });
            for leave in Leave::ALL {
                let (closed, open) = (stale(Stage::Silent(leave)), stale(Stage::Answered));
                match leave.abandons() {
                    true => assert!(closed || !open, "{}: {leave:?}", row.what),
                    false => assert_eq!(closed, open, "{}: {leave:?}", row.what),
                }
            }
        }
    }
}

#[test]
fn of_two_verdicts_the_newer_counts() {
    let text = format!(
        "{NODE}{TWO}\nstep then\nremove endpoint 10.244.2.5 of dns\n\
         step again\nendpoint 10.244.2.5 ready on node-2 of dns\n\
         step elsewhere\nnode node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24\n"
    );
    let flow = udp("10.96.0.10:53", "10.244.2.5:53");
    let node_port = udp("172.30.0.11:30053", "10.244.1.5:53");
    let mut all = flows::Verdicts::default();
    let mut stale = Vec::new();
    for newer in judged(&text) {
        all.extend(newer);
        stale.push((all.is_stale(&flow), all.is_stale(&node_port)));
    }
    let expected = [(false, false), (true, false), (false, false), (false, true)];
    assert_eq!(stale, expected);
}

#[test]
fn a_place_that_is_no_frontend_any_more_is_let_go_with_its_service() {
    let text = format!(
        "{NODE}{WEB}\nstep then\nremove endpoint 10.244.1.5 of web\nstep gone\nremove service web\n"
    );
    let abandoned = Flow {
        stage: Stage::Silent(Leave::EndpointHeard),
        ..answered(Protocol::Tcp, "10.96.0.20:80", "10.244.1.5:80")
    };
    let mut all = flows::Verdicts::default();
    let mut seen = Vec::new();
    for newer in judged(&text) {
        all.extend_frontends(&newer);
        seen.push((all.is_stale(&abandoned), all.is_empty()));
    }
    assert_eq!(seen, [(false, false), (true, false), (false, true)]);
}

/// A node has thousands in its time, where IPv6 addresses are temporary.
#[test]
fn an_address_that_serves_node_ports_no_more_is_let_go_too() {
    let mut text = format!("{NODE}{WEB}\nstep away\nremove endpoint 10.244.1.5 of web\n");
    for last in 13..20 {
        let moved = format!("node node-1 172.30.0.{last} fd00:30::{last}");
        text += &format!("step moves\n{moved} pods=10.244.1.0/24\n");
    }
    let mut all = flows::Verdicts::default();
    for newer in judged(&text) {
        all.extend_frontends(&newer);
    }
    let held = format!("{all:?}");
    assert!(held.contains("172.30.0.19"));
    for last in [11, 13, 18] {
        assert!(!held.contains(&format!("172.30.0.{last}")), "{held}");
    }
    let abandoned = |to| Flow {
        stage: Stage::Silent(Leave::EndpointHeard),
        ..answered(Protocol::Tcp, to, "10.244.1.5:80")
    };
    for (to, stale) in [
        ("172.30.0.11:30080", false),
        ("172.30.0.18:30080", false),
        ("172.30.0.19:30080", true),
    ] {
        assert_eq!(all.is_stale(&abandoned(to)), stale, "{to}");
    }
}

#[test]
fn verdicts_say_what_they_are_about() {
    let nothing = flows::Verdicts::default();
    assert!(nothing.is_empty() && !nothing.concern_standing());
    assert!(
        !Protocol::ALL
            .iter()
            .any(|protocol| nothing.concern(*protocol))
    );
    let concern = |text: &str| {
        let verdicts = judged(text).pop().expect("a step");
        assert!(!verdicts.is_empty());
        let protocols = Protocol::ALL.map(|protocol| verdicts.concern(protocol));
        (protocols, verdicts.concern_standing())
    };
    assert_eq!(
        concern(&format!("{NODE}{TWO}\n")),
        ([false, true, false], false)
    );
    assert_eq!(
        concern(&format!("{NODE}{WEB}\n")),
        ([true, false, false], false)
    );
    assert_eq!(concern(&format!("{RESET}\n")), ([true, false, false], true));
}

/// Verdicts wait before they are carried out: what came back meanwhile is not forgotten, and what was spared is not
/// condemned.
#[test]
fn verdicts_that_wait_learn_what_may_go_on_again_and_nothing_else() {
    let text = format!(
        "{NODE}{TWO}\nstep one goes\nremove endpoint 10.244.2.5 of dns\n\
         step they change places\nremove endpoint 10.244.1.5 of dns\nendpoint 10.244.2.5 ready on node-2 of dns\n\
         step the other family\nremove endpoint fd00:10:244:1::5 of dns\n"
    );
    let steps = judged(&text);
    let mut waiting = steps[1].clone();
    waiting.soften(&steps[1].clone());
    assert_eq!(waiting, steps[1]);
    waiting.soften(&flows::Verdicts::default());
    assert_eq!(waiting, steps[1]);
    waiting.soften(&steps[2]);
    for (endpoint, stale) in [
        ("10.244.1.5:53", false),
        ("10.244.2.5:53", false),
        ("10.244.3.5:53", true),
    ] {
        assert_eq!(
            waiting.is_stale(&udp("10.96.0.10:53", endpoint)),
            stale,
            "{endpoint}"
        );
    }
    waiting.soften(&steps[3]);
    let six = udp("[fd00:10:96::a]:53", "[fd00:10:244:1::5]:53");
    assert!(!waiting.is_stale(&six) && steps[3].is_stale(&six));
}

#[test]
fn verdicts_that_wait_learn_of_connections_and_of_node_addresses() {
    let text = format!(
        "{RESET}\nstep one goes\nremove endpoint 10.244.1.5 of web\n\
         step it comes back\nremove endpoint 10.244.2.5 of web\nendpoint 10.244.1.5 ready on node-1 of web\n"
    );
    let steps = judged(&text);
    let mut waiting = steps[1].clone();
    let stands = |endpoint| answered(Protocol::Tcp, "10.96.0.20:80", endpoint);
    assert!(waiting.is_stale(&stands("10.244.1.5:80")));
    waiting.soften(&steps[2]);
    for (endpoint, stale) in [
        ("10.244.1.5:80", false),
        ("10.244.2.5:80", false),
        ("10.244.3.5:80", true),
    ] {
        assert_eq!(waiting.is_stale(&stands(endpoint)), stale, "{endpoint}");
    }
    let moved = "node node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24\n";
    let steps = judged(&format!(
        "{NODE}{TWO}\nstep away\n{moved}step and back\n{NODE}"
    ));
    let (there, back) = (&steps[1], &steps[2]);
    let old = udp("172.30.0.11:30053", "10.244.1.5:53");
    let new = udp("172.30.0.13:30053", "10.244.1.5:53");
    assert!(there.is_stale(&old) && back.is_stale(&new));
    let mut waiting = there.clone();
    waiting.soften(back);
    assert!(!waiting.is_stale(&old) && !waiting.is_stale(&new));
}

#[test]
fn suspects_of_several_batches_are_judged_together() {
    let text = format!(
        "{NODE}{TWO}\n{WEB}\nstep the Service goes\nremove service web\n\
         step the node moves\nnode node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24\n\
         step and again\nnode node-1 172.30.0.14 fd00:30::11 pods=10.244.1.0/24\n"
    );
    let case = Case::parse("batches", &text).expect("a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    let mut all = flows::Suspects::default();
    for step in &case.steps[1..] {
        all.extend(flows::suspects(&world, &step.changes));
        world.apply(step.changes.iter().cloned());
    }
    let verdicts = all.judge(&world);
    let opening = Flow {
        stage: Stage::Opening,
        ..answered(Protocol::Tcp, "10.96.0.20:80", "10.244.1.5:80")
    };
    assert!(verdicts.is_stale(&opening), "the place of the first batch");
    for (address, stale) in [("172.30.0.11", true), ("172.30.0.14", false)] {
        let flow = udp(&format!("{address}:30053"), "10.244.1.5:53");
        assert_eq!(verdicts.is_stale(&flow), stale, "{address}");
    }
}

/// An agent that finds tables of before remembers their places: later batches add to them.
#[test]
fn what_is_remembered_is_kept_when_more_batches_come() {
    let at = daymark_model::FrontendKey::NodePort {
        family: daymark_model::Family::V4,
        protocol: Protocol::Udp,
        port: 30099,
    };
    let mut later = flows::Suspects::default();
    later.remember([at], ["172.30.0.77".parse().expect("an address")]);
    let mut all = flows::Suspects::default();
    all.extend(later);
    let verdicts = all.judge(&World::new(Options::default()));
    assert!(verdicts.is_stale(&udp("172.30.0.77:30099", "10.244.1.5:53")));
    assert!(!verdicts.is_stale(&udp("172.30.0.78:30099", "10.244.1.5:53")));
}

/// Whether a change of the cluster makes it worth to look for abandoned connections.
fn concerns_abandoned(before: &str, change: &str) -> bool {
    let text = format!("{NODE}{before}\nstep then\n{change}\n");
    let case = Case::parse("abandoned", &text).expect("a case");
    let mut world = World::new(Options::default());
    world.apply(case.steps[0].changes.iter().cloned());
    let changes = case.steps[1].changes.clone();
    let suspects = flows::suspects(&world, &changes);
    world.apply(changes);
    suspects.judge(&world).concern_abandoned()
}

#[test]
fn abandoned_connections_are_looked_for_when_an_endpoint_has_left() {
    let rows = [
        ("remove endpoint 10.244.1.5 of web", true),
        ("endpoint 10.244.1.5 not-ready on node-1 of web", false),
        ("endpoint 10.244.1.6 ready on node-1 of web", false),
        (
            "service web NodePort 80/TCP@30081 cluster=10.96.0.20",
            false,
        ),
        (
            "node node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24",
            false,
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(concerns_abandoned(WEB, change), expected, "{change}");
    }
    // A slice is whole in every change: what of it matters is whom it names, at which ports, for whom.
    let slice = |of: &str, ports: &str, endpoint: &str| {
        format!("slice solo of {of} IPv4 {ports}\nendpoint {endpoint} on node-1\n")
    };
    let before = slice("web", "80/TCP", "10.244.1.5 ready");
    for (after, expected) in [
        (before.clone(), false),
        (slice("web", "80/TCP", "10.244.1.5 terminating"), false),
        (slice("web", "80/TCP", "10.244.1.6 ready"), true),
        (slice("web", "8080/TCP", "10.244.1.5 ready"), true),
        (slice("other", "80/TCP", "10.244.1.5 ready"), true),
        ("remove slice solo".to_owned(), true),
    ] {
        let web = "service web ClusterIP 80/TCP cluster=10.96.0.20\n";
        let before = format!("{web}{before}");
        assert_eq!(concerns_abandoned(&before, &after), expected, "{after}");
    }
    let suspects = || {
        let mut suspects = flows::Suspects::default();
        let at = daymark_model::FrontendKey::Address {
            ip: "10.96.0.20".parse().expect("an address"),
            protocol: Protocol::Tcp,
            port: 80,
        };
        suspects.remember([at], []);
        suspects
    };
    let verdicts = suspects().judge(&World::new(Options::default()));
    assert!(verdicts.concern_abandoned(), "after a restart");
}
