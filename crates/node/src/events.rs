//! What people should read about Services of this node, and about the Node itself, as Kubernetes Events.
//!
//! The plane's thread never waits for the API: it puts notices on a board that has room for some hundreds, a task
//! writes them one by one, and what finds no room is counted in one line of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daymark_model::ServiceKey;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::api::{Api, PostParams};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

use crate::clock;

/// One thing to be said about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The Service.
    pub about: ServiceKey,
    /// Whether something is wrong.
    pub severity: Severity,
    /// One word in `CamelCase`, for programs.
    pub reason: &'static str,
    /// A sentence for people: the object, the field and the remedy.
    pub message: String,
}

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For the record.
    Normal,
    /// Something is not as it was asked for.
    Warning,
}

/// Where notices are put.
#[derive(Clone, Debug)]
pub struct Notices {
    sender: Sender<Notice>,
    lost: Arc<AtomicU64>,
}

/// Where they are read.
#[derive(Debug)]
pub struct Board {
    receiver: Receiver<Notice>,
    lost: Arc<AtomicU64>,
}

/// A board without notices.
#[must_use]
pub fn board() -> (Notices, Board) {
    let (sender, receiver) = channel(ROOM);
    let lost = Arc::new(AtomicU64::new(0));
    let notices = Notices {
        sender,
        lost: Arc::clone(&lost),
    };
    (notices, Board { receiver, lost })
}

const ROOM: usize = 256;

impl Notices {
    /// Puts a notice up, if there is room.
    pub fn put(&self, notice: Notice) {
        if self.sender.try_send(notice).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Board {
    /// The next notice that waits.
    pub fn take(&mut self) -> Option<Notice> {
        self.receiver.try_recv().ok()
    }

    /// Writes notices as Events for as long as there is somebody to put them up. `node` stands in them as their host.
    pub async fn publish(mut self, client: kube::Client, node: String) {
        while let Some(notice) = self.receiver.recv().await {
            let reason = notice.reason;
            if let Err(error) = write(&client, &node, notice).await {
                warn!(reason, %error, "an Event was not written");
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                warn!(
                    lost,
                    "more was to be said than Events can be written; the log has it all"
                );
            }
        }
    }
}

async fn write(client: &kube::Client, node: &str, notice: Notice) -> kube::Result<()> {
    let namespace = &*notice.about.namespace.clone();
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    // `kubectl describe` finds Events by the UID of their object.
    let Some(service) = services.get_opt(&notice.about.name).await? else {
        return Ok(());
    };
    let said = (notice.reason, notice.message);
    let event = event(service.object_ref(&()), node, notice.severity, said);
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    events.create(&PostParams::default(), &event).await?;
    Ok(())
}

/// Writes an Event about the Node itself. A failure is logged: what the Event says should stand in the log anyway.
pub async fn about_node(
    client: &kube::Client,
    node: &str,
    severity: Severity,
    said: (&'static str, String),
) {
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        // As kubelet and kube-proxy have it, which write before they know the object; `kubectl describe` looks for it.
        uid: Some(node.to_owned()),
        // Nodes have no namespace; their Events are here.
        namespace: Some("default".to_owned()),
        ..ObjectReference::default()
    };
    let reason = said.0;
    let mut event = event(about, node, severity, said);
    event.involved_object.namespace = None;
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        warn!(reason, %error, "an Event was not written");
    }
}

/// `said` are the reason and the message.
fn event(
    about: ObjectReference,
    node: &str,
    severity: Severity,
    said: (&'static str, String),
) -> Event {
    let now = Time(clock::timestamp());
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", about.name.as_deref().unwrap_or_default())),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about,
        type_: Some(format!("{severity:?}")),
        reason: Some(said.0.to_owned()),
        message: Some(shortened(said.1)),
        source: Some(EventSource {
            component: Some("daymark-node".to_owned()),
            host: Some(node.to_owned()),
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}

/// The API takes messages of at most 1,024 bytes.
fn shortened(mut message: String) -> String {
    const LONGEST: usize = 1024;
    if message.len() > LONGEST {
        let end = message.floor_char_boundary(LONGEST - 3);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(message: &str) -> Notice {
        Notice {
            about: ServiceKey::new("default", "web"),
            severity: Severity::Warning,
            reason: "NotProgrammed",
            message: message.to_owned(),
        }
    }

    #[test]
    fn an_event_names_its_object_its_host_and_a_message_that_the_api_takes() {
        let about = ObjectReference {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectReference::default()
        };
        let event = event(
            about.clone(),
            "node-1",
            Severity::Warning,
            ("NotProgrammed", "\u{e9}".repeat(600)),
        );
        assert_eq!(event.involved_object, about);
        assert_eq!(event.metadata.namespace, about.namespace);
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        let message = event.message.unwrap();
        assert_eq!((message.len(), message.ends_with("...")), (1023, true));
        assert_eq!(
            event.source.and_then(|source| source.host).as_deref(),
            Some("node-1")
        );
    }

    #[test]
    fn a_full_board_takes_no_more_and_says_how_many_it_lost() {
        let (notices, mut board) = board();
        for _ in 0..ROOM + 3 {
            notices.put(notice("no"));
        }
        assert_eq!(board.lost.load(Ordering::Relaxed), 3);
        assert_eq!(std::iter::from_fn(|| board.take()).count(), ROOM);
    }
}
