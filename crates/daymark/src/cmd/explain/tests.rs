use clap::Parser;
use daymark_node::ask::wire::{
    Absent, Answer, Cause, Endpoint, Kernel, More, Object, Packet, Standing, Step,
};

use super::pods::Made;
use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

#[test]
fn clients_and_services_are_written_as_kubectl_has_them() {
    let from = |text: &str| who(text);
    assert_eq!(from("pod"), Ok(Who::OwnPod));
    assert_eq!(from("pod/a"), Ok(Who::Pod(None, "a".to_owned())));
    let other = Who::Pod(Some("shop".to_owned()), "a".to_owned());
    assert_eq!(from("pod/shop/a"), Ok(other));
    assert_eq!(from("node"), Ok(Who::Node(None)));
    assert_eq!(from("node/b"), Ok(Who::Node(Some("b".to_owned()))));
    assert_eq!(from("outside"), Ok(Who::Outside));
    let both = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(from("192.0.2.1,2001:db8::1"), Ok(Who::Addresses(both)));
    for bad in ["", "pod/", "pod/a/b/c", "192.0.2.300", "somewhere"] {
        assert!(from(bad).is_err(), "{bad}");
    }
    assert_eq!(service_name("svc/web"), Ok("web".to_owned()));
    assert_eq!(service_name("web"), Ok("web".to_owned()));
    for bad in ["pod/web", "", "svc/", "Web"] {
        assert!(service_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_lab_is_named_or_the_usual_one() {
    let lab = |words: &str| {
        let words = ["explain", "svc/web"]
            .into_iter()
            .chain(words.split_whitespace());
        Program::try_parse_from(words).map(|program| program.args.which.lab)
    };
    assert_eq!(lab("").unwrap(), None);
    assert_eq!(lab("--lab").unwrap().as_deref(), Some("lab"));
    assert_eq!(
        lab("--lab=mine --node node-2").unwrap().as_deref(),
        Some("mine")
    );
    assert!(lab("--node node-2").is_err(), "a node of which lab?");
}

fn answer(causes: Vec<Cause>) -> Answer {
    let (verdict, standing) = match causes.is_empty() {
        true => ("forward", "used"),
        false => ("reject", "not-ready"),
    };
    Answer {
        port: "TCP".to_owned(),
        kind: "cluster IP".to_owned(),
        field: "spec.clusterIPs".to_owned(),
        at: "10.96.0.7:80/TCP".to_owned(),
        packet: Some(Packet {
            source: "10.244.1.9".parse().unwrap(),
            destination: "10.96.0.7:80".parse().unwrap(),
            protocol: "TCP".to_owned(),
            arrival: "link".to_owned(),
        }),
        forwarded: causes.is_empty(),
        verdict: Some(verdict.to_owned()),
        steps: vec![Step {
            rule: "policy".to_owned(),
            outcome: "Cluster: any endpoint of the cluster".to_owned(),
            field: "spec.internalTrafficPolicy".to_owned(),
        }],
        standings: vec![Standing {
            standing: standing.to_owned(),
            text: "left out: not ready".to_owned(),
            endpoints: 1,
        }],
        endpoints: vec![Endpoint {
            address: "10.244.1.5".parse().unwrap(),
            port: Some(8080),
            node: Some("node-1".to_owned()),
            slice: "web-1".to_owned(),
            standing: standing.to_owned(),
            text: "left out: not ready".to_owned(),
        }],
        skipped: Vec::new(),
        causes,
        kernel: Some(Kernel {
            table: "ip daymark".to_owned(),
            agrees: true,
            unread: None,
            objects: vec![Object {
                object: "fe-a".to_owned(),
                meaning: "plan 3 (to-1)".to_owned(),
                agreement: "same".to_owned(),
                wanted: vec!["a".to_owned()],
                held: vec!["a".to_owned()],
            }],
            more: Vec::new(),
            unasked: 0,
            refused: Vec::new(),
            kept: None,
            connections: Some(7),
        }),
    }
}

fn findings(answers: Vec<Answer>) -> Findings {
    Findings {
        from: "pod/client-1".to_owned(),
        note: None,
        explained: Explained {
            node: "node-1".to_owned(),
            service: "default/web".to_owned(),
            client: vec!["10.244.1.9".parse().unwrap()],
            stale: None,
            cause: None,
            answers,
            absent: None,
            untold: 0,
            listeners: Vec::new(),
        },
        pods: None,
    }
}

fn cause() -> Cause {
    Cause {
        code: "none-ready".to_owned(),
        text: "its one endpoint is not ready".to_owned(),
        remedy: "look at the probes".to_owned(),
    }
}

#[test]
fn a_place_is_told_in_full_with_its_cause_and_remedy() {
    let findings = findings(vec![answer(vec![cause()])]);
    assert!(!findings.is_good());
    assert_eq!(
        table::table(&findings, false),
        "Service default/web at node-1, from pod/client-1 (10.244.1.9)\n\n\
         PLACE             KIND        VERDICT\n\
         10.96.0.7:80/TCP  cluster IP  refused: its one endpoint is not ready\n\n\
         10.96.0.7:80/TCP (cluster IP)\n  \
           rules\n    policy  Cluster: any endpoint of the cluster  spec.internalTrafficPolicy\n  \
           endpoints\n    10.244.1.5:8080  node-1  web-1  left out: not ready\n  \
           kernel: table ip daymark, as it should be\n    fe-a  plan 3 (to-1)  same\n    \
             7 new connections so far to this port, at all its places of this family\n  \
           why:    its one endpoint is not ready\n  \
           remedy: look at the probes\n\n\
         Pods\n  not read: --kubeconfig FILE says how, and --answer FILE takes this answer (-o json) to where one is\n"
    );
}

#[test]
fn of_good_places_the_first_is_told_in_full_and_of_bad_ones_one_for_each_cause() {
    let full = |answers: Vec<Answer>, all| {
        let text = table::table(&findings(answers), all);
        text.matches("\n  rules\n").count()
    };
    let (good, bad) = (answer(vec![]), answer(vec![cause()]));
    assert_eq!(full(vec![good.clone(), good.clone()], false), 1);
    let mut other = bad.clone();
    other.causes[0].text = "something else".to_owned();
    assert_eq!(full(vec![good.clone(), bad.clone(), bad.clone()], false), 1);
    assert_eq!(full(vec![bad.clone(), other, bad.clone()], false), 2);
    assert_eq!(full(vec![good.clone(), bad, good.clone()], true), 3);
    let mut unlike = good.clone();
    if let Some(kernel) = &mut unlike.kernel {
        kernel.agrees = false;
        kernel.objects[0].agreement = "missing".to_owned();
        kernel.objects[0].held.clear();
    }
    let findings = findings(vec![good, unlike]);
    assert!(!findings.is_good());
    let text = table::table(&findings, false);
    assert!(text.contains("forwarded to 1 endpoint, but the kernel holds something else"));
    assert!(text.contains("missing  wanted a, held nothing"), "{text}");
}

#[test]
fn good_is_what_every_packet_that_can_be_sent_reaches() {
    let mut unasked = answer(vec![cause()]);
    (unasked.packet, unasked.verdict, unasked.kernel) = (None, None, None);
    assert!(findings(vec![answer(vec![]), unasked.clone()]).is_good());
    assert!(!findings(vec![unasked]).is_good());
    assert!(!findings(vec![]).is_good());
}

/// A place with five thousand endpoints, of which two are not ready, and whose slots the kernel was asked for.
fn large() -> Answer {
    let mut large = answer(vec![]);
    let of = |standing: &str, text: &str, endpoints| Standing {
        standing: standing.to_owned(),
        text: text.to_owned(),
        endpoints,
    };
    large.standings = vec![
        of("used", "used, sees the client's address", 4998),
        of("not-ready", "left out: not ready", 2),
    ];
    let one = large.endpoints[0].clone();
    let endpoint = |number: u16| Endpoint {
        address: format!("10.244.{}.{}", number / 250, number % 250)
            .parse()
            .unwrap(),
        standing: if number < 2 { "not-ready" } else { "used" }.to_owned(),
        ..one.clone()
    };
    large.endpoints = (0..100).map(endpoint).collect();
    let kernel = large.kernel.as_mut().unwrap();
    let slot = |number: u16| Object {
        object: "slots".to_owned(),
        meaning: format!("slot {number}"),
        ..kernel.objects[0].clone()
    };
    let slots: Vec<Object> = (0..50).map(slot).collect();
    kernel.objects.extend(slots);
    kernel.more = vec![More {
        object: "slots".to_owned(),
        same: 4948,
        differing: 0,
    }];
    large
}

#[test]
fn thousands_of_endpoints_are_counted_and_the_first_of_each_kind_named() {
    let found = findings(vec![large()]);
    let text = table::table(&found, true);
    let expected = "forwarded to 4998 endpoints\n\n\
         10.96.0.7:80/TCP (cluster IP)\n  \
           rules\n    policy  Cluster: any endpoint of the cluster  spec.internalTrafficPolicy\n  \
           endpoints\n    \
             2 endpoints     left out: not ready              10.244.0.0:8080 on node-1, 10.244.0.1:8080 on node-1\n    \
             4998 endpoints  used, sees the client's address  10.244.0.2:8080 on node-1, 10.244.0.3:8080 on node-1, \
               10.244.0.4:8080 on node-1, ...\n  \
           kernel: table ip daymark, as it should be\n    \
             fe-a   plan 3 (to-1)      same\n    \
             slots  slot 0             same\n    \
             slots  slot 1             same\n    \
             slots  slot 2             same\n    \
             slots  ... and 4995 more  same\n";
    assert!(text.contains(expected), "{text}");
    let mut differs = large();
    let kernel = differs.kernel.as_mut().unwrap();
    (kernel.agrees, kernel.more[0].differing) = (false, 7);
    let text = table::table(&findings(vec![differs]), true);
    assert!(
        text.contains("slots  ... and 7 more     not the same\n"),
        "{text}"
    );
}

#[test]
fn places_that_were_not_looked_at_are_told_and_not_taken_for_good() {
    let mut found = findings(vec![answer(vec![])]);
    assert_eq!(found.code(), 0);
    found.explained.untold = 900;
    assert_eq!(found.code(), UNKNOWN);
    let text = table::table(&found, false);
    assert!(
        text.contains("\n900 more places were not looked at: name one with --port"),
        "{text}"
    );
    found.explained.answers.push(answer(vec![cause()]));
    assert_eq!(found.code(), 1);
}

#[test]
fn a_load_balancer_without_an_address_is_a_row_and_bad_for_who_is_outside() {
    let mut findings = findings(vec![answer(vec![])]);
    let mut absent = Absent {
        kind: "load-balancer IP".to_owned(),
        field: "status.loadBalancer.ingress".to_owned(),
        needed: false,
        cause: cause(),
    };
    absent.cause.text = "status.loadBalancer has no IP address".to_owned();
    findings.explained.absent = Some(absent.clone());
    assert!(findings.is_good(), "a Pod has the cluster IP");
    let text = table::table(&findings, false);
    for part in [
        "\n-                 load-balancer IP  none: status.loadBalancer has no IP address\n",
        "\nload-balancer IP\n  why:    status.loadBalancer has no IP address\n  remedy: look at the probes\n",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    absent.needed = true;
    findings.explained.absent = Some(absent);
    assert!(!findings.is_good());
}

#[test]
fn a_remedy_is_for_who_makes_the_slices_once_that_is_known() {
    let fitted = |code: &str, made: Made| {
        let of_code = Cause {
            code: code.to_owned(),
            ..cause()
        };
        let mut explained = findings(vec![answer(vec![of_code])]).explained;
        let pods = Pods {
            made,
            ..Pods::default()
        };
        remedies::fit(&mut explained, &pods);
        explained.answers[0].causes[0].remedy.clone()
    };
    let ports = |made| fitted("port-not-named", made);
    assert!(ports(Made::ByHand).starts_with("ports[].name of the EndpointSlice"));
    assert!(ports(Made::BySelector).starts_with("spec.ports[].targetPort must be"));
    for code in ["no-slices", "no-endpoints", "port-not-named"] {
        assert_ne!(
            fitted(code, Made::ByHand),
            fitted(code, Made::BySelector),
            "{code}"
        );
        assert_eq!(
            fitted(code, Made::Unknown),
            "look at the probes",
            "the agent's own"
        );
    }
    assert_eq!(fitted("source-range", Made::ByHand), "look at the probes");
}

#[test]
fn that_pods_were_not_read_is_told_where_they_would_help() {
    let told = |code: &str, pods: Option<Pods>| {
        let of_code = Cause {
            code: code.to_owned(),
            ..cause()
        };
        let mut findings = findings(vec![answer(vec![of_code])]);
        findings.pods = pods;
        table::table(&findings, false).contains("--kubeconfig")
    };
    assert!(told("no-endpoints", None));
    assert!(!told("no-endpoints", Some(Pods::default())), "they were");
    assert!(!told("source-range", None), "no Pod changes that");
}

#[test]
fn an_answer_from_elsewhere_is_what_was_printed_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer.json");
    let printed = serde_json::to_string_pretty(&findings(vec![answer(vec![cause()])])).unwrap();
    std::fs::write(&path, &printed).unwrap();
    let found = answer::read(&path).unwrap();
    assert_eq!(serde_json::to_string_pretty(&found).unwrap(), printed);
    let named = answer::service(&found).unwrap();
    assert_eq!(named, ("default".to_owned(), "web".to_owned()));
    for (bad, says) in [
        ("\n", "it is empty"),
        ("{\"node\": 1}", "not what daymark explain prints"),
    ] {
        std::fs::write(&path, bad).unwrap();
        let error = format!("{:#}", answer::read(&path).err().unwrap());
        assert!(
            error.contains(says) && error.contains("answer.json"),
            "{error}"
        );
    }
    let parse = |words: &str| Program::try_parse_from(words.split(' ')).map(|_| ());
    assert!(parse("explain --answer -").is_ok());
    assert!(parse("explain --answer - --from pod/client-1").is_ok());
    assert!(parse("explain").is_err(), "which Service?");
    for other in ["svc/web", "--lab", "--socket /a", "-n shop"] {
        assert!(
            parse(&format!("explain --answer - {other}")).is_err(),
            "{other}"
        );
    }
}

#[test]
fn of_a_service_that_the_api_alone_has_it_is_said_why() {
    let told = |ip: &str| {
        let mut explained = findings(vec![]).explained;
        explained.cause = Some(Cause {
            code: "no-service".to_owned(),
            ..cause()
        });
        let spec = serde_json::json!({"spec": {"clusterIP": ip, "selector": {"app": "web"}}});
        let pods = pods::tell(&serde_json::from_value(spec).unwrap(), &[], &explained);
        pods.selector.unwrap()
    };
    assert!(told("None").contains("it is headless"), "{}", told("None"));
    assert!(
        told("10.96.0.7").contains("daymark status"),
        "{}",
        told("10.96.0.7")
    );
}

#[tokio::test]
async fn an_answer_is_held_against_whom_it_is_said_to_be_about() {
    let pod = |addresses: &[&str], node: &str| Sender {
        name: "pod/client-1".to_owned(),
        from: From::Pod {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            node: Some(node.to_owned()),
        },
        node: Some(node.to_owned()),
    };
    let mut found = findings(vec![answer(vec![])]);
    found.from = "10.244.1.9".to_owned();
    // One of a Pod's two addresses was asked with.
    let both = pod(&["10.244.1.9", "fd00::9"], "node-1");
    both.is_meant_by(&found).unwrap();
    assert_eq!(both.elsewhere("node-1"), None);
    let note = both.elsewhere("node-2").unwrap();
    assert!(note.starts_with("pod/client-1 is on node-1"), "{note}");
    let other = pod(&["10.244.2.3", "fd00::3"], "node-2");
    let said = other.is_meant_by(&found).unwrap_err().to_string();
    assert_eq!(
        said,
        "--from pod/client-1: the answer is about 10.244.1.9 (10.244.1.9), and not about 10.244.2.3,fd00::3: ask the agent of node-2 with \
         --from 10.244.2.3,fd00::3"
    );
    let in_node_network = Sender {
        from: From::Node,
        ..pod(&[], "node-1")
    };
    let said = in_node_network.is_meant_by(&found).unwrap_err().to_string();
    assert!(said.contains("--from node"), "{said}");
    found.from = sender::NODE.to_owned();
    in_node_network.is_meant_by(&found).unwrap();
    found.explained.client.clear();
    both.is_meant_by(&found).unwrap_err();

    let claimed = async |text: &str| {
        let sender = Sender::claimed(&who(text).unwrap(), None, "shop").await;
        sender.err().map(|error| error.to_string())
    };
    assert_eq!(claimed("10.244.1.9").await, None);
    let said = claimed("pod/client-1").await.unwrap();
    for part in [
        "--kubeconfig",
        "--from ADDRESS",
        "kubectl -n shop get pod client-1",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    for text in ["pod", "node", "node/node-1", "outside"] {
        let said = claimed(text).await.unwrap();
        assert!(said.contains("where the agent is asked"), "{said}");
    }
}
