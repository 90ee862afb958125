//! Events that say what the controllers found.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, PostParams};
use tracing::warn;

use crate::clock;

/// Writes a Warning about an object. A failure is logged: nothing waits for an Event.
pub(crate) async fn warn_about(
    client: &Client,
    about: ObjectReference,
    reason: &'static str,
    message: String,
) {
    let namespace = about.namespace.clone().unwrap_or_default();
    let event = warning(about, reason, message);
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        warn!(namespace, reason, %error, "an Event was not written");
    }
}

/// The Event itself.
pub(crate) fn warning(about: ObjectReference, reason: &'static str, message: String) -> Event {
    let now = Some(Time(clock::today()));
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", about.name.as_deref().unwrap_or_default())),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about,
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        source: Some(EventSource {
            component: Some("daymark-controller".to_owned()),
            host: None,
        }),
        first_timestamp: now.clone(),
        last_timestamp: now,
        count: Some(1),
        ..Event::default()
    }
}
