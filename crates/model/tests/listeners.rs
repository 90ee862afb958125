//! What a node answers by itself: health checks, their counts, ports and addresses.

use daymark_case::Case;
use daymark_model::World;

const LB: &str = "service web LoadBalancer 80->8080/TCP http:81->8081/TCP cluster=10.96.0.20,fd00:10:96::20 health=32000";

fn world(text: &str) -> World {
    let case = Case::parse("here", text).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    for step in &case.steps {
        world.apply(step.changes.iter().cloned());
    }
    world
}

/// Each health check as `FAMILY:PORT SERVICE COUNT`.
fn checks(text: &str) -> Vec<String> {
    let world = world(text);
    let checks = world.desired().health_checks.iter();
    let checks = checks.map(|(at, check)| {
        let count = check.endpoints.len();
        format!("{}:{} {} {count}", at.family, at.port, check.service)
    });
    checks.collect()
}

#[test]
fn ready_endpoints_of_this_node_count_by_distinct_address_and_family() {
    let text = format!(
        "node node-1 172.30.0.11\n{LB} external-policy=Local\n\
         endpoint 10.244.1.5 ready on node-1\nendpoint 10.244.1.6 ready on node-1\n\
         endpoint 10.244.1.7 draining on node-1\nendpoint 10.244.1.8 not-ready on node-1\n\
         endpoint 10.244.2.5 ready on node-2\nendpoint 10.244.1.9 ready\n\
         endpoint fd00:10:244:1::5 ready on node-1\n"
    );
    // Both of an endpoint's ports are one address.
    let expected = ["IPv4:32000 default/web 2", "IPv6:32000 default/web 1"];
    assert_eq!(checks(&text), expected);
}

#[test]
fn endpoints_that_only_drain_are_none() {
    let text = format!(
        "node node-1 172.30.0.11\n{LB} external-policy=Local\n\
         endpoint 10.244.1.5 draining on node-1\nendpoint fd00:10:244:1::5 ready on node-2\n"
    );
    let expected = ["IPv4:32000 default/web 0", "IPv6:32000 default/web 0"];
    assert_eq!(checks(&text), expected);
}

#[test]
fn an_endpoint_that_stays_ready_while_it_terminates_counts() {
    let text = format!(
        "node node-1 172.30.0.11\n{LB} external-policy=Local\n\
         endpoint 10.244.1.5 ready=yes serving=yes terminating=yes on node-1\n"
    );
    assert_eq!(checks(&text)[0], "IPv4:32000 default/web 1");
}

#[test]
fn only_ports_that_the_service_has_count() {
    let text = "node node-1 172.30.0.11\n\
         service web LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=32000\n\
         slice web-1 of web IPv4 8080/TCP\nendpoint 10.244.1.5 ready on node-1\n\
         slice web-2 of web IPv4 other:8080/TCP\nendpoint 10.244.1.6 ready on node-1\n";
    assert_eq!(checks(text), ["IPv4:32000 default/web 1"]);
}

#[test]
fn a_health_check_needs_the_type_the_policy_the_number_and_a_cluster_ip() {
    let rows = [
        (
            "LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=32000",
            1,
        ),
        (
            "LoadBalancer 80/TCP cluster=fd00:10:96::20 external-policy=Local health=32000",
            1,
        ),
        (
            "LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Cluster health=32000",
            0,
        ),
        (
            "LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=0",
            0,
        ),
        (
            "LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local",
            0,
        ),
        (
            "NodePort 80/TCP cluster=10.96.0.20 external-policy=Local health=32000",
            0,
        ),
        ("LoadBalancer 80/TCP external-policy=Local health=32000", 0),
        (
            "LoadBalancer 80/TCP cluster=None external-policy=Local health=32000",
            0,
        ),
        (
            "LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=32000 proxy-name=x",
            0,
        ),
        // Without ports nothing is captured, and there is still a load balancer to tell.
        (
            "LoadBalancer cluster=10.96.0.20 external-policy=Local health=32000",
            1,
        ),
    ];
    for (service, expected) in rows {
        let text = format!("node node-1 172.30.0.11\nservice web {service}\n");
        assert_eq!(checks(&text).len(), expected, "{service}");
    }
}

#[test]
fn of_two_services_with_one_port_the_older_has_it_and_the_other_follows() {
    let text = "node node-1 172.30.0.11\n\
         service alpha LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=32000 created=2000\n\
         service beta LoadBalancer 80/TCP cluster=10.96.0.21 external-policy=Local health=32000 created=1000\n";
    let both = world(text);
    assert_eq!(checks(text), ["IPv4:32000 default/beta 0"]);
    let refused: Vec<String> = both
        .health_check_refusals()
        .iter()
        .map(|one| format!("{} {:?}: {}", one.service, one.at, one.held_by))
        .collect();
    assert_eq!(
        refused,
        ["default/alpha HealthCheckKey { family: V4, port: 32000 }: default/beta"]
    );
    let text = format!("{text}step the older one goes\nremove service beta\n");
    assert_eq!(checks(&text), ["IPv4:32000 default/alpha 0"]);
    assert_eq!(world(&text).health_check_refusals(), []);
    let text = format!("{text}step and the other\nremove service alpha\n");
    assert_eq!(checks(&text), [""; 0]);
}

#[test]
fn a_delta_tells_of_counts_alone() {
    let mut world = world(&format!(
        "node node-1 172.30.0.11\n{LB} external-policy=Local\nendpoint 10.244.1.5 ready on node-1\n"
    ));
    let text = format!("{LB} external-policy=Local\nendpoint 10.244.1.5 draining on node-1\n");
    let case = Case::parse("here", &text).expect("the text is a case");
    let delta = world.apply(case.steps[0].changes.iter().cloned());
    // The endpoint is the last resort and gets packets as before.
    assert!(
        delta.frontends.is_empty() && delta.pools.is_empty(),
        "{delta:?}"
    );
    let counts = delta.health_checks.iter();
    let counts: Vec<_> = counts
        .map(|(at, check)| (at.port, check.as_ref().map(|check| check.endpoints.len())))
        .collect();
    assert_eq!(counts, [(32000, Some(0))]);
}

#[test]
fn health_checks_are_asked_at_node_port_addresses_that_the_machine_has() {
    let machine = "machine 172.30.0.11 172.30.0.111 fd00:30::11";
    let rows = [
        ("primary", "172.30.0.11 fd00:30::11"),
        ("all", "0.0.0.0 ::"),
        ("0.0.0.0/0", "0.0.0.0"),
        ("0.0.0.0/0 unnamed-family=open", "0.0.0.0 ::"),
        ("172.30.0.0/24,::1/128", "172.30.0.11 172.30.0.111 ::1"),
        ("localhost", "127.0.0.1 ::1"),
        ("localhost,primary", "127.0.0.1 172.30.0.11 ::1 fd00:30::11"),
        ("127.0.0.5/32", ""),
        ("", ""),
    ];
    for (list, expected) in rows {
        let text =
            format!("options node-ports={list}\nnode node-1 172.30.0.11 fd00:30::11\n{machine}\n");
        let world = world(&text);
        let found = world.desired().health_check_addresses.iter();
        let found: Vec<String> = found.map(ToString::to_string).collect();
        assert_eq!(found.join(" "), expected, "{list}");
    }
    // What the Node object says and no interface has cannot be listened at; it is as soon as an interface has it.
    let late = "node node-1 172.30.0.12\nmachine 172.30.0.11\n";
    assert!(world(late).desired().health_check_addresses.is_empty());
    let late = format!("{late}step it comes\nmachine 172.30.0.11 172.30.0.12\n");
    assert_eq!(world(&late).desired().health_check_addresses.len(), 1);
}

/// Each listener on loopback as `ADDRESS:PORT SERVICE ENDPOINTS`.
fn local(text: &str) -> Vec<String> {
    let world = world(text);
    let listeners = world.desired().local_listeners.iter();
    let listeners = listeners.map(|(at, listener)| {
        let backends = listener.pool.backends.iter();
        let backends: Vec<String> = backends
            .map(|backend| format!("{}:{}", backend.address, backend.port))
            .collect();
        let port = &listener.port;
        format!("{}:{} {port} {}", at.ip(), at.port, backends.join(","))
    });
    listeners.collect()
}

const ENDPOINTS: &str = "endpoint 10.244.1.5 ready on node-1\nendpoint 10.244.2.5 ready on node-2\n\
     endpoint fd00:10:244:2::5 ready on node-2\n";

#[test]
fn node_ports_are_served_on_loopback_of_the_families_that_are_named() {
    let four = "127.0.0.1:30080 default/web/TCP 10.244.1.5:8080,10.244.2.5:8080";
    let six = "::1:30080 default/web/TCP fd00:10:244:2::5:8080";
    let rows = [
        ("primary", vec![]),
        ("all", vec![]),
        ("localhost", vec![four, six]),
        ("primary,127.0.0.0/8", vec![four]),
        ("::1/128", vec![six]),
    ];
    for (list, expected) in rows {
        let text = format!(
            "options node-ports={list}\nnode node-1 172.30.0.11 fd00:30::11\n\
             service web NodePort 80->8080/TCP@30080 cluster=10.96.0.20,fd00:10:96::20\n{ENDPOINTS}"
        );
        assert_eq!(local(&text), expected, "{list}");
    }
}

#[test]
fn the_policy_for_clients_outside_says_where_loopback_leads() {
    let listeners = |service: &str, endpoints: &str| {
        local(&format!(
            "options node-ports=localhost\nnode node-1 172.30.0.11\nservice web {service}\n{endpoints}"
        ))
    };
    let local_policy =
        "LoadBalancer 80/TCP@30080 cluster=10.96.0.20 external-policy=Local ranges=10.0.0.0/8";
    assert_eq!(
        listeners(local_policy, ENDPOINTS),
        ["127.0.0.1:30080 default/web/TCP 10.244.1.5:80"]
    );
    // No short circuit to the other nodes: there is nothing to listen for.
    let elsewhere = "endpoint 10.244.2.5 ready on node-2\n";
    assert_eq!(listeners(local_policy, elsewhere), [""; 0]);
    let draining = "endpoint 10.244.1.5 draining on node-1\n";
    assert_eq!(listeners(local_policy, draining).len(), 1);
    let cluster_policy = "NodePort 80/TCP@30080 cluster=10.96.0.20 internal-policy=Local";
    assert_eq!(listeners(cluster_policy, elsewhere).len(), 1);
    assert_eq!(listeners(cluster_policy, ""), [""; 0]);
}

#[test]
fn other_protocols_types_and_families_have_no_listener() {
    let rows = [
        "NodePort 80/UDP@30080 cluster=10.96.0.20",
        "NodePort 80/SCTP@30080 cluster=10.96.0.20",
        "ClusterIP 80/TCP@30080 cluster=10.96.0.20",
        "LoadBalancer 80/TCP cluster=10.96.0.20",
        // IPv6 alone, and no endpoint there.
        "NodePort 80/TCP@30080 cluster=fd00:10:96::20",
    ];
    for service in rows {
        let text = format!(
            "options node-ports=localhost\nnode node-1 172.30.0.11\nservice web {service}\n\
             slice web-1 of web IPv4 80/TCP 80/UDP 80/SCTP\nendpoint 10.244.1.5 ready on node-1\n"
        );
        assert_eq!(local(&text), [""; 0], "{service}");
    }
}

#[test]
fn a_listener_follows_its_endpoints_and_goes_to_the_next_service() {
    let text = "options node-ports=localhost\nnode node-1 172.30.0.11\n\
         service alpha NodePort 80/TCP@30080 cluster=10.96.0.20 created=2000\nendpoint 10.244.1.5 ready on node-1\n\
         service beta NodePort 80/TCP@30080 cluster=10.96.0.21 created=1000\nendpoint 10.244.1.6 ready on node-1\n";
    assert_eq!(
        local(text),
        ["127.0.0.1:30080 default/beta/TCP 10.244.1.6:80"]
    );
    let more = format!("{text}step more\nendpoint 10.244.1.7 ready on node-1 of beta\n");
    assert_eq!(
        local(&more),
        ["127.0.0.1:30080 default/beta/TCP 10.244.1.6:80,10.244.1.7:80"]
    );
    let gone = format!("{more}step beta goes\nremove service beta\n");
    assert_eq!(
        local(&gone),
        ["127.0.0.1:30080 default/alpha/TCP 10.244.1.5:80"]
    );
    let empty = format!("{gone}step it has none\nremove endpoint 10.244.1.5 of alpha\n");
    assert_eq!(local(&empty), [""; 0]);
}
