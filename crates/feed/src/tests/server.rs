//! An API server that says what a test tells it to, in process.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use tokio::sync::mpsc;

/// The answer to one request.
pub(super) enum Reply {
    /// These bytes, and the stream ends.
    Body(String),
    /// These bytes, and the stream stays open in silence.
    Stay(String),
    /// These bytes, and the connection breaks.
    Break(String),
    /// Whatever the test sends.
    Live(mpsc::UnboundedReceiver<String>),
    /// A failure.
    Status(u16, &'static str),
    /// A failure with this message.
    Says(u16, &'static str),
    /// The connection is refused.
    Refused,
}

/// Replies by path, in order; a path without any more gets an empty streamed list that stays.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    replies: HashMap<&'static str, VecDeque<Reply>>,
    asked: Vec<String>,
}

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

impl Server {
    pub(super) fn on(self, path: &'static str, replies: impl IntoIterator<Item = Reply>) -> Self {
        self.0
            .lock()
            .unwrap()
            .replies
            .entry(path)
            .or_default()
            .extend(replies);
        self
    }

    /// The queries that a path was asked with.
    pub(super) fn asked(&self, path: &str) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        let start = format!("{path}?");
        inner
            .asked
            .iter()
            .filter_map(|uri| uri.strip_prefix(&start))
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn client(&self) -> kube::Client {
        let inner = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer(&inner, &request);
            async move { answer }
        });
        kube::Client::new(service, "default")
    }
}

fn answer(inner: &Mutex<Inner>, request: &Request<Body>) -> Result<Answer, std::io::Error> {
    let mut inner = inner.lock().unwrap();
    inner.asked.push(request.uri().to_string());
    let reply = inner
        .replies
        .get_mut(request.uri().path())
        .and_then(VecDeque::pop_front);
    let then_silence = |text: String| Box::pin(lines(text).chain(futures::stream::pending()));
    Ok(match reply.unwrap_or_else(|| Reply::Stay(end("1"))) {
        Reply::Body(text) => respond(StatusCode::OK, Box::pin(lines(text))),
        Reply::Stay(text) => respond(StatusCode::OK, then_silence(text)),
        Reply::Break(text) => {
            let broken =
                futures::stream::once(async { Err(std::io::Error::other("connection reset")) });
            respond(StatusCode::OK, Box::pin(lines(text).chain(broken)))
        }
        Reply::Live(receiver) => respond(StatusCode::OK, Box::pin(live(receiver))),
        Reply::Status(code, reason) => refuse(code, reason, "no"),
        Reply::Says(code, message) => refuse(code, "R", message),
        Reply::Refused => return Err(std::io::Error::other("connection refused")),
    })
}

fn refuse(code: u16, reason: &str, message: &str) -> Answer {
    let body =
        format!(r#"{{"kind":"Status","code":{code},"reason":"{reason}","message":"{message}"}}"#);
    respond(StatusCode::from_u16(code).unwrap(), Box::pin(lines(body)))
}

type Chunks = std::pin::Pin<Box<dyn futures::Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

fn respond(status: StatusCode, chunks: Chunks) -> Answer {
    let frames = chunks.map(|chunk| chunk.map(hyper::body::Frame::data));
    let body = UnsyncBoxBody::new(StreamBody::new(frames));
    Response::builder().status(status).body(body).unwrap()
}

/// The text in pieces of 7 bytes, so that no line arrives whole.
fn lines(text: String) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let pieces: Vec<Bytes> = text
        .as_bytes()
        .chunks(7)
        .map(Bytes::copy_from_slice)
        .collect();
    futures::stream::iter(pieces).map(Ok)
}

fn live(
    receiver: mpsc::UnboundedReceiver<String>,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures::stream::unfold(receiver, |mut receiver| async {
        let text = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), receiver))
    })
    .map(|chunk| Ok(chunk.unwrap_or_default()))
}

/// A watch line with a Service.
pub(super) fn service(event: &str, name: &str, ip: &str, revision: u32) -> String {
    format!(
        "{{\"type\":\"{event}\",\"object\":{}}}\n",
        service_json(name, ip, revision)
    )
}

pub(super) fn service_json(name: &str, ip: &str, revision: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"ns","resourceVersion":"{revision}"}},"spec":{{"clusterIP":"{ip}","clusterIPs":["{ip}"],"ports":[{{"port":80}}]}}}}"#
    )
}

/// The bookmark that ends a streamed list.
pub(super) fn end(revision: &str) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{revision}\",\
         \"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}}}\n"
    )
}

/// An ERROR line.
pub(super) fn error(code: u16, reason: &str) -> String {
    format!(
        "{{\"type\":\"ERROR\",\"object\":{{\"kind\":\"Status\",\"code\":{code},\"reason\":\"{reason}\"}}}}\n"
    )
}
