//! Which flows go on when endpoints and Services change.

mod verdicts;

use daymark_case::Case;
use daymark_model::flows::{self, Flow, Leave, Stage};
use daymark_model::{Family, Options, Protocol, World};

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
        family: Family::V4,
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
