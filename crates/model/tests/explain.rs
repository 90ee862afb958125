//! An explanation says what `decide` decides, and names the cause of what does not get through.

use std::net::IpAddr;

use daymark_case::Case;
use daymark_case::random::{self, Random, packets};
use daymark_model::decide::{Arrival, decision};
use daymark_model::explain::{
    Answer, Asker, Cause, PortAsked, Question, Standing, explain, listeners,
};
use daymark_model::input::Detector;
use daymark_model::{ServiceKey, Target, Verdict, World, decide};
use proptest::prelude::*;

const NODE: &str = "node node-1 172.30.0.11 pods=10.244.1.0/24 zone=a\n";

fn world(text: &str) -> World {
    let (options, objects) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("options") => (format!("{first}\n"), rest),
        _ => (String::new(), text),
    };
    let text = format!("{options}{NODE}{objects}");
    let case = Case::parse("here", &text).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

fn from(source: &str) -> Asker {
    let parse = |ip: &str| ip.parse::<IpAddr>().expect("an address");
    match source {
        "node" => Asker {
            arrival: Arrival::Node,
            addresses: Vec::new(),
        },
        ips => Asker {
            arrival: Arrival::Link,
            addresses: ips.split(',').map(parse).collect(),
        },
    }
}

fn ask(source: &str) -> Question {
    Question {
        service: ServiceKey::new("default", "web"),
        port: None,
        address: None,
        client: from(source),
    }
}

const POD: &str = "10.244.1.9";
const OUTSIDE: &str = "192.0.2.7";

/// The causes of the only answer, or why there is none.
fn causes(world: &World, question: &Question) -> Vec<Cause> {
    match explain(world, question) {
        Err(cause) => vec![cause],
        Ok(answers) => {
            assert_eq!(answers.len(), 1, "{answers:?}");
            answers[0].causes.clone()
        }
    }
}

/// The one cause for a packet of `source` to `address`, by its code and in words.
fn check(text: &str, source: &str, address: Option<&str>, code: &str, words: &str) {
    let world = world(text);
    let question = Question {
        address: address.map(|ip| ip.parse().expect("an address")),
        ..ask(source)
    };
    let found = causes(&world, &question);
    let told: Vec<(&str, String)> = found.iter().map(|c| (c.code(), c.to_string())).collect();
    assert_eq!(told, [(code, words.to_owned())], "{text}");
    assert!(!found[0].remedy().is_empty());
}

#[test]
fn the_usual_questions_have_their_cause() {
    let web = |rest: &str| format!("service web ClusterIP 80->8080/TCP cluster=10.96.0.7 {rest}\n");
    let lb = |rest: &str| {
        format!("service web LoadBalancer 80->8080/TCP cluster=10.96.0.7 lb=172.30.0.200 {rest}\n")
    };
    let here = "endpoint 10.244.1.5 ready on node-1\n";
    let there = "endpoint 10.244.2.5 ready on node-2\n";
    let at = Some("172.30.0.200");
    check(
        &web(""),
        POD,
        None,
        "no-slices",
        "no EndpointSlice carries the Service's name",
    );
    check(
        &format!("{}slice web-1 of web IPv4 8080/TCP\n", web("")),
        POD,
        None,
        "no-endpoints",
        "its EndpointSlices are empty: the selector matches no Pod that has an address",
    );
    check(
        &format!("{}endpoint 10.244.1.5 not-ready on node-1\n", web("")),
        POD,
        None,
        "none-ready",
        "none of 1 endpoint is ready",
    );
    check(
        &format!(
            "{}endpoint 10.244.1.5 not-ready on node-1\nendpoint 10.244.2.5 terminating on node-2\n",
            web("")
        ),
        POD,
        None,
        "none-ready",
        "none of 2 endpoints is ready: 1 not ready, 1 terminating",
    );
    check(
        &format!(
            "service web ClusterIP http:80/TCP cluster=10.96.0.7\n\
             slice web-1 of web IPv4 admin:9000/TCP\n{here}"
        ),
        POD,
        None,
        "port-not-named",
        "endpoints are there, but without the port \"http\"/TCP: their slices name \"admin\"/TCP",
    );
    check(
        &(web("internal-policy=Local") + there),
        POD,
        None,
        "no-local-endpoint",
        "internalTrafficPolicy is Local and no endpoint is on node-1: they are on node-2",
    );
    check(
        &(lb("external-policy=Local") + there),
        OUTSIDE,
        at,
        "no-local-endpoint",
        "externalTrafficPolicy is Local and no endpoint is on node-1: they are on node-2",
    );
    check(
        &(lb("ranges=198.51.100.0/24,203.0.113.0/24") + here),
        OUTSIDE,
        at,
        "source-range",
        "the client 192.0.2.7 is in none of loadBalancerSourceRanges (198.51.100.0/24, 203.0.113.0/24)",
    );
    check(
        &(lb("ranges=2001:db8::/32") + here),
        OUTSIDE,
        at,
        "source-range",
        "loadBalancerSourceRanges has no IPv4 prefix, so nobody may come from 192.0.2.7",
    );
}

#[test]
fn what_nodes_do_not_serve_says_so() {
    let here = "endpoint 10.244.1.5 ready on node-1\n";
    let rows = [
        (
            "service web ExternalName=web.example\n",
            "external-name",
            "its type is ExternalName: an alias in DNS, without any address",
        ),
        (
            "service web ClusterIP 80/TCP cluster=None\n",
            "headless",
            "it is headless (clusterIP: None): names in DNS, without any address",
        ),
        (
            "service web ClusterIP 80/TCP\n",
            "no-cluster-ip",
            "it has no cluster IP yet",
        ),
        (
            "service web ClusterIP 80/TCP cluster=10.96.0.7 proxy-name=mesh\n",
            "other-proxy",
            "the label service.kubernetes.io/service-proxy-name hands it to another proxy, mesh",
        ),
        (
            "service web ClusterIP cluster=10.96.0.7\n",
            "no-ports",
            "spec.ports is empty",
        ),
        (
            "service other ClusterIP 80/TCP cluster=10.96.0.7\n",
            "no-service",
            "there is no Service default/web",
        ),
    ];
    for (text, code, words) in rows {
        check(text, POD, None, code, words);
    }
    let at_lb = Some("172.30.0.200");
    let rows = [
        (
            "service web LoadBalancer 80/TCP cluster=10.96.0.7 lb=172.30.0.200:proxy\n",
            at_lb,
            "ip-mode-proxy",
            "its ipMode is Proxy: nodes leave the address alone",
        ),
        (
            "service web ClusterIP 80/TCP cluster=10.96.0.7 lb=172.30.0.200\n",
            at_lb,
            "not-load-balancer",
            "a status left over: spec.type is not LoadBalancer",
        ),
        (
            "service web ClusterIP 80/TCP cluster=fd00:10:96::7 external=172.30.0.200\n",
            at_lb,
            "no-cluster-ip-of-family",
            "the Service has no cluster IP of this family",
        ),
        (
            "service web ClusterIP 80/TCP@30080 cluster=10.96.0.7\n",
            Some("172.30.0.11"),
            "no-node-ports",
            "a number left over: spec.type is ClusterIP",
        ),
        (
            "service web ClusterIP 80/TCP cluster=10.96.0.7\n",
            at_lb,
            "no-such-address",
            "172.30.0.200 is none of its addresses: it has 10.96.0.7",
        ),
    ];
    for (text, address, code, words) in rows {
        check(&format!("{text}{here}"), OUTSIDE, address, code, words);
    }
}

#[test]
fn settings_that_change_a_rule_are_named() {
    let there = "endpoint 10.244.2.5 ready on node-2\n";
    check(
        &format!(
            "options external-ips=cidr:192.0.2.0/24\n\
             service web ClusterIP 80/TCP cluster=10.96.0.7 external=172.30.0.200\n{there}"
        ),
        OUTSIDE,
        Some("172.30.0.200"),
        "external-ip-not-allowed",
        "this node's settings do not allow this external IP",
    );
    let text = format!(
        "options without-local=cluster\n\
         service web ClusterIP 80/TCP cluster=10.96.0.7 external=172.30.0.200 internal-policy=Local\n{there}"
    );
    let world_with_it = world(&text);
    let answers = explain(&world_with_it, &ask(POD)).expect("places");
    let policy = answers[0].steps.iter().find(|step| step.rule() == "policy");
    assert_eq!(
        policy.map(ToString::to_string).as_deref(),
        Some("Local, but no endpoint is here: any endpoint of the cluster (without-local)")
    );
    assert!(answers[0].is_forwarded());
    // Of a Service that nobody outside reaches, the cluster IP refuses.
    check(
        &text.replace(" external=172.30.0.200", ""),
        POD,
        None,
        "no-local-endpoint",
        "internalTrafficPolicy is Local and no endpoint is on node-1: they are on node-2",
    );
}

#[test]
fn the_loser_of_a_conflict_is_told_who_won_and_why() {
    let two = |web: &str, other: &str| {
        format!(
            "service web LoadBalancer 80/TCP@30080 cluster=10.96.0.7 {web}\n\
             endpoint 10.244.1.5 ready on node-1\n\
             service other LoadBalancer 80/TCP cluster=10.96.0.8 {other}\n\
             endpoint 10.244.1.6 ready on node-1\n"
        )
    };
    check(
        &two("created=2 lb=172.30.0.200", "created=1 lb=172.30.0.200"),
        OUTSIDE,
        Some("172.30.0.200"),
        "held-by-another",
        "default/other/TCP has this address and port: it is older",
    );
    check(
        &two("lb=172.30.0.200", "lb=172.30.0.200"),
        OUTSIDE,
        Some("172.30.0.200"),
        "held-by-another",
        "default/other/TCP has this address and port: it is as old, and its name comes first",
    );
    let text = "service web NodePort 80/TCP@30080 cluster=10.96.0.7\n\
                endpoint 10.244.1.5 ready on node-1\n\
                service other ClusterIP 30080/TCP cluster=10.96.0.8 external=172.30.0.11\n\
                endpoint 10.244.1.6 ready on node-1\n";
    check(
        text,
        OUTSIDE,
        Some("172.30.0.11"),
        "held-by-another",
        "default/other/TCP has this address and port: it has this very address, which goes before a node port",
    );
}

#[test]
fn a_family_that_one_side_lacks_says_which() {
    let text = "service web ClusterIP 80/TCP cluster=10.96.0.7,fd00:10:96::7\n\
                endpoint 10.244.1.5 ready on node-1\n";
    let six = Some("fd00:10:96::7");
    let both = "10.244.1.9,fd00:10:244:1::9";
    check(
        text,
        both,
        six,
        "other-family-only",
        "no endpoint has an IPv6 address",
    );
    check(
        text,
        POD,
        six,
        "client-without-family",
        "the client has no IPv6 address",
    );
    let text = "service web NodePort 80/TCP@30080 cluster=fd00:10:96::7\n\
                endpoint fd00:10:244:1::5 ready on node-1\n";
    let question = Question {
        port: Some(PortAsked::Number(30080)),
        ..ask("fd00:10:244:1::9")
    };
    let found = causes(&world(text), &question);
    assert_eq!(found[0].code(), "no-node-port-address");
}

#[test]
fn a_port_is_named_by_number_node_port_or_name() {
    let text = "service web NodePort http:80/TCP@30080 admin:81/TCP cluster=10.96.0.7\n\
                endpoint 10.244.1.5 ready on node-1\n";
    let places = |port| {
        let question = Question {
            port: Some(port),
            ..ask(POD)
        };
        let answers = explain(&world(text), &question);
        answers.map(|all| all.iter().map(|a| a.at.to_string()).collect::<Vec<_>>())
    };
    let at = "10.96.0.7:80/TCP".to_owned();
    let node_port = "node-port 30080/TCP (IPv4)".to_owned();
    let number = PortAsked::Number;
    assert_eq!(places(number(80)), Ok(vec![at.clone(), node_port.clone()]));
    assert_eq!(places(number(30080)), Ok(vec![node_port.clone()]));
    assert_eq!(
        places(PortAsked::Name("http".into())),
        Ok(vec![at, node_port])
    );
    let unknown = places(number(8080)).expect_err("there is no such port");
    assert_eq!(
        unknown.to_string(),
        "it has no port 8080: it has 80/TCP (http), node port 30080, 81/TCP (admin)"
    );
    assert_eq!(unknown.code(), "no-such-port");
}

#[test]
fn each_endpoint_has_its_reason_and_each_rule_its_field() {
    let text = "service web LoadBalancer 80->8080/TCP cluster=10.96.0.7 lb=172.30.0.200 external-policy=Local \
                ranges=192.0.2.0/24 affinity=ClientIP:60\n\
                endpoint 10.244.1.5 ready on node-1\n\
                endpoint 10.244.1.6 not-ready on node-1\n\
                endpoint 10.244.1.7 draining on node-1\n\
                endpoint 10.244.1.8 terminating on node-1\n\
                endpoint 10.244.2.5 ready on node-2\n\
                slice web-x of web IPv4 8080/TCP\n\
                endpoint 10.244.1.6 not-ready on node-1\n\
                endpoint fd00::5 ready on node-1\n";
    let question = Question {
        address: Some("172.30.0.200".parse().expect("an address")),
        ..ask(OUTSIDE)
    };
    let answers = explain(&world(text), &question).expect("a place");
    let answer = &answers[0];
    let found: Vec<String> = answer
        .endpoints
        .iter()
        .map(|e| format!("{} {} {}", e.address, e.slice, e.standing.code()))
        .collect();
    assert_eq!(
        found,
        [
            "10.244.1.5 web-ipv4 used",
            "10.244.1.6 web-x duplicate",
            "10.244.1.6 web-ipv4 not-ready",
            "10.244.1.7 web-ipv4 draining",
            "10.244.1.8 web-ipv4 terminating",
            "10.244.2.5 web-ipv4 other-node",
            "fd00::5 web-x foreign-address",
        ]
    );
    let steps: Vec<String> = answer
        .steps
        .iter()
        .map(|step| format!("{}: {step} [{}]", step.rule(), step.field()))
        .collect();
    assert_eq!(
        steps,
        [
            "place: this Service's load-balancer IP [status.loadBalancer.ingress]",
            "sources: 192.0.2.7 may come: it is in 192.0.2.0/24 [spec.loadBalancerSourceRanges]",
            "client: outside: 192.0.2.7 is none of this node's Pods (10.244.1.0/24) [spec.podCIDRs of the Node]",
            "policy: Local: endpoints of this node alone [spec.externalTrafficPolicy]",
            "endpoints: 1 ready on this node [endpoints[].conditions]",
            "affinity: a client keeps its endpoint until it was idle for 60 s [spec.sessionAffinity]",
            "source: kept: policy Local leaves everybody's but the node's own [spec.externalTrafficPolicy]",
        ]
    );
}

#[test]
fn hints_short_circuit_and_hairpin_are_told() {
    let text = "service web NodePort 80/TCP@30080 cluster=10.96.0.7 external-policy=Local\n\
                endpoint 10.244.1.5 ready on node-1 zones=a\n\
                endpoint 10.244.2.5 ready on node-2 zones=b\n";
    let world = world(text);
    let told = |question: &Question, rule: &str| {
        let answers = explain(&world, question).expect("a place");
        let steps = answers.iter().flat_map(|answer| &answer.steps);
        let of_rule = steps.filter(|step| step.rule() == rule);
        of_rule.map(ToString::to_string).collect::<Vec<_>>()
    };
    let zone = "1 ready, whose hints name this node's zone a";
    let local = "any endpoint of the cluster";
    assert_eq!(told(&ask(POD), "endpoints"), [zone, zone]);
    let short = "clients inside may go to any endpoint of the cluster, whatever the policy";
    let cluster = format!("Cluster: {local}");
    assert_eq!(told(&ask(POD), "policy"), [cluster.as_str(), short]);
    let hairpin = "kept, but a Pod that reaches itself is masqueraded";
    assert_eq!(told(&ask("10.244.1.5"), "source"), [hairpin, hairpin]);
    let answers = explain(&world, &ask(POD)).expect("a place");
    let left = answers[0].endpoints.iter().map(|e| e.standing.code());
    assert_eq!(left.collect::<Vec<_>>(), ["used", "hint-elsewhere"]);
}

#[test]
fn what_the_node_answers_itself_is_told() {
    let told = |text: &str| {
        let all = listeners(&world(text), &ServiceKey::new("default", "web"));
        let told = all
            .iter()
            .map(|l| format!("{} [{}]: {l}", l.place(), l.field()));
        told.collect::<Vec<_>>()
    };
    let options = "options node-ports=primary,localhost\n";
    let web = "service web LoadBalancer 80/TCP@30080 cluster=10.96.0.7 external-policy=Local health=31000 created=2\n";
    let here = "endpoint 10.244.1.5 ready on node-1\n";
    let more = "endpoint 10.244.1.6 ready on node-1\n";
    let there = "endpoint 10.244.2.5 ready on node-2\n";
    let check = "health check 31000 (IPv4) [spec.healthCheckNodePort]";
    let loopback = "127.0.0.1:30080/TCP [nodePortAddresses]";
    assert_eq!(
        told(&format!("{options}{web}{here}")),
        [
            format!("{check}: one ready endpoint is here"),
            format!("{loopback}: passed on to one endpoint")
        ]
    );
    assert_eq!(
        told(&format!("{options}{web}{here}{more}")),
        [
            format!("{check}: 2 ready endpoints are here"),
            format!("{loopback}: passed on to 2 endpoints")
        ]
    );
    let none =
        format!("{check}: no ready endpoint is here: load balancers are told to send elsewhere");
    assert_eq!(told(&format!("{web}{there}")), [none]);
    let older = "service old LoadBalancer 80/TCP cluster=10.96.0.8 external-policy=Local health=31000 created=1\n";
    let lost = format!("{check}: not answered: default/old has the port, and is older");
    assert_eq!(told(&format!("{older}{web}{here}")), [lost]);
    assert_eq!(
        told("service web ClusterIP 80/TCP cluster=10.96.0.7\n"),
        [""; 0]
    );
}

#[test]
fn every_standing_has_its_words() {
    use daymark_model::decide::SourceSeen;
    use daymark_model::endpoints::{LeftOut, Why};
    let rows = [
        (
            Standing::Used(SourceSeen::Kept),
            "used",
            "used, sees the client's address",
        ),
        (
            Standing::Used(SourceSeen::Masqueraded),
            "used",
            "used, sees the node's address",
        ),
        (Standing::Eligible, "eligible", "would be used"),
        (
            Standing::LeftOut(LeftOut::NotReady),
            "not-ready",
            "left out: not ready",
        ),
        (
            Standing::LeftOut(LeftOut::Terminating),
            "terminating",
            "left out: terminating, and serves no more",
        ),
        (
            Standing::LeftOut(LeftOut::Draining),
            "draining",
            "left out: terminating, and others are ready",
        ),
        (
            Standing::LeftOut(LeftOut::OtherNode),
            "other-node",
            "left out: not on this node",
        ),
        (
            Standing::LeftOut(LeftOut::HintElsewhere),
            "hint-elsewhere",
            "left out: its hints name others",
        ),
        (
            Standing::PassedOver(Why::OtherFamily),
            "other-family",
            "left out: of the other family",
        ),
        (
            Standing::PassedOver(Why::Hidden),
            "hidden-slice",
            "left out: hidden from proxies by the label service.kubernetes.io/headless",
        ),
        (
            Standing::PassedOver(Why::PortNotNamed),
            "port-not-named",
            "left out: without a port of this name and protocol",
        ),
        (
            Standing::PassedOver(Why::ForeignAddress),
            "foreign-address",
            "left out: its address is of another family than its slice",
        ),
        (
            Standing::PassedOver(Why::Duplicate),
            "duplicate",
            "left out: another copy of the same address counts",
        ),
    ];
    for (standing, code, words) in rows {
        assert_eq!(
            (standing.code(), standing.to_string().as_str()),
            (code, words)
        );
    }
}

/// What a rule says of a packet, by its name.
fn rule(text: &str, source: &str, address: &str, name: &str) -> String {
    let question = Question {
        address: Some(address.parse().expect("an address")),
        ..ask(source)
    };
    let answers = explain(&world(text), &question).expect("a place");
    let step = answers[0].steps.iter().find(|step| step.rule() == name);
    step.map(|step| format!("{step} [{}]", step.field()))
        .unwrap_or_default()
}

#[test]
fn each_rule_says_what_it_came_to() {
    let web = |options: &str, rest: &str| {
        format!(
            "{options}service web LoadBalancer 80/TCP@30080 cluster=10.96.0.7 lb=172.30.0.200 {rest}\n\
             endpoint 10.244.1.5 ready on node-1\nendpoint 10.244.2.5 draining on node-2\n"
        )
    };
    let (plain, local) = (web("", ""), web("", "external-policy=Local"));
    let blind = web("options detector=none\n", "");
    let (ip, lb) = ("10.96.0.7", "172.30.0.200");
    let check = |text: &str, source: &str, address: &str, name: &str, expected: &str| {
        assert_eq!(rule(text, source, address, name), expected);
    };
    check(
        &plain,
        "node",
        ip,
        "client",
        "inside: the node itself [spec.podCIDRs of the Node]",
    );
    check(
        &blind,
        POD,
        ip,
        "client",
        "outside: 10.244.1.9 comes by a link, and this node cannot tell its own Pods [detectLocalMode]",
    );
    let cidr = web("options detector=cidr:10.244.0.0/16\n", "");
    check(
        &cidr,
        POD,
        ip,
        "client",
        "inside: 10.244.1.9 is a Pod of this node [clusterCIDR]",
    );
    check(
        &plain,
        POD,
        ip,
        "source",
        "kept: own Pods keep theirs, all others lose it [masqueradeAll]",
    );
    check(
        &plain,
        OUTSIDE,
        ip,
        "source",
        "masqueraded: own Pods keep theirs, all others lose it [masqueradeAll]",
    );
    check(
        &blind,
        POD,
        ip,
        "source",
        "kept: own Pods cannot be told, so nobody's is taken [masqueradeAll]",
    );
    check(
        &plain,
        OUTSIDE,
        lb,
        "source",
        "masqueraded: everybody's is taken [spec.externalTrafficPolicy]",
    );
    check(
        &local,
        "node",
        lb,
        "source",
        "masqueraded: policy Local leaves everybody's but the node's own [spec.externalTrafficPolicy]",
    );
    check(
        &plain,
        POD,
        ip,
        "sources",
        "everybody may come [spec.loadBalancerSourceRanges]",
    );
    let ranged = web("", "ranges=198.51.100.0/24");
    check(
        &ranged,
        OUTSIDE,
        lb,
        "sources",
        "192.0.2.7 may not come: it is in none of 198.51.100.0/24 [spec.loadBalancerSourceRanges]",
    );
    let six = web("", "ranges=2001:db8::/32");
    check(
        &six,
        OUTSIDE,
        lb,
        "sources",
        "nobody of this family may come: no range is of it [spec.loadBalancerSourceRanges]",
    );
    let drains = plain.replace("10.244.1.5 ready", "10.244.1.5 draining");
    check(
        &drains,
        POD,
        ip,
        "endpoints",
        "none is ready in the cluster: 2 that terminate and still serve [endpoints[].conditions]",
    );
    let hinted = plain.replace("on node-1", "on node-1 nodes=node-1");
    check(
        &hinted,
        POD,
        ip,
        "endpoints",
        "1 ready, whose hints name this node [endpoints[].hints]",
    );
    check(
        &plain,
        POD,
        ip,
        "place",
        "this Service's cluster IP [spec.clusterIPs]",
    );
    check(
        &plain,
        POD,
        "172.30.0.11",
        "place",
        "this Service's node port [spec.ports[].nodePort]",
    );
}

#[test]
fn a_long_list_is_cut_and_a_label_that_hides_is_named() {
    let ranges: Vec<String> = (1..=8).map(|n| format!("198.51.{n}.0/24")).collect();
    let text = format!(
        "service web LoadBalancer 80/TCP cluster=10.96.0.7 lb=172.30.0.200 ranges={}\n\
         endpoint 10.244.1.5 ready on node-1\n",
        ranges.join(",")
    );
    let told = format!(
        "the client 192.0.2.7 is in none of loadBalancerSourceRanges ({} and 2 more)",
        ranges[..6].join(", ")
    );
    check(&text, OUTSIDE, Some("172.30.0.200"), "source-range", &told);
    check(
        "service web ClusterIP 80/TCP cluster=10.96.0.7\n\
         slice web-1 of web IPv4 80/TCP dns-only\nendpoint 10.244.1.5 ready on node-1\n",
        POD,
        None,
        "hidden-slices",
        "its endpoints are hidden from proxies by the label service.kubernetes.io/headless",
    );
    check(
        "service web ClusterIP 80/TCP cluster=10.96.0.7\n\
         endpoint 10.244.1.5 terminating on node-1\nendpoint 10.244.1.6 terminating on node-1\n",
        POD,
        None,
        "none-ready",
        "all of 2 endpoints terminate, and serve no more",
    );
    check(
        "service web ClusterIP web:80/TCP cluster=10.96.0.7\n\
         slice web-1 of web IPv4\nendpoint 10.244.1.5 ready on node-1\n",
        POD,
        None,
        "port-not-named",
        "endpoints are there, but without the port \"web\"/TCP: their slices name no port",
    );
    check(
        "service web ClusterIP 80/TCP cluster=10.96.0.7\n\
         slice web-1 of web IPv4 web:80/TCP\nendpoint 10.244.1.5 ready on node-1\n",
        POD,
        None,
        "port-not-named",
        "endpoints are there, but without the port an unnamed one/TCP: their slices name \"web\"/TCP",
    );
}

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
                client: Asker { arrival: packet.arrival, addresses: vec![packet.source] },
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
