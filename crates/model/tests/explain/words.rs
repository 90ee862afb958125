//! Every rule, every standing and every listener in words.

use daymark_model::ServiceKey;
use daymark_model::explain::{Question, Standing, explain, listeners};

use super::{OUTSIDE, POD, ask, world};

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
    let lost = format!("{check}: not answered: default/old has the port, because it is older");
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
            Standing::PassedOver(Why::Special),
            "special-address",
            "left out: its address is loopback, link-local, multicast or unspecified",
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
    let bridge = web("options detector=interface:cni0\n", "");
    for (source, expected) in [
        (
            POD,
            "inside: 10.244.1.9 is a Pod of this node [detectLocal]",
        ),
        (
            OUTSIDE,
            "outside: 192.0.2.7 is none of this node's Pods (cni0) [detectLocal]",
        ),
        ("node", "inside: the node itself [detectLocal]"),
    ] {
        check(&bridge, source, ip, "client", expected);
    }
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
