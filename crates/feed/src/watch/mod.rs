//! The watch of one kind, kept up for ever.
//!
//! The state is where the watch stands:
//! 1. nowhere: ask for a streamed list; a server that refuses it is asked for pages from then on. One that fails, or stays
//!    silent, is asked for pages this once; one that stops half-way is asked for another stream first;
//! 2. at a revision: watch from there. A broken connection resumes at the last revision seen;
//! 3. a revision that the server has forgotten (410): nowhere again.
//!
//! The hub is told when a list begins and ends; it works out what vanished between.

mod backoff;
mod broken;
mod crowd;
mod items;
mod lines;
mod pages;
mod remedy;
mod request;
mod unusable;

#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use self::backoff::Backoff;
use self::broken::Broken;
use self::crowd::{Batch, Crowd, LEAST, Next};
use self::lines::Lines;
use self::remedy::remedy;
use self::request::{Ask, request};
use self::unusable::Unusable;
use crate::clock;
use crate::config::{Config, Kind};
use crate::decode::{self, Context, Frame, InitialEvents, Meaning, Object, StatusError};
use crate::findings::Findings;
use crate::intern::Interner;
use crate::metrics::{KindMetrics, Metrics, add};
use crate::record::ObjectKey;
use crate::trouble::{REMIND, Tell, Trouble};

/// What a watch tells the hub.
#[derive(Debug)]
pub(crate) enum Message {
    /// A list begins: from here to [`Message::ListEnd`] every object that exists is put again.
    ListBegin(Kind),
    /// The list is complete.
    ListEnd(Kind),
    /// An object is there, with what of it cannot be used; nothing is known to have changed.
    Put(Kind, ObjectKey, Meaning, Option<Arc<Findings>>),
    /// An object is gone.
    Gone(Kind, ObjectKey),
}

/// Messages that were ready at once.
pub(crate) type Messages = Vec<Message>;

/// The watch of one kind.
pub(crate) struct Watch {
    kind: Kind,
    client: kube::Client,
    config: Arc<Config>,
    names: Arc<Mutex<Interner>>,
    metrics: Arc<Metrics>,
    hub: mpsc::Sender<Messages>,
    lists: Lists,
    /// The revision to resume from.
    position: Option<String>,
    /// The newest revision that the server told, however the watch stands now.
    newest: Newest,
    known: Known,
    trouble: Trouble,
    unusable: Unusable,
}

/// What the watch knows of the server's revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Newest {
    /// None.
    Unknown,
    /// It was so far.
    Seen(String),
    /// The server says that it is not, or not any more: its store may have been set back.
    Refused,
}

/// How this server is asked for its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Streamed,
    /// The stream before stood still half-way. Should this one too, the server may be one that sends what there is and no end of it.
    StreamedAgain,
    /// This time: the server failed, or was silent for too long, and may have been busy.
    PagedOnce,
    /// It says that it streams none.
    Paged,
}

/// What the server has ever told of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    AList,
}

/// Whether an attempt brought the state further: a complete list, or a change after one. A part of a list does
/// not, because the next attempt has to ask for it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

impl Watch {
    pub(crate) fn new(
        kind: Kind,
        client: kube::Client,
        config: Arc<Config>,
        shared: (Arc<Mutex<Interner>>, Arc<Metrics>),
        hub: mpsc::Sender<Messages>,
    ) -> Self {
        let (names, metrics) = shared;
        Self {
            kind,
            client,
            config,
            names,
            metrics,
            hub,
            lists: Lists::Streamed,
            position: None,
            newest: Newest::Unknown,
            known: Known::Nothing,
            trouble: Trouble::default(),
            unusable: Unusable::default(),
        }
    }

    /// Runs until the hub is gone.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(self.config.retry);
        let mut absent = Backoff::new(self.config.absent);
        while !self.hub.is_closed() {
            let (progress, result) = self.attempt().await;
            self.counters().connected.store(false, Ordering::Relaxed);
            // A line without end is likely to come again, and is much to read each time.
            if progress == Progress::Some && !matches!(result, Err(Broken::TooLong(_))) {
                backoff.reset();
                absent.reset();
                self.trouble.is_over();
            }
            let wait = match result {
                Ok(()) if progress == Progress::Some => Duration::ZERO,
                Ok(()) => backoff.wait(rand::random()),
                Err(Broken::Stopped) => return,
                Err(broken) => self.after(&broken, &mut backoff, &mut absent).await,
            };
            sleep(wait).await;
        }
    }

    fn counters(&self) -> &KindMetrics {
        self.metrics.kind(self.kind)
    }

    /// One list or one watch, whichever is due.
    async fn attempt(&mut self) -> (Progress, Result<(), Broken>) {
        let mut progress = Progress::None;
        let result = match (self.position.clone(), self.lists) {
            (Some(revision), _) => {
                self.watch(
                    &Ask::Changes {
                        revision: &revision,
                    },
                    &mut progress,
                )
                .await
            }
            (None, Lists::Streamed | Lists::StreamedAgain) => {
                self.watch(&Ask::StreamedList, &mut progress).await
            }
            (None, Lists::Paged | Lists::PagedOnce) => self.list(&mut progress).await,
        };
        (progress, result)
    }

    /// Decides what a failure changes, says so, and returns how long to wait.
    async fn after(
        &mut self,
        broken: &Broken,
        backoff: &mut Backoff,
        absent: &mut Backoff,
    ) -> Duration {
        let (code, retry_after) = match broken {
            Broken::Status(status) => (status.code, status.retry_after),
            _ => (0, None),
        };
        let streams = matches!(self.lists, Lists::Streamed | Lists::StreamedAgain);
        let streaming = self.position.is_none() && streams;
        let (kind, error) = (self.kind, broken.to_string());
        if self.counts_as_absent(code) {
            let wait = absent.wait_as_asked(retry_after, rand::random());
            if code == 404 {
                debug!(%kind, "the API has no such kind");
            } else if self.trouble.again(&error, clock::now(), REMIND_ABSENT) == Tell::Now {
                warn!(%kind, %error, "no right to list and watch these; until the role grants it there are none");
            }
            self.position = None;
            self.unusable.list_begins();
            let nothing = vec![Message::ListBegin(kind), self.list_ends()];
            let _closed = self.hub.send(nothing).await;
            return wait;
        }
        // Where an operator has to do something, another way to ask changes nothing.
        let is_ours = remedy(broken).is_none();
        if streaming && is_ours && matches!(code, 400 | 422) {
            info!(%kind, %error, "the API streams no lists; asking for pages");
            self.lists = Lists::Paged;
            return Duration::ZERO;
        }
        add(&self.counters().failures, 1);
        let wait = backoff.wait_as_asked(retry_after, rand::random());
        if streaming && is_ours && (code == 500 || matches!(broken, Broken::NothingStreamed(_))) {
            // It may be busy, for every node at once: a second whole list right now would be more of that. For a server that
            // knows no streams and says nothing the first wait is some milliseconds.
            let wait_ms = wait.as_millis();
            info!(%kind, %error, wait_ms, "the API streamed no list; asking for pages, this time");
            self.lists = Lists::PagedOnce;
            return wait;
        }
        if matches!(broken, Broken::ListStalled(_)) {
            self.lists = match self.lists {
                // Pages are more work for a server than a stream (KEP-3157).
                Lists::Streamed => Lists::StreamedAgain,
                _ => Lists::PagedOnce,
            };
        }
        let refused = is_ours
            && matches!(broken, Broken::Status(_))
            && !matches!(code, 401 | 403 | 429 | 502 | 503);
        if refused || matches!(broken, Broken::TooLong(_)) {
            // 410 above all; but whatever the server has against this revision, a list gets past it. And
            // what a line without end would have said, only a list can tell.
            info!(%kind, %error, "the watch cannot go on; listing again");
            self.position = None;
        } else {
            self.tell(broken, &error, wait);
        }
        wait
    }

    /// Says what keeps the watch from its work, and what helps.
    fn tell(&mut self, broken: &Broken, error: &str, wait: Duration) {
        let (kind, wait_ms) = (self.kind, wait.as_millis());
        let remedy = remedy(broken);
        // What has the same remedy is one reason: an expired certificate says by how many seconds, each time others.
        if self
            .trouble
            .again(remedy.unwrap_or(error), clock::now(), REMIND)
            == Tell::Lately
        {
            debug!(%kind, %error, wait_ms, "the watch broke again, for the same reason");
            return;
        }
        match self.known {
            Known::AList => {
                warn!(%kind, %error, remedy, wait_ms, "the watch broke; the last state stands until it works again");
            }
            Known::Nothing => {
                warn!(%kind, %error, remedy, wait_ms, "the API cannot be read yet; it is asked again, and the kernel keeps what it has");
            }
        }
    }

    /// Whether this failure means that there are no objects of this kind: the cluster need not have it (404), and
    /// need not let us see it (403). Rights that go later take nothing away: the last state stands.
    fn counts_as_absent(&self, code: u16) -> bool {
        let optional = matches!(
            self.kind,
            Kind::ServiceCidr | Kind::Pool | Kind::L2Advertisement
        );
        optional && (code == 404 || code == 403 && self.known == Known::Nothing)
    }

    /// Opens a request and returns the body of a success.
    async fn open(&self, ask: &Ask<'_>, patience: Duration) -> Result<Body, Broken> {
        let sent = self.client.send(request(self.kind, &self.config, ask));
        let answer = timeout(patience, sent)
            .await
            .map_err(|_| Broken::NoAnswer(patience))??;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let code = answer.status().as_u16();
        // Seconds; the form with a date (RFC 9110 section 10.2.3) is not used by API servers.
        let header = answer.headers().get(RETRY_AFTER);
        let retry_after = header.and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let limited = http_body_util::Limited::new(answer.into_body(), LONGEST_STATUS);
        let body = timeout(patience, limited.collect())
            .await
            .map_err(|_| Broken::NoAnswer(patience))?;
        let bytes = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let status = decode::status(code, &bytes);
        Err(Broken::Status(StatusError {
            retry_after: retry_after.or(status.retry_after),
            ..status
        }))
    }

    /// The next bytes of a body; `None` at its end.
    async fn chunk(&self, body: &mut Body, patience: Duration) -> Result<Option<Bytes>, Broken> {
        loop {
            let frame = timeout(patience, body.frame())
                .await
                .map_err(|_| Broken::Silence(patience))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|error| Broken::Client(kube::Error::Service(error.into())))?;
            if let Ok(bytes) = frame.into_data() {
                add(&self.counters().bytes, bytes.len());
                return Ok(Some(bytes));
            }
        }
    }

    async fn send(&self, messages: Messages) -> Result<(), Broken> {
        if messages.is_empty() {
            return Ok(());
        }
        self.hub.send(messages).await.map_err(|_| Broken::Stopped)
    }

    async fn begin_list(&mut self) -> Result<(), Broken> {
        self.unusable.list_begins();
        self.send(vec![Message::ListBegin(self.kind)]).await
    }

    fn list_ends(&mut self) -> Message {
        self.unusable.list_ends();
        Message::ListEnd(self.kind)
    }

    /// A watch, with or without initial events, until it ends.
    async fn watch(&mut self, ask: &Ask<'_>, progress: &mut Progress) -> Result<(), Broken> {
        let mut body = self.open(ask, OPEN).await?;
        self.counters().connected.store(true, Ordering::Relaxed);
        let mut listing = *ask == Ask::StreamedList;
        if listing {
            self.begin_list().await?;
        }
        let (mut came, chance) = (Came::Nothing, rand::random());
        let mut lines = Lines::default();
        let (mut crowd, mut next) = (Crowd::default(), Next::AtOnce);
        loop {
            if let Next::After(length) = next {
                sleep_until(self.pause(length).into()).await;
            }
            let patience = if listing {
                came.patience(chance)
            } else {
                self.config.silence
            };
            let chunk = match self.chunk(&mut body, patience).await {
                Err(Broken::Silence(patience)) if listing => return Err(came.broken(patience)),
                Err(broken) => return Err(broken),
                Ok(None) if listing => return Err(Broken::ListCut),
                Ok(None) => return Ok(()),
                Ok(Some(chunk)) => chunk,
            };
            came = Came::APart;
            let mut taken = self.take(&chunk, &mut lines, &mut listing);
            if next != Next::AtOnce {
                let _awake = self.config.pauses.stay_awake();
                self.gather(&mut body, &mut lines, &mut taken).await;
            }
            if taken.lines > 0 && !listing {
                *progress = Progress::Some;
                let (changes, bytes) = (taken.lines, taken.bytes);
                next = crowd.came(clock::now(), Batch { changes, bytes });
            } else {
                // The rest of a line waits for nothing.
                next = Next::AtOnce;
            }
            self.send(taken.messages).await?;
            match (taken.error, taken.stream) {
                (Some(broken), _) => return Err(broken),
                (None, Stream::Ended) => return Ok(()),
                (None, Stream::GoesOn) => {}
            }
        }
    }

    /// Begins a pause and says when it ends. Other kinds change all the time in a large cluster, Leases above all: their pauses are their
    /// own, and keep no Service waiting.
    fn pause(&self, length: Duration) -> Instant {
        let now = clock::now();
        let length = length.min(self.config.longest_pause);
        match self.kind {
            Kind::Service | Kind::EndpointSlice => self.config.pauses.begin(now, length),
            _ => now + length,
        }
    }

    /// Takes in what came during a pause; of what goes on coming, as much as comes in [`LEAST`].
    async fn gather(&mut self, body: &mut Body, lines: &mut Lines, taken: &mut Taken) {
        let end = clock::now() + LEAST;
        while taken.error.is_none() && taken.lines < HANDFUL && clock::now() < end {
            match timeout(GAP, self.chunk(body, self.config.silence)).await {
                Ok(Ok(Some(chunk))) => {
                    let more = self.take(&chunk, lines, &mut false);
                    taken.messages.extend(more.messages);
                    taken.lines += more.lines;
                    taken.bytes += more.bytes;
                    taken.error = more.error;
                }
                Ok(Err(broken)) => taken.error = Some(broken),
                Ok(Ok(None)) => {
                    taken.stream = Stream::Ended;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Decodes the lines that a chunk completes; those before an error count.
    fn take(&mut self, chunk: &[u8], lines: &mut Lines, listing: &mut bool) -> Taken {
        let names = Arc::clone(&self.names);
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Taken {
            bytes: chunk.len(),
            ..Taken::default()
        };
        let pushed = lines.push(chunk, |line| {
            if taken.error.is_some() {
                return;
            }
            let mut context = Context {
                kind: self.kind,
                nodes: &self.config.nodes,
                names: &mut names,
            };
            match decode::frame(line, &mut context) {
                Frame::Put { object, revision } => {
                    taken.messages.push(self.put(object));
                    self.advance(revision, *listing);
                }
                Frame::Gone { key, revision } => {
                    self.unusable.forget(&key);
                    taken.messages.push(Message::Gone(self.kind, key));
                    self.advance(revision, *listing);
                }
                Frame::Bookmark { revision, initial } => {
                    if initial == InitialEvents::End && *listing {
                        *listing = false;
                        taken.messages.push(self.list_ends());
                        add(&self.counters().lists, 1);
                        self.known = Known::AList;
                        self.lists = Lists::Streamed;
                    }
                    self.advance(revision, *listing);
                }
                Frame::Error(status) => {
                    taken.error = Some(Broken::Status(status));
                    return;
                }
            }
            taken.lines += 1;
        });
        if let Err(too_long) = pushed {
            taken.error.get_or_insert(Broken::TooLong(too_long));
        }
        add(&self.counters().received, taken.messages.len());
        taken
    }

    /// The watch can be resumed after this revision, unless a list is still incomplete.
    fn advance(&mut self, revision: String, listing: bool) {
        if !listing && !revision.is_empty() {
            self.stand_at(revision);
        }
    }

    fn stand_at(&mut self, revision: String) {
        if let Newest::Seen(newest) = &mut self.newest {
            newest.clone_from(&revision);
        } else {
            self.newest = Newest::Seen(revision.clone());
        }
        self.position = Some(revision);
    }

    /// Counts and logs what could not be read of an object.
    fn put(&mut self, object: Object) -> Message {
        add(&self.counters().unreadable, object.reasons.len());
        let news = self.unusable.news(&object.key, &object.reasons);
        for reason in news.reasons {
            warn!(kind = %self.kind, object = %object.key, "{reason}");
        }
        if news.more > 0 {
            warn!(kind = %self.kind, object = %object.key, more = news.more, "more of its values cannot be used");
        }
        let findings = Findings::of(&object.whose, &object.reasons).map(Arc::new);
        Message::Put(self.kind, object.key, object.meaning, findings)
    }
}

/// What a chunk came to.
#[derive(Debug, Default)]
struct Taken {
    messages: Messages,
    lines: usize,
    bytes: usize,
    error: Option<Broken>,
    stream: Stream,
}

/// What there is of a streamed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Nothing,
    APart,
}

impl Came {
    /// How long to wait for more. By `chance` in 0.0..1.0, because a server that stands still does so for every node at once,
    /// and those that give up ask it for a whole list.
    fn patience(self, chance: f64) -> Duration {
        match self {
            Self::Nothing => FIRST_EVENTS.mul_f64(1.0 + chance / 2.0),
            Self::APart => MORE_EVENTS.mul_f64(1.0 + chance),
        }
    }

    fn broken(self, patience: Duration) -> Broken {
        match self {
            Self::Nothing => Broken::NothingStreamed(patience),
            Self::APart => Broken::ListStalled(patience),
        }
    }
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, Default)]
enum Stream {
    #[default]
    GoesOn,
    Ended,
}

/// How long a reason is not told again for which the agent does without a kind.
const REMIND_ABSENT: Duration = Duration::from_secs(3600);
/// What waits is read until nothing comes for so long,
const GAP: Duration = Duration::from_millis(1);
/// or for [`LEAST`], or until it is so many changes.
const HANDFUL: usize = 2_000;
/// Patience for the answer to a watch request; it comes before the first event.
const OPEN: Duration = Duration::from_secs(15);
/// A server that accepts a streamed list and then says nothing for so long, and up to half of it more, does not know it, or is busy.
const FIRST_EVENTS: Duration = Duration::from_secs(10);
/// One that stops half-way for so long, and up to twice that, has stalled: it may have no disk (the end of a list waits for etcd). Who gives up throws
/// away what came, and asks for as much again; who waits has no newer state meanwhile. That a connection is dead is found out
/// otherwise, in about the same time (the PING of HTTP/2).
const MORE_EVENTS: Duration = Duration::from_secs(15);
/// How much of an error's body is read.
const LONGEST_STATUS: usize = 64 << 10;
