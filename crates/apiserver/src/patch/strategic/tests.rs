use serde_json::{Value, json};

use super::apply;
use crate::schema::Schemas;

fn patched(kind: &str, object: Value, patch: Value) -> Result<Value, String> {
    let schemas = Schemas::all();
    let root = schemas
        .root(&format!("io.k8s.api.core.v1.{kind}"))
        .expect("the kind has a schema");
    let mut object = object;
    apply(schemas, root, &mut object, &patch).map_err(|error| error.to_string())?;
    Ok(object)
}

struct Case {
    name: &'static str,
    kind: &'static str,
    object: Value,
    patch: Value,
    result: Value,
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "fields merge and null deletes",
            kind: "Service",
            object: json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"type": "ClusterIP"}}),
            patch: json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"type": "NodePort"}}),
            result: json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"type": "NodePort"}}),
        },
        Case {
            name: "ports merge by port alone and new ones are added at the end",
            kind: "Service",
            object: json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 53, "protocol": "UDP"}]}}),
            patch: json!({"spec": {"ports": [{"port": 53, "name": "dns"}, {"port": 443}]}}),
            result: json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 53, "protocol": "UDP", "name": "dns"}, {"port": 443}]}}),
        },
        Case {
            name: "of two ports with one number a patch changes the first",
            kind: "Service",
            object: json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}}),
            patch: json!({"spec": {"ports": [{"port": 53, "nodePort": 30053}]}}),
            result: json!({"spec": {"ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "protocol": "TCP"}]}}),
        },
        Case {
            name: "of two ports with one number a delete removes both",
            kind: "Service",
            object: json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 1}]}}),
            patch: json!({"spec": {"ports": [{"port": 53, "$patch": "delete"}]}}),
            result: json!({"spec": {"ports": [{"port": 1}]}}),
        },
        Case {
            name: "element order is set by the directive",
            kind: "Service",
            object: json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
            patch: json!({"spec": {"$setElementOrder/ports": [{"port": 82}, {"port": 81}, {"port": 80}], "ports": [{"port": 82}]}}),
            result: json!({"spec": {"ports": [{"port": 82}, {"port": 81}, {"port": 80}]}}),
        },
        Case {
            name: "a list can be replaced",
            kind: "Service",
            object: json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
            patch: json!({"spec": {"ports": [{"port": 90}, {"$patch": "replace"}]}}),
            result: json!({"spec": {"ports": [{"port": 90}]}}),
        },
        Case {
            name: "an object can be replaced",
            kind: "Service",
            object: json!({"spec": {"selector": {"a": "1", "b": "2"}}}),
            patch: json!({"spec": {"selector": {"c": "3", "$patch": "replace"}}}),
            result: json!({"spec": {"selector": {"c": "3"}}}),
        },
        Case {
            name: "finalizers are a set and leave by name",
            kind: "Service",
            object: json!({"metadata": {"finalizers": ["a", "b"]}}),
            patch: json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["b", "c"]}}),
            result: json!({"metadata": {"finalizers": ["b", "c"]}}),
        },
        Case {
            name: "conditions merge by type",
            kind: "Node",
            object: json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}]}}),
            patch: json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            result: json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "False"}]}}),
        },
        Case {
            name: "only retained keys stay",
            kind: "Pod",
            object: json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            patch: json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
            result: json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        },
        Case {
            name: "lists without a key are replaced",
            kind: "Service",
            object: json!({"spec": {"externalIPs": ["192.0.2.1", "192.0.2.2"]}}),
            patch: json!({"spec": {"externalIPs": ["192.0.2.3"]}}),
            result: json!({"spec": {"externalIPs": ["192.0.2.3"]}}),
        },
    ]
}

#[test]
fn strategic_merge_patches_follow_upstream() {
    for case in cases() {
        let result = patched(case.kind, case.object, case.patch).unwrap();
        assert_eq!(result, case.result, "{}", case.name);
    }
}

#[test]
fn a_senseless_patch_names_the_field() {
    let object = || json!({"spec": {"ports": [{"port": 80}]}});
    let no_key = patched(
        "Service",
        object(),
        json!({"spec": {"ports": [{"name": "x"}]}}),
    )
    .unwrap_err();
    assert_eq!(
        no_key,
        "invalid patch: spec.ports: every element needs the merge key \"port\""
    );
    let directive =
        patched("Service", object(), json!({"spec": {"$patch": "destroy"}})).unwrap_err();
    assert!(
        directive.contains("spec: unknown directive \"destroy\""),
        "{directive}"
    );
}
