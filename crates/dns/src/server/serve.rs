//! One question: answered at once, or after an upstream was asked.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::forward::{self, Forwarder, Question};
use crate::metrics::{Metrics, add};
use crate::wire::{self, Authority, Cut, HEADER, Incoming, Recursion, Reply, Request, Transport};
use crate::zone::{Answer, BadName, Outcome, Zone};

/// What all sockets share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) zone: RwLock<Zone>,
    pub(crate) forwarder: Option<Forwarder>,
    /// One permit for each question under way to an upstream.
    pub(crate) forwards: Arc<Semaphore>,
    pub(crate) ready: AtomicBool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: Config,
}

/// What became of a packet.
pub(crate) enum Step {
    /// Dropped.
    Nothing,
    /// These bytes go back.
    Done(Vec<u8>),
    /// An upstream is to be asked first.
    Ask(Box<Pending>),
}

/// A question that waits for an upstream.
pub(crate) struct Pending {
    request: Request,
    limit: usize,
    /// An alias of the zone that the question is about; none for a name of others.
    alias: Option<Alias>,
    forwarder: Forwarder,
    _permit: OwnedSemaphorePermit,
}

struct Alias {
    chain: Vec<Record>,
    target: Name,
    soa: Box<Record>,
}

impl Shared {
    /// With an empty zone that is not ready.
    pub(crate) fn new(config: Config) -> Result<Self, BadName> {
        let metrics = Arc::new(Metrics::default());
        let forwarder = || Forwarder::new(&config, Arc::clone(&metrics));
        Ok(Self {
            zone: RwLock::new(Zone::new(&config)?),
            forwarder: (!config.upstreams.is_empty()).then(forwarder),
            forwards: Arc::new(Semaphore::new(config.max_forwards)),
            ready: AtomicBool::new(false),
            metrics,
            config,
        })
    }

    /// Takes a packet as far as it goes without waiting.
    pub(crate) fn begin(&self, bytes: &[u8], transport: Transport) -> Step {
        let request = match wire::read(bytes) {
            Incoming::Drop => {
                add(&self.metrics.dropped, 1);
                return Step::Nothing;
            }
            Incoming::Refuse(code, bytes) => {
                self.metrics.answered(code);
                return Step::Done(bytes);
            }
            Incoming::Ask(request) => request,
        };
        let limit = wire::limit(&request, transport, self.config.max_udp);
        let query = &request.query;
        let outcome = {
            let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
            zone.answer(&query.name, query.query_type)
        };
        match outcome {
            Outcome::NotReady => self.bare(&request, ResponseCode::ServFail, limit),
            Outcome::Answer(answer) => {
                add(&self.metrics.zone, 1);
                self.done(&request, self.reply(answer), limit)
            }
            Outcome::Alias { chain, target, soa } => {
                add(&self.metrics.zone, 1);
                let alias = Alias { chain, target, soa };
                self.ask(request, limit, Some(alias))
            }
            Outcome::Elsewhere => self.ask(request, limit, None),
        }
    }

    /// Asks the upstream, and says what goes back.
    pub(crate) async fn finish(&self, pending: Box<Pending>) -> Vec<u8> {
        let Pending {
            request,
            limit,
            alias,
            forwarder,
            _permit,
        } = *pending;
        let question = match &alias {
            Some(alias) => Question::about(&request, alias.target.clone()),
            None => Question::of(&request),
        };
        let answer = match forwarder.cached(&question) {
            Some(answer) => Some(answer),
            None => forwarder.resolve(question).await,
        };
        match (alias, answer) {
            (Some(alias), answer) => {
                self.encode(&request, self.chased(alias, answer.as_deref()), limit)
            }
            (None, Some(answer)) => self.pass(&request, &answer, limit),
            (None, None) => self.encode(
                &request,
                Reply::bare(ResponseCode::ServFail, Recursion::Available),
                limit,
            ),
        }
    }

    fn ask(&self, request: Request, limit: usize, alias: Option<Alias>) -> Step {
        let Some(forwarder) = self.forwarder.clone() else {
            return match alias {
                // The alias is ours to tell, even if nobody can be asked about its target.
                Some(alias) => self.done(&request, self.chased(alias, None), limit),
                None => self.bare(&request, ResponseCode::Refused, limit),
            };
        };
        if matches!(
            request.query.query_type,
            RecordType::AXFR | RecordType::IXFR
        ) {
            return self.bare(&request, ResponseCode::Refused, limit);
        }
        match Arc::clone(&self.forwards).try_acquire_owned() {
            Ok(permit) => Step::Ask(Box::new(Pending {
                request,
                limit,
                alias,
                forwarder,
                _permit: permit,
            })),
            Err(_) => {
                add(&self.metrics.forward_rejects, 1);
                self.bare(&request, ResponseCode::ServFail, limit)
            }
        }
    }

    fn recursion(&self) -> Recursion {
        if self.forwarder.is_some() {
            Recursion::Available
        } else {
            Recursion::None
        }
    }

    fn bare(&self, request: &Request, code: ResponseCode, limit: usize) -> Step {
        self.done(request, Reply::bare(code, self.recursion()), limit)
    }

    fn done(&self, request: &Request, reply: Reply, limit: usize) -> Step {
        Step::Done(self.encode(request, reply, limit))
    }

    fn encode(&self, request: &Request, reply: Reply, limit: usize) -> Vec<u8> {
        self.metrics.answered(reply.code);
        let (bytes, cut) = wire::encode(request, reply, limit);
        if cut == Cut::Truncated {
            add(&self.metrics.truncated, 1);
        }
        bytes
    }

    fn reply(&self, answer: Answer) -> Reply {
        let mut answers = answer.answers;
        spread(&mut answers);
        Reply {
            code: answer.code,
            authority: Authority::Own,
            recursion: self.recursion(),
            cut: Cut::Whole,
            answers,
            authorities: answer.soa.into_iter().map(|soa| *soa).collect(),
            additionals: answer.additionals,
        }
    }

    /// The answer about an alias: with what the upstream found; the alias alone if there is no such
    /// target; no data if the upstream failed, so that A and AAAA cannot differ in RCODE.
    fn chased(&self, alias: Alias, upstream: Option<&[u8]>) -> Reply {
        let found = upstream.and_then(|bytes| Message::from_vec(bytes).ok());
        let mut reply = Reply::bare(ResponseCode::NoError, self.recursion());
        reply.authority = Authority::Own;
        match found {
            Some(found)
                if matches!(
                    found.metadata.response_code,
                    ResponseCode::NoError | ResponseCode::NXDomain
                ) =>
            {
                if found.metadata.truncation {
                    reply.cut = Cut::Truncated;
                }
                reply.answers = alias.chain;
                reply.answers.extend(found.answers);
            }
            Some(_) | None => reply.authorities.push(*alias.soa),
        }
        reply
    }

    /// An upstream's message, made the client's own: its id, its RD, its spelling of the name.
    fn pass(&self, request: &Request, answer: &[u8], limit: usize) -> Vec<u8> {
        let mut bytes = answer.to_vec();
        bytes[..2].copy_from_slice(&request.metadata.id.to_be_bytes());
        let name = forward::name_bytes(&request.query.name);
        if let Some(place) = bytes.get_mut(HEADER..HEADER + name.len()) {
            place.copy_from_slice(&name);
        }
        self.metrics.answered(ResponseCode::from(0, bytes[3] & 0xf));
        if bytes.len() <= limit {
            return bytes;
        }
        add(&self.metrics.truncated, 1);
        forward::cut(&bytes, limit).unwrap_or_else(|| {
            wire::encode(
                request,
                Reply::bare(ResponseCode::ServFail, Recursion::Available),
                limit,
            )
            .0
        })
    }
}

/// Lets the addresses of an answer begin anywhere, so that clients that take the first one spread.
fn spread(answers: &mut [Record]) {
    let is_address =
        |record: &Record| matches!(record.record_type(), RecordType::A | RecordType::AAAA);
    let first = answers.iter().position(is_address).unwrap_or(answers.len());
    let addresses = &mut answers[first..];
    if addresses.len() > 1 {
        addresses.rotate_left(rand::random_range(0..addresses.len()));
    }
}
