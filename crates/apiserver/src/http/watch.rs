//! Watches: one JSON object a line, `{"type": ..., "object": ...}`.
//!
//! A watcher pulls from the store's history at its own pace, so a slow one delays nobody: it falls behind until its
//! version is compacted, and gets a 410. So does one from a version that is still to come: this server says no version
//! before it can be read, so the client has it from a store that is no more, and would miss what this one holds.
//!
//! Every error after the options are parsed goes into the stream as an ERROR event under HTTP 200; clients reset on
//! that, and only on that (kube-rs retries an HTTP 410 for ever).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use daymark_store::{Change, HistoryError, What};
use futures::Stream;
use http::{Response, StatusCode};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::negotiate::Representation;
use super::reply::{Shown, json_reply};
use crate::clock;
use crate::json;
use crate::object::{Object, encode};
use crate::read::{Bookmarks, InitialEvents, ListOptions};
use crate::server::Server;
use crate::status::Status;
use crate::table::{self, Headers};

/// Changes taken from the history at once.
const BATCH: usize = 256;

/// How often a quiet watch gets a bookmark.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// A bookmark comes so long before the end, for the client to resume from.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Seconds of a watch without a timeout of its own: one to two times this, so that they do not all end at once.
const SHORTEST: u64 = 1800;

/// How many watches there may be.
const MOST_WATCHES: usize = 4096;

/// Counts the watches that are open.
#[derive(Debug, Default)]
pub(crate) struct Watchers(AtomicUsize);

impl Watchers {
    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One open watch; counted while it lives.
struct Ticket(Arc<Server>);

impl Ticket {
    fn take(server: &Arc<Server>) -> Result<Self, Status> {
        if server.watchers.0.fetch_add(1, Ordering::Relaxed) >= MOST_WATCHES {
            server.watchers.0.fetch_sub(1, Ordering::Relaxed);
            return Err(Status::too_many_requests(
                format!("there are {MOST_WATCHES} watches already"),
                1,
            ));
        }
        Ok(Self(Arc::clone(server)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.watchers.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a watch.
pub(super) fn respond(
    server: &Arc<Server>,
    shown: Shown,
    namespace: String,
    options: ListOptions,
) -> Result<Response<Body>, Status> {
    let ticket = Ticket::take(server)?;
    let unset = || Duration::from_secs(rand::rng().random_range(SHORTEST..2 * SHORTEST));
    let now = clock::deadline(Duration::ZERO);
    let deadline = now + options.timeout.unwrap_or_else(unset);
    let mut watch = Watch {
        revisions: server.revisions.clone(),
        shown,
        namespace,
        after: 0,
        pending: VecDeque::new(),
        headers: Headers::Shown,
        deadline,
        next_bookmark: bookmark_time(now, deadline),
        phase: Phase::Live,
        options,
        ticket,
    };
    watch.begin();
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        let frame = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), watch))
    });
    Ok(stream_reply(stream))
}

fn stream_reply(
    stream: impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
) -> Response<Body> {
    json_reply(StatusCode::OK, Body::from_stream(stream), &[])
}

fn bookmark_time(now: Instant, deadline: Instant) -> Instant {
    let last = deadline - LAST_BOOKMARK;
    let next = now + BOOKMARK_PERIOD;
    if now < last { next.min(last) } else { next }
}

/// Where a watch stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Changes as they come.
    Live,
    /// Nothing more is sent.
    Over,
}

struct Watch {
    revisions: tokio::sync::watch::Receiver<u64>,
    shown: Shown,
    namespace: String,
    options: ListOptions,
    /// Everything up to this revision was sent.
    after: u64,
    pending: VecDeque<Pending>,
    headers: Headers,
    deadline: Instant,
    next_bookmark: Instant,
    phase: Phase,
    ticket: Ticket,
}

/// What is to be sent. Objects are shared with the store and encoded when their turn comes, so that a slow watcher
/// costs little.
enum Pending {
    Event(Event, Object),
    Frame(Bytes),
}

/// What a change means to one watcher.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Added,
    Modified,
    Deleted,
}

impl Watch {
    fn server(&self) -> &Arc<Server> {
        &self.ticket.0
    }

    /// Decides what the watch begins with.
    fn begin(&mut self) {
        let asked = self.options.resource_version.unwrap_or(0);
        let newest = self.server().store.revision();
        if asked > newest {
            return self.fail(&Status::store_is_older(asked, newest));
        }
        match (self.options.initial_events, asked) {
            (InitialEvents::Sent, _) | (InitialEvents::ByVersion, 0) => self.send_present(),
            (InitialEvents::Suppressed, 0) => self.after = newest,
            (InitialEvents::ByVersion | InitialEvents::Suppressed, asked) => self.after = asked,
        }
    }

    /// The present state as ADDED events, and for WatchList the bookmark that ends it.
    fn send_present(&mut self) {
        let snapshot = self.server().store.snapshot();
        let namespace = Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let present: Vec<Object> = snapshot
            .range(self.shown.kind.resource.store_kind, namespace, None)
            .map(|(_, entry)| &entry.value)
            .filter(|object| self.options.filter.matches(object.value()))
            .map(|object| Object::clone(object))
            .collect();
        for object in present {
            self.push(Event::Added, &object);
        }
        self.after = snapshot.revision();
        if self.options.initial_events == InitialEvents::Sent {
            self.bookmark(json!({ "k8s.io/initial-events-end": "true" }));
        }
    }

    /// The next frame; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.take_pending() {
                return Some(frame);
            }
            match self.phase {
                Phase::Over => return None,
                Phase::Live => {
                    if !self.take_changes() {
                        self.wait().await;
                    }
                }
            }
        }
    }

    /// What is ready, several frames in one chunk.
    fn take_pending(&mut self) -> Option<Bytes> {
        const CHUNK: usize = 64 * 1024;
        let first = self.take_frame()?;
        if self.pending.is_empty() {
            return Some(first);
        }
        let mut chunk = BytesMut::from(&first[..]);
        while chunk.len() < CHUNK
            && let Some(frame) = self.take_frame()
        {
            chunk.put(frame);
        }
        Some(chunk.freeze())
    }

    fn take_frame(&mut self) -> Option<Bytes> {
        match self.pending.pop_front()? {
            Pending::Frame(frame) => Some(frame),
            Pending::Event(event, object) => Some(self.encode(event, &object)),
        }
    }

    fn encode(&mut self, event: Event, object: &Object) -> Bytes {
        self.shown.now = clock::now();
        let body = self.shown.event(object, self.headers);
        if matches!(self.shown.representation, Representation::Table(_)) {
            self.headers = Headers::Hidden;
        }
        frame(event.as_str(), &body)
    }

    /// Takes changes from the history; whether there were any.
    fn take_changes(&mut self) -> bool {
        // Read before the changes: up to here nothing of this kind can be missed.
        let newest = self.server().store.revision();
        let kind = self.shown.kind.resource.store_kind;
        match self.server().store.changes(kind, self.after, BATCH) {
            Ok(changes) => {
                let complete = changes.len() < BATCH;
                for change in &changes {
                    self.after = self.after.max(change.revision);
                    self.take_change(change);
                }
                if complete {
                    self.after = self.after.max(newest);
                }
                !changes.is_empty()
            }
            Err(HistoryError::Compacted { floor }) => {
                let message = format!("too old resource version: {} ({floor})", self.after);
                self.fail(&Status::expired(message));
                true
            }
            Err(HistoryError::Future { current }) => {
                self.fail(&Status::store_is_older(self.after, current));
                true
            }
        }
    }

    fn take_change(&mut self, change: &Change<Object>) {
        if !self.namespace.is_empty() && *change.key.namespace != *self.namespace {
            return;
        }
        let filter = &self.options.filter;
        let now = change.what != What::Deleted && filter.matches(change.value.value());
        let before = change
            .previous
            .as_ref()
            .filter(|previous| filter.matches(previous.value()));
        match (before, now) {
            (None, true) => self.push(Event::Added, &change.value),
            (Some(_), true) => self.push(Event::Modified, &change.value),
            (Some(_), false) if change.what == What::Deleted && filter.is_empty() => {
                self.push(Event::Deleted, &change.value);
            }
            (Some(before), false) => {
                let last = with_version(before.value(), change.revision);
                self.push(Event::Deleted, &Object::new(last));
            }
            (None, false) => {}
        }
    }

    /// Waits for a change, the next bookmark or the end.
    async fn wait(&mut self) {
        tokio::select! {
            changed = self.revisions.changed() => {
                if changed.is_err() {
                    self.phase = Phase::Over;
                }
            }
            () = tokio::time::sleep_until(self.deadline) => self.phase = Phase::Over,
            () = tokio::time::sleep_until(self.next_bookmark) => {
                let now = self.next_bookmark;
                self.next_bookmark = bookmark_time(now, self.deadline);
                if self.options.bookmarks == Bookmarks::Wanted {
                    self.bookmark(Value::Null);
                }
            }
        }
    }

    fn push(&mut self, event: Event, object: &Object) {
        self.pending
            .push_back(Pending::Event(event, object.clone()));
    }

    fn bookmark(&mut self, annotations: Value) {
        let resource = &self.shown.kind.resource;
        let mut metadata = json!({ "resourceVersion": self.after.to_string() });
        if annotations.is_object() {
            metadata["annotations"] = annotations;
        }
        let mut object = json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata });
        match self.shown.representation {
            Representation::Full => {}
            Representation::Metadata => object = table::partial(&object),
            Representation::Table(include) => {
                let version = json!({ "resourceVersion": self.after.to_string() });
                let rows = std::iter::once((&object, object.clone()));
                object = table::table(
                    self.shown.kind,
                    rows,
                    version,
                    include,
                    self.headers,
                    self.shown.now,
                );
            }
        }
        self.pending
            .push_back(Pending::Frame(frame("BOOKMARK", &encode(&object))));
    }

    fn fail(&mut self, status: &Status) {
        self.pending
            .push_back(Pending::Frame(frame("ERROR", &encode(&status.to_json()))));
        self.phase = Phase::Over;
    }
}

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

fn frame(event: &str, body: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 40);
    out.put(&br#"{"type":""#[..]);
    out.put(event.as_bytes());
    out.put(&br#"","object":"#[..]);
    out.put(&body[..]);
    out.put(&b"}\n"[..]);
    out.freeze()
}

/// The old content with the new version: what a watcher is shown of an object that left its selection.
fn with_version(object: &Value, revision: u64) -> Value {
    let mut object = object.clone();
    json::metadata(&mut object).insert("resourceVersion".to_owned(), revision.to_string().into());
    object
}
