//! The built-in test server: it tells every client who answered and what it saw of the client.
//!
//! TCP speaks HTTP/1.1 and answers any path with a [`Reply`] as JSON; `GET /healthz` is 200 or 503 and is set by
//! `POST /fail` and `POST /heal`. UDP answers any datagram with the same JSON. Both families, each from the address
//! it was asked at. After SIGTERM it goes on for a while, as a well-behaved server does whose address is still being
//! withdrawn.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daymark_sys::packet::{self, Family};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};

/// What the server is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ports to serve, TCP and UDP.
    pub ports: Vec<u16>,
    /// The Pod's name, for the answers.
    pub pod: String,
    /// The node's name, for the answers.
    pub node: String,
    /// How long it goes on serving after SIGTERM.
    pub drain: Duration,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The Pod that answered.
    pub pod: String,
    /// The node it runs on.
    pub node: String,
    /// The client's address and port, as seen here.
    pub client: SocketAddr,
    /// The address and port that was asked, as seen here.
    pub local: SocketAddr,
    /// What the request carried, as text: the answer to a large request is as large.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub carried: String,
}

/// Why the server ended.
#[derive(Debug, Error)]
pub enum EchoError {
    /// A port could not be bound.
    #[error("port {port}: {source}; is it in use by another process of this Pod?")]
    Bind {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The runtime or its signal handler could not be set up.
    #[error("starting: {0}")]
    Start(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT and the time of draining have passed.
///
/// # Errors
/// [`EchoError`]; once every port is bound, it runs until it is told to end.
pub fn run(config: &Config) -> Result<(), EchoError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EchoError::Start)?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), EchoError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(EchoError::Start)?;
    let server = Arc::new(Server {
        pod: config.pod.clone(),
        node: config.node.clone(),
        failing: AtomicBool::new(false),
    });
    for port in &config.ports {
        let bind = |source| EchoError::Bind {
            port: *port,
            source,
        };
        for (domain, any) in EVERY_ADDRESS {
            let address = SocketAddr::new(any, *port);
            tokio::spawn(Arc::clone(&server).http(listener(domain, address).map_err(bind)?));
            tokio::spawn(Arc::clone(&server).udp(datagrams(domain, address).map_err(bind)?, *port));
        }
    }
    tokio::select! {
        _ = terminate.recv() => tokio::time::sleep(config.drain).await,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

struct Server {
    pod: String,
    node: String,
    failing: AtomicBool,
}

impl Server {
    fn reply(&self, client: SocketAddr, local: SocketAddr, carried: &[u8]) -> Vec<u8> {
        let reply = Reply {
            pod: self.pod.clone(),
            node: self.node.clone(),
            client,
            local,
            carried: String::from_utf8_lossy(carried).into_owned(),
        };
        serde_json::to_vec(&reply).expect("names and addresses are JSON")
    }

    async fn http(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, client)) = listener.accept().await else {
                continue;
            };
            let Ok(local) = stream.local_addr() else {
                continue;
            };
            // Answers are one small segment each; waiting for more would only delay them.
            let _ = stream.set_nodelay(true);
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let server = &server;
                    async move { Ok::<_, Infallible>(server.answer(request, client, local).await) }
                });
                // A client that went away is none of the server's concern.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        local: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") if self.failing.load(Ordering::Relaxed) => {
                (StatusCode::SERVICE_UNAVAILABLE, b"failing\n".to_vec())
            }
            (&Method::GET, "/healthz") => (StatusCode::OK, b"ok\n".to_vec()),
            (&Method::POST, "/fail") => {
                self.failing.store(true, Ordering::Relaxed);
                (StatusCode::OK, b"failing\n".to_vec())
            }
            (&Method::POST, "/heal") => {
                self.failing.store(false, Ordering::Relaxed);
                (StatusCode::OK, b"ok\n".to_vec())
            }
            _ => match carried(request.into_body()).await {
                Some(carried) => (StatusCode::OK, self.reply(client, local, &carried)),
                None => (StatusCode::PAYLOAD_TOO_LARGE, b"too large\n".to_vec()),
            },
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }

    async fn udp(self: Arc<Self>, socket: UdpSocket, port: u16) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            let received =
                socket.try_io(Interest::READABLE, || packet::receive(&socket, &mut buffer));
            let Ok(datagram) = received else { continue };
            let Some(address) = datagram.destination else {
                continue;
            };
            let (source, local) = (datagram.source, SocketAddr::new(address, port));
            let reply = self.reply(source, local, &buffer[..datagram.length]);
            // A full send buffer loses the answer, as a full network would.
            let _ = packet::send_from(&socket, &reply, datagram.source, address);
        }
    }
}

/// What a request carries, unless it is more than a test would send.
async fn carried(body: Incoming) -> Option<Bytes> {
    let limited = http_body_util::Limited::new(body, LARGEST_BODY);
    Some(limited.collect().await.ok()?.to_bytes())
}

fn listener(domain: Domain, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

fn datagrams(domain: Domain, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), None)?;
    let family = if domain == Domain::IPV6 {
        Family::V6
    } else {
        Family::V4
    };
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    packet::tell_destination(&socket, family)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// IPv4's largest payload of UDP, and some.
const LARGEST_DATAGRAM: usize = 65_536;
const LARGEST_BODY: usize = 16 * 1024 * 1024;
const EVERY_ADDRESS: [(Domain, IpAddr); 2] = [
    (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
];

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use daymark_sys::ns::{NetNs, isolated_test};

    use super::*;

    fn lo_up() {
        crate::net::Segment::new(NetNs::current().unwrap(), &[]).unwrap();
    }

    fn start(ports: &[u16]) {
        let config = Config {
            ports: ports.to_vec(),
            pod: "web".into(),
            node: "node-1".into(),
            drain: Duration::from_secs(2),
        };
        std::thread::spawn(move || run(&config).unwrap());
        while std::net::TcpStream::connect(("127.0.0.1", ports[0])).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ask(address: &str, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_client_learns_who_answered_and_how_it_was_seen() {
        isolated_test(
            "echo::tests::a_client_learns_who_answered_and_how_it_was_seen",
            || {
                lo_up();
                start(&[8080]);
                for address in ["127.0.0.1:8080", "127.0.0.9:8080", "[::1]:8080"] {
                    let text = ask(
                        address,
                        "GET /any HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                    );
                    let (head, body) = text.split_once("\r\n\r\n").unwrap();
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                    let reply: Reply = serde_json::from_str(body).unwrap();
                    assert_eq!((reply.pod.as_str(), reply.node.as_str()), ("web", "node-1"));
                    assert_eq!(reply.local, address.parse().unwrap());
                    let socket = std::net::UdpSocket::bind(if address.starts_with('[') {
                        "[::1]:0"
                    } else {
                        "127.0.0.1:0"
                    });
                    let socket = socket.unwrap();
                    socket.connect(address).unwrap();
                    socket.send(b"hello").unwrap();
                    let mut buffer = [0; 512];
                    let length = socket.recv(&mut buffer).unwrap();
                    let reply: Reply = serde_json::from_slice(&buffer[..length]).unwrap();
                    assert_eq!(reply.client, socket.local_addr().unwrap());
                    assert_eq!(reply.local, address.parse().unwrap());
                }
            },
        );
    }

    #[test]
    fn what_a_request_carries_comes_back() {
        isolated_test("echo::tests::what_a_request_carries_comes_back", || {
            lo_up();
            start(&[8080]);
            let large = "42".repeat(20_000);
            let head = format!(
                "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                large.len()
            );
            let text = ask("127.0.0.1:8080", &(head + &large));
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(serde_json::from_str::<Reply>(body).unwrap().carried, large);

            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect("127.0.0.1:8080").unwrap();
            socket.send(large.as_bytes()).unwrap();
            let mut buffer = vec![0; 65_536];
            let length = socket.recv(&mut buffer).unwrap();
            let reply: Reply = serde_json::from_slice(&buffer[..length]).unwrap();
            assert_eq!(reply.carried, large);
        });
    }

    #[test]
    fn a_connection_is_kept_and_health_can_be_taken_away() {
        isolated_test(
            "echo::tests::a_connection_is_kept_and_health_can_be_taken_away",
            || {
                lo_up();
                start(&[8080]);
                let requests = ["GET /healthz", "POST /fail", "GET /healthz", "POST /heal"];
                let mut text: String = requests
                    .map(|line| format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"))
                    .concat();
                text += "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                let answers = ask("127.0.0.1:8080", &text);
                let codes: Vec<_> = answers
                    .lines()
                    .filter(|line| line.starts_with("HTTP/1.1 "))
                    .map(|line| &line[9..12])
                    .collect();
                assert_eq!(codes, ["200", "200", "503", "200", "200"]);
            },
        );
    }
}
