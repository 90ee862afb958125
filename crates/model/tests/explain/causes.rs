//! The usual questions, and their causes in words.

use daymark_model::ServiceKey;
use daymark_model::explain::{Asker, PortAsked, Question, Sender, explain, without_ingress};

use super::{OUTSIDE, POD, ask, causes_of, check, world};

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
        "its EndpointSlices are empty",
    );
    check(
        &format!("{}endpoint 10.244.1.5 not-ready on node-1\n", web("")),
        POD,
        None,
        "none-ready",
        "its one endpoint is not ready",
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
            "its type is ExternalName: an alias in DNS (CNAME) for web.example, without any address",
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
    let question = Question {
        address: Some("172.30.0.200".parse().expect("an address")),
        ..ask(OUTSIDE)
    };
    let lost = world(&two(
        "created=2 lb=172.30.0.200",
        "created=1 lb=172.30.0.200",
    ));
    let answers = explain(&lost, &question).expect("a place");
    assert!(
        !answers[0].is_forwarded(),
        "the other Service forwards, not this one"
    );
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
    // What sends from an address that was named has no other, the node neither.
    for sender in [Sender::Somebody, Sender::OwnPod, Sender::Node] {
        let question = Question {
            address: six.map(|ip| ip.parse().expect("an address")),
            client: Asker {
                sender,
                addresses: vec!["172.30.0.11".parse().expect("an address")],
            },
            ..ask(POD)
        };
        let two = format!("machine 172.30.0.11 fd00:30::11\n{text}");
        let found = causes_of(&world(&two), &question);
        assert_eq!(found[0].code(), "client-without-family", "{sender:?}");
        let nobody = Question {
            client: Asker {
                sender,
                addresses: Vec::new(),
            },
            ..question
        };
        let found = causes_of(&world(&two), &nobody);
        let expected = match sender {
            Sender::Somebody | Sender::OwnPod => "client-without-family",
            Sender::Node => "other-family-only",
        };
        assert_eq!(found[0].code(), expected, "{sender:?}");
    }
    let text = "service web NodePort 80/TCP@30080 cluster=fd00:10:96::7\n\
                endpoint fd00:10:244:1::5 ready on node-1\n";
    let question = Question {
        port: Some(PortAsked::Number(30080)),
        ..ask("fd00:10:244:1::9")
    };
    let found = causes_of(&world(text), &question);
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
        "endpoints are there, but without an unnamed port/TCP: their slices name \"web\"/TCP",
    );
    for (endpoints, words) in [
        (
            "endpoint 10.244.1.5 terminating on node-1\n",
            "its one endpoint terminates, and serves no more",
        ),
        (
            "endpoint 10.244.1.5 not-ready on node-1\nendpoint 10.244.1.6 not-ready on node-1\n",
            "none of 2 endpoints is ready",
        ),
    ] {
        let text = format!("service web ClusterIP 80/TCP cluster=10.96.0.7\n{endpoints}");
        check(&text, POD, None, "none-ready", words);
    }
    check(
        "service web ClusterIP 80/TCP cluster=10.96.0.7\n\
         slice web-1 of web IPv4 80/TCP\nendpoint fd00:10:244:1::5 ready on node-1\n",
        POD,
        None,
        "other-family-only",
        "no endpoint has an IPv4 address",
    );
    // The slices of the other family have ports of their own.
    check(
        "service web ClusterIP web:80/TCP cluster=10.96.0.7\n\
         slice four of web IPv4 a:80/TCP\nendpoint 10.244.1.5 ready on node-1\n\
         slice six of web IPv6 b:80/TCP\nendpoint fd00:10:244:1::5 ready on node-1\n",
        POD,
        None,
        "port-not-named",
        "endpoints are there, but without the port \"web\"/TCP: their slices name \"a\"/TCP",
    );
}

#[test]
fn a_load_balancer_without_an_address_says_who_gives_one() {
    let of = |text: &str| {
        let cause = without_ingress(&world(text), &ServiceKey::new("default", "web"));
        cause.map(|cause| {
            let remedy = cause.remedy();
            (
                cause.code(),
                cause.to_string(),
                remedy.contains("create it anew"),
            )
        })
    };
    let (code, none) = (
        "no-load-balancer-address",
        "status.loadBalancer has no IP address; spec.loadBalancerClass is",
    );
    let web = "service web LoadBalancer 80/TCP cluster=10.96.0.7";
    assert_eq!(
        of(&format!("{web}\n")),
        Some((code, format!("{none} not set"), false))
    );
    assert_eq!(
        of(&format!("{web} lb-class=other.example/lb\n")),
        Some((code, format!("{none} other.example/lb"), true))
    );
    for with_one_or_not_wanted in [
        "service web LoadBalancer 80/TCP cluster=10.96.0.7 lb=192.0.2.10\n",
        "service web NodePort 80/TCP@30080 cluster=10.96.0.7\n",
        "service web LoadBalancer 80/TCP cluster=10.96.0.7 proxy-name=mesh\n",
    ] {
        assert_eq!(of(with_one_or_not_wanted), None, "{with_one_or_not_wanted}");
    }
}
