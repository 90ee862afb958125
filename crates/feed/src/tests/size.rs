//! What the records weigh, which is held to a limit; and how long decoding takes, which is printed.

use std::fmt::Write as _;

use crate::config::{Kind, Nodes};
use crate::decode::{self, Context, Frame, Meaning, Record};
use crate::intern::Interner;

fn slice_line(index: usize) -> String {
    let mut endpoints = String::new();
    for endpoint in 0..10 {
        let comma = if endpoint == 0 { "" } else { "," };
        let _infallible = write!(
            endpoints,
            r#"{comma}{{"addresses":["10.{}.{}.{}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"node-{}","targetRef":{{"kind":"Pod","namespace":"ns-{}","name":"service-{index}-{endpoint}","uid":"0f8fad5b-d9cb-469f-a165-70867728950e"}},"zone":"zone-a"}}"#,
            244 + endpoint % 2,
            index / 250,
            index % 250,
            endpoint % 3,
            index % 20,
        );
    }
    format!(
        r#"{{"type":"ADDED","object":{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{{"name":"service-{index}-abcde","generateName":"service-{index}-","namespace":"ns-{}","uid":"0f8fad5b-d9cb-469f-a165-70867728950e","resourceVersion":"{index}","generation":1,"creationTimestamp":"2026-11-24T18:00:00Z","labels":{{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"service-{index}"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"service-{index}","uid":"0f8fad5b-d9cb-469f-a165-70867728950e","controller":true,"blockOwnerDeletion":true}}]}},"addressType":"IPv4","endpoints":[{endpoints}],"ports":[{{"name":"http","protocol":"TCP","port":8080}}]}}}}"#,
        index % 20,
    )
}

fn service_line(index: usize) -> String {
    format!(
        r#"{{"type":"ADDED","object":{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"service-{index}","namespace":"ns-{}","uid":"0f8fad5b-d9cb-469f-a165-70867728950e","resourceVersion":"{index}","creationTimestamp":"2026-11-24T18:00:00Z"}},"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":8080}}],"selector":{{"app":"service-{index}"}},"clusterIP":"10.96.{}.{}","clusterIPs":["10.96.{}.{}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},"status":{{"loadBalancer":{{}}}}}}}}"#,
        index % 20,
        index / 250,
        index % 250,
        index / 250,
        index % 250,
    )
}

/// Bytes of a record and of what it alone owns; shared names are left out.
fn weight(record: &Record) -> usize {
    use daymark_model as model;
    match record {
        Record::Service(service) => {
            size_of::<model::Service>()
                + service.ports.capacity() * size_of::<model::input::ServicePort>()
                + size_of_val(service.cluster_ips.all())
                + service.families.capacity()
        }
        Record::Slice(slice, _) => {
            size_of::<model::Slice>()
                + slice.ports.capacity() * size_of::<model::input::SlicePort>()
                + slice.endpoints.capacity() * size_of::<model::Endpoint>()
        }
        _ => 0,
    }
}

/// Most bytes of an endpoint: a cluster has more of them than of anything else.
const ENDPOINT: usize = 64;
/// Most bytes of a Service with one port.
const SERVICE: usize = 320;
/// Most bytes of a slice beside its endpoints.
const SLICE: usize = 160;

#[test]
fn ten_thousand_services_of_ten_endpoints() {
    let endpoint = size_of::<daymark_model::Endpoint>();
    assert!(endpoint <= ENDPOINT, "an endpoint has {endpoint} bytes");
    let mut names = Interner::default();
    for (kind, line, most) in [
        (Kind::Service, service_line as fn(usize) -> String, SERVICE),
        (Kind::EndpointSlice, slice_line, SLICE + 10 * ENDPOINT),
    ] {
        let lines: Vec<String> = (0..10_000).map(line).collect();
        let bytes: usize = lines.iter().map(String::len).sum();
        let mut context = Context {
            kind,
            nodes: &Nodes::None,
            names: &mut names,
        };
        let began = crate::clock::now();
        let records: Vec<Record> = lines
            .iter()
            .map(|line| match decode::frame(line.as_bytes(), &mut context) {
                Frame::Put { object, .. } => match object.meaning {
                    Meaning::Record(record) => record,
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        let took = began.elapsed();
        let held: usize = records.iter().map(weight).sum();
        #[allow(
            clippy::disallowed_macros,
            reason = "a measurement is what this test is for"
        )]
        {
            println!(
                "10,000 {kind}s: {bytes} bytes of JSON in {took:?}; records hold {held} bytes"
            );
        }
        let each = held / records.len();
        assert!(each <= most, "a {kind} has {each} bytes, at most {most}");
    }
}
