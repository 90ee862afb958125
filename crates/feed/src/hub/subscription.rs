//! One subscriber's end of a feed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use daymark_model::{Change, ServiceKey, SliceKey};
use tokio::sync::Notify;

use crate::config::Kind;
use crate::event::{Batch, Event, Scope};
use crate::record::ObjectKey;

/// One part's view of a feed: the whole state first, then each change, in order, none lost.
///
/// A subscriber that takes its time gets what came meanwhile as one batch with one event for each
/// object, the newest: what waits for it is bounded by the number of objects.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
}

impl Subscription {
    pub(super) fn new() -> (Self, Arc<Inbox>) {
        let inbox = Arc::new(Inbox::default());
        (
            Self {
                inbox: Arc::clone(&inbox),
            },
            inbox,
        )
    }

    /// The next batch; waits for it. `None` once the feed has stopped and all was handed out.
    ///
    /// Cancel safe: a batch that was not returned is not lost.
    pub async fn next(&mut self) -> Option<Arc<Batch>> {
        loop {
            if let Some(batch) = self.ready() {
                return Some(batch);
            }
            if self.inbox.queue().closed {
                return None;
            }
            self.inbox.news.notified().await;
        }
    }

    /// The next batch if one is ready now.
    pub fn ready(&mut self) -> Option<Arc<Batch>> {
        let mut queue = self.inbox.queue();
        queue.merge();
        queue.batches.pop()
    }

    /// The number of the newest batch that waits to be taken, if any does.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.inbox.queue().batches.last().map(|batch| batch.number)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.queue().abandoned = true;
    }
}

/// Where a subscriber's batches wait.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    batches: Vec<Arc<Batch>>,
    closed: bool,
    abandoned: bool,
}

impl Inbox {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the subscriber is still there.
    pub(super) fn deliver(&self, batch: &Arc<Batch>) -> bool {
        let mut queue = self.queue();
        if queue.abandoned {
            return false;
        }
        queue.batches.push(Arc::clone(batch));
        if queue.batches.len() > LONGEST_QUEUE {
            queue.merge();
        }
        drop(queue);
        self.news.notify_one();
        true
    }

    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.news.notify_one();
    }
}

impl Queue {
    /// Makes one batch of all that wait.
    fn merge(&mut self) {
        if self.batches.len() < 2 {
            return;
        }
        let number = self.batches.last().map_or(0, |batch| batch.number);
        let scope = if self
            .batches
            .iter()
            .any(|batch| batch.scope == Scope::Everything)
        {
            Scope::Everything
        } else {
            Scope::Changes
        };
        let events = self
            .batches
            .drain(..)
            .flat_map(|batch| Arc::unwrap_or_clone(batch).events)
            .collect();
        self.batches.push(Arc::new(Batch {
            number,
            scope,
            events: last_of_each(events),
        }));
    }
}

/// The newest event of each object, in the order of those.
pub(super) fn last_of_each(mut events: Vec<Event>) -> Vec<Event> {
    if events.len() < 2 {
        return events;
    }
    let mut seen = HashSet::with_capacity(events.len());
    let keep: Vec<bool> = events
        .iter()
        .rev()
        .map(|event| seen.insert(subject(event)))
        .collect();
    if keep.iter().all(|keep| *keep) {
        return events;
    }
    let mut keep = keep.into_iter().rev();
    events.retain(|_| keep.next().expect("one mark for each event"));
    events
}

/// Which object an event is about.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Service(ServiceKey),
    Slice(SliceKey),
    OwnNode,
    Triggered(SliceKey),
    Eligibility,
    MachineAddresses,
    ServiceCidr(Arc<str>),
    Namespace(Arc<str>),
    Pool(ObjectKey),
    L2Advertisement(ObjectKey),
    Lease(Arc<str>),
    Node(Arc<str>),
    Unusable(Kind, ObjectKey),
}

fn subject(event: &Event) -> Subject {
    match event {
        Event::Model(Change::Service(key, _)) => Subject::Service(key.clone()),
        Event::Model(Change::Slice(key, _)) => Subject::Slice(key.clone()),
        Event::Model(Change::Node(_)) => Subject::OwnNode,
        Event::Model(Change::MachineAddresses(_)) => Subject::MachineAddresses,
        Event::Triggered(key, ..) => Subject::Triggered(key.clone()),
        Event::Eligibility(_) => Subject::Eligibility,
        Event::Model(Change::ServiceCidr(name, _)) => Subject::ServiceCidr(Arc::clone(name)),
        Event::Namespace(name, _) => Subject::Namespace(Arc::clone(name)),
        Event::Pool(key, _) => Subject::Pool(key.clone()),
        Event::L2Advertisement(key, _) => Subject::L2Advertisement(key.clone()),
        Event::Lease(name, _) => Subject::Lease(Arc::clone(name)),
        Event::Node(name, _) => Subject::Node(Arc::clone(name)),
        Event::Unusable(kind, key, _) => Subject::Unusable(*kind, key.clone()),
    }
}

/// Batches that wait before they are merged.
const LONGEST_QUEUE: usize = 64;
