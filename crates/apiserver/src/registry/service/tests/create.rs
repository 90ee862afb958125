//! New Services.

use serde_json::{Value, json};

use super::{Cluster, port, tail};
use crate::registry::View;
use crate::registry::alloc::testing::Memory;
use crate::registry::alloc::{IP_ADDRESSES, NODE_PORTS};

#[test]
fn a_plain_service_gets_an_address_of_the_default_family() {
    let mut cluster = Cluster::dual();
    let (service, warnings) = cluster
        .create("web", json!({ "ports": port(80) }))
        .expect("valid");
    let ip = service["spec"]["clusterIP"].as_str().expect("allocated");
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(service["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(service["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(service["status"], json!({ "loadBalancer": {} }));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        cluster
            .memory
            .get(IP_ADDRESSES, "", ip)
            .expect("written with the Service")["spec"]["parentRef"],
        json!({ "resource": "services", "namespace": "ns", "name": "web" })
    );
}

#[test]
fn what_is_wrong_with_a_new_service() {
    let two = json!([{ "name": "a", "port": 80 }, { "name": "a", "port": 81 }]);
    let same = json!([{ "name": "a", "port": 80 }, { "name": "b", "port": 80 }]);
    let leaked = "{\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}";
    let repeated = format!("spec.ports[1]: Duplicate value: {leaked}");
    let rows: Vec<(Value, &str)> = vec![
        (json!({ "ports": port(80) }), ""),
        (json!({}), "spec.ports: Required value"),
        (json!({ "clusterIP": "None" }), ""),
        (
            json!({ "ports": [{ "port": 80 }, { "port": 81 }] }),
            "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
        ),
        (
            json!({ "ports": two }),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (json!({ "ports": same }), &repeated),
        (
            json!({ "ports": port(0) }),
            "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, \
             spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]",
        ),
        (
            json!({ "ports": [{ "port": 80, "protocol": "FOO" }] }),
            "spec.ports[0].protocol: Unsupported value: \"FOO\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({ "ports": [{ "port": 80, "targetPort": "a-very-long-port-name" }] }),
            "spec.ports[0].targetPort: Invalid value: \"a-very-long-port-name\": must be no more than 15 characters",
        ),
        (
            json!({ "ports": [{ "port": 80, "nodePort": 30080 }] }),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({ "type": "NodePort", "clusterIP": "None", "ports": port(80) }),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (
            json!({ "type": "ExternalName" }),
            "spec.externalName: Required value",
        ),
        (
            json!({ "type": "ExternalName", "externalName": "example.com." }),
            "",
        ),
        (
            json!({ "type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.9" }),
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        ),
        (
            json!({ "clusterIP": "010.96.0.9", "ports": port(80) }),
            "spec.clusterIPs[0]: Invalid value: \"010.96.0.9\": must not have leading 0s",
        ),
        (
            json!({ "clusterIPs": ["10.96.0.9"], "ports": port(80) }),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({ "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"], "ports": port(80) }),
            "spec.clusterIPs: Invalid value: [\"10.96.0.8\"]: first value must match `clusterIP`",
        ),
        (
            json!({ "clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"], "ports": port(80) }),
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({ "clusterIP": "1.2.3.4", "ports": port(80) }),
            "spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: \
             the provided network does not match the current range",
        ),
        (
            json!({ "selector": { "a b": "c" }, "ports": port(80) }),
            "spec.selector: Invalid value: \"a b\": name part",
        ),
        (
            json!({ "sessionAffinity": "Sticky", "ports": port(80) }),
            "spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\"",
        ),
        (
            json!({
                "sessionAffinity": "ClientIP", "ports": port(80),
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 86401 } },
            }),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: \
             must be greater than 0 and less than 86400",
        ),
        (
            json!({ "externalIPs": ["127.0.0.1"], "ports": port(80) }),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            json!({ "type": "Balancer", "ports": port(80) }),
            "spec.type: Unsupported value: \"Balancer\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({ "loadBalancerSourceRanges": ["192.0.2.0/24"], "ports": port(80) }),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({ "loadBalancerClass": "a/b", "ports": port(80) }),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({ "externalTrafficPolicy": "Local", "ports": port(80) }),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            json!({ "type": "NodePort", "healthCheckNodePort": 30100, "ports": port(80) }),
            "spec.healthCheckNodePort: Invalid value: 30100: \
             may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (
            json!({ "trafficDistribution": "Near", "ports": port(80) }),
            "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \
             \"PreferSameZone\", \"PreferSameNode\"",
        ),
        (
            json!({ "ipFamilies": ["IPv4", "IPv4"], "ports": port(80) }),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            json!({ "ipFamilies": ["IPv4", "IPv6"], "ports": port(80) }),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": \
             must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
    ];
    for (spec, expected) in rows {
        let message = tail(Cluster::dual().create("web", spec.clone()));
        let matches = if expected.is_empty() {
            message.is_empty()
        } else {
            message.starts_with(expected)
        };
        assert!(matches, "{spec}\n got: {message}\nwant: {expected}");
    }
    let message = tail(Cluster::dual().create("Web", json!({ "ports": port(80) })));
    assert!(
        message.contains("metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 label must"),
        "{message}"
    );
}

#[test]
fn taken_numbers_are_told_before_anything_else() {
    let mut cluster = Cluster::dual();
    let spec = json!({ "type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{ "port": 80, "nodePort": 30007 }] });
    cluster.create("other", spec).expect("both are free");
    let rows = [
        (
            json!({ "clusterIP": "10.96.0.10", "ports": [{ "port": 80, "name": "BAD" }] }),
            "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: \
             provided IP is already allocated",
        ),
        (
            json!({ "type": "NodePort", "ports": [{ "port": 80, "name": "BAD", "nodePort": 30007 }] }),
            "spec.ports[0].nodePort: Invalid value: 30007: provided port is already allocated",
        ),
        (
            json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 80 }] }),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. \
             The range of valid ports is 30000-32767",
        ),
        (
            json!({
                "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30007, "ports": port(80),
            }),
            "failed to allocate requested HealthCheck NodePort 30007: provided port is already allocated",
        ),
    ];
    for (spec, expected) in rows {
        let held = cluster.held();
        assert_eq!(
            tail(cluster.create("web", spec.clone())),
            expected,
            "{spec}"
        );
        assert_eq!(cluster.held(), held, "a refused Service takes nothing");
    }
}

#[test]
fn a_full_range_is_an_internal_error() {
    let mut cluster = Cluster {
        memory: Memory::with_cidrs(&["10.96.0.0/30"]),
        seed: 1,
    };
    cluster
        .create("a", json!({ "ports": port(80) }))
        .expect("the first of two");
    cluster
        .create("b", json!({ "ports": port(80) }))
        .expect("the second of two");
    let status = cluster
        .create("c", json!({ "ports": port(80) }))
        .expect_err("nothing left");
    assert_eq!(status.code, 500);
    assert_eq!(
        status.message,
        "Internal error occurred: failed to allocate a serviceIP for Service \"c\": range is full"
    );
}

#[test]
fn families_of_new_services() {
    let both = json!(["IPv4", "IPv6"]);
    let rows = [
        (
            Cluster::dual(),
            json!({ "ipFamilyPolicy": "PreferDualStack" }),
            Ok(both.clone()),
        ),
        (
            Cluster::dual(),
            json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"] }),
            Ok(json!(["IPv6", "IPv4"])),
        ),
        (
            Cluster::dual(),
            json!({ "ipFamilies": ["IPv6"] }),
            Ok(json!(["IPv6"])),
        ),
        (
            Cluster::dual(),
            json!({ "clusterIP": "fd00:10:96::a" }),
            Ok(json!(["IPv6"])),
        ),
        (
            Cluster::dual(),
            json!({ "clusterIP": "None" }),
            Ok(both.clone()),
        ),
        (
            Cluster::dual(),
            json!({ "clusterIP": "None", "selector": { "a": "b" } }),
            Ok(json!(["IPv4"])),
        ),
        (
            Cluster::single(),
            json!({ "ipFamilyPolicy": "PreferDualStack" }),
            Ok(json!(["IPv4"])),
        ),
        (Cluster::single(), json!({ "clusterIP": "None" }), Ok(both)),
        (
            Cluster::single(),
            json!({ "ipFamilyPolicy": "RequireDualStack" }),
            Err(
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
        ),
        (
            Cluster::single(),
            json!({ "ipFamilies": ["IPv6"] }),
            Err("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"),
        ),
        (
            Cluster::single(),
            json!({ "clusterIP": "fd00:10:96::a" }),
            Err(
                "spec.clusterIPs[0]: Invalid value: [\"fd00:10:96::a\"]: IPv6 is not configured on this cluster",
            ),
        ),
    ];
    for (mut cluster, mut spec, expected) in rows {
        spec["ports"] = port(80);
        let result = cluster.create("web", spec.clone());
        match expected {
            Err(message) => assert_eq!(tail(result), message, "{spec}"),
            Ok(families) => {
                let (service, _) = result.expect("valid");
                assert_eq!(service["spec"]["ipFamilies"], families, "{spec}");
            }
        }
    }
}

#[test]
fn one_port_on_two_protocols_shares_its_node_port() {
    let mut cluster = Cluster::dual();
    let ports = json!([{ "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 53 }]);
    let (service, _) = cluster
        .create("web", json!({ "type": "NodePort", "ports": ports }))
        .expect("valid");
    let ports = &service["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    assert_eq!(cluster.held(), (1, 1));
    let across = json!([
        { "name": "a", "port": 53, "protocol": "UDP", "nodePort": 30053 },
        { "name": "b", "port": 54, "nodePort": 30053 },
    ]);
    assert_eq!(
        tail(Cluster::dual().create("web", json!({ "type": "NodePort", "ports": across }))),
        "spec.ports[1].nodePort: Invalid value: 30053: provided port is already allocated"
    );
    cluster
        .update("web", |web| web["spec"]["ports"] = across)
        .expect("accepted on update, as upstream does");
}

#[test]
fn a_load_balancer_can_do_without_node_ports() {
    let mut cluster = Cluster::dual();
    let ports =
        json!([{ "name": "a", "port": 80 }, { "name": "b", "port": 81, "nodePort": 30081 }]);
    let spec =
        json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports });
    let (service, _) = cluster.create("web", spec).expect("valid");
    assert_eq!(service["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(cluster.memory.names(NODE_PORTS), ["30081"]);
}

#[test]
fn warnings_of_accepted_services() {
    let rows = [
        (
            json!({ "clusterIP": "FD00:10:96::A" }),
            "spec.clusterIPs[0]: IPv6 address \"FD00:10:96::A\" should be in",
        ),
        (
            json!({ "clusterIP": "None", "sessionAffinity": "ClientIP" }),
            "spec.SessionAffinity is ignored when",
        ),
        (
            json!({ "externalIPs": ["192.0.2.1"] }),
            "spec.externalIPs is deprecated",
        ),
        (
            json!({ "externalName": "a.b" }),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
        (
            json!({ "trafficDistribution": "PreferClose" }),
            "spec.trafficDistribution: PreferClose is deprecated",
        ),
    ];
    for (mut spec, expected) in rows {
        spec["ports"] = port(80);
        let (_, warnings) = Cluster::dual().create("web", spec.clone()).expect("valid");
        assert!(
            warnings.iter().any(|warning| warning.starts_with(expected)),
            "{spec}: {warnings:?}"
        );
    }
}

#[test]
fn many_services_take_distinct_numbers() {
    let mut cluster = Cluster::dual();
    let spec =
        json!({ "type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "ports": port(80) });
    for i in 0..1000 {
        cluster
            .create(&format!("web-{i}"), spec.clone())
            .expect("room");
    }
    assert_eq!(cluster.held(), (2000, 1000));
}
