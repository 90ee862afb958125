use serde_json::{Value, json};

use super::{Schemas, prune};

const SERVICE: &str = "io.k8s.api.core.v1.Service";

fn check(definition: &str, mut value: Value) -> Result<(Value, Vec<String>), String> {
    let schemas = Schemas::all();
    let root = schemas.root(definition).expect("the definition is there");
    let unknown = prune(schemas, root, &mut value).map_err(|mismatch| mismatch.to_string())?;
    Ok((value, unknown))
}

#[test]
fn unknown_fields_are_dropped_and_named_by_path() {
    let input =
        json!({"spec": {"foo": 1, "ports": [{"port": 80, "bar": {}}], "selector": {"any": "key"}}});
    let (value, unknown) = check(SERVICE, input).unwrap();
    assert_eq!(unknown, ["spec.foo", "spec.ports[0].bar"]);
    assert_eq!(
        value,
        json!({"spec": {"ports": [{"port": 80}], "selector": {"any": "key"}}})
    );
}

#[test]
fn a_wrong_type_is_refused_in_the_words_of_gos_decoder() {
    let cases = [
        (
            json!({"spec": {"ports": [{"port": "80"}]}}),
            "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            json!({"spec": {"ports": [{"port": 4_294_967_296_i64}]}}),
            "json: cannot unmarshal number 4294967296 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field Service.spec of type struct",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type string",
        ),
    ];
    for (input, message) in cases {
        assert_eq!(check(SERVICE, input).unwrap_err(), message);
    }
}

#[test]
fn null_is_absence() {
    let input = json!({"metadata": {"creationTimestamp": null, "labels": {"a": null}}, "spec": {"ports": null}});
    let (value, unknown) = check(SERVICE, input).unwrap();
    assert!(unknown.is_empty());
    assert_eq!(
        value,
        json!({"metadata": {"labels": {"a": ""}}, "spec": {}})
    );
}

#[test]
fn quantities_and_int_or_strings_take_both() {
    let input = json!({"spec": {"ports": [{"port": 1, "targetPort": "web"}, {"port": 2, "targetPort": 8080}]}});
    assert!(check(SERVICE, input).is_ok());
    let node = json!({"status": {"capacity": {"cpu": 2, "memory": "1Gi"}}});
    assert!(check("io.k8s.api.core.v1.Node", node).is_ok());
}

#[test]
fn every_reference_leads_somewhere() {
    let definitions = super::definitions();
    let mut missing = Vec::new();
    let mut stack: Vec<&Value> = definitions.values().collect();
    while let Some(value) = stack.pop() {
        if let Some(name) = super::reference(value)
            && !definitions.contains_key(name)
        {
            missing.push(name);
        }
        match value {
            Value::Object(map) => stack.extend(map.values()),
            Value::Array(items) => stack.extend(items),
            _ => {}
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
