use crate::{Case, Expect};

/// A case whose last line is this one, and nothing else of interest.
fn parse(line: &str) -> Result<Case, String> {
    let text = format!(
        "node node-1 172.30.0.11 pods=10.244.1.0/24\n\
         service web ClusterIP 80/TCP cluster=10.96.0.20\n\
         {line}\n"
    );
    Case::parse("x.case", &text).map_err(|error| error.to_string())
}

#[test]
fn an_error_names_the_place_what_could_stand_there_and_what_does() {
    for (line, expected) in [
        (
            "pakcet",
            "a line of: options, node, machine, service-cidr, service, slice, endpoint, remove, packet, step, found `pakcet`",
        ),
        ("service", "the Service's name, found the end of the line"),
        ("service /x ClusterIP", "NAME or NAMESPACE/NAME, found `/x`"),
        (
            "service x Cluster",
            "a type: ClusterIP, NodePort, LoadBalancer or ExternalName=HOST, found `Cluster`",
        ),
        (
            "service x ClusterIP 80",
            "a port such as 80/TCP, 80->8080/TCP or http:80->8080/TCP@30080, found `80`",
        ),
        (
            "service x ClusterIP 80/TPC",
            "a protocol: TCP, UDP or SCTP, found `TPC`",
        ),
        (
            "service x ClusterIP 80000/TCP",
            "a port number, 0 to 65535, found `80000`",
        ),
        (
            "service x ClusterIP cluster=10.96.0",
            "an IP address, found `10.96.0`",
        ),
        (
            "service x ClusterIP created=now",
            "seconds since 1970, found `now`",
        ),
        (
            "service x ClusterIP cluster=None cluster=None",
            "cluster= once in a line, found `cluster=None`",
        ),
        (
            "service x ClusterIP internal-policy=local",
            "a policy: Cluster or Local, found `local`",
        ),
        (
            "service x ClusterIP affinity=Client",
            "an affinity: ClientIP or ClientIP:SECONDS, found `Client`",
        ),
        (
            "service x ClusterIP ranges=10.0.0.0",
            "a prefix such as 10.244.1.0/24, found `10.0.0.0`",
        ),
        (
            "service x ClusterIP families=4",
            "a family: IPv4 or IPv6, found `4`",
        ),
        (
            "endpoint 10.244.1.5 redy",
            "one of ready, not-ready, draining, terminating, on NODE, of SERVICE, found `redy`",
        ),
        ("endpoint 10.244.1.5 ready=true", "yes or no, found `true`"),
        (
            "endpoint 10.244.1.5 on",
            "the node's name, found the end of the line",
        ),
        (
            "endpoint 10.244.1.5 of other",
            "a Service that a line above names, found `default/other`",
        ),
        ("slice s IPv4", "`of`, found `IPv4`"),
        (
            "slice s of web IPv4 8080",
            "a port such as 8080/TCP or http:8080/TCP, or dns-only, found `8080`",
        ),
        (
            "remove pod x",
            "what goes: node, service-cidr, service, slice or endpoint, found `pod`",
        ),
        (
            "remove service other",
            "a Service that a line above names, found `other`",
        ),
        (
            "remove slice other",
            "a slice that a line above names or implies, found `other`",
        ),
        (
            "remove endpoint 10.244.1.5 of web",
            "an endpoint of slice web-ipv4, found `10.244.1.5`",
        ),
        ("remove node now", "the end of the line, found `now`"),
        (
            "options detector=node",
            "options before everything else, found `options`",
        ),
        (
            "step",
            "what happens in this step, in words, found the end of the line",
        ),
        (
            "packet nobody -> 10.96.0.20:80/TCP",
            "an IP address, found `nobody`",
        ),
        (
            "packet node 10.96.0.20:80/TCP",
            "`->`, found `10.96.0.20:80/TCP`",
        ),
        (
            "packet node -> 10.96.0.20/TCP",
            "ADDRESS:PORT/PROTOCOL, an IPv6 address in brackets, found `10.96.0.20/TCP`",
        ),
        (
            "packet node -> [fd00::1]:80/TCP",
            "node=ADDRESS, since the node line has no IPv6 address, found `node`",
        ),
        (
            "packet 10.0.0.1 -> [fd00::1]:80/TCP",
            "an IPv6 source, as the destination is, found `10.0.0.1`",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP drop",
            "`expect`, found `drop`",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect drop",
            "`because` and the reason, after the verdict, found the end of the line",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect drop because",
            "the reason, in words, found the end of the line",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect drop because of-this",
            "the reason's own word first: one of no-endpoint, no-local-endpoint, source-range, unknown-port, unallocated, loopback, found `of-this`",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect reject because no-endpoint",
            "a verdict: refuse, drop, untouched, or endpoints ADDRESS[:PORT]... with source-kept or masqueraded, found `reject`",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect 10.244.1.5 because it is there",
            "the source seen: source-kept or masqueraded, found the end of the line",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect 10.244.1.5=seen because it is there",
            "source-kept or masqueraded, found `seen`",
        ),
        (
            "packet node -> 10.96.0.20:80/TCP expect drop it because no-endpoint",
            "`because`, found `it`",
        ),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error, format!("x.case:3: expected {expected}"));
    }
}

#[test]
fn objects_after_packets_need_a_step() {
    let packet = "packet node -> 10.96.0.20:80/TCP expect refuse because no-endpoint";
    let error = parse(&format!("{packet}\nendpoint 10.244.1.5 ready")).expect_err("refused");
    assert_eq!(
        error,
        "x.case:4: expected a `step` line before objects change again, found `endpoint`"
    );
    let case = parse(&format!(
        "{packet}\nstep it comes\nendpoint 10.244.1.5 ready of web"
    ));
    assert_eq!(case.expect("a step was opened").steps.len(), 2);
}

#[test]
fn an_endpoint_in_a_new_step_says_whose_it_is() {
    let error = parse("step it comes\nendpoint 10.244.1.5 ready").expect_err("refused");
    assert!(error.contains("expected `of SERVICE`"), "{error}");
}

#[test]
fn an_endpoint_without_a_port_has_the_one_that_was_asked_for() {
    let case = parse("packet node -> 10.96.0.20:80/TCP expect 10.244.1.5 masqueraded because so");
    let case = case.expect("it can be read");
    let Expect::Forward { targets, .. } = &case.steps[0].checks[0].expect else {
        panic!("{case}");
    };
    assert_eq!(targets[0].port, 80);
}

#[test]
fn an_unusual_spelling_is_kept_for_the_api() {
    let case = parse("endpoint 10.244.01.005 ready on node-1").expect("it can be read");
    let canonical = "10.244.1.5".to_owned();
    assert_eq!(case.spell(&canonical), "10.244.01.005");
    assert_eq!(case.spell(&"10.244.1.6"), "10.244.1.6");
    assert!(
        case.to_string()
            .contains("endpoint  10.244.01.005 ready on node-1\n"),
        "{case}"
    );
}

#[test]
fn what_stands_in_comments_and_blank_lines_does_not_matter() {
    let case = Case::parse("x_y.case", "# one\n#\n# two\n\nnode n\n# three\n").expect("readable");
    assert_eq!(case.about, ["one", "", "two"]);
    assert_eq!(case.title(), "x y");
    assert_eq!(case.to_string(), "# one\n#\n# two\nnode      n\n");
}
