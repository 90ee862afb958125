//! The zone's answers, one line a case; `row` is the specification's checklist below.
//!
//! 2-6 cluster IPs, 7 their reverse names, 8-13 headless names, 14 endpoint names of any Service,
//! 15 SRV of headless ones, 16 reverse names of endpoints, 19-24 ExternalName, 25-26 Pod names,
//! 28-30 names with something below them and names of no shape, 31 wildcards, 32 the apex, 33 case.

mod answers;
mod changes;

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
