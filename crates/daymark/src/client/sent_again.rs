//! Requests that a server refused to begin are sent once more.
//!
//! A server that sends GOAWAY names the last request that it will answer. Go's, and so kube-apiserver's, names the last that it has
//! seen, and passes over those that are on their way (`net/http` h2 `goAway`, `maxClientStreamID`): with `--goaway-chance`, or before it
//! ends, some fail through no fault of theirs. Nothing was done about them (RFC 9113 section 8.7), so that each of them may be sent again,
//! whatever its method; client-go's transport does the same.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use kube::client::Body;
use tower::{BoxError, Service, ServiceExt};
use tracing::debug;

/// How often a request is sent before its failure is one: the second time is on a connection of its own, or a new one that others share, and
/// each may be told to go elsewhere too.
const TIMES: u32 = 4;

/// A client that does so.
#[derive(Clone, Debug)]
pub(super) struct SentAgain<S> {
    pub(super) client: S,
}

impl<S> Service<Request<Body>> for SentAgain<S>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut spare, others) = (copy(&request), self.client.clone());
        let mut sent = Box::pin(self.client.call(request));
        Box::pin(async move {
            for _ in 1..TIMES {
                let error = match sent.await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error.into(),
                };
                let Some(request) = spare.take_if(|_| was_not_begun(&*error)) else {
                    return Err(error);
                };
                debug!(uri = %request.uri(), "the server takes no more on that connection; sent again");
                spare = copy(&request);
                let mut client = others.clone();
                sent = Box::pin(client.ready().await.map_err(Into::into)?.call(request));
            }
            sent.await.map_err(Into::into)
        })
    }
}

/// The same once more; nothing of a body that is made while it is sent.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether the server said that it did nothing about the request: what it had begun ends otherwise, with the connection.
fn was_not_begun(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let reason = error.reason();
            return error.is_remote()
                && (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)
                    || error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM));
        }
        next = error.source();
    }
    false
}
