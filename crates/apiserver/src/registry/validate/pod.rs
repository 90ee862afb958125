//! Pod, reduced: Pods are records here that the lab or an agent brings to life, so the rules cover what names, places
//! and reaches a Pod, not what a container runtime needs.
//!
//! Source: `pkg/apis/core/validation/validation.go` (`ValidatePodSpec`, `ValidatePodUpdate`) of Kubernetes.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::ip::validate_ip;
use super::meta::{validate_labels, validate_object_name};
use super::names::{self, dns1123_label, dns1123_subdomain};
use super::read::{at, int, list, some_text, text};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// Fields of the spec that an update may change; `nodeName` may be set once (that is what binding does).
const MUTABLE: [&str; 4] = [
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "tolerations",
    "schedulingGates",
];

/// A Pod, new or updated.
pub fn validate_pod(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    wrong.extend(validate_containers(&path, spec));
    wrong.extend(validate_place(&path, spec));
    wrong.extend(validate_status(object, old));
    wrong.extend(
        old.into_iter()
            .flat_map(|old| validate_change(&path, spec, &old["spec"])),
    );
    wrong
}

fn validate_containers(path: &Path, spec: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if list(spec, "containers").is_empty() {
        wrong.push(FieldError::required(&path.child("containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for part in ["initContainers", "containers"] {
        for (i, container) in list(spec, part).iter().enumerate() {
            let path = path.child(part).index(i);
            match text(container, "name") {
                "" => wrong.push(FieldError::required(&path.child("name"), "")),
                name if seen.contains(&name) => {
                    wrong.push(FieldError::duplicate(&path.child("name"), name))
                }
                name => {
                    wrong.extend(names::invalid(&path.child("name"), name, dns1123_label));
                    seen.push(name);
                }
            }
            if text(container, "image").is_empty() {
                wrong.push(FieldError::required(&path.child("image"), ""));
            }
            wrong.extend(validate_ports(
                &path.child("ports"),
                list(container, "ports"),
            ));
        }
    }
    wrong
}

fn validate_ports(path: &Path, ports: &[Value]) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if let Some(name) = some_text(port, "name").filter(|n| !n.is_empty()) {
            wrong.extend(names::invalid(&path.child("name"), name, names::port_name));
            if seen.contains(&name) {
                wrong.push(FieldError::duplicate(&path.child("name"), name));
            }
            seen.push(name);
        }
        match int(port, "containerPort") {
            0 => wrong.push(FieldError::required(&path.child("containerPort"), "")),
            number => {
                let at = path.child("containerPort");
                wrong.extend(
                    names::port_number(number)
                        .into_iter()
                        .map(|why| FieldError::invalid(&at, number, why)),
                );
            }
        }
        let protocol = some_text(port, "protocol").unwrap_or("TCP");
        if !PROTOCOLS.contains(&protocol) {
            wrong.push(FieldError::not_supported(
                &path.child("protocol"),
                protocol,
                &PROTOCOLS,
            ));
        }
    }
    wrong
}

fn validate_place(path: &Path, spec: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let forms: [(&str, names::Check); 3] = [
        ("nodeName", dns1123_subdomain),
        ("hostname", dns1123_label),
        ("subdomain", dns1123_label),
    ];
    for (key, check) in forms {
        if let Some(value) = some_text(spec, key).filter(|v| !v.is_empty()) {
            wrong.extend(names::invalid(&path.child(key), value, check));
        }
    }
    wrong.extend(validate_labels(
        &path.child("nodeSelector"),
        at(spec, "nodeSelector"),
    ));
    if let Some(policy) = some_text(spec, "restartPolicy").filter(|p| !RESTART_POLICIES.contains(p))
    {
        wrong.push(FieldError::not_supported(
            &path.child("restartPolicy"),
            policy,
            &RESTART_POLICIES,
        ));
    }
    if int(spec, "terminationGracePeriodSeconds") < 0 {
        let at = path.child("terminationGracePeriodSeconds");
        let seconds = int(spec, "terminationGracePeriodSeconds");
        wrong.push(FieldError::invalid(
            &at,
            seconds,
            "must be greater than or equal to 0",
        ));
    }
    wrong
}

fn validate_status(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("status").child("podIPs");
    let ips = |object: &Value| -> Vec<String> {
        list(&object["status"], "podIPs")
            .iter()
            .map(|ip| text(ip, "ip").to_owned())
            .collect()
    };
    let (new, before) = (ips(object), old.map(ips).unwrap_or_default());
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let mut wrong: Vec<FieldError> = new
        .iter()
        .enumerate()
        .filter_map(|(i, ip)| validate_ip(&path.index(i), ip, &before))
        .collect();
    let families: Vec<bool> = new.iter().map(|ip| ip.contains(':')).collect();
    let repeated = families
        .iter()
        .enumerate()
        .any(|(i, family)| families[..i].contains(family));
    if repeated {
        let shown = object["status"]["podIPs"].clone();
        wrong.push(FieldError::invalid(
            &path,
            shown,
            "may specify no more than one IP for each IP family",
        ));
    }
    wrong
}

fn validate_change(path: &Path, spec: &Value, old: &Value) -> Option<FieldError> {
    let empty = serde_json::Map::new();
    let new = spec.as_object().unwrap_or(&empty);
    let old = old.as_object().unwrap_or(&empty);
    let same = |key: &str| match key {
        key if MUTABLE.contains(&key) => true,
        "nodeName"
            if old
                .get(key)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty) =>
        {
            true
        }
        "containers" | "initContainers" => same_but_images(new.get(key), old.get(key)),
        key => new.get(key) == old.get(key),
    };
    let changed = new.keys().chain(old.keys()).find(|key| !same(key))?;
    let why = format!(
        "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, \
         `spec.activeDeadlineSeconds`, `spec.tolerations` or `spec.terminationGracePeriodSeconds`; `spec.{changed}` differs"
    );
    Some(FieldError::forbidden(path, why))
}

fn same_but_images(new: Option<&Value>, old: Option<&Value>) -> bool {
    let bare = |list: Option<&Value>| -> Vec<Value> {
        let mut containers = list.and_then(Value::as_array).cloned().unwrap_or_default();
        for container in &mut containers {
            if let Some(map) = container.as_object_mut() {
                map.remove("image");
            }
        }
        containers
    };
    bare(new) == bare(old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": { "name": "web-1" },
            "spec": { "containers": [{ "name": "web", "image": "echo", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
        })
    }

    fn first(wrong: &[FieldError]) -> String {
        wrong
            .first()
            .map(|e| format!("{} {:?}", e.path, e.kind))
            .unwrap_or_default()
    }

    #[test]
    fn new_pods() {
        let container =
            |ports: Value| json!({ "containers": [{ "name": "a", "image": "b", "ports": ports }] });
        let rows = [
            (pod()["spec"].clone(), ""),
            (json!({}), "spec.containers Required"),
            (
                json!({ "containers": [{ "image": "b" }] }),
                "spec.containers[0].name Required",
            ),
            (
                json!({ "containers": [{ "name": "a" }] }),
                "spec.containers[0].image Required",
            ),
            (
                container(json!([{ "containerPort": 70000 }])),
                "spec.containers[0].ports[0].containerPort Invalid",
            ),
            (
                container(json!([{ "containerPort": 1, "protocol": "X" }])),
                "spec.containers[0].ports[0].protocol NotSupported",
            ),
            (
                container(json!([{ "containerPort": 1, "name": "A" }])),
                "spec.containers[0].ports[0].name Invalid",
            ),
        ];
        for (spec, expected) in rows {
            let object = json!({ "metadata": { "name": "a" }, "spec": spec });
            assert_eq!(first(&validate_pod(&object, None)), expected, "{object}");
        }
    }

    #[test]
    fn an_update_may_bind_a_pod_once_and_little_else() {
        let rows = [
            ("nodeName", json!(null), json!("node-1"), ""),
            (
                "nodeName",
                json!("node-1"),
                json!("node-2"),
                "spec Forbidden",
            ),
            ("hostname", json!("a"), json!("b"), "spec Forbidden"),
            ("terminationGracePeriodSeconds", json!(30), json!(1), ""),
        ];
        for (key, before, after, expected) in rows {
            let (mut old, mut new) = (pod(), pod());
            old["spec"][key] = before;
            new["spec"][key] = after;
            assert_eq!(first(&validate_pod(&new, Some(&old))), expected, "{key}");
        }
        let (old, mut new) = (pod(), pod());
        new["spec"]["containers"][0]["image"] = json!("other");
        assert_eq!(first(&validate_pod(&new, Some(&old))), "");
    }

    #[test]
    fn pod_addresses_are_one_of_each_family() {
        let mut object = pod();
        object["status"] = json!({ "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] });
        assert_eq!(first(&validate_pod(&object, None)), "");
        object["status"] = json!({ "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }] });
        assert_eq!(first(&validate_pod(&object, None)), "status.podIPs Invalid");
        object["status"] = json!({ "podIPs": [{ "ip": "x" }] });
        assert_eq!(
            first(&validate_pod(&object, None)),
            "status.podIPs[0] Invalid"
        );
    }
}
