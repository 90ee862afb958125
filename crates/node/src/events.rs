//! What people should read about Services of this node, and about the Node itself, as Kubernetes Events.
//!
//! The plane's thread never waits for the API: it puts notices on a board that has room for some thousands, a task
//! writes them one by one, and what finds no room is counted in one line of the log.
//!
//! What every node of the cluster finds is said once, not once a node: the Event's name follows from what it says and from the
//! time, ten minutes long, so that the API takes the first and tells the other nodes that it is there already. Their
//! attempts are spread over ten seconds, by the node's name, and a node makes five a second at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// Whose matter it is.
    pub scope: Scope,
    /// Whether something is wrong.
    pub severity: Severity,
    /// One word in `CamelCase`, for programs.
    pub reason: &'static str,
    /// A sentence for people: the object, the field and the remedy.
    pub message: String,
}

/// Whose matter a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This node's own: another may be well.
    Node,
    /// The cluster's: every node finds the same, in the same words.
    Cluster,
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

const ROOM: usize = 4096;

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

    /// Writes notices as Events for as long as there is somebody to put them up. `node` stands in those that are its own as
    /// their host.
    pub async fn publish(mut self, client: kube::Client, node: String) {
        let mut common = Common::of(&node);
        loop {
            let notice = tokio::select! {
                notice = self.receiver.recv() => match notice {
                    Some(notice) if notice.scope == Scope::Cluster => {
                        let lost = common.add(notice);
                        self.lost.fetch_add(lost, Ordering::Relaxed);
                        continue;
                    }
                    Some(notice) => notice,
                    None => return,
                },
                notice = common.next() => notice,
            };
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

/// What every node says, waiting for this node's turn.
struct Common {
    waiting: VecDeque<Notice>,
    /// When the next is written.
    due: Instant,
    /// How long the first of several waits.
    turn: Duration,
}

impl Common {
    fn of(node: &str) -> Self {
        let spread = SPREAD.as_millis() as u64;
        Self {
            waiting: VecDeque::new(),
            due: clock::now(),
            turn: Duration::from_millis(hash([node]) % spread),
        }
    }

    /// How many found no room.
    fn add(&mut self, notice: Notice) -> u64 {
        if self.waiting.is_empty() {
            self.due = self.due.max(clock::now() + self.turn);
        }
        if self.waiting.len() >= ROOM {
            return 1;
        }
        self.waiting.push_back(notice);
        0
    }

    /// The next one when it is due; never if there is none.
    async fn next(&mut self) -> Notice {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.due.into()).await;
        self.due = clock::now() + PACE;
        match self.waiting.pop_front() {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }
}

/// Over so long the nodes spread what all of them say.
const SPREAD: Duration = Duration::from_secs(10);
/// And a node waits so long between two.
const PACE: Duration = Duration::from_millis(200);
/// Within so many seconds what all nodes say is one Event.
const WINDOW: i64 = 600;

async fn write(client: &kube::Client, node: &str, notice: Notice) -> kube::Result<()> {
    let namespace = &*notice.about.namespace.clone();
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    // `kubectl describe` finds Events by the UID of their object.
    let Some(service) = services.get_opt(&notice.about.name).await? else {
        return Ok(());
    };
    let said = (notice.reason, notice.message);
    let about = service.object_ref(&());
    let event = match notice.scope {
        Scope::Node => event(about, node, notice.severity, said),
        Scope::Cluster => common(event(about, node, notice.severity, said)),
    };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    match events.create(&PostParams::default(), &event).await {
        // Another node said it.
        Err(kube::Error::Api(answer)) if answer.code == 409 && notice.scope == Scope::Cluster => {
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

/// The Event of no node: its name is the same whichever writes it.
fn common(mut event: Event) -> Event {
    let second = event
        .first_timestamp
        .as_ref()
        .map_or(0, |time| time.0.as_second());
    let about = &event.involved_object;
    let window = (second / WINDOW).to_string();
    let said = [
        about.uid.as_deref(),
        event.reason.as_deref(),
        event.message.as_deref(),
        Some(&*window),
    ];
    let name = about.name.as_deref().unwrap_or_default();
    event.metadata.name = Some(format!(
        "{name}.{:016x}",
        hash(said.map(Option::unwrap_or_default))
    ));
    event.metadata.generate_name = None;
    if let Some(source) = &mut event.source {
        source.host = None;
    }
    event
}

/// FNV-1a of the parts, each with its end: the same on every node, whatever it was built with.
fn hash<const N: usize>(parts: [&str; N]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
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
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn notice(message: &str) -> Notice {
        Notice {
            about: ServiceKey::new("default", "web"),
            scope: Scope::Node,
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
    fn what_every_node_says_is_one_event_a_window() {
        let about = |uid: &str| ObjectReference {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let made = |node: &str, uid: &str, reason: &'static str, message: &str, second: i64| {
            let said = (reason, message.to_owned());
            let mut event = event(about(uid), node, Severity::Warning, said);
            event.first_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
            common(event)
        };
        let first = made("node-1", "u", "Conflict", "lost", 1_200);
        let name = first.metadata.name.clone().unwrap();
        // Written down, so that agents of two builds agree.
        assert_eq!(name, "web.5762b892616fc5c4");
        assert_eq!(first.metadata.generate_name, None);
        assert_eq!(first.source.and_then(|source| source.host), None);
        let name_of = |event: Event| event.metadata.name.unwrap();
        assert_eq!(
            name_of(made("node-2", "u", "Conflict", "lost", 1_799)),
            name
        );
        for other in [
            made("node-1", "u", "Conflict", "lost", 1_800),
            made("node-1", "v", "Conflict", "lost", 1_200),
            made("node-1", "u", "Conflic", "tlost", 1_200),
            made("node-1", "u", "Conflict", "won", 1_200),
        ] {
            assert_ne!(name_of(other), name);
        }
    }

    #[tokio::test]
    async fn what_every_node_says_waits_for_the_nodes_turn_and_comes_in_order() {
        let mut common = Common::of("node-1");
        assert!(common.turn < SPREAD && common.turn != Common::of("node-2").turn);
        common.turn = Duration::from_millis(20);
        assert_eq!(common.add(notice("one")) + common.add(notice("two")), 0);
        let started = clock::now();
        assert_eq!(common.next().await.message, "one");
        let first = clock::now() - started;
        assert_eq!(common.next().await.message, "two");
        assert!(common.waiting.is_empty());
        assert!(first >= common.turn && clock::now() - started >= common.turn + PACE);
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
