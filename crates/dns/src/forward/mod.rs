//! Names of others: asked at the upstreams, whole messages in and out.
//!
//! The question goes out over UDP under a random id from a fresh port, and again over TCP if the
//! answer was cut; the upstreams are tried in order until one answers with anything but SERVFAIL or
//! REFUSED. Equal questions under way share one exchange: that spares the upstream, and a question
//! that comes back to this server in a loop waits for itself and fails instead of multiplying.

mod cache;
mod exchange;
mod packet;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use tokio::sync::oneshot;

use self::cache::Cache;
pub(crate) use self::packet::cut;
use crate::clock;
use crate::config::Config;
use crate::metrics::{Metrics, Panics, add};
use crate::wire::Request;

/// What makes two questions the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Compared without regard to case.
    name: Name,
    kind: RecordType,
    edns: AskedEdns,
    checking: Checking,
    desire: Desire,
}

/// Whether an OPT record goes along, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AskedEdns {
    None,
    Plain,
    DnssecOk,
}

/// The CD bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Checking {
    Enabled,
    Disabled,
}

/// The RD bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Desire {
    Recursion,
    None,
}

impl Question {
    /// What a client asked.
    pub(crate) fn of(request: &Request) -> Self {
        Self::about(request, request.query.name.clone())
    }

    /// What a client asked, about another name.
    pub(crate) fn about(request: &Request, name: Name) -> Self {
        let metadata = &request.metadata;
        Self {
            name,
            kind: request.query.query_type,
            edns: match request.edns {
                None => AskedEdns::None,
                Some(edns) if edns.dnssec_ok => AskedEdns::DnssecOk,
                Some(_) => AskedEdns::Plain,
            },
            checking: if metadata.checking_disabled {
                Checking::Disabled
            } else {
                Checking::Enabled
            },
            desire: if metadata.recursion_desired {
                Desire::Recursion
            } else {
                Desire::None
            },
        }
    }

    fn query(&self) -> Query {
        Query::query(self.name.clone(), self.kind)
    }

    /// The message for an upstream.
    fn message(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = Message::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = self.desire == Desire::Recursion;
        message.metadata.checking_disabled = self.checking == Checking::Disabled;
        message.queries.push(self.query());
        if self.edns != AskedEdns::None {
            let mut edns = Edns::new();
            edns.set_max_payload(exchange::PAYLOAD)
                .set_dnssec_ok(self.edns == AskedEdns::DnssecOk);
            message.edns = Some(edns);
        }
        message.to_vec().ok()
    }
}

/// An upstream's whole answer; its id and the case of its question are the asker's to set.
pub(crate) type Answer = Arc<[u8]>;

/// Asks upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    upstreams: Vec<SocketAddr>,
    timeout: Duration,
    /// The upstream that answered last.
    preferred: AtomicUsize,
    under_way: Mutex<HashMap<Question, Vec<oneshot::Sender<Option<Answer>>>>>,
    cache: Mutex<Cache>,
    metrics: Arc<Metrics>,
}

impl Forwarder {
    pub(crate) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            upstreams: config.upstreams.clone(),
            timeout: config.upstream_timeout,
            preferred: AtomicUsize::new(0),
            under_way: Mutex::default(),
            cache: Mutex::new(Cache::new(config.cache_entries)),
            metrics,
        }))
    }

    /// The cached answer to a question.
    pub(crate) fn cached(&self, question: &Question) -> Option<Answer> {
        let now = clock::now();
        let found = self
            .0
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .find(question, now);
        if found.is_some() {
            add(&self.0.metrics.cache_hits, 1);
        }
        found
    }

    /// An upstream's answer to a question, the cache left aside; `None` if there is none.
    pub(crate) async fn resolve(&self, question: Question) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        let is_first = {
            let mut under_way = self
                .0
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let waiting = under_way.entry(question.clone()).or_default();
            waiting.push(sender);
            waiting.len() == 1
        };
        if is_first {
            // A task of its own: those who wait must not depend on this client's patience.
            tokio::spawn(Arc::clone(&self.0).lead(question));
        }
        receiver.await.ok().flatten()
    }
}

impl Inner {
    async fn lead(self: Arc<Self>, question: Question) {
        let asks = self.ask_all(&question);
        self.tell(&question, asks).await;
    }

    /// What is found goes to all who wait for it, and into the cache.
    async fn tell(&self, question: &Question, asks: impl Future<Output = Option<Vec<u8>>>) {
        let mut told = Told {
            inner: self,
            question,
            answer: None,
        };
        let answer = asks.await.map(Answer::from);
        add(
            if answer.is_some() {
                &self.metrics.forwarded
            } else {
                &self.metrics.forward_failures
            },
            1,
        );
        if let Some(answer) = &answer {
            let now = clock::now();
            self.cache
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .keep(question.clone(), answer, now);
        }
        told.answer = answer;
    }

    /// The first good answer, else the last bad one. Each upstream is asked twice at most.
    async fn ask_all(&self, question: &Question) -> Option<Vec<u8>> {
        let count = self.upstreams.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut bad = None;
        for turn in 0..count * ROUNDS {
            let index = (first + turn) % count;
            let id = rand::random();
            let Ok(answer) = exchange::ask(self.upstreams[index], question, id, self.timeout).await
            else {
                continue;
            };
            let code = ResponseCode::from(0, answer[3] & 0xf);
            if matches!(code, ResponseCode::ServFail | ResponseCode::Refused) {
                bad = Some(answer);
                continue;
            }
            self.preferred.store(index, Ordering::Relaxed);
            return Some(answer);
        }
        bad
    }
}

/// Tells those who wait for a question when it is dropped: an answer, or that there is none, also where asking panicked. Who asks the same
/// afterwards would else wait behind them for ever, and each of them holds one of the permits to ask.
struct Told<'a> {
    inner: &'a Inner,
    question: &'a Question,
    answer: Option<Answer>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let _panics = Panics(&self.inner.metrics);
        let under_way = self.inner.under_way.lock();
        let mut under_way = under_way.unwrap_or_else(PoisonError::into_inner);
        let waiting = under_way.remove(self.question);
        drop(under_way);
        for waiter in waiting.into_iter().flatten() {
            let _gone = waiter.send(self.answer.clone());
        }
    }
}

/// The bytes of a name, uncompressed.
pub(crate) fn name_bytes(name: &Name) -> Vec<u8> {
    name.to_bytes().unwrap_or_default()
}

/// How often all upstreams are tried.
const ROUNDS: usize = 2;

#[cfg(test)]
mod tests;
