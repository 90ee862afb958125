//! The object that a record came from, as Events name it.

use daymark_model::Service;
use k8s_openapi::api::core::v1::ObjectReference;

/// A Service, with the UID by which `kubectl describe` finds Events.
#[must_use]
pub fn reference(service: &Service) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        name: Some(service.key.name.to_string()),
        namespace: Some(service.key.namespace.to_string()),
        uid: service.uid.map(|uid| uid.to_string()),
        ..ObjectReference::default()
    }
}
