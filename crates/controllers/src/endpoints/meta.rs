//! What a slice says beside its endpoints: name, owner, labels, the time of the change.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::pack::Labels;
use super::{Family, Inputs};

/// The label that names the Service of a slice.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The label that says who keeps a slice.
pub(super) const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// This controller, under the name that kube-controller-manager uses: the two never run on one cluster.
pub(super) const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const NAME_MAX: usize = 253;

/// Whether the slice is one that this controller keeps, for any Service.
pub(crate) fn is_ours(slice: &EndpointSlice) -> bool {
    label(slice, MANAGED_BY_LABEL) == Some(MANAGED_BY)
}

pub(super) fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a str> {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(key))
        .map(String::as_str)
}

/// Whether this very Service owns the slice.
pub(super) fn is_owned_by(slice: &EndpointSlice, service: &Service) -> bool {
    let mut owners = slice.metadata.owner_references.iter().flatten();
    owners.any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) == service.metadata.uid.as_ref()
    })
}

/// The labels of the Service, and those that make a slice found. Labels of the Service under reserved keys are ignored.
pub(super) fn labels(service: &Service) -> Labels {
    let reserved = [SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL];
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| !reserved.contains(&key.as_str()));
    let ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        .unwrap_or_default();
    if matches!(ip, "" | "None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(
        SERVICE_NAME_LABEL.to_owned(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// A slice to create.
pub(super) fn new_slice(
    inputs: &Inputs<'_>,
    family: Family,
    labels: &Labels,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let meta = &inputs.service.metadata;
    let mut slice = EndpointSlice {
        address_type: family.as_str().to_owned(),
        metadata: ObjectMeta {
            generate_name: Some(prefix(meta.name.as_deref().unwrap_or_default())),
            namespace: meta.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owner(inputs.service)]),
            ..ObjectMeta::default()
        },
        endpoints: Some(endpoints),
        ports: Some(ports),
    };
    set_trigger(&mut slice, inputs.trigger);
    slice
}

/// A slice to write over the one that is there.
pub(super) fn changed_slice(
    inputs: &Inputs<'_>,
    slice: &EndpointSlice,
    labels: &Labels,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.metadata.labels = Some(labels.clone());
    slice.metadata.managed_fields = None;
    (slice.ports, slice.endpoints) = (Some(ports), Some(endpoints));
    set_trigger(&mut slice, inputs.trigger);
    slice
}

/// `web-`; without the dash where the name would get too long for the letters that the server adds.
fn prefix(name: &str) -> String {
    if name.len() < NAME_MAX {
        format!("{name}-")
    } else {
        name.to_owned()
    }
}

fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn set_trigger(slice: &mut EndpointSlice, trigger: Option<Timestamp>) {
    let annotations = slice.metadata.annotations.get_or_insert_default();
    match trigger {
        Some(time) => {
            annotations.insert(TRIGGER.to_owned(), time.to_string());
        }
        None => {
            annotations.remove(TRIGGER);
        }
    }
    if annotations.is_empty() {
        slice.metadata.annotations = None;
    }
}
