//! Against a server over TLS on loopback that says when it leaves, or falls silent.

mod churn;
mod proxied;
mod refused;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use daymark_apiserver::tls::{Pki, Role};
use futures::StreamExt;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server does to its connections.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// GOAWAY: what runs goes on, what is new is to go elsewhere (RFC 9113 section 6.8).
    GoAway,
    /// It answers nothing any more, and closes nothing.
    FallSilent,
}

/// A server whose every answer is a watch that never ends.
struct Server {
    config: Config,
    acceptor: TlsAcceptor,
    accepted: Arc<AtomicUsize>,
    orders: broadcast::Sender<Order>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(protocols: &[&str]) -> Self {
        let (listener, acceptor, config) = listen(protocols).await;
        let accepted = Arc::new(AtomicUsize::new(0));
        let orders = broadcast::Sender::new(4);
        let (count, told) = (Arc::clone(&accepted), orders.clone());
        let shown = acceptor.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, acceptor) = (Arc::clone(&count), acceptor.clone());
                tokio::spawn(serve(stream, acceptor, count, told.subscribe()));
            }
        });
        Self {
            config,
            acceptor: shown,
            accepted,
            orders,
            task,
        }
    }

    fn client(&self, wire: Wire) -> Client {
        wire.client(self.config.clone(), None).unwrap()
    }

    /// On how many connections something was asked so far.
    fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A port of loopback with TLS that agrees to those protocols, and what a client needs to know of it.
async fn listen(protocols: &[&str]) -> (TcpListener, TlsAcceptor, Config) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let pki = Pki::ephemeral().unwrap();
    let mut tls = (*pki.server_config(&["127.0.0.1".to_owned()]).unwrap()).clone();
    tls.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    let file = pki.kubeconfig(&Role::Admin, "here", &url).unwrap();
    let file = Kubeconfig::from_yaml(file.text()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    (listener, TlsAcceptor::from(Arc::new(tls)), config.unwrap())
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    count: Arc<AtomicUsize>,
    mut orders: broadcast::Receiver<Order>,
) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let first = Arc::new(AtomicUsize::new(0));
    let service = service_fn(move |_: Request<Incoming>| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let line = Ok::<_, Infallible>(Frame::data(Bytes::from("a line\n")));
        let lines = futures::stream::iter([line]).chain(futures::stream::pending());
        async move { Ok::<_, Infallible>(Response::new(StreamBody::new(lines))) }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            order = orders.recv() => match order {
                Ok(Order::GoAway) => connection.as_mut().graceful_shutdown(),
                Ok(Order::FallSilent) => std::future::pending().await,
                Err(_) => return,
            },
        }
    }
}

/// Opens a watch, and reads its first line.
async fn watch(client: &Client) -> (Version, Body) {
    let request = Request::get("/watch").body(Body::empty()).unwrap();
    let answer = timeout(Duration::from_secs(5), client.send(request)).await;
    let answer = answer.unwrap().unwrap();
    let version = answer.version();
    let mut body = answer.into_body();
    let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(line, "a line\n");
    (version, body)
}

/// The versions of four watches that are opened at once, which stay open.
async fn four(client: &Client) -> (Vec<Version>, Vec<Body>) {
    let watches = futures::future::join_all((0..4).map(|_| watch(client)));
    watches.await.into_iter().unzip()
}

#[tokio::test]
async fn all_watches_are_on_one_connection_if_the_server_speaks_http2() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let client = server.client(Wire::default());
    let (versions, _watches) = four(&client).await;
    assert_eq!(versions, [Version::HTTP_2; 4]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_or_a_setting_without_http2_is_spoken_to_as_before() {
    let http1 = Wire {
        versions: Versions::Http1,
        ..Wire::default()
    };
    let both = ["h2", "http/1.1"];
    let cases: [(&[&str], Wire); 3] = [
        (&both, http1),
        (&["http/1.1"], Wire::default()),
        (&[], Wire::default()),
    ];
    for (protocols, wire) in cases {
        let server = Server::start(protocols).await;
        let client = server.client(wire);
        let (versions, _watches) = four(&client).await;
        assert_eq!(versions, [Version::HTTP_11; 4], "{protocols:?}");
        assert_eq!(server.connections(), 4, "{protocols:?}");
    }
}

#[tokio::test]
async fn after_goaway_what_runs_goes_on_and_what_is_new_has_a_connection_of_its_own() {
    let server = Server::start(&["h2"]).await;
    let client = server.client(Wire::default());
    let (_, mut running) = watch(&client).await;
    server.orders.send(Order::GoAway).unwrap();
    // The frame has to arrive first: until then the old connection is as good as any.
    let mut opened = Vec::new();
    for _ in 0..100 {
        opened.push(watch(&client).await);
        if server.connections() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.connections(), 2);
    let more = timeout(Duration::from_millis(100), running.frame()).await;
    assert!(more.is_err(), "the watch that ran has ended: {more:?}");
}

/// Silence is borne for half a second.
const IMPATIENT: Wire = Wire {
    versions: Versions::All,
    silence: Duration::from_millis(200),
    patience: Duration::from_millis(300),
};

#[tokio::test]
async fn a_server_that_falls_silent_after_goaway_is_noticed_too() {
    let server = Server::start(&["h2"]).await;
    let client = server.client(IMPATIENT);
    let (_, mut running) = watch(&client).await;
    server.orders.send(Order::GoAway).unwrap();
    let quiet = timeout(Duration::from_secs(1), running.frame()).await;
    assert!(quiet.is_err(), "a quiet watch that is answered was ended");
    server.orders.send(Order::FallSilent).unwrap();
    let broken = timeout(Duration::from_secs(5), running.frame()).await;
    assert!(matches!(broken, Ok(Some(Err(_)))), "{broken:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_and_another_connection_made() {
    let server = Server::start(&["h2"]).await;
    let client = server.client(IMPATIENT);
    let (_, mut running) = watch(&client).await;
    let quiet = timeout(Duration::from_secs(1), running.frame()).await;
    assert!(quiet.is_err(), "a quiet watch that is answered was ended");
    server.orders.send(Order::FallSilent).unwrap();
    let broken = timeout(Duration::from_secs(5), running.frame()).await;
    assert!(matches!(broken, Ok(Some(Err(_)))), "{broken:?}");
    let (_, _running) = watch(&client).await;
    assert_eq!(server.connections(), 2);
}
