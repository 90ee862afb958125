//! The caches: what is known of each kind, and what a message changes about it.
//!
//! A put that changes nothing is no event. Between a list's begin and end its objects are marked;
//! those that end unmarked have vanished. Nothing is handed out before every kind's first list is
//! complete; a subscriber that comes later gets the whole state as its first batch.

mod subscription;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daymark_model::{Change, ServiceKey, SliceKey};
use tokio::sync::mpsc;

use self::subscription::Inbox;
pub use self::subscription::Subscription;
use crate::config::Kind;
use crate::decode::{Meaning, NodeRecord, Record};
use crate::event::{Batch, Event, Scope};
use crate::findings::Findings;
use crate::metrics::{Metrics, add};
use crate::record::ObjectKey;
use crate::watch::{Message, Messages};

/// The caches and the subscribers, shared by the task that fills them and by the feed's handle.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    caches: Caches,
    number: u64,
    inboxes: Vec<Arc<Inbox>>,
}

/// Ends the subscriptions with the task that fills them, however that ends: nobody waits for what will not come.
struct Closing(Arc<Hub>);

impl Drop for Closing {
    fn drop(&mut self) {
        for inbox in &self.0.lock().inboxes {
            inbox.close();
        }
    }
}

impl Hub {
    pub(crate) fn new(kinds: &[Kind], metrics: Arc<Metrics>) -> Self {
        let state = State {
            caches: Caches::new(kinds),
            number: 0,
            inboxes: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in messages until every watch is gone; what is ready at once becomes one batch.
    pub(crate) async fn run(self: Arc<Self>, mut messages: mpsc::Receiver<Messages>) {
        let _closing = Closing(Arc::clone(&self));
        let mut ready = Vec::new();
        while messages.recv_many(&mut ready, usize::MAX).await > 0 {
            self.take(ready.drain(..).flatten());
        }
    }

    fn take(&self, messages: impl Iterator<Item = Message>) {
        let mut state = self.lock();
        let was_complete = state.caches.complete();
        let mut events = Vec::new();
        for message in messages {
            state.caches.apply(message, &mut events);
        }
        if !state.caches.complete() {
            return;
        }
        let batch = if was_complete {
            let events = subscription::last_of_each(events);
            Batch {
                number: state.number + 1,
                scope: Scope::Changes,
                events,
            }
        } else {
            Batch {
                number: state.number + 1,
                scope: Scope::Everything,
                events: state.caches.everything(),
            }
        };
        if batch.events.is_empty() && batch.scope == Scope::Changes {
            return;
        }
        add(&self.metrics.batches, 1);
        add(&self.metrics.events, batch.events.len());
        state.number = batch.number;
        let batch = Arc::new(batch);
        state.inboxes.retain(|inbox| inbox.deliver(&batch));
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        let mut state = self.lock();
        let (subscription, inbox) = Subscription::new();
        if state.caches.complete() {
            let events = state.caches.everything();
            inbox.deliver(&Arc::new(Batch {
                number: state.number,
                scope: Scope::Everything,
                events,
            }));
        }
        state.inboxes.push(inbox);
        subscription
    }
}

/// What is known of each kind that is watched.
#[derive(Debug)]
struct Caches(BTreeMap<Kind, Cache>);

#[derive(Debug, Default)]
struct Cache {
    /// In no order: each event looks one up by name.
    objects: HashMap<ObjectKey, Known>,
    /// Of those that have values which cannot be used; hardly ever any.
    findings: BTreeMap<ObjectKey, Arc<Findings>>,
    /// Counts lists; an object carries that of the last list it was in, or of its last event.
    list: u32,
    listed: Listed,
}

#[derive(Debug)]
struct Known {
    /// `None`: it exists and is nothing to us, or was never readable.
    record: Option<Record>,
    list: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Listed {
    #[default]
    NotYet,
    Once,
}

impl Caches {
    fn new(kinds: &[Kind]) -> Self {
        Self(kinds.iter().map(|kind| (*kind, Cache::default())).collect())
    }

    fn complete(&self) -> bool {
        self.0.values().all(|cache| cache.listed == Listed::Once)
    }

    fn apply(&mut self, message: Message, events: &mut Vec<Event>) {
        let (Message::ListBegin(kind)
        | Message::ListEnd(kind)
        | Message::Put(kind, ..)
        | Message::Gone(kind, _)) = message;
        let cache = self
            .0
            .get_mut(&kind)
            .expect("only wanted kinds are watched");
        match message {
            Message::ListBegin(_) => cache.list = cache.list.wrapping_add(1),
            Message::ListEnd(_) => cache.end_list(kind, events),
            Message::Put(_, key, meaning, findings) => {
                cache.find(kind, &key, findings, events);
                cache.put(key, meaning, events);
            }
            Message::Gone(_, key) => {
                if let Some(known) = cache.objects.remove(&key) {
                    emit(&key, known.record.as_ref(), None, events);
                }
                cache.find(kind, &key, None, events);
            }
        }
    }

    fn everything(&self) -> Vec<Event> {
        let count = self.0.values().map(|cache| cache.objects.len()).sum();
        let mut events = Vec::with_capacity(count);
        for (kind, cache) in &self.0 {
            let mut objects: Vec<_> = cache.objects.iter().collect();
            objects.sort_unstable_by_key(|(key, _)| *key);
            for (key, known) in objects {
                emit(key, None, known.record.as_ref(), &mut events);
            }
            for (key, findings) in &cache.findings {
                let now = Some(Arc::clone(findings));
                events.push(Event::Unusable(*kind, key.clone(), now));
            }
        }
        events
    }
}

impl Cache {
    fn put(&mut self, key: ObjectKey, meaning: Meaning, events: &mut Vec<Event>) {
        let list = self.list;
        let known = self.objects.get_mut(&key);
        let record = match meaning {
            Meaning::Record(record) => Some(record),
            Meaning::Nothing => None,
            Meaning::Unreadable => known.as_ref().and_then(|known| known.record.clone()),
        };
        match known {
            None => {
                emit(&key, None, record.as_ref(), events);
                self.objects.insert(key, Known { record, list });
            }
            Some(known) => {
                known.list = list;
                if known.record != record {
                    emit(&key, known.record.as_ref(), record.as_ref(), events);
                    known.record = record;
                }
            }
        }
    }

    /// Takes in what of an object cannot be used, if that is news.
    fn find(
        &mut self,
        kind: Kind,
        key: &ObjectKey,
        now: Option<Arc<Findings>>,
        events: &mut Vec<Event>,
    ) {
        if self.findings.get(key) == now.as_ref() {
            return;
        }
        match &now {
            Some(now) => self.findings.insert(key.clone(), Arc::clone(now)),
            None => self.findings.remove(key),
        };
        events.push(Event::Unusable(kind, key.clone(), now));
    }

    fn end_list(&mut self, kind: Kind, events: &mut Vec<Event>) {
        let list = self.list;
        let vanished = |_: &ObjectKey, known: &mut Known| known.list != list;
        let mut vanished: Vec<_> = self.objects.extract_if(vanished).collect();
        vanished.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (key, known) in vanished {
            emit(&key, known.record.as_ref(), None, events);
        }
        let exists = |key: &ObjectKey| self.objects.contains_key(key);
        for (key, _) in self.findings.extract_if(.., |key, _| !exists(key)) {
            events.push(Event::Unusable(kind, key, None));
        }
        self.listed = Listed::Once;
    }
}

/// The events of one object's step from one record to another.
fn emit(key: &ObjectKey, from: Option<&Record>, to: Option<&Record>, events: &mut Vec<Event>) {
    let Some(kind) = to.or(from) else { return };
    match kind {
        Record::Service(_) => {
            let key = ServiceKey {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(&key.name),
            };
            events.push(Event::Model(Change::Service(key, to.and_then(service))));
        }
        Record::Slice(..) => {
            let key = SliceKey {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(&key.name),
            };
            events.extend(triggered(&key, from, to));
            events.push(Event::Model(Change::Slice(key, to.and_then(slice))));
        }
        Record::ServiceCidr(_) => {
            let now = to.and_then(|to| {
                if let Record::ServiceCidr(record) = to {
                    Some(Arc::clone(record))
                } else {
                    None
                }
            });
            events.push(Event::Model(Change::ServiceCidr(
                Arc::clone(&key.name),
                now,
            )));
        }
        Record::Namespace(_) => {
            let now = to.and_then(|to| {
                if let Record::Namespace(record) = to {
                    Some(Arc::clone(record))
                } else {
                    None
                }
            });
            events.push(Event::Namespace(Arc::clone(&key.name), now));
        }
        Record::Pool(_) => {
            let now = to.and_then(|to| {
                if let Record::Pool(record) = to {
                    Some(Arc::clone(record))
                } else {
                    None
                }
            });
            events.push(Event::Pool(key.clone(), now));
        }
        Record::L2Advertisement(_) => {
            let now = to.and_then(|to| {
                if let Record::L2Advertisement(record) = to {
                    Some(Arc::clone(record))
                } else {
                    None
                }
            });
            events.push(Event::L2Advertisement(key.clone(), now));
        }
        Record::Lease(_) => {
            let now = to.and_then(|to| {
                if let Record::Lease(record) = to {
                    Some(Arc::clone(record))
                } else {
                    None
                }
            });
            events.push(Event::Lease(Arc::clone(&key.name), now));
        }
        Record::Node(_) => emit_node(key, node(from), node(to), events),
    }
}

fn emit_node(
    key: &ObjectKey,
    from: Option<&NodeRecord>,
    to: Option<&NodeRecord>,
    events: &mut Vec<Event>,
) {
    let own = |record: Option<&NodeRecord>| record.and_then(|record| record.own.clone());
    let cluster = |record: Option<&NodeRecord>| record.and_then(|record| record.cluster.clone());
    if own(from) != own(to) {
        events.push(Event::Model(Change::Node(own(to))));
    }
    let eligibility = |record: Option<&NodeRecord>| record.and_then(|record| record.eligibility);
    if eligibility(from) != eligibility(to) {
        events.push(Event::Eligibility(eligibility(to)));
    }
    if cluster(from) != cluster(to) {
        events.push(Event::Node(Arc::clone(&key.name), cluster(to)));
    }
}

/// What is told of when a slice's change was made: nothing, if it was told before.
fn triggered(key: &SliceKey, from: Option<&Record>, to: Option<&Record>) -> Option<Event> {
    let told = |record: Option<&Record>| match record {
        Some(Record::Slice(slice, Some(at))) => Some((slice.family, at.get())),
        _ => None,
    };
    let (family, at) = told(to).filter(|now| told(from) != Some(*now))?;
    Some(Event::Triggered(key.clone(), family, at))
}

fn service(record: &Record) -> Option<Arc<daymark_model::Service>> {
    if let Record::Service(service) = record {
        Some(Arc::clone(service))
    } else {
        None
    }
}

fn slice(record: &Record) -> Option<Arc<daymark_model::Slice>> {
    if let Record::Slice(slice, _) = record {
        Some(Arc::clone(slice))
    } else {
        None
    }
}

fn node(record: Option<&Record>) -> Option<&NodeRecord> {
    if let Some(Record::Node(node)) = record {
        Some(node)
    } else {
        None
    }
}
