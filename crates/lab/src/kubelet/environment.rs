//! The environment of a container, and the variables in its command line.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::plan::Refusal;

/// What the downward API knows of a running Pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) pod: &'a core::Pod,
    pub(super) node: &'a str,
    pub(super) node_addresses: &'a [IpAddr],
    pub(super) addresses: &'a [IpAddr],
}

/// The variables, in order; a later one of the same name wins, and may use the earlier ones.
///
/// First those that every container gets: PATH, HOSTNAME, POD_NAME, NODE_NAME and the API server's address.
pub(super) fn environment(
    env: &[core::EnvVar],
    facts: Facts<'_>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let name = facts.pod.metadata.name.clone().unwrap_or_default();
    let mut variables = BTreeMap::from(
        [
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ),
            ("HOSTNAME", name.clone()),
            ("POD_NAME", name),
            ("NODE_NAME", facts.node.to_owned()),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1".to_owned()),
            ("KUBERNETES_SERVICE_PORT", "443".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    for variable in env {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => from_source(variable, source, facts)?,
            (Some(value), None) => Some(expand(value, &variables)),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// The value, or `None` for an optional source that the lab does not have.
fn from_source(
    variable: &core::EnvVar,
    source: &core::EnvVarSource,
    facts: Facts<'_>,
) -> Result<Option<String>, Refusal> {
    if let Some(field) = &source.field_ref {
        let value = self::field(&field.field_path, facts);
        let unknown = || {
            refuse(
                variable,
                &format!(
                    "fieldRef.fieldPath {:?} is not known to the lab",
                    field.field_path
                ),
            )
        };
        return value.map(Some).ok_or_else(unknown);
    }
    let optional = source
        .config_map_key_ref
        .as_ref()
        .and_then(|reference| reference.optional)
        == Some(true)
        || source
            .secret_key_ref
            .as_ref()
            .and_then(|reference| reference.optional)
            == Some(true);
    if optional {
        return Ok(None);
    }
    Err(refuse(
        variable,
        "the lab knows fieldRef and plain values; write the value itself",
    ))
}

fn field(path: &str, facts: Facts<'_>) -> Option<String> {
    let meta = &facts.pod.metadata;
    let keyed = |map: &Option<BTreeMap<String, String>>, prefix: &str| {
        let key = path
            .strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")?;
        Some(
            map.as_ref()
                .and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default(),
        )
    };
    let join = |list: &[IpAddr]| {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => Some(facts.node.to_owned()),
        "spec.serviceAccountName" => facts.pod.spec.as_ref().map(|spec| {
            spec.service_account_name
                .clone()
                .unwrap_or_else(|| "default".to_owned())
        }),
        "status.podIP" => facts.addresses.first().map(ToString::to_string),
        "status.podIPs" => Some(join(facts.addresses)),
        "status.hostIP" => facts.node_addresses.first().map(ToString::to_string),
        "status.hostIPs" => Some(join(facts.node_addresses)),
        _ => keyed(&meta.labels, "metadata.labels")
            .or_else(|| keyed(&meta.annotations, "metadata.annotations")),
    }
}

fn refuse(variable: &core::EnvVar, why: &str) -> Refusal {
    Refusal {
        reason: "CreateContainerConfigError",
        message: format!("env {}: {why}", variable.name),
    }
}

/// Replaces `$(NAME)` by the variable's value and `$$` by `$`; an unknown name stays as it is.
///
/// As `third_party/forked/golang/expansion` of Kubernetes does.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match variables.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_texts_are_replaced_as_kubernetes_does() {
        let variables = BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "$(A)".to_owned()),
        ]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$(B)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn the_downward_api_gives_names_addresses_and_labels() {
        let pod: core::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "x"}}, "spec": {"containers": []}
        }))
        .unwrap();
        let facts = Facts {
            pod: &pod,
            node: "node-1",
            node_addresses: &["172.30.0.11".parse().unwrap()],
            addresses: &["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        };
        let env = |name: &str, path: &str| -> core::EnvVar {
            serde_json::from_value(
                serde_json::json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}),
            )
            .unwrap()
        };
        let list = [
            env("IP", "status.podIP"),
            env("IPS", "status.podIPs"),
            env("APP", "metadata.labels['app']"),
            env("NODE", "spec.nodeName"),
            serde_json::from_value(serde_json::json!({"name": "URL", "value": "http://$(IP)/"}))
                .unwrap(),
        ];
        let variables = environment(&list, facts).unwrap();
        let get = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!(get("IPS"), Some("10.244.1.2,fd00::2"));
        assert_eq!(get("APP"), Some("x"));
        assert_eq!(get("NODE"), Some("node-1"));
        assert_eq!(get("URL"), Some("http://10.244.1.2/"));
        let refusal = environment(&[env("X", "status.phase")], facts).unwrap_err();
        assert!(
            refusal.message.starts_with("env X: "),
            "{}",
            refusal.message
        );
    }
}
