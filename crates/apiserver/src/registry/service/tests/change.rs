//! Services that change.

use serde_json::{Value, json};

use super::{Cluster, port, tail};
use crate::registry::Subresource;

#[test]
fn what_may_not_change() {
    type Change = fn(&mut Value);
    let rows: [(Value, Change, &str); 8] = [
        (
            json!({}),
            |web| web["spec"]["clusterIP"] = json!("10.96.0.99"),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.99\"]: may not change once set",
        ),
        (
            json!({ "clusterIP": "None" }),
            |web| web["spec"]["clusterIP"] = json!("10.96.0.99"),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.99\"]: may not change once set",
        ),
        (
            json!({ "ipFamilyPolicy": "PreferDualStack" }),
            |web| web["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]),
            "spec.clusterIPs[0]: Invalid value",
        ),
        (
            json!({ "type": "LoadBalancer" }),
            |web| web["spec"]["loadBalancerClass"] = json!("a/b"),
            "spec.loadBalancerClass: Invalid value: \"a/b\": may not change once set",
        ),
        (
            json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100 }),
            |web| web["spec"]["healthCheckNodePort"] = json!(30101),
            "spec.healthCheckNodePort: Forbidden: field is immutable",
        ),
        (
            json!({ "ipFamilyPolicy": "PreferDualStack" }),
            |web| web["spec"]["ipFamilies"] = json!(["IPv4"]),
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family",
        ),
        (
            json!({}),
            |web| web["spec"]["selector"] = json!({ "a": "b" }),
            "",
        ),
        (
            json!({ "type": "NodePort" }),
            |web| web["spec"]["ports"][0]["nodePort"] = json!(30999),
            "",
        ),
    ];
    for (mut spec, change, expected) in rows {
        spec["ports"] = port(80);
        let mut cluster = Cluster::dual();
        cluster.create("web", spec.clone()).expect("valid");
        let message = tail(cluster.update("web", change));
        let matches = if expected.is_empty() {
            message.is_empty()
        } else {
            message.contains(expected)
        };
        assert!(matches, "{spec}\n got: {message}\nwant: {expected}");
    }
}

#[test]
fn an_update_that_leaves_out_what_was_allocated_keeps_it() {
    let mut cluster = Cluster::dual();
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "RequireDualStack", "ports": port(80),
    });
    let (before, _) = cluster.create("web", spec.clone()).expect("valid");
    let (after, _) = cluster
        .update("web", |web| web["spec"] = spec)
        .expect("valid");
    for key in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "healthCheckNodePort",
        "ports",
    ] {
        assert_eq!(before["spec"][key], after["spec"][key], "{key}");
    }
    assert_eq!(cluster.held(), (2, 2));
}

#[test]
fn every_change_of_type_leaves_exactly_what_the_new_type_holds() {
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    let held = |kind: &str| match kind {
        "ExternalName" => (0, 0),
        "ClusterIP" => (1, 0),
        _ => (1, 1),
    };
    for from in types {
        for to in types {
            let mut cluster = Cluster::dual();
            let spec = json!({ "type": from, "externalName": "example.com", "ports": port(80) });
            cluster.create("web", spec).expect("valid");
            assert_eq!(cluster.held(), held(from), "{from}");
            let (service, _) = cluster
                .update("web", |web| web["spec"]["type"] = json!(to))
                .expect("valid");
            assert_eq!(cluster.held(), held(to), "{from} -> {to}");
            assert_eq!(
                service["spec"].get("clusterIP").is_some(),
                to != "ExternalName",
                "{from} -> {to}"
            );
            cluster.delete("web");
            assert_eq!(cluster.held(), (0, 0), "{from} -> {to}, deleted");
        }
    }
}

#[test]
fn dual_stack_comes_and_goes() {
    let mut cluster = Cluster::dual();
    let (first, _) = cluster
        .create("web", json!({ "ports": port(80) }))
        .expect("valid");
    let up = |web: &mut Value| web["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
    let (service, _) = cluster.update("web", up).expect("valid");
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(service["spec"]["clusterIP"], first["spec"]["clusterIP"]);
    assert_eq!(cluster.held(), (2, 0));
    let down = |web: &mut Value| web["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    let (service, _) = cluster.update("web", down).expect("valid");
    assert_eq!(service["spec"], first["spec"]);
    assert_eq!(cluster.held(), (1, 0));
}

#[test]
fn dual_stack_is_lost_on_the_way_through_external_name() {
    let mut cluster = Cluster::dual();
    let spec =
        json!({ "ipFamilyPolicy": "RequireDualStack", "externalName": "a.b", "ports": port(80) });
    cluster.create("web", spec).expect("valid");
    cluster
        .update("web", |web| web["spec"]["type"] = json!("ExternalName"))
        .expect("valid");
    let (service, _) = cluster
        .update("web", |web| web["spec"]["type"] = json!("ClusterIP"))
        .expect("valid");
    assert_eq!(service["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[test]
fn a_preference_stays_as_it_is_when_the_cluster_gains_a_family() {
    let mut cluster = Cluster::single();
    cluster
        .create(
            "web",
            json!({ "ipFamilyPolicy": "PreferDualStack", "ports": port(80) }),
        )
        .expect("valid");
    let wider = crate::registry::alloc::testing::cidr(
        "kubernetes",
        &["10.96.0.0/16", "fd00:10:96::/112"],
        "True",
    );
    cluster
        .memory
        .put(crate::registry::alloc::SERVICE_CIDRS, wider);
    let (service, _) = cluster
        .update("web", |web| web["spec"]["selector"] = json!({ "a": "b" }))
        .expect("valid");
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[test]
fn a_status_belongs_to_load_balancers() {
    let ingress = |web: &mut Value| {
        web["status"]["loadBalancer"] = json!({ "ingress": [{ "ip": "192.0.2.1" }] })
    };
    let mut cluster = Cluster::dual();
    cluster
        .create("web", json!({ "type": "LoadBalancer", "ports": port(80) }))
        .expect("valid");
    let (service, _) = cluster
        .write("web", Subresource::Status, ingress)
        .expect("valid");
    assert_eq!(
        service["status"]["loadBalancer"]["ingress"],
        json!([{ "ip": "192.0.2.1", "ipMode": "VIP" }])
    );
    let (service, _) = cluster
        .update("web", |web| web["spec"]["type"] = json!("NodePort"))
        .expect("valid");
    assert_eq!(service["status"]["loadBalancer"], json!({}));
    assert_eq!(
        tail(cluster.write("web", Subresource::Status, ingress)),
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    );
}
