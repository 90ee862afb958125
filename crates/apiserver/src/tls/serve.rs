//! Connections: accept, TLS, who it is, HTTP/2 or HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::http::handle;
use crate::registry::User;
use crate::server::{ApiServer, Server};

/// How long a client may take for the TLS handshake, and for the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection that is silent so long is asked whether it is still there (HTTP/2).
const PING: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes.
const HEADER_LIMIT: u32 = 64 * 1024;

impl ApiServer {
    /// Serves all listeners until the future is dropped, and looks after the server's own objects meanwhile.
    ///
    /// # Errors
    /// A listener that cannot be used at all. A connection that fails is its client's business.
    pub async fn serve(
        &self,
        listeners: Vec<StdListener>,
        tls: Arc<ServerConfig>,
    ) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        let acceptor = TlsAcceptor::from(tls);
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(accept(Arc::clone(&self.inner), listener, acceptor.clone()));
        }
        let server = self.clone();
        tasks.spawn(async move { server.keep_house().await });
        // The tasks go on for ever: they end with the set, when this future is dropped.
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

async fn accept(server: Arc<Server>, listener: TcpListener, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(server, stream, acceptor).await {
                        tracing::debug!(%peer, error, "connection ended");
                    }
                });
                while connections.try_join_next().is_some() {}
            }
            Err(error) => {
                // Out of file descriptors, most likely: others have to close theirs first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> Result<(), String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = handshake
        .map_err(|_| "no TLS handshake in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates();
    let user = certificates.and_then(|chain| chain.first()).and_then(user);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (server, user) = (Arc::clone(&server), user.clone());
        async move { Ok::<_, Infallible>(handle(server, user, request.map(Body::new)).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_header_list_size(HEADER_LIMIT)
        .max_concurrent_streams(1000);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| error.to_string())
}

/// The user that a client certificate names: the common name, and the organizations as groups.
pub(super) fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .map(str::to_owned)
        .collect();
    Some(User { name, groups })
}
