//! Health checks asked over real HTTP, byte by byte, of an agent with a real kernel.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use daymark_node::events::Notice;
use daymark_node::health::Health;
use daymark_sys::ns::isolated_test;
use tokio::runtime::Runtime;

use crate::fixture::{Fixture, add_addresses, within};

const NODE: &str =
    "node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24\nmachine 172.30.0.11 fd00:30::11";
const ADDRESSES: [&str; 3] = ["172.30.0.11", "172.30.0.12", "fd00:30::11"];
const WEB: &str = "service shop/web LoadBalancer 80/TCP http:81/TCP cluster=10.96.0.20,fd00:10:96::20 health=32000";

/// An answer: status line, the header lines but `Date`, and the body.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    headers: BTreeSet<String>,
    body: String,
}

fn ask(at: &str, request: &str) -> Result<Answer, std::io::Error> {
    let at: SocketAddr = at.parse().expect("an address and port");
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    // A socket that is closed just then takes the connection and answers nothing.
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.split("\r\n").map(str::to_owned);
    Ok(Answer {
        status: lines.next().expect("a status line"),
        headers: lines.filter(|line| !line.starts_with("Date: ")).collect(),
        body: body.to_owned(),
    })
}

const GET: &str = "GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";

/// What kube-proxy answers.
fn expected(status: &str, endpoints: usize, healthy: &str) -> Answer {
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let headers = [
        "Content-Type: application/json".to_owned(),
        "X-Content-Type-Options: nosniff".to_owned(),
        format!("X-Load-Balancing-Endpoint-Weight: {endpoints}"),
        "Connection: close".to_owned(),
        format!("Content-Length: {}", body.len()),
    ];
    Answer {
        status: format!("HTTP/1.1 {status}"),
        headers: headers.into(),
        body,
    }
}

const OK: &str = "200 OK";
const UNAVAILABLE: &str = "503 Service Unavailable";

fn is_open(at: &str) -> bool {
    ask(at, GET).is_ok()
}

#[test]
fn any_request_gets_kube_proxys_answer_to_the_byte() {
    isolated_test(
        "health_check::any_request_gets_kube_proxys_answer_to_the_byte",
        || {
            let mut it = Fixture::new(
                &ADDRESSES,
                &format!(
                    "{NODE}\n{WEB} external-policy=Local\n\
             endpoint 10.244.1.5 ready on node-1\nendpoint 10.244.1.6 ready on node-1\n\
             endpoint 10.244.2.5 ready on node-2\nendpoint fd00:10:244:1::5 ready on node-1\n\
             step all of them drain\n\
             endpoint 10.244.1.5 draining on node-1 of shop/web\nendpoint 10.244.1.6 draining on node-1 of shop/web\n"
                ),
            );
            let (four, six) = ("172.30.0.11:32000", "[fd00:30::11]:32000");
            within("both families listen", || is_open(four) && is_open(six));
            assert_eq!(ask(four, GET).expect("an answer"), expected(OK, 2, "true"));
            assert_eq!(ask(six, GET).expect("an answer"), expected(OK, 1, "true"));
            let requests = [
                "GET /healthz?x=y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                "DELETE /%2e%2e HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                "BREW * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                "POST /a/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            ];
            for request in requests {
                let answer = ask(four, request).expect("an answer");
                assert_eq!(answer, expected(OK, 2, "true"), "{request}");
            }
            let head = "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            let mut bare = expected(OK, 2, "true");
            bare.body = String::new();
            assert_eq!(ask(four, head).expect("an answer"), bare);

            *it.health.lock().expect("a lock") = Health::Unhealthy;
            let unhealthy = expected(UNAVAILABLE, 2, "false");
            assert_eq!(ask(four, GET).expect("an answer"), unhealthy);
            *it.health.lock().expect("a lock") = Health::Healthy;

            it.next();
            assert_eq!(
                ask(four, GET).expect("an answer"),
                expected(UNAVAILABLE, 0, "true")
            );
            assert_eq!(ask(six, GET).expect("an answer"), expected(OK, 1, "true"));
            assert_eq!(it.board.take(), None);
        },
    );
}

/// Kubernetes' e2e test "should fail health check node port if there are only terminating endpoints".
#[test]
fn only_terminating_endpoints_fail_the_health_check() {
    isolated_test(
        "health_check::only_terminating_endpoints_fail_the_health_check",
        || {
            let web = "service shop/web LoadBalancer 80/TCP cluster=10.96.0.20 health=32000 external-policy=Local";
            let mut it = Fixture::new(
                &ADDRESSES,
                &format!(
                    "{NODE}\n{web}\nendpoint 10.244.1.5 ready on node-1\n\
             step it terminates and still serves\nendpoint 10.244.1.5 draining on node-1 of shop/web\n\
             step it is gone\nremove endpoint 10.244.1.5 of shop/web\n\
             step another one comes\nendpoint 10.244.1.6 ready on node-1 of shop/web\n"
                ),
            );
            let at = "172.30.0.11:32000";
            within("it listens", || is_open(at));
            for answer in [
                expected(OK, 1, "true"),
                expected(UNAVAILABLE, 0, "true"),
                expected(UNAVAILABLE, 0, "true"),
                expected(OK, 1, "true"),
            ] {
                assert_eq!(ask(at, GET).expect("an answer"), answer);
                if !it.case.steps.is_empty() {
                    it.next();
                }
            }
        },
    );
}

/// After Kubernetes' e2e test "should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes",
/// the part of the health check.
#[test]
fn the_port_comes_and_goes_with_the_external_policy() {
    isolated_test(
        "health_check::the_port_comes_and_goes_with_the_external_policy",
        || {
            let endpoint = "endpoint 10.244.1.5 ready on node-1 of shop/web";
            let mut it = Fixture::new(
                &ADDRESSES,
                &format!(
                    "{NODE}\n{WEB} external-policy=Local\n{endpoint}\n\
             step Cluster\nservice shop/web LoadBalancer 80/TCP cluster=10.96.0.20\n\
             step Local again, another number\n\
             service shop/web LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=32001\n\
             step gone\nremove service shop/web\n"
                ),
            );
            let (first, second) = ("172.30.0.11:32000", "172.30.0.11:32001");
            within("Local", || is_open(first));
            it.next();
            within("Cluster", || !is_open(first));
            it.next();
            within("Local again", || is_open(second) && !is_open(first));
            assert_eq!(
                ask(second, GET).expect("an answer").status,
                "HTTP/1.1 200 OK"
            );
            it.next();
            within("gone", || !is_open(second));
        },
    );
}

#[test]
fn the_addresses_are_those_of_node_ports_and_are_followed() {
    isolated_test(
        "health_check::the_addresses_are_those_of_node_ports_and_are_followed",
        || {
            let mut it = Fixture::new(
                &ADDRESSES,
                &format!(
                    "options node-ports=172.30.0.0/24,localhost\n{NODE}\n{WEB} external-policy=Local\n\
             step an address comes\nmachine 172.30.0.11 172.30.0.12 fd00:30::11\n\
             step another one goes\nmachine 172.30.0.12\n"
                ),
            );
            let [one, two] = ["172.30.0.11:32000", "172.30.0.12:32000"];
            let [local, six] = ["[::1]:32000", "[fd00:30::11]:32000"];
            within("named", || {
                [one, local, "127.0.0.1:32000"].iter().all(|at| is_open(at))
            });
            assert!(!is_open(two) && !is_open(six));
            it.next();
            within("it came", || is_open(two));
            it.next();
            within("it went", || !is_open(one));
            assert!(is_open(two) && is_open(local));
        },
    );
}

#[test]
fn all_addresses_are_one_socket_a_family() {
    isolated_test(
        "health_check::all_addresses_are_one_socket_a_family",
        || {
            let _it = Fixture::new(
                &ADDRESSES,
                &format!("options node-ports=all\n{NODE}\n{WEB} external-policy=Local\n"),
            );
            let all = [
                "172.30.0.12:32000",
                "127.0.0.1:32000",
                "[::1]:32000",
                "[fd00:30::11]:32000",
            ];
            within("all", || all.iter().all(|at| is_open(at)));
            let sockets = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("a list");
            // 32000 is 7D00; state 0A listens.
            let listening = sockets
                .lines()
                .filter(|line| line.contains(":7D00 00000000:0000 0A"));
            assert_eq!(listening.count(), 1);
        },
    );
}

#[test]
fn a_port_that_is_taken_is_told_once_and_served_when_it_is_free() {
    isolated_test(
        "health_check::a_port_that_is_taken_is_told_once_and_served_when_it_is_free",
        || {
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(add_addresses(&[]));
            let taken = TcpListener::bind("0.0.0.0:32000").expect("a free port");
            let mut it = Fixture::new(
                &ADDRESSES,
                &format!("{NODE}\n{WEB} external-policy=Local\n"),
            );
            let mut told: Option<Notice> = None;
            within("it is told", || {
                told = it.board.take();
                told.is_some()
            });
            let told = told.expect("a notice");
            assert_eq!(told.reason, "FailedToStartServiceHealthcheck");
            assert_eq!(told.about.to_string(), "shop/web");
            for part in ["172.30.0.11:32000", "spec.healthCheckNodePort", "in use"] {
                assert!(
                    told.message.contains(part),
                    "{part} is not in: {}",
                    told.message
                );
            }
            sleep(Duration::from_millis(400));
            assert!(
                is_open("[fd00:30::11]:32000"),
                "the other family is not taken"
            );
            drop(taken);
            within("it is free", || is_open("172.30.0.11:32000"));
            assert_eq!(it.board.take(), None);
        },
    );
}
