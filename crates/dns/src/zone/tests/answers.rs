//! What is said of each name.

use super::*;

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
