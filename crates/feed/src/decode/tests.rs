//! Odd values: each is left out with a reason, and the rest of the object is read.

mod bent;

use std::net::IpAddr;
use std::num::NonZeroI64;

use daymark_model::input::{Affinity, ClusterIps, ServiceType, SliceAudience};
use daymark_model::{Family, Service, Slice};
use proptest::prelude::*;

use super::*;
use crate::config::Kind;
use crate::record::Eligibility;

fn decode(kind: Kind, json: &str) -> Object {
    let mut names = Interner::default();
    let nodes = Nodes::All {
        own: Some("node-1".into()),
    };
    let mut context = Context {
        kind,
        nodes: &nodes,
        names: &mut names,
    };
    item(json.as_bytes(), &mut context).expect("the object has a name")
}

fn reasons(object: &Object) -> Vec<&str> {
    object
        .reasons
        .iter()
        .map(|reason| reason.field.as_str())
        .collect()
}

fn service(spec: &str) -> (Arc<Service>, Object) {
    let object = decode(
        Kind::Service,
        &format!(r#"{{"metadata":{{"name":"a","namespace":"n","uid":"{UID}"}},{spec}}}"#),
    );
    let Meaning::Record(Record::Service(service)) = &object.meaning else {
        panic!("{object:?}")
    };
    (Arc::clone(service), object)
}

const UID: &str = "0f5c1a2e-93bd-4d1c-8a57-0123456789ab";

fn slice(rest: &str) -> Object {
    let labels = r#""labels":{"kubernetes.io/service-name":"a"}"#;
    decode(
        Kind::EndpointSlice,
        &format!(r#"{{"metadata":{{"name":"a-1","namespace":"n",{labels}}},{rest}}}"#),
    )
}

fn slice_record(object: &Object) -> Arc<Slice> {
    let Meaning::Record(Record::Slice(slice, _)) = &object.meaning else {
        panic!("{object:?}")
    };
    Arc::clone(slice)
}

#[test]
fn internal_addresses_of_a_node_come_before_external_ones() {
    let object = decode(
        Kind::Node,
        r#"{"metadata":{"name":"node-1"},"status":{"addresses":[
            {"type":"Hostname","address":"node-1"},
            {"type":"ExternalIP","address":"192.0.2.7"},
            {"type":"InternalIP","address":"here"},
            {"type":"InternalIP","address":"172.30.0.011"},
            {"type":"ExternalIP","address":"2001:db8::7"},
            {"type":"InternalIP","address":"172.30.0.12"}]}}"#,
    );
    assert_eq!(reasons(&object), ["status.addresses[2].address"]);
    let Meaning::Record(Record::Node(node)) = &object.meaning else {
        panic!("{object:?}")
    };
    let expected = ["172.30.0.11", "172.30.0.12", "192.0.2.7", "2001:db8::7"];
    let expected = expected.map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(node.own.as_ref().unwrap().addresses, expected);
    assert_eq!(node.cluster.as_ref().unwrap().addresses, expected);
}

#[test]
fn a_slice_says_when_what_it_follows_from_changed() {
    let at = |annotations: &str| {
        let metadata =
            r#""name":"a","namespace":"b","labels":{"kubernetes.io/service-name":"web"}"#;
        let text = format!(r#"{{"metadata":{{{metadata}{annotations}}},"addressType":"IPv4"}}"#);
        let object = decode(Kind::EndpointSlice, &text);
        assert_eq!(reasons(&object), [""; 0]);
        match object.meaning {
            Meaning::Record(Record::Slice(_, at)) => at.map(NonZeroI64::get),
            other => panic!("{other:?}"),
        }
    };
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    let with = |value: &str| at(&format!(r#","annotations":{{"{key}":{value}}}"#));
    assert_eq!(at(""), None);
    assert_eq!(
        with(r#""2026-01-01T00:00:01.5Z""#),
        Some(1_767_225_601_500_000)
    );
    for odd in [r#""soon""#, "5", "null", r#""""#] {
        assert_eq!(with(odd), None, "{odd}");
    }
}

#[test]
fn a_node_that_is_deleted_or_that_the_autoscaler_takes_away_is_leaving() {
    let rows = [
        (r#""metadata":{"name":"node-1"}"#, Eligibility::Eligible),
        (
            r#""metadata":{"name":"node-1","deletionTimestamp":"2026-01-01T00:00:00Z"}"#,
            Eligibility::Leaving,
        ),
        (
            r#""metadata":{"name":"node-1"},"spec":{"taints":[
                {"key":"a","effect":"NoSchedule"},
                {"key":"ToBeDeletedByClusterAutoscaler","value":"1","effect":"NoSchedule"}]}"#,
            Eligibility::Leaving,
        ),
        (
            r#""metadata":{"name":"node-1"},"spec":{"taints":[{"key":"a"}]}"#,
            Eligibility::Eligible,
        ),
    ];
    for (text, expected) in rows {
        let object = decode(Kind::Node, &format!("{{{text}}}"));
        let Meaning::Record(Record::Node(node)) = &object.meaning else {
            panic!("{object:?}")
        };
        assert_eq!(node.eligibility, Some(expected), "{text}");
    }
}

#[test]
fn unreadable_values_of_a_service_are_named_and_the_rest_stands() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#""spec":{"ports":[{"port":80},{"port":70000},{"port":"80"},{"port":-1}]}"#,
            &[
                "spec.ports[1].port",
                "spec.ports[2].port",
                "spec.ports[3].port",
            ],
        ),
        (
            r#""spec":{"ports":[{"port":80,"protocol":"QUIC"}]}"#,
            &["spec.ports[0].protocol"],
        ),
        (r#""spec":{"ports":"none"}"#, &["spec.ports"]),
        (r#""spec":{"ports":null}"#, &[]),
        (r#""spec":"none""#, &["spec"]),
        (
            r#""spec":{"clusterIPs":["10.0.0.300"]}"#,
            &["spec.clusterIPs[0]"],
        ),
        (r#""spec":{"clusterIP":7}"#, &[]),
        (
            r#""spec":{"externalIPs":["10.0.0.1","x"]}"#,
            &["spec.externalIPs[1]"],
        ),
        (r#""spec":{"type":"Other"}"#, &["spec.type"]),
        (
            r#""spec":{"sessionAffinity":"Cookie"}"#,
            &["spec.sessionAffinity"],
        ),
        (
            r#""spec":{"loadBalancerSourceRanges":["10.0.0.0/8","all"]}"#,
            &["spec.loadBalancerSourceRanges[1]"],
        ),
        (
            r#""spec":{"loadBalancerSourceRanges":["all"]}"#,
            &[
                "spec.loadBalancerSourceRanges[0]",
                "spec.loadBalancerSourceRanges",
            ],
        ),
        (
            r#""spec":{"internalTrafficPolicy":"Zone"}"#,
            &["spec.internalTrafficPolicy"],
        ),
        (
            r#""status":{"loadBalancer":{"ingress":[{"hostname":"x"},{"ip":"y"}]}}"#,
            &["status.loadBalancer.ingress[1].ip"],
        ),
        (
            r#""spec":{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}}"#,
            &["spec.sessionAffinityConfig.clientIP.timeoutSeconds"],
        ),
    ];
    for (json, expected) in cases {
        let (_, object) = service(json);
        assert_eq!(reasons(&object), *expected, "{json}");
    }
}

#[test]
fn hostile_annotations_cost_what_they_are_and_the_rest_stands() {
    let many = |entry: &str| vec![entry; 50_000].join(",");
    let annotated = |name: &str, value: &str| {
        let json = format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop","annotations":{{"{name}":{value}}}}},
                "spec":{{"type":"LoadBalancer","clusterIPs":["10.96.0.7"],"ports":[{{"port":80}}]}}}}"#
        );
        let object = decode(Kind::Service, &json);
        let Meaning::Record(Record::Service(service)) = object.meaning.clone() else {
            panic!("{object:?}")
        };
        assert_eq!(
            (service.ports.len(), service.cluster_ips.all().len()),
            (1, 1),
            "{name}"
        );
        let request = service.load_balancer.clone().unwrap_or_default();
        (request, object)
    };
    let name = "metallb.io/loadBalancerIPs";
    let (request, object) = annotated(name, &format!("{:?}", many("x")));
    assert_eq!((request.addresses.len(), request.unreadable.len()), (0, 16));
    assert_eq!(object.reasons.len(), 17);
    let first = object.reasons[0].to_string();
    let says = "has 50000 entries, of which the first 16 are read: a Service has one address a family, name at most two";
    assert_eq!(first, format!("metadata.annotations[{name}]: {says}"));
    let (request, object) = annotated(name, &format!("{:?}", many("10.0.0.1")));
    assert_eq!((request.addresses.len(), object.reasons.len()), (16, 1));
    let (request, _) = annotated(
        "metallb.io/ip-allocated-from-pool",
        &format!("{:?}", many("p")),
    );
    assert_eq!(request.given_from.len(), 16);
    for (value, reasons) in [
        ("7", 0),
        ("null", 0),
        ("{}", 0),
        ("[]", 0),
        (r#""\u0000""#, 1),
        (r#"",,,""#, 0),
    ] {
        let (request, object) = annotated(name, value);
        assert_eq!(
            (request.addresses.len(), object.reasons.len()),
            (0, reasons),
            "{value}"
        );
    }
}

#[test]
fn source_ranges_of_which_none_can_be_read_let_nobody_in() {
    let ranges = |json: &str| {
        let (service, _) = service(&format!(r#""spec":{{"loadBalancerSourceRanges":{json}}}"#));
        let ranges = service.source_ranges.iter().map(ToString::to_string);
        ranges.collect::<Vec<String>>()
    };
    assert_eq!(ranges("null"), [""; 0]);
    assert_eq!(ranges("[]"), [""; 0]);
    assert_eq!(ranges(r#"["10.0.0.0/8","all"]"#), ["10.0.0.0/8"]);
    for nobody in [r#"["all"]"#, "[7,null]", r#""10.0.0.0/8""#, "{}"] {
        assert_eq!(ranges(nobody), ["0.0.0.0/32", "::/128"], "{nobody}");
    }
}

#[test]
fn a_service_is_read_with_all_that_matters() {
    let (service, object) = service(
        r#""spec":{"type":"LoadBalancer","clusterIPs":["010.96.0.1","fd00::1"],"ipFamilies":["IPv4","IPv6"],
           "sessionAffinity":"ClientIP","loadBalancerClass":"x/y","healthCheckNodePort":30000,
           "ports":[{"name":"h\u0074tp","port":80,"nodePort":30080},{"port":53,"protocol":"UDP","nodePort":0}]},
           "status":{"loadBalancer":{"ingress":[{"ip":"172.30.0.200","ipMode":"Proxy"}]}}"#,
    );
    assert_eq!(reasons(&object), [""; 0]);
    assert_eq!(service.kind, ServiceType::LoadBalancer);
    assert_eq!(service.uid.map(|uid| uid.to_string()).as_deref(), Some(UID));
    assert_eq!(
        service.cluster_ips.of(Family::V4),
        Some("10.96.0.1".parse().unwrap())
    );
    assert_eq!(service.affinity, Affinity::ClientIp { timeout: 10_800 });
    assert_eq!(
        (&*service.ports[0].name, service.ports[0].node_port),
        ("http", Some(30080))
    );
    assert_eq!(service.ports[1].node_port, None);
    assert_eq!(
        service.load_balancer.as_ref().unwrap().class.as_deref(),
        Some("x/y")
    );
}

#[test]
fn headless_unset_and_allocated_are_told_apart() {
    let of = |spec: &str| service(spec).0.cluster_ips.clone();
    assert_eq!(
        of(r#""spec":{"clusterIP":"None","clusterIPs":["None"]}"#),
        ClusterIps::Headless
    );
    assert_eq!(of(r#""spec":{"clusterIP":"None"}"#), ClusterIps::Headless);
    assert_eq!(of(r#""spec":{"clusterIP":""}"#), ClusterIps::Unset);
    assert_eq!(of(r#""spec":{}"#), ClusterIps::Unset);
    assert_eq!(of(r#""spec":{"clusterIP":"10.0.0.1"}"#).all().len(), 1);
}

#[test]
fn slices_keep_readable_endpoints_of_their_family() {
    let object = slice(
        r#""addressType":"IPv4","ports":[{"name":"","port":8080},{"name":"none"}],
           "endpoints":[{"addresses":["10.0.0.1","10.0.0.2"],"conditions":{"ready":null,"serving":true}},
                        {"addresses":["fd00::1"]},{"addresses":[]},{"addresses":null},
                        {"addresses":["10.0.0.3"],"hostname":"web-0","nodeName":"node-1","hints":{"forZones":[{"name":"z"}]}}]"#,
    );
    assert_eq!(
        reasons(&object),
        [
            "endpoints[1].addresses[0]",
            "endpoints[2].addresses[0]",
            "endpoints[3].addresses[0]"
        ]
    );
    let slice = slice_record(&object);
    assert_eq!((slice.endpoints.len(), slice.ports.len()), (2, 1));
    assert_eq!(slice.endpoints[0].conditions.ready, None);
    assert_eq!(slice.endpoints[1].hints.as_ref().unwrap().zones.len(), 1);
}

#[test]
fn null_lists_are_empty_and_labels_decide_the_audience() {
    let slice = slice_record(&slice(
        r#""addressType":"IPv6","endpoints":null,"ports":null"#,
    ));
    assert!(slice.endpoints.is_empty() && slice.ports.is_empty());
    let labels = r#"{"kubernetes.io/service-name":"a","service.kubernetes.io/headless":""}"#;
    let json = format!(r#"{{"metadata":{{"name":"s","labels":{labels}}},"addressType":"IPv4"}}"#);
    assert_eq!(
        slice_record(&decode(Kind::EndpointSlice, &json)).audience,
        SliceAudience::DnsOnly
    );
}

#[test]
fn slices_of_no_service_or_of_names_are_nothing() {
    let fqdn = slice(r#""addressType":"FQDN","endpoints":[{"addresses":["example.com"]}]"#);
    assert_eq!(
        (&fqdn.meaning, reasons(&fqdn)),
        (&Meaning::Nothing, Vec::<&str>::new())
    );
    let other = slice(r#""addressType":"IPX","endpoints":[]"#);
    assert_eq!(
        (&other.meaning, reasons(&other)),
        (&Meaning::Nothing, vec!["addressType"])
    );
    let orphan = decode(
        Kind::EndpointSlice,
        r#"{"metadata":{"name":"s"},"addressType":"IPv4"}"#,
    );
    assert_eq!(
        (orphan.meaning, orphan.reasons.len()),
        (Meaning::Nothing, 0)
    );
}

#[test]
fn pools_name_the_fields_that_are_not_read() {
    let object = decode(
        Kind::Pool,
        r#"{"metadata":{"name":"p","namespace":"m","uid":"u","generation":3},
            "spec":{"addresses":["172.30.0.0/30","fd00::1-fd00::9","9-1","10.0.0.9-10.0.0.1"],"autoAssign":false,
                    "avoidBuggyIPs":true,"serviceAllocation":{"priority":5}}}"#,
    );
    let Meaning::Record(Record::Pool(pool)) = &object.meaning else {
        panic!("{object:?}")
    };
    assert_eq!(pool.ranges.len(), 2);
    assert_eq!(pool.ranges[0].last, "172.30.0.3".parse::<IpAddr>().unwrap());
    assert_eq!(pool.unreadable.len(), 2);
    assert_eq!(pool.other_fields, [Arc::from("serviceAllocation")]);
    assert_eq!(pool.generation, 3);
}

#[test]
fn leases_carry_their_renewal_in_microseconds() {
    let object = decode(
        Kind::Lease,
        r#"{"metadata":{"name":"node-1","namespace":"kube-node-lease"},
            "spec":{"holderIdentity":"node-1","leaseDurationSeconds":40,"renewTime":"1970-01-01T00:00:01.000002Z"}}"#,
    );
    let Meaning::Record(Record::Lease(lease)) = &object.meaning else {
        panic!("{object:?}")
    };
    assert_eq!(
        (lease.renewed, lease.seconds, &*lease.holder),
        (Some(1_000_002), Some(40), "node-1")
    );
}

#[test]
fn a_line_that_is_no_event_is_an_error() {
    let mut names = Interner::default();
    let mut context = Context {
        kind: Kind::Service,
        nodes: &Nodes::None,
        names: &mut names,
    };
    for line in [
        "",
        "{",
        "null",
        "[]",
        "7",
        r#"{"type":"SOMETHING"}"#,
        r#"{"object":{}}"#,
    ] {
        assert!(
            matches!(frame(line.as_bytes(), &mut context), Frame::Error(_)),
            "{line}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(kind in 0..Kind::ALL.len(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut names = Interner::default();
        let mut context = Context { kind: Kind::ALL[kind], nodes: &Nodes::None, names: &mut names };
        frame(&bytes, &mut context);
        let _readable = item(&bytes, &mut context);
    }

    #[test]
    fn one_changed_byte_of_a_service_never_panics(at in 0..400usize, byte in any::<u8>()) {
        let mut json = br#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"n","labels":null},"spec":{"ports":[{"port":80,"name":"x"}],"clusterIPs":["10.0.0.1"],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":5}}},"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}}}"#.to_vec();
        let index = at % json.len();
        json[index] = byte;
        let mut names = Interner::default();
        let mut context = Context { kind: Kind::Service, nodes: &Nodes::None, names: &mut names };
        frame(&json, &mut context);
    }
}
