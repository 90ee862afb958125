//! Kubernetes Events, for `kubectl describe`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock;

/// Writes Events in the name of one component.
#[derive(Clone)]
pub(crate) struct Events {
    client: kube::Client,
    component: &'static str,
    host: Option<String>,
    /// Room for what is told [aside](Self::aside).
    room: Arc<Semaphore>,
}

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

impl Events {
    pub(crate) fn new(client: kube::Client, component: &'static str, host: Option<String>) -> Self {
        Self {
            client,
            component,
            host,
            room: Arc::new(Semaphore::new(MOST_ASIDE)),
        }
    }

    /// Lets Events be written while their writer goes on: an API server may keep them in a store of their own, and what hangs with that is to
    /// be they alone. Where so many hang that there is no room, that takes [`ROOM_PATIENCE`], and they are left out.
    pub(crate) async fn aside(&self, telling: impl Future<Output = ()> + Send + 'static) {
        let place = Arc::clone(&self.room).acquire_owned();
        match timeout(ROOM_PATIENCE, place).await {
            Ok(place) => {
                tokio::spawn(async move {
                    telling.await;
                    drop(place);
                });
            }
            Err(_) => tracing::warn!(
                "Events are left out, because {MOST_ASIDE} are on their way and none ends; conditions have what they say"
            ),
        }
    }

    /// Writes one. A failure is logged: what the Event says also stands in a status or a log line.
    pub(crate) async fn publish(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let namespace = about
            .namespace
            .clone()
            .filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let now = Time(clock::timestamp());
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", about.name.as_deref().unwrap_or_default())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(format!("{severity:?}")),
            reason: Some(reason.to_owned()),
            message: Some(shortened(message)),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: self.host.clone(),
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(reason, %error, "an Event was not written"),
            Err(_) => {
                tracing::warn!(reason, patience = ?PATIENCE, "an Event was not written in time");
            }
        }
    }
}

/// How much is told aside at a time.
pub(crate) const MOST_ASIDE: usize = 256;
/// How long there may be no room for it.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// Others wait for their turn meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API takes messages of Events of at most 1,024 bytes. Those of conditions are cut alike: what they quote may be an
/// annotation of a quarter of a megabyte, and the API refuses a status whose condition says more than 32 KiB.
pub(crate) fn shortened(mut message: String) -> String {
    const LONGEST: usize = 1024;
    if message.len() > LONGEST {
        let end = (0..=LONGEST - 3)
            .rev()
            .find(|at| message.is_char_boundary(*at))
            .unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}
