//! Node ports on loopback, through real sockets. The endpoints are addresses of the machine itself, each with a server that reads
//! a request to its end and answers with its name and what it read.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use daymark_sys::ns::isolated_test;
use socket2::{Domain, Socket, Type};

use crate::fixture::{Fixture, within};

const ADDRESSES: [&str; 5] = [
    "172.30.0.11",
    "10.244.1.5",
    "10.244.1.6",
    "10.244.1.7",
    "fd00:10:244:1::5",
];
const HEAD: &str =
    "options node-ports=primary,localhost\nnode node-1 172.30.0.11\nmachine 172.30.0.11";
const WEB: &str = "service web NodePort 80->8080/TCP@30080 cluster=10.96.0.20,fd00:10:96::20";
const FOUR: &str = "127.0.0.1:30080";
const SIX: &str = "[::1]:30080";

/// Starts the servers of all endpoints but 10.244.1.7, which refuses.
fn start_endpoints() {
    for address in ["10.244.1.5", "10.244.1.6", "fd00:10:244:1::5"] {
        let ip: IpAddr = address.parse().expect("an address");
        // An IPv6 address is tentative for a moment.
        let mut bound = None;
        within("an endpoint listens", || {
            bound = TcpListener::bind((ip, 8080)).ok();
            bound.is_some()
        });
        let listener = bound.expect("it listens");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                thread::spawn(move || serve(stream, address));
            }
        });
    }
}

/// A line is answered at once by the name; the end by everything that was read.
fn serve(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let mut all = Vec::new();
    let mut piece = [0; 65_536];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        all.extend_from_slice(&piece[..read]);
        if all == b"who\n" {
            stream.write_all(name.as_bytes())?;
        }
    }
    stream.write_all(&all)?;
    stream.shutdown(Shutdown::Write)
}

fn connect(at: &str) -> io::Result<TcpStream> {
    let at: SocketAddr = at.parse().expect("an address and port");
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Asks a connection who is behind it.
fn who(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"who\n")?;
    let mut name = [0; 64];
    let read = stream.read(&mut name)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&name[..read]).into_owned())
}

fn ask(at: &str) -> io::Result<String> {
    who(&mut connect(at)?)
}

/// Who answers over so many connections.
fn answering(at: &str, times: usize) -> BTreeSet<String> {
    (0..times).map(|_| ask(at).expect("an answer")).collect()
}

fn is_open(at: &str) -> bool {
    connect(at).is_ok()
}

/// A running agent over a case, with endpoints that answer.
fn start(text: &str) -> Fixture {
    let it = Fixture::new(&ADDRESSES, text);
    start_endpoints();
    it
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn both_families_reach_every_endpoint_and_a_large_body_ends_on_both_sides() {
    let test = "loopback::both_families_reach_every_endpoint_and_a_large_body_ends_on_both_sides";
    isolated_test(test, || {
        let it = start(&format!(
            "{HEAD}\n{WEB}\nendpoint 10.244.1.5 ready on node-1\nendpoint 10.244.1.6 ready on node-1\n\
             endpoint fd00:10:244:1::5 ready on node-1\n"
        ));
        within("both families listen", || is_open(FOUR) && is_open(SIX));
        // Each of two is missed over 40 connections less often than once in 10^11.
        assert_eq!(answering(FOUR, 40), set(&["10.244.1.5", "10.244.1.6"]));
        assert_eq!(answering(SIX, 4), set(&["fd00:10:244:1::5"]));
        assert!(
            !is_open("127.0.0.2:30080"),
            "one address, not the whole prefix"
        );

        let body: Vec<u8> = (0..8_000_000_u32)
            .map(|n| n.to_le_bytes()[(n % 3) as usize])
            .collect();
        let mut stream = connect(FOUR).expect("a connection");
        let mut writing = stream.try_clone().expect("a second handle");
        let sent = body.clone();
        let writer = thread::spawn(move || {
            writing.write_all(&sent).expect("all is taken");
            writing.shutdown(Shutdown::Write).expect("the end is sent");
        });
        let mut got = Vec::new();
        stream
            .read_to_end(&mut got)
            .expect("all comes back, and the end");
        writer.join().expect("a writer");
        assert!(got == body, "{} of {} bytes", got.len(), body.len());

        let text = it.metrics.families();
        for family in ["IPv4", "IPv6"] {
            let listeners = format!("localhost_nodeport_listeners{{ip_family=\"{family}\"}} 1\n");
            assert!(text.contains(&listeners), "{text}");
        }
    });
}

#[test]
fn all_connections_keep_to_one_endpoint_under_affinity() {
    let test = "loopback::all_connections_keep_to_one_endpoint_under_affinity";
    isolated_test(test, || {
        let mut it = start(&format!(
            "{HEAD}\n{WEB} affinity=ClientIP\nendpoint 10.244.1.5 ready on node-1\nendpoint 10.244.1.6 ready on node-1\n\
             step it is switched off\n{WEB}\n"
        ));
        within("it listens", || is_open(FOUR));
        assert_eq!(answering(FOUR, 40).len(), 1);
        it.next();
        within("it is off", || answering(FOUR, 40).len() == 2);
    });
}

/// Who answers a client that sends from this address.
fn ask_from(source: &str, at: &str) -> io::Result<String> {
    let ip: IpAddr = source.parse().expect("an address");
    let at: SocketAddr = at.parse().expect("an address and port");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.connect_timeout(&at.into(), Duration::from_secs(2))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    who(&mut TcpStream::from(socket))
}

#[test]
fn clients_of_all_loopback_addresses_are_one_and_move_only_when_their_endpoint_goes() {
    let test = "loopback::clients_of_all_loopback_addresses_are_one_and_move_only_when_their_endpoint_goes";
    isolated_test(test, || {
        let mut it = start(&format!(
            "{HEAD}\n{WEB} affinity=ClientIP\nendpoint 10.244.1.5 ready on node-1\nendpoint 10.244.1.6 ready on node-1\n\
             step one goes\nremove endpoint 10.244.1.5 of web\n\
             step it comes back\nendpoint 10.244.1.5 ready on node-1 of web\n"
        ));
        within("it listens", || is_open(FOUR));
        // Thirty clients that chose each by itself would agree once in 2^29.
        let all = || -> BTreeSet<String> {
            let sources = (1..=30).map(|last| format!("127.0.0.{last}"));
            let answers = sources.map(|source| ask_from(&source, FOUR).expect("an answer"));
            answers.collect()
        };
        assert_eq!(all().len(), 1);
        it.next();
        within("the other answers", || {
            ask(FOUR).is_ok_and(|name| name == "10.244.1.6")
        });
        assert_eq!(all(), set(&["10.244.1.6"]));
        it.next();
        // Nothing says when it is there again: it is looked at for a while.
        for _ in 0..10 {
            assert_eq!(
                all(),
                set(&["10.244.1.6"]),
                "nobody moves to one that comes"
            );
            thread::sleep(Duration::from_millis(30));
        }
    });
}

#[test]
fn an_endpoint_that_goes_leaves_its_connections_and_a_port_that_goes_ends_them() {
    let test =
        "loopback::an_endpoint_that_goes_leaves_its_connections_and_a_port_that_goes_ends_them";
    isolated_test(test, || {
        let mut it = start(&format!(
            "{HEAD}\n{WEB}\nendpoint 10.244.1.5 ready on node-1\n\
             step another one takes its place\nremove endpoint 10.244.1.5 of web\nendpoint 10.244.1.6 ready on node-1 of web\n\
             step none is left\nremove endpoint 10.244.1.6 of web\n\
             step one is back\nendpoint 10.244.1.5 ready on node-1 of web\n\
             step the Service goes\nremove service web\n"
        ));
        within("it listens", || is_open(FOUR));
        let mut standing = connect(FOUR).expect("a connection");
        assert_eq!(who(&mut standing).expect("an answer"), "10.244.1.5");
        it.next();
        within("the other one", || {
            ask(FOUR).is_ok_and(|name| name == "10.244.1.6")
        });
        // What stands goes on: its end is answered by all that was sent.
        standing.write_all(b"more").expect("it stands");
        standing.shutdown(Shutdown::Write).expect("it stands");
        let mut rest = String::new();
        standing.read_to_string(&mut rest).expect("an answer");
        assert_eq!(rest, "who\nmore");

        let mut standing = connect(FOUR).expect("a connection");
        who(&mut standing).expect("an answer");
        it.next();
        within("none is left", || !is_open(FOUR));
        assert_ne!(standing.read(&mut [0]).ok(), Some(1), "it is cut");
        assert!(
            it.metrics
                .families()
                .contains("localhost_nodeport_listeners{ip_family=\"IPv4\"} 0\n")
        );
        it.next();
        within("one is back", || is_open(FOUR));
        it.next();
        within("the Service is gone", || !is_open(FOUR));
    });
}

#[test]
fn an_endpoint_that_refuses_ends_the_connection_and_no_other_is_tried() {
    let test = "loopback::an_endpoint_that_refuses_ends_the_connection_and_no_other_is_tried";
    isolated_test(test, || {
        let _it = start(&format!(
            "{HEAD}\n{WEB} affinity=ClientIP\nendpoint 10.244.1.7 ready on node-1\n"
        ));
        within("it listens", || is_open(FOUR));
        let mut stream = connect(FOUR).expect("a connection");
        assert!(
            matches!(stream.read(&mut [0]), Ok(0) | Err(_)),
            "it is ended"
        );
    });
}

#[test]
fn under_the_local_policy_the_endpoints_of_this_node_answer_alone() {
    let test = "loopback::under_the_local_policy_the_endpoints_of_this_node_answer_alone";
    isolated_test(test, || {
        let _it = start(&format!(
            "{HEAD}\n{WEB} external-policy=Local\nendpoint 10.244.1.5 ready on node-2\nendpoint 10.244.1.6 ready on node-1\n\
             endpoint fd00:10:244:1::5 ready on node-2\n"
        ));
        within("it listens", || is_open(FOUR));
        assert_eq!(answering(FOUR, 20), set(&["10.244.1.6"]));
        assert!(!is_open(SIX), "no endpoint of this family is here");
    });
}

#[test]
fn a_number_that_another_program_has_is_counted_told_once_and_served_when_it_is_free() {
    let test = "loopback::a_number_that_another_program_has_is_counted_told_once_and_served_when_it_is_free";
    isolated_test(test, || {
        let mut it = Fixture::new(
            &ADDRESSES,
            &format!(
                "{HEAD}\nservice web NodePort 80->8080/TCP cluster=10.96.0.20\nendpoint 10.244.1.5 ready on node-1\n\
             step it gets a node port\n{WEB}\n"
            ),
        );
        start_endpoints();
        let taken = TcpListener::bind(FOUR).expect("a free port");
        it.next();
        let failures = "kubeproxy_nftables_localhost_nodeport_listener_creation_failures_total{ip_family=\"IPv4\"} ";
        let counted = |it: &Fixture| {
            let text = it.metrics.families();
            let line = text.lines().find_map(|line| line.strip_prefix(failures));
            line.and_then(|count| count.parse::<u32>().ok())
                .expect("a counter")
        };
        within("it is tried twice", || counted(&it) >= 2);
        let told = it.board.take().expect("a notice");
        assert_eq!(told.reason, "FailedToStartLocalhostNodePort");
        assert_eq!(told.about.to_string(), "default/web");
        for part in [FOUR, "nodePort", "in use"] {
            assert!(
                told.message.contains(part),
                "{part} is not in: {}",
                told.message
            );
        }
        assert_eq!(it.board.take(), None);
        drop(taken);
        within("it is free", || ask(FOUR).is_ok());
    });
}
