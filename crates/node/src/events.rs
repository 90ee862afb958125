//! What people should read about Services of this node, about objects whose values cannot be used, and about the Node itself, as
//! Kubernetes Events.
//!
//! The plane's thread never waits for the API: it puts notices on a board that has room for some thousands, a task
//! writes them one by one, and what finds no room is counted in one line of the log.
//!
//! What every node of the cluster finds is said once, not once a node: the Event's name follows from what it says and from the time, ten
//! minutes long, so that the API takes the first and tells the other nodes that it is there already. Their attempts are spread by chance,
//! over five seconds in a small cluster, five minutes among a thousand nodes and 25 among five thousand, so that the first is as early and
//! the API has as little to do in each; how many nodes there are is guessed from where endpoints are. Of several things each node takes
//! any, not the first: all have them in one order, and what stands late in it would be said by nobody. What a node says of itself is named
//! after the hour, so that an agent that is started anew does not say it again. An Event is one request: the UID of its object came by the
//! feed. A node writes 25 of each sort at once and then one each 30 s; the same thing waits once, and what the API has already is no
//! request. What an API that is away could not take waits on. What finds no room among those that wait, or waits for an hour, is counted in
//! the log.

mod queue;
mod said;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as orders;
use std::time::{Duration, Instant};

use daymark_feed::Kind;
use daymark_feed::record::ObjectKey;
use daymark_model::ServiceKey;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use crate::ask::Ask;
use crate::clock;
use crate::proxy::Order;
use queue::{MOST_NODES, Moment, Queue, Waiting, pause};
use said::Said;

/// One thing to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub about: About,
    /// Whose matter it is.
    pub scope: Scope,
    /// Whether something is wrong.
    pub severity: Severity,
    /// One word in `CamelCase`, for programs.
    pub reason: &'static str,
    /// A sentence for people: the object, the field and the remedy.
    pub message: String,
}

impl Notice {
    /// Whether a newer notice takes its place: both tell what of one object cannot be used, and that is all of it each time.
    fn is_outdated_by(&self, newer: &Self) -> bool {
        let words = (UNUSABLE, &newer.about);
        newer.reason == UNUSABLE && (self.reason, &self.about) == words
    }
}

/// The reason of notices about values that cannot be used.
pub(crate) const UNUSABLE: &str = "UnusableValue";

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// A Service that the agent knows.
    Service(ServiceKey),
    /// Another object, of which something cannot be used.
    Object(Kind, ObjectKey),
}

impl From<ServiceKey> for About {
    fn from(service: ServiceKey) -> Self {
        Self::Service(service)
    }
}

impl fmt::Display for About {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(out),
            Self::Object(kind, key) => write!(out, "{kind} {key}"),
        }
    }
}

/// Whose matter a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This node's own: another may be well.
    Node,
    /// The cluster's: every node finds the same, in the same words.
    Cluster,
}

impl Scope {
    /// The part of time in which what is said of it has one name.
    fn window(self, at: Timestamp) -> i64 {
        let seconds = match self {
            Self::Node => HOUR,
            Self::Cluster => WINDOW,
        };
        at.as_second() / seconds
    }
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
    /// their host; `orders` is where the plane's thread is asked whether what they are about is there still.
    pub async fn publish(
        mut self,
        client: kube::Client,
        node: String,
        orders: orders::Sender<Order>,
    ) {
        let mut queue = Queue::new(clock::now());
        let mut pen = Pen {
            client,
            node,
            orders,
            own: Said::default(),
            common: Said::default(),
            nodes: None,
        };
        loop {
            let due = queue.due();
            let taken = tokio::select! {
                notice = self.receiver.recv() => match notice {
                    Some(notice) => {
                        if queue.wants_turn(&notice) {
                            let nodes = pen.nodes().await;
                            queue.draw(nodes, rand::random(), clock::now());
                        }
                        let (now, at) = (clock::now(), clock::timestamp());
                        let lost = queue.add(notice, Moment { now, at }, rand::random());
                        self.lost.fetch_add(lost, Ordering::Relaxed);
                        None
                    }
                    None => return,
                },
                () = until(due) => queue.take(clock::now(), rand::random()),
            };
            if let Some(waiting) = taken {
                pen.deal(waiting, &mut queue).await;
                self.tell_lost(queue.give_up(clock::now()));
            }
        }
    }

    /// `more` were given up.
    fn tell_lost(&self, more: u64) {
        let lost = self.lost.swap(0, Ordering::Relaxed) + more;
        if lost > 0 {
            warn!(
                lost,
                "more was to be said than this node may write as Events; of what all nodes find others write some, and the log has it all"
            );
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Who writes.
struct Pen {
    client: kube::Client,
    node: String,
    orders: orders::Sender<Order>,
    /// What this node said of its own.
    own: Said,
    /// What all nodes say, and the API has.
    common: Said,
    /// When the nodes were counted, and how many there were.
    nodes: Option<(Instant, usize)>,
}

/// Whether the API was asked for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Made(Outcome),
    NotMade,
}

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API has it, whoever wrote it.
    Stands,
    /// The API will not take it, whenever it is asked: a right is missing, or the object's namespace is gone.
    Refused,
    /// The API could not take it, or was not heard within [`PATIENCE`].
    Failed,
}

/// How long the API may take for an Event: a server gives a request up after a minute at most, and one that hangs keeps no other Event
/// waiting for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Within so many seconds what all nodes say is one Event.
const WINDOW: i64 = 600;
/// And what a node says again after a restart is one within so many: an API server forgets Events after an hour.
const HOUR: i64 = 3600;
/// The nodes are counted at most so often.
const COUNT_AGAIN: Duration = Duration::from_secs(600);

impl Pen {
    /// How many nodes have endpoints, which is what an agent knows of them without asking.
    async fn nodes(&mut self) -> usize {
        let now = clock::now();
        if let Some((at, nodes)) = self.nodes
            && now < at + COUNT_AGAIN
        {
            return nodes;
        }
        let asked = self.ask(|reply| Ask::Nodes {
            most: MOST_NODES,
            reply,
        });
        let nodes = asked.await.unwrap_or_default();
        self.nodes = Some((now, nodes));
        nodes
    }

    /// An answer of the plane's thread; `None` if it is gone.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Ask(ask(reply))).ok()?;
        answer.await.ok()
    }

    /// Writes one, and notes what came of it.
    async fn deal(&mut self, waiting: Waiting, queue: &mut Queue) {
        let scope = waiting.notice.scope;
        match self.write(&waiting).await {
            Request::NotMade => {}
            Request::Made(Outcome::Stands | Outcome::Refused) => queue.spend(scope, clock::now()),
            Request::Made(Outcome::Failed) => {
                if scope == Scope::Cluster {
                    let nodes = self.nodes().await;
                    queue.draw(nodes, rand::random(), clock::now());
                }
                queue.put_back(waiting, rand::random(), clock::now());
            }
        }
    }

    async fn write(&mut self, waiting: &Waiting) -> Request {
        let (about, reason) = (waiting.notice.about.clone(), waiting.notice.reason);
        let asked = self.ask(|reply| Ask::Reference {
            about,
            reason,
            reply,
        });
        match asked.await.flatten() {
            Some(about) => self.say(*about, waiting).await,
            None => Request::NotMade,
        }
    }

    /// Writes the Event of this node: what it says again while it runs is another one; what an agent before it said is not. Or that of
    /// no node, unless the API had it in this window: a Service that changes each second brings the same words each time.
    async fn say(&mut self, about: ObjectReference, waiting: &Waiting) -> Request {
        let Waiting { notice, at, .. } = waiting;
        let said = (notice.reason, notice.message.clone());
        let event = event(about, &self.node, notice.severity, said, *at);
        let (window, what) = (notice.scope.window(*at), hash(words(&event)));
        let event = match (notice.scope, self.said(notice.scope).times(window, what)) {
            (Scope::Node, times) => own(event, &self.node, [window, i64::from(times)]),
            (Scope::Cluster, 0) => common(event, window),
            (Scope::Cluster, _) => return Request::NotMade,
        };
        let outcome = create(&self.client, &event).await;
        if outcome == Outcome::Stands {
            self.said(notice.scope).again(window, what);
        }
        Request::Made(outcome)
    }

    fn said(&mut self, scope: Scope) -> &mut Said {
        match scope {
            Scope::Node => &mut self.own,
            Scope::Cluster => &mut self.common,
        }
    }
}

/// Writes it, unless it is there already. A failure is logged: what the Event says should stand in the log anyway.
async fn create(client: &kube::Client, event: &Event) -> Outcome {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let reason = event.reason.as_deref();
    match timeout(PATIENCE, events.create(&PostParams::default(), event)).await {
        Ok(Ok(_)) => Outcome::Stands,
        // Another node said it, or this one before it was started anew.
        Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => Outcome::Stands,
        Ok(Err(error)) => {
            warn!(reason, %error, "an Event was not written");
            match error {
                kube::Error::Api(answer) if is_final(answer.code) => Outcome::Refused,
                _ => Outcome::Failed,
            }
        }
        Err(_) => {
            warn!(reason, patience = ?PATIENCE, "an Event was not written in time");
            Outcome::Failed
        }
    }
}

/// Whether an API that answers so will do so again. One whose credential was just renewed, that is overloaded or has lost its store will not.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && ![401, 408, 429].contains(&code)
}

/// The Event of no node: its name is the same whichever writes it.
fn common(mut event: Event, window: i64) -> Event {
    if let Some(source) = &mut event.source {
        source.host = None;
    }
    named(event, [&window.to_string()])
}

/// That of a node, which said it so often in that window.
fn own(event: Event, node: &str, [window, times]: [i64; 2]) -> Event {
    named(event, [node, &window.to_string(), &times.to_string()])
}

/// What an Event says, and of which object.
fn words(event: &Event) -> [&str; 4] {
    let about = &event.involved_object;
    [&about.name, &about.uid, &event.reason, &event.message]
        .map(|text| text.as_deref().unwrap_or_default())
}

/// Named by what it says and by these: whoever says the same finds it there.
fn named<const N: usize>(mut event: Event, more: [&str; N]) -> Event {
    let [name, said @ ..] = words(&event);
    // A name has 253 bytes at most (RFC 1123), and a Node's may have as many.
    let name = &name[..name.floor_char_boundary(LONGEST_NAME)];
    let name = name.trim_end_matches(['.', '-']);
    let hash = hash(said.into_iter().chain(more));
    let name = format!("{name}.{hash:016x}");
    event.metadata.name = Some(name);
    event
}

const LONGEST_NAME: usize = 236;

/// FNV-1a of the parts, each with its end: the same on every node, whatever it was built with.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = parts
        .into_iter()
        .flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes an Event about the Node itself, unless it said the same within this hour. A failure is logged: what the Event says
/// should stand in the log anyway.
pub async fn about_node(
    client: &kube::Client,
    node: &str,
    severity: Severity,
    said: (&'static str, String),
) -> Outcome {
    create(client, &of_node(node, severity, said)).await
}

/// The same, tried again for about an hour while the API cannot take it: for what is told once, such as at the start of a node whose API is away.
pub async fn about_node_at_last(
    client: kube::Client,
    node: Arc<str>,
    severity: Severity,
    said: (&'static str, String),
) {
    let event = of_node(&node, severity, said);
    for _ in 0..TRIES {
        if create(&client, &event).await != Outcome::Failed {
            return;
        }
        tokio::time::sleep(pause(rand::random())).await;
    }
}

/// An hour, with pauses of 45 s on average.
const TRIES: u32 = 80;

fn of_node(node: &str, severity: Severity, said: (&'static str, String)) -> Event {
    let at = clock::timestamp();
    let event = event(node_reference(node), node, severity, said, at);
    let hour = at.as_second() / HOUR;
    named(event, [&hour.to_string()])
}

/// A Node as kubelet and kube-proxy name it, which write before they know the object; `kubectl describe` looks for it.
pub(crate) fn node_reference(node: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    }
}

/// `said` are the reason and the message, `at` is when that was so, whenever it is written: what is said in another order is read in that
/// of its times. What has no namespace has its Events in `default`.
fn event(
    about: ObjectReference,
    node: &str,
    severity: Severity,
    said: (&'static str, String),
    at: Timestamp,
) -> Event {
    Event {
        metadata: ObjectMeta {
            namespace: about
                .namespace
                .clone()
                .or_else(|| Some("default".to_owned())),
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
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
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
