//! The kinds whose rules are a row: defaults, what a create sets, and a validation function.

use serde_json::{Value, json};

use super::Resource;
use super::kinds::{self, Kind};
use super::strategy::{Context, Effects, Strategy, Subresource};
use super::validate::{self, FieldError};
use crate::json;
use crate::status::{Cause, Status};

/// A strategy that is a table row.
pub(crate) struct Simple {
    kind: &'static Kind,
    default: fn(&mut Value),
    create: fn(&mut Value),
    validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
    validate_status: fn(&Value, Option<&Value>) -> Vec<FieldError>,
}

impl Simple {
    /// The row of the table of kinds.
    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }
}

impl Strategy for Simple {
    fn resource(&self) -> &'static Resource {
        &self.kind.resource
    }

    fn default(&self, object: &mut Value) {
        (self.default)(object);
    }

    fn prepare_create(
        &self,
        _cx: &Context<'_>,
        object: &mut Value,
        _effects: &mut Effects,
    ) -> Result<(), Status> {
        (self.create)(object);
        Ok(())
    }

    fn validate_create(&self, _cx: &Context<'_>, object: &Value) -> Vec<Cause> {
        validate::causes((self.validate)(object, None))
    }

    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> Vec<Cause> {
        validate::causes(match cx.subresource {
            Subresource::Status => (self.validate_status)(object, Some(old)),
            Subresource::Main | Subresource::Finalize => (self.validate)(object, Some(old)),
        })
    }
}

const fn row(
    kind: &'static Kind,
    validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
) -> Simple {
    Simple {
        kind,
        default: nothing,
        create: nothing,
        validate,
        validate_status: valid,
    }
}

/// All simple kinds.
pub(crate) fn table() -> Vec<Simple> {
    vec![
        Simple {
            default: default_namespace,
            create: |object| object["status"] = json!({ "phase": "Active" }),
            ..row(&kinds::NAMESPACE, validate::validate_namespace)
        },
        row(&kinds::NODE, validate::validate_node),
        Simple {
            default: default_pod,
            create: |object| {
                object["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" })
            },
            ..row(&kinds::POD, validate::validate_pod)
        },
        row(&kinds::CONFIG_MAP, validate::validate_config_map),
        Simple {
            default: default_secret,
            ..row(&kinds::SECRET, valid)
        },
        row(&kinds::EVENT, validate::validate_event),
        row(&kinds::EVENT_VIEW, validate::validate_event),
        Simple {
            default: default_slice,
            ..row(&kinds::ENDPOINT_SLICE, validate::validate_endpoint_slice)
        },
        row(&kinds::LEASE, validate::validate_lease),
        Simple {
            validate_status: validate::validate_service_cidr_status,
            ..row(&kinds::SERVICE_CIDR, validate::validate_service_cidr)
        },
        row(&kinds::IP_ADDRESS, validate::validate_ip_address),
        Simple {
            default: default_pool,
            ..row(&kinds::IP_ADDRESS_POOL, validate::validate_ip_address_pool)
        },
        row(
            &kinds::L2_ADVERTISEMENT,
            validate::validate_l2_advertisement,
        ),
    ]
}

fn nothing(_object: &mut Value) {}

fn valid(_object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    Vec::new()
}

fn default_to(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut()
        && !fields.contains_key(key)
    {
        fields.insert(key.to_owned(), value.into());
    }
}

fn default_namespace(object: &mut Value) {
    let name = json::name(object).to_owned();
    let metadata = json::metadata(object);
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    labels["kubernetes.io/metadata.name"] = name.into();
    json::child(object, "spec")
        .entry("finalizers")
        .or_insert_with(|| json!(["kubernetes"]));
}

/// The part of upstream's Pod defaults that clients and `daymark` rely on.
fn default_pod(object: &mut Value) {
    json::child(object, "spec");
    let spec = &mut object["spec"];
    default_to(spec, "restartPolicy", "Always");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_to(spec, "dnsPolicy", "ClusterFirst");
    default_to(spec, "schedulerName", "default-scheduler");
    default_to(spec, "enableServiceLinks", true);
    default_pod_ips(object);
    let spec = &mut object["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            default_container(container);
        }
    }
}

/// `podIP` is the first of `podIPs`: either fills the other, and `podIP` wins (`pkg/apis/core/v1/defaults.go`).
fn default_pod_ips(object: &mut Value) {
    let ip = json::text(object, "/status/podIP").to_owned();
    let first = json::text(object, "/status/podIPs/0/ip").to_owned();
    match (ip.as_str(), first.as_str()) {
        ("", "") => {}
        ("", first) => object["status"]["podIP"] = first.into(),
        (ip, first) if ip != first => object["status"]["podIPs"] = json!([{ "ip": ip }]),
        _ => {}
    }
}

fn default_container(container: &mut Value) {
    default_to(container, "imagePullPolicy", "IfNotPresent");
    default_to(container, "terminationMessagePath", "/dev/termination-log");
    default_to(container, "terminationMessagePolicy", "File");
    for port in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        default_to(port, "protocol", "TCP");
    }
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            default_probe(probe);
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        default_to(probe, key, value);
    }
    if let Some(http) = probe.get_mut("httpGet") {
        default_to(http, "path", "/");
        default_to(http, "scheme", "HTTP");
    }
}

fn default_slice(object: &mut Value) {
    for port in object
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        default_to(port, "name", "");
        default_to(port, "protocol", "TCP");
    }
}

/// `stringData` is written as text and kept as bytes.
fn default_secret(object: &mut Value) {
    use base64::Engine;
    default_to(object, "type", "Opaque");
    let Some(Value::Object(texts)) = object
        .as_object_mut()
        .and_then(|fields| fields.shift_remove("stringData"))
    else {
        return;
    };
    let data = json::child(object, "data");
    for (key, text) in texts {
        let bytes =
            base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        data.insert(key, bytes.into());
    }
}

fn default_pool(object: &mut Value) {
    json::child(object, "spec");
    default_to(&mut object["spec"], "autoAssign", true);
    default_to(&mut object["spec"], "avoidBuggyIPs", false);
}
