use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cluster::Where;
use crate::scenario::{Expectation, Finding, Name, Seen, Target, Transport, Wanted};

fn action_of(line: &str) -> Result<Action, String> {
    parse(line, "default")
        .map(|mut scenario| scenario.steps.remove(0).action)
        .map_err(|error| error.reason)
}

#[test]
fn every_step_is_read() {
    let pod = |name: &str| Where::Pod {
        namespace: "default".into(),
        name: name.into(),
    };
    let name = |namespace: &str, name: &str| Name {
        namespace: namespace.into(),
        name: name.into(),
    };
    let object = |kind: &str, namespace: &str, name: &str| Object {
        kind: Kind::find(kind).unwrap(),
        namespace: namespace.into(),
        name: name.into(),
    };
    let ten = Duration::from_secs(10);
    for (line, action) in [
        (
            "apply web.yaml",
            Action::Apply(Manifest::File("web.yaml".into())),
        ),
        ("wait api ready", Action::WaitApi { within: ten }),
        ("wait pods ready", Action::WaitPods { within: ten }),
        (
            "wait pod shop/a gone within 500ms",
            Action::WaitGone {
                object: object("pod", "shop", "a"),
                within: Duration::from_millis(500),
            },
        ),
        (
            "wait service web addresses",
            Action::WaitService {
                name: name("default", "web"),
                within: ten,
            },
        ),
        (
            "delete pod a grace 0",
            Action::Delete {
                object: object("pod", "default", "a"),
                grace: Some(0),
            },
        ),
        ("cut node-2", Action::Cut("node-2".into())),
        ("restore node-2", Action::Restore("node-2".into())),
        (
            "kill agent node-1",
            Action::Kill(Part::Agent("node-1".into())),
        ),
        ("start api", Action::Start(Part::Api)),
        ("sleep 0.5s", Action::Sleep(Duration::from_millis(500))),
        (
            "load l from pod/c to web:80 rate 200 for 2s",
            Action::Load(Load {
                name: "l".into(),
                from: pod("c"),
                to: tcp("web:80"),
                rate: 200,
                lasting: Duration::from_secs(2),
            }),
        ),
        (
            "expect load l failures at most 0",
            Action::ExpectLoad {
                name: "l".into(),
                failures: 0,
            },
        ),
        (
            "expect outside misses 10.96.0.1:443 within 1s",
            Action::Expect(Expectation {
                from: Where::Outside,
                to: tcp("10.96.0.1:443"),
                finding: Finding::Unanswered,
                within: Duration::from_secs(1),
            }),
        ),
        (
            "expect pod/c reaches web:80 at web-0",
            Action::Expect(Expectation {
                from: pod("c"),
                to: tcp("web:80"),
                finding: Finding::Answered {
                    by: Some("web-0".into()),
                    seen: None,
                },
                within: ten,
            }),
        ),
        (
            "pod a on node-1 label app=web port 80 port 81 host probed lingers 5",
            Action::Pod(NewPod {
                name: "a".into(),
                node: Some("node-1".into()),
                labels: vec![("app".into(), "web".into())],
                ports: vec![80, 81],
                network: PodNetwork::Host,
                readiness: PodReadiness::Probed,
                lingers: Some(5),
            }),
        ),
        (
            "patch service/web {spec: {type: NodePort}}",
            Action::Patch {
                object: object("service", "default", "web"),
                subresource: None,
                patch: "{spec: {type: NodePort}}".into(),
            },
        ),
        (
            "delete every service with a=b",
            Action::DeleteEvery {
                kind: Kind::find("service").unwrap(),
                selector: "a=b".into(),
            },
        ),
        (
            "wait service/web gone",
            Action::WaitGone {
                object: object("service", "default", "web"),
                within: ten,
            },
        ),
        (
            "expect object service/web has spec.ports.0.port 80",
            Action::ExpectField {
                object: object("service", "default", "web"),
                path: "spec.ports.0.port".into(),
                wanted: Wanted::Equal(json!(80)),
                within: ten,
            },
        ),
        (
            "expect slices web 2",
            Action::ExpectSlices {
                service: name("default", "web"),
                count: 2,
                within: ten,
            },
        ),
        (
            "expect events shop/web Conflict 1 within 3s",
            Action::ExpectEvents {
                service: name("shop", "web"),
                reason: "Conflict".into(),
                count: 1,
                within: Duration::from_secs(3),
            },
        ),
        (
            "expect endpoints web are b:80,a:80 within 1s",
            Action::ExpectEndpoints {
                service: name("default", "web"),
                endpoints: ["a:80", "b:80"].map(String::from).into(),
                within: Duration::from_secs(1),
            },
        ),
        (
            "run node-1 -- true x",
            Action::Run {
                place: Where::Node("node-1".into()),
                command: vec!["true".into(), "x".into()],
            },
        ),
    ] {
        assert_eq!(action_of(line).as_ref(), Ok(&action), "{line}");
    }
}

#[test]
fn a_bad_line_is_named_with_what_would_be_right() {
    for (text, line, reason) in [
        ("\n# x\nfly", 3, "\"fly\" is no step"),
        ("sleep 5", 1, "\"5\" is no duration such as 200ms or 2s"),
        ("wait pods", 1, "the line ends where ready was expected"),
        ("cut node-1 now", 1, "\"now\" is too much"),
        (
            "cut a\nnodes 2",
            2,
            "nodes must come before everything else",
        ),
        ("nodes 900", 1, "nodes 900: not a number that fits"),
        ("kill dns", 1, "\"dns\" is no part of a lab"),
        (
            "expect pod/a sees b:1",
            1,
            "expect pod/default/a sees: write reaches, misses,",
        ),
        ("run node-1 --", 1, "a COMMAND must follow --"),
        ("apply\nsleep 1s", 1, "apply: a FILE must follow"),
        (
            "sleep 1s\n  a: b",
            2,
            "an indented line belongs to an apply",
        ),
        (
            "refuse x\nsleep 1s",
            2,
            "after refuse comes apply, pod, patch or delete",
        ),
        ("refuse x", 1, "no step follows"),
        ("patch service {}", 1, "\"service\" is no object"),
        ("pod a at node-1", 1, "pod a: \"at\": on NODE"),
        ("pod a label x", 1, "label x: write KEY=VALUE"),
    ] {
        let error = parse(text, "default").unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.reason.starts_with(reason), "{text}: {}", error.reason);
    }
}

#[test]
fn a_scenario_may_choose_its_number_of_nodes() {
    assert_eq!(parse("nodes 5\nsleep 1s", "default").unwrap().nodes, 5);
    assert_eq!(parse("sleep 1s", "default").unwrap().nodes, 3);
    let flags = parse("agents --a b\nnodes 2", "default").unwrap().agents;
    assert_eq!(flags, ["--a", "b"]);
}

fn tcp(address: &str) -> Target {
    Target {
        address: address.into(),
        protocol: Transport::Tcp,
        from_port: None,
        bytes: 0,
    }
}

#[test]
fn every_finding_is_read() {
    let pods = |list: &[&str]| list.iter().map(|pod| (*pod).to_owned()).collect();
    for (text, finding) in [
        (
            "reaches h:1",
            Finding::Answered {
                by: None,
                seen: None,
            },
        ),
        (
            "reaches h:1 at a seen as node-2",
            Finding::Answered {
                by: Some("a".into()),
                seen: Some(Seen::Node("node-2".into())),
            },
        ),
        (
            "reaches h:1 only at b,a seen as itself",
            Finding::OnlyBy {
                pods: pods(&["a", "b"]),
                seen: Some(Seen::Itself),
            },
        ),
        ("misses h:1", Finding::Unanswered),
        ("is refused at h:1", Finding::Refused),
        ("times out at h:1", Finding::Silence),
        ("sticks to h:1", Finding::OneForAll),
        ("spreads over h:1", Finding::Several { every: None }),
        (
            "spreads over h:1 every 3s",
            Finding::Several {
                every: Some(Duration::from_secs(3)),
            },
        ),
        (
            "gets 503 from h:1 saying no",
            Finding::Code {
                code: 503,
                body: Some("no".into()),
            },
        ),
    ] {
        let expected = Action::Expect(Expectation {
            from: Where::Outside,
            to: tcp("h:1"),
            finding,
            within: Duration::from_secs(10),
        });
        assert_eq!(
            action_of(&format!("expect outside {text}")),
            Ok(expected),
            "{text}"
        );
    }
}

#[test]
fn a_target_has_a_protocol_a_source_port_and_a_size() {
    let Ok(Action::Expect(expectation)) =
        action_of("expect node-1 misses [::1]:53/udp from port 12345 with 4000 bytes")
    else {
        panic!("it is an expectation");
    };
    let expected = Target {
        protocol: Transport::Udp,
        from_port: Some(12345),
        bytes: 4000,
        ..tcp("[::1]:53")
    };
    assert_eq!(expectation.to, expected);
}

#[test]
fn a_manifest_may_stand_below_its_step_and_be_refused() {
    let text = "refuse already taken\napply\n  kind: Pod\n  ---\n  kind: Service\n\nsleep 1s";
    let steps = parse(text, "shop").unwrap().steps;
    let manifest = Manifest::Inline("  kind: Pod\n---\n  kind: Service\n\n".into());
    let expected = Action::Refused {
        says: "already taken".into(),
        action: Box::new(Action::Apply(manifest)),
    };
    assert_eq!(steps[0].action, expected);
    assert_eq!((steps[0].line, steps[1].line), (2, 7));
}

#[test]
fn what_names_no_namespace_is_in_the_scenarios_own() {
    let steps = parse(
        "expect pod/a reaches pod/b:1\nexpect pod/x/a reaches h:1\ndelete pod a",
        "shop",
    );
    let places: Vec<String> = steps
        .unwrap()
        .steps
        .into_iter()
        .map(|step| match step.action {
            Action::Expect(expectation) => expectation.from.to_string(),
            Action::Delete { object, .. } => object.path(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        places,
        ["pod/shop/a", "pod/x/a", "/api/v1/namespaces/shop/pods/a"]
    );
}

#[test]
fn a_scenario_that_touches_the_whole_lab_is_alone_in_it() {
    let check = |text: &str, manners| {
        assert_eq!(parse(text, "default").unwrap().manners(), manners, "{text}");
    };
    check("pod a\ndelete service/web", Manners::Together);
    check("alone\npod a", Manners::Alone);
    check("cut node-1", Manners::Alone);
    check(
        "patch node/node-1 {metadata: {labels: {a: b}}}",
        Manners::Alone,
    );
    check("refuse no\ndelete servicecidr/x", Manners::Alone);
}
