//! The zone's answers, one line a case; `row` is the specification's checklist below.
//!
//! 2-6 cluster IPs, 7 their reverse names, 8-13 headless names, 14 endpoint names of any Service,
//! 15 SRV of headless ones, 16 reverse names of endpoints, 19-24 ExternalName, 25-26 Pod names,
//! 28-30 names with something below them and names of no shape, 31 wildcards, 32 the apex, 33 case.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::Namespace;
use daymark_feed::{Event, Scope};
use daymark_model::input::{
    Affinity, ClusterIps, Conditions, ServicePort, ServiceType, SliceAudience, SlicePort,
    TrafficPolicy,
};
use daymark_model::{Change, Endpoint, Family, Protocol, Service, Slice, SliceKey};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record};

use super::*;

fn service(name: &str, ips: ClusterIps, ports: &[(&str, Protocol, u16)]) -> Service {
    let (namespace, name) = name.split_once('/').unwrap_or(("test", name));
    let port = |&(name, protocol, port): &(&str, Protocol, u16)| ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: None,
    };
    Service {
        key: ServiceKey::new(namespace, name),
        uid: None,
        created: 0,
        kind: ServiceType::ClusterIp,
        cluster_ips: ips,
        families: Vec::new(),
        external_ips: Vec::new(),
        ingress: Vec::new(),
        ports: ports.iter().map(port).collect(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: Affinity::None,
        source_ranges: Vec::new(),
        health_check_node_port: None,
        proxy_name: None,
        load_balancer: None,
    }
}

fn allocated(ips: &[&str]) -> ClusterIps {
    ClusterIps::Allocated(ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

fn put(service: Service) -> Event {
    Event::Model(Change::Service(
        service.key.clone(),
        Some(Arc::new(service)),
    ))
}

fn gone(name: &str) -> Event {
    Event::Model(Change::Service(ServiceKey::new("test", name), None))
}

fn external(name: &str, target: &str) -> Event {
    let kind = ServiceType::ExternalName(target.into());
    put(Service {
        kind,
        ..service(name, ClusterIps::Unset, &[])
    })
}

/// A slice; `!` before an address: not ready, `=` after it: its hostname.
fn slice(service: &str, name: &str, ports: &[(&str, Protocol, u16)], endpoints: &[&str]) -> Event {
    let endpoint = |text: &&str| {
        let (ready, text) = text
            .strip_prefix('!')
            .map_or((None, *text), |rest| (Some(false), rest));
        let (address, hostname) = text
            .split_once('=')
            .map_or((text, None), |(a, h)| (a, Some(h.into())));
        let conditions = Conditions {
            ready,
            ..Conditions::default()
        };
        Endpoint {
            address: address.parse().unwrap(),
            conditions,
            node: None,
            hints: None,
            hostname,
        }
    };
    let endpoints: Vec<Endpoint> = endpoints.iter().map(endpoint).collect();
    let port = |&(name, protocol, port): &(&str, Protocol, u16)| SlicePort {
        name: name.into(),
        protocol,
        port,
    };
    let key = SliceKey {
        namespace: "test".into(),
        name: name.into(),
    };
    let slice = Slice {
        key: key.clone(),
        service: service.into(),
        family: endpoints
            .first()
            .map_or(Family::V4, |endpoint| Family::of(endpoint.address)),
        audience: SliceAudience::Everyone,
        ports: ports.iter().map(port).collect(),
        endpoints,
    };
    Event::Model(Change::Slice(key, Some(Arc::new(slice))))
}

fn slice_gone(name: &str) -> Event {
    Event::Model(Change::Slice(
        SliceKey {
            namespace: "test".into(),
            name: name.into(),
        },
        None,
    ))
}

fn namespace(name: &str) -> Event {
    Event::Namespace(name.into(), Some(Arc::new(Namespace { name: name.into() })))
}

fn cluster() -> Vec<Event> {
    use Protocol::{Tcp, Udp};
    let headless = |name: &str| put(service(name, ClusterIps::Headless, &[]));
    let dns = [("dns", Udp, 53), ("dns-tcp", Tcp, 53)];
    vec![
        namespace("test"),
        namespace("empty"),
        put(service(
            "kube-system/kube-dns",
            allocated(&["10.96.0.10", "fd00:10:96::a"]),
            &dns,
        )),
        put(service(
            "web",
            allocated(&["10.96.0.1", "fd00:10:96::1"]),
            &[("http", Tcp, 80), ("admin", Tcp, 81)],
        )),
        put(service(
            "single",
            allocated(&["10.96.0.2"]),
            &[("", Tcp, 80)],
        )),
        put(service(
            "six",
            allocated(&["fd00:10:96::6"]),
            &[("", Tcp, 80)],
        )),
        put(service(
            "1digit",
            allocated(&["10.96.0.3"]),
            &[("", Tcp, 80)],
        )),
        put(service("pending", ClusterIps::Unset, &[("", Tcp, 80)])),
        slice(
            "single",
            "single-a",
            &[("", Tcp, 8080)],
            &["10.244.1.50", "!10.244.1.51"],
        ),
        headless("pods"),
        slice(
            "pods",
            "pods-a",
            &[("http", Tcp, 8080)],
            &["10.244.1.1=web-0", "10.244.1.2", "!10.244.1.3"],
        ),
        slice(
            "pods",
            "pods-b",
            &[("http", Tcp, 8080)],
            &["10.244.2.1=web-0", "10.244.1.2"],
        ),
        slice(
            "pods",
            "pods-6",
            &[("http", Tcp, 8080)],
            &["fd00:10:244:1::1=web-0", "2001:db8::"],
        ),
        headless("none"),
        slice("none", "none-a", &[("http", Tcp, 8080)], &["!10.244.1.9"]),
        headless("only6"),
        slice(
            "only6",
            "only6-a",
            &[("http", Tcp, 8080)],
            &["fd00:10:244:1::6"],
        ),
        headless("portless"),
        slice("portless", "portless-a", &[], &["10.244.1.7"]),
        external("out", "example.com"),
        external("out-dot", "example.com."),
        external("in", "web.test.svc.cluster.local"),
        external("in-in", "in.test.svc.cluster.local."),
        external("missing", "nobody.test.svc.cluster.local"),
        external("self", "self.test.svc.cluster.local"),
        external("ping", "pong.test.svc.cluster.local"),
        external("pong", "ping.test.svc.cluster.local"),
        external("address", "10.1.2.3"),
        external("far", "out.test.svc.cluster.local"),
    ]
}

fn zone(config: &Config) -> Zone {
    let mut zone = Zone::new(config).unwrap();
    assert_eq!(zone.apply(&batch(1, cluster()), Hold::ForPlane, 7), 0);
    zone
}

fn batch(number: u64, events: Vec<Event>) -> Batch {
    Batch {
        number,
        scope: if number == 1 {
            Scope::Everything
        } else {
            Scope::Changes
        },
        events,
    }
}

fn show(record: &Record) -> String {
    match &record.data {
        RData::SRV(srv) => format!(
            "{} {} {} {}",
            srv.priority, srv.weight, srv.port, srv.target
        ),
        RData::SOA(soa) => format!("soa {} {}", soa.mname, soa.rname),
        data => data.to_string(),
    }
}

fn ask(zone: &Zone, question: &str) -> String {
    let (name, kind) = question.split_once(' ').unwrap();
    let mut name = if name.ends_with('.') || name.is_empty() {
        Name::from_ascii(if name.is_empty() {
            "cluster.local."
        } else {
            name
        })
        .unwrap()
    } else {
        Name::from_ascii(format!("{name}.cluster.local.")).unwrap()
    };
    name.set_fqdn(true);
    match zone.answer(&name, kind.parse().unwrap()) {
        Outcome::Elsewhere => "elsewhere".to_owned(),
        Outcome::NotReady => "not ready".to_owned(),
        Outcome::Alias { chain, target, .. } => format!("{} links to {target}", chain.len()),
        Outcome::Answer(answer) => {
            let aliases_alone = answer
                .answers
                .iter()
                .all(|record| record.record_type() == RecordType::CNAME);
            let negative = aliases_alone
                && !question.ends_with("CNAME")
                && answer.code != ResponseCode::Refused;
            assert_eq!(
                answer.soa.is_some(),
                negative,
                "{question}: an SOA record belongs to each negative answer"
            );
            assert!(
                answer
                    .answers
                    .iter()
                    .all(|record| record.ttl == 5 || record.ttl == 28_800),
                "{question}: TTL"
            );
            let mut shown: Vec<String> = answer.answers.iter().map(show).collect();
            shown.sort();
            match (answer.code, &shown[..]) {
                (ResponseCode::NoError, []) => "NODATA".to_owned(),
                (ResponseCode::NXDomain, _) => "NXDOMAIN".to_owned(),
                (ResponseCode::Refused, _) => "REFUSED".to_owned(),
                _ => shown.join(", "),
            }
        }
    }
}

#[test]
fn the_zone_answers_by_the_specification() {
    const CASES: &[(u8, &str, &str)] = &[
        (1, "dns-version TXT", "1.1.0"),
        (1, "dns-version A", "NODATA"),
        (2, "web.test.svc A", "10.96.0.1"),
        (2, "web.test.svc AAAA", "fd00:10:96::1"),
        (2, "single.test.svc A", "10.96.0.2"),
        (2, "single.test.svc AAAA", "NODATA"),
        (2, "six.test.svc A", "NODATA"),
        (2, "six.test.svc AAAA", "fd00:10:96::6"),
        (2, "pending.test.svc A", "NXDOMAIN"),
        (2, "nobody.test.svc A", "NXDOMAIN"),
        (2, "web.empty.svc A", "NXDOMAIN"),
        (
            3,
            "_http._tcp.web.test.svc SRV",
            "0 100 80 web.test.svc.cluster.local.",
        ),
        (
            4,
            "_dns._udp.kube-dns.kube-system.svc SRV",
            "0 100 53 kube-dns.kube-system.svc.cluster.local.",
        ),
        (4, "_dns._tcp.kube-dns.kube-system.svc SRV", "NXDOMAIN"),
        (4, "_https._tcp.web.test.svc SRV", "NXDOMAIN"),
        (
            5,
            "single.test.svc SRV",
            "0 100 80 single.test.svc.cluster.local.",
        ),
        (
            5,
            "web.test.svc SRV",
            "0 50 80 web.test.svc.cluster.local., 0 50 81 web.test.svc.cluster.local.",
        ),
        (
            6,
            "http.tcp.web.test.svc SRV",
            "0 100 80 web.test.svc.cluster.local.",
        ),
        (
            6,
            "_._tcp.single.test.svc SRV",
            "0 100 80 single.test.svc.cluster.local.",
        ),
        (
            6,
            "_http._.web.test.svc SRV",
            "0 100 80 web.test.svc.cluster.local.",
        ),
        (6, "_http._tcp.web.test.svc A", "10.96.0.1"),
        (6, "_http._quic.web.test.svc A", "NXDOMAIN"),
        (
            7,
            "1.0.96.10.in-addr.arpa. PTR",
            "web.test.svc.cluster.local.",
        ),
        (
            7,
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR",
            "web.test.svc.cluster.local.",
        ),
        (7, "1.0.96.10.in-addr.arpa. A", "NODATA"),
        (7, "200.0.30.172.in-addr.arpa. PTR", "elsewhere"),
        (7, "01.0.96.10.in-addr.arpa. PTR", "elsewhere"),
        (8, "pods.test.svc A", "10.244.1.1, 10.244.1.2, 10.244.2.1"),
        (8, "pods.test.svc AAAA", "2001:db8::, fd00:10:244:1::1"),
        (9, "none.test.svc A", "NXDOMAIN"),
        (9, "none.test.svc AAAA", "NXDOMAIN"),
        (9, "none.test.svc SRV", "NXDOMAIN"),
        (9, "only6.test.svc A", "NODATA"),
        (9, "only6.test.svc AAAA", "fd00:10:244:1::6"),
        (10, "portless.test.svc A", "10.244.1.7"),
        (10, "portless.test.svc SRV", "NODATA"),
        (11, "web-0.pods.test.svc A", "10.244.1.1, 10.244.2.1"),
        (11, "10-244-1-2.pods.test.svc A", "10.244.1.2"),
        (11, "10-244-1-1.pods.test.svc A", "NXDOMAIN"),
        (11, "10-244-1-3.pods.test.svc A", "NXDOMAIN"),
        (12, "web-0.pods.test.svc AAAA", "fd00:10:244:1::1"),
        (13, "2001-db8--0.pods.test.svc AAAA", "2001:db8::"),
        (13, "2001-db8--0.pods.test.svc A", "NODATA"),
        (13, "2001-db8-0--0.pods.test.svc AAAA", "NXDOMAIN"),
        (14, "10-244-1-50.single.test.svc A", "10.244.1.50"),
        (14, "10-244-1-51.single.test.svc A", "NXDOMAIN"),
        (
            15,
            "_http._tcp.only6.test.svc SRV",
            "0 100 8080 fd00-10-244-1--6.only6.test.svc.cluster.local.",
        ),
        (
            15,
            "_http._tcp.pods.test.svc SRV",
            "0 33 8080 10-244-1-2.pods.test.svc.cluster.local., 0 33 8080 2001-db8--0.pods.test.svc.cluster.local., 0 33 8080 web-0.pods.test.svc.cluster.local.",
        ),
        (15, "_grpc._tcp.pods.test.svc SRV", "NXDOMAIN"),
        (
            16,
            "1.1.244.10.in-addr.arpa. PTR",
            "web-0.pods.test.svc.cluster.local.",
        ),
        (
            16,
            "2.1.244.10.in-addr.arpa. PTR",
            "10-244-1-2.pods.test.svc.cluster.local.",
        ),
        (
            16,
            "50.1.244.10.in-addr.arpa. PTR",
            "10-244-1-50.single.test.svc.cluster.local.",
        ),
        (16, "3.1.244.10.in-addr.arpa. PTR", "elsewhere"),
        (19, "out.test.svc A", "1 links to example.com."),
        (19, "out-dot.test.svc AAAA", "1 links to example.com."),
        (19, "out.test.svc CNAME", "example.com."),
        (
            20,
            "in.test.svc A",
            "10.96.0.1, web.test.svc.cluster.local.",
        ),
        (
            20,
            "in-in.test.svc AAAA",
            "fd00:10:96::1, in.test.svc.cluster.local., web.test.svc.cluster.local.",
        ),
        (20, "missing.test.svc A", "NODATA"),
        (20, "self.test.svc A", "NODATA"),
        (20, "ping.test.svc A", "NODATA"),
        (20, "far.test.svc A", "2 links to example.com."),
        (22, "out.test.svc TXT", "1 links to example.com."),
        (22, "in.test.svc TXT", "web.test.svc.cluster.local."),
        (23, "x.out.test.svc A", "NXDOMAIN"),
        (23, "_http._tcp.out.test.svc SRV", "NXDOMAIN"),
        (24, "address.test.svc A", "NXDOMAIN"),
        (26, "1-2-3-4.test.pod A", "1.2.3.4"),
        (26, "1-2-3-4.test.pod AAAA", "NODATA"),
        (26, "2001-db8--1.test.pod AAAA", "2001:db8::1"),
        (26, "1-2-3-400.test.pod A", "NXDOMAIN"),
        (26, "web-0.test.pod A", "NXDOMAIN"),
        (26, "1-2-3-4.nobody.pod A", "NXDOMAIN"),
        (28, " A", "NODATA"),
        (28, "svc A", "NODATA"),
        (28, "pod AAAA", "NODATA"),
        (28, "test.svc A", "NODATA"),
        (28, "empty.svc A", "NODATA"),
        (28, "empty.pod A", "NODATA"),
        (28, "nobody.svc A", "NXDOMAIN"),
        (28, "nobody.pod A", "NXDOMAIN"),
        (29, "test.svc TXT", "NODATA"),
        (29, "_tcp.web.test.svc A", "NODATA"),
        (29, "_udp.web.test.svc A", "NXDOMAIN"),
        (29, "_tcp.single.test.svc SRV", "NXDOMAIN"),
        (29, "_tcp.pods.test.svc SRV", "NODATA"),
        (29, "dns A", "NODATA"),
        (30, "foo A", "NXDOMAIN"),
        (30, "a.b.c.web.test.svc A", "NXDOMAIN"),
        (30, "a.1-2-3-4.test.pod A", "NXDOMAIN"),
        (30, "x.ns.dns A", "NXDOMAIN"),
        (31, "*.test.svc A", "NXDOMAIN"),
        (31, "web.*.svc A", "NXDOMAIN"),
        (
            32,
            " SOA",
            "soa ns.dns.cluster.local. hostmaster.cluster.local.",
        ),
        (32, " NS", "kube-dns.kube-system.svc.cluster.local."),
        (32, "ns.dns A", "10.96.0.10"),
        (32, "ns.dns AAAA", "fd00:10:96::a"),
        (33, "WEB.Test.SVC A", "10.96.0.1"),
        (37, " AXFR", "REFUSED"),
        (38, "web.test.svc ANY", "NODATA"),
        (38, "web.test.svc MX", "NODATA"),
        (38, "web.test.svc HTTPS", "NODATA"),
        (43, "1digit.test.svc A", "10.96.0.3"),
        (0, "example.com. A", "elsewhere"),
        (0, "local. A", "elsewhere"),
        (0, "xcluster.local. A", "elsewhere"),
    ];
    let zone = zone(&Config::default());
    for (row, question, expected) in CASES {
        assert_eq!(ask(&zone, question), *expected, "row {row}: {question}");
    }
}

#[test]
fn addresses_of_one_name_never_differ_in_rcode() {
    let zone = zone(&Config::default());
    let names = [
        "web",
        "single",
        "six",
        "pending",
        "nobody",
        "pods",
        "none",
        "only6",
        "portless",
        "missing",
        "self",
        "in",
        "address",
        "web-0.pods",
        "_tcp.web",
        "_http._tcp.pods",
        "x.out",
        "10-244-1-50.single",
    ];
    for name in names {
        let code = |kind: &str| {
            let answer = ask(&zone, &format!("{name}.test.svc {kind}"));
            answer == "NXDOMAIN"
        };
        assert_eq!(code("A"), code("AAAA"), "{name}");
    }
}

#[test]
fn the_case_of_a_question_comes_back_in_owner_and_suffix() {
    let zone = zone(&Config::default());
    let name = Name::from_ascii("_HTTP._tcp.Web.TEST.svc.CLUSTER.Local.").unwrap();
    let Outcome::Answer(answer) = zone.answer(&name, RecordType::SRV) else {
        panic!()
    };
    assert!(answer.answers[0].name.eq_case(&name));
    assert_eq!(
        show(&answer.answers[0]),
        "0 100 80 web.test.svc.CLUSTER.Local."
    );
    let glue: Vec<String> = answer.additionals.iter().map(show).collect();
    assert_eq!(glue, ["10.96.0.1", "fd00:10:96::1"]);
    let Outcome::Answer(negative) = zone.answer(
        &Name::from_ascii("x.CLUSTER.local.").unwrap(),
        RecordType::A,
    ) else {
        panic!()
    };
    assert_eq!(negative.soa.unwrap().name.to_ascii(), "CLUSTER.local.");
}

#[test]
fn nothing_is_said_before_the_first_batch() {
    let zone = Zone::new(&Config::default()).unwrap();
    assert_eq!(ask(&zone, "web.test.svc A"), "not ready");
    assert_eq!(ask(&zone, "1.0.96.10.in-addr.arpa. PTR"), "not ready");
    assert_eq!(ask(&zone, "example.com. A"), "elsewhere");
}

#[test]
fn own_reverse_zones_end_here() {
    let config = Config {
        reverse_zones: vec!["96.10.in-addr.arpa".to_owned()],
        ..Config::default()
    };
    let zone = zone(&config);
    assert_eq!(ask(&zone, "99.9.96.10.in-addr.arpa. PTR"), "NXDOMAIN");
    assert_eq!(ask(&zone, "0.96.10.in-addr.arpa. PTR"), "NODATA");
    assert_eq!(
        ask(&zone, "1.0.96.10.in-addr.arpa. PTR"),
        "web.test.svc.cluster.local."
    );
    assert_eq!(ask(&zone, "1.1.97.10.in-addr.arpa. PTR"), "elsewhere");
}

#[test]
fn disabled_pod_names_do_not_exist() {
    let zone = zone(&Config {
        pods: PodNames::Disabled,
        ..Config::default()
    });
    assert_eq!(ask(&zone, "1-2-3-4.test.pod A"), "NXDOMAIN");
}

#[test]
fn a_bad_zone_is_refused_by_name() {
    let config = Config {
        zone: "cluster..local".to_owned(),
        ..Config::default()
    };
    assert!(
        Zone::new(&config)
            .unwrap_err()
            .to_string()
            .starts_with("zone \"cluster..local\"")
    );
}

#[test]
fn a_new_cluster_ip_waits_for_the_plane_and_nothing_else_does() {
    let mut zone = zone(&Config::default());
    let fresh = |ip: &str| {
        put(service(
            "fresh",
            allocated(&[ip]),
            &[("", Protocol::Tcp, 80)],
        ))
    };
    assert_eq!(
        zone.apply(&batch(2, vec![fresh("10.96.0.50")]), Hold::ForPlane, 8),
        1
    );
    assert_eq!(ask(&zone, "fresh.test.svc A"), "NXDOMAIN");
    assert_eq!(ask(&zone, "50.0.96.10.in-addr.arpa. PTR"), "elsewhere");

    // It changes while it waits: its turn stays. Other Services change at once.
    let headless = put(service("late", ClusterIps::Headless, &[]));
    let pods = slice("late", "late-a", &[], &["10.244.3.1"]);
    let elsewhere = Service {
        proxy_name: Some("other".into()),
        ..service("other", allocated(&["10.96.0.60"]), &[])
    };
    let events = vec![fresh("10.96.0.50"), headless, pods, put(elsewhere)];
    assert_eq!(zone.apply(&batch(3, events), Hold::ForPlane, 9), 0);
    assert_eq!(ask(&zone, "late.test.svc A"), "10.244.3.1");
    assert_eq!(ask(&zone, "other.test.svc A"), "10.96.0.60");

    assert_eq!(zone.release(1), 0);
    assert_eq!(zone.release(2), 1);
    assert_eq!(ask(&zone, "fresh.test.svc A"), "10.96.0.50");
    assert_eq!(
        ask(&zone, "50.0.96.10.in-addr.arpa. PTR"),
        "fresh.test.svc.cluster.local."
    );
}

#[test]
fn a_changed_address_keeps_the_old_one_until_the_plane_has_it() {
    let mut zone = zone(&Config::default());
    let moved = put(service(
        "single",
        allocated(&["10.96.9.9"]),
        &[("", Protocol::Tcp, 80)],
    ));
    assert_eq!(zone.apply(&batch(2, vec![moved]), Hold::ForPlane, 8), 1);
    assert_eq!(ask(&zone, "single.test.svc A"), "10.96.0.2");
    zone.release(2);
    assert_eq!(ask(&zone, "single.test.svc A"), "10.96.9.9");
    assert_eq!(ask(&zone, "2.0.96.10.in-addr.arpa. PTR"), "elsewhere");
}

#[test]
fn a_service_that_goes_while_it_waits_never_appears() {
    let mut zone = zone(&Config::default());
    let fresh = put(service("fresh", allocated(&["10.96.0.50"]), &[]));
    zone.apply(&batch(2, vec![fresh]), Hold::ForPlane, 8);
    zone.apply(
        &batch(3, vec![gone("fresh"), gone("web")]),
        Hold::ForPlane,
        9,
    );
    assert_eq!(zone.release(9), 0);
    assert_eq!(ask(&zone, "fresh.test.svc A"), "NXDOMAIN");
    assert_eq!(ask(&zone, "web.test.svc A"), "NXDOMAIN");
}

#[test]
fn slices_come_go_and_move_between_services() {
    let mut zone = zone(&Config::default());
    let ports = [("http", Protocol::Tcp, 8080)];
    // An endpoint in two slices stays as long as one of them has it.
    zone.apply(
        &batch(2, vec![slice("pods", "pods-a", &ports, &["10.244.1.9"])]),
        Hold::Nothing,
        8,
    );
    assert_eq!(
        ask(&zone, "pods.test.svc A"),
        "10.244.1.2, 10.244.1.9, 10.244.2.1"
    );
    assert_eq!(
        ask(&zone, "2.1.244.10.in-addr.arpa. PTR"),
        "10-244-1-2.pods.test.svc.cluster.local."
    );
    zone.apply(
        &batch(
            3,
            vec![
                slice_gone("pods-b"),
                slice("only6", "pods-a", &ports, &["10.244.1.9"]),
            ],
        ),
        Hold::Nothing,
        9,
    );
    assert_eq!(ask(&zone, "pods.test.svc A"), "NODATA");
    assert_eq!(ask(&zone, "only6.test.svc A"), "10.244.1.9");
    assert_eq!(
        ask(&zone, "9.1.244.10.in-addr.arpa. PTR"),
        "10-244-1-9.only6.test.svc.cluster.local."
    );
    assert_eq!(ask(&zone, "2.1.244.10.in-addr.arpa. PTR"), "elsewhere");
    zone.apply(
        &batch(
            4,
            vec![
                slice_gone("pods-6"),
                slice_gone("pods-a"),
                slice_gone("only6-a"),
            ],
        ),
        Hold::Nothing,
        9,
    );
    assert_eq!(ask(&zone, "pods.test.svc A"), "NXDOMAIN");
    assert_eq!(ask(&zone, "only6.test.svc AAAA"), "NXDOMAIN");
}

#[test]
fn a_namespace_exists_while_it_or_a_service_in_it_does() {
    let mut zone = zone(&Config::default());
    let early = put(service("early/web", allocated(&["10.96.0.70"]), &[]));
    zone.apply(
        &batch(2, vec![early, Event::Namespace("empty".into(), None)]),
        Hold::Nothing,
        8,
    );
    assert_eq!(ask(&zone, "early.svc A"), "NODATA");
    assert_eq!(ask(&zone, "empty.svc A"), "NXDOMAIN");
    let key = ServiceKey::new("early", "web");
    zone.apply(
        &batch(3, vec![Event::Model(Change::Service(key, None))]),
        Hold::Nothing,
        8,
    );
    assert_eq!(ask(&zone, "early.svc A"), "NXDOMAIN");
}

proptest::proptest! {
    #[test]
    fn dashed_addresses_are_labels_and_read_back(address: IpAddr) {
        let label = endpoints::dashed(address);
        proptest::prop_assert!(label.len() < 64 && !label.starts_with('-') && !label.ends_with('-'), "{label}");
        if !matches!(address, IpAddr::V6(six) if six.to_ipv4().is_some() || six.to_ipv4_mapped().is_some()) {
            proptest::prop_assert_eq!(endpoints::undashed(&label), Some(address), "{}", label);
        }
    }
}
