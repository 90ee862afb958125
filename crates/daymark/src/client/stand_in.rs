//! A proxy on loopback, for tests.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    Socks,
}

/// A proxy that wants the user `u` with the password `p@ss`, and answers with this code.
pub(super) struct Proxy {
    /// As `proxy-url` has it.
    pub(super) url: String,
    /// The heads of requests, a line each; of SOCKS the words that stand for them.
    seen: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `u:p@ss`, and as Basic (RFC 7617).
pub(super) const USER: &str = "u:p%40ss@";
const BASIC: &str = "proxy-authorization: Basic dTpwQHNz";

impl Proxy {
    /// One that lets everybody through who shows the user.
    pub(super) async fn start() -> Self {
        Self::of(Kind::Http, "200 Connection established", None).await
    }

    pub(super) async fn of(kind: Kind, answer: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = match kind {
            Kind::Http => "http",
            Kind::Https => "https",
            Kind::Socks => "socks5",
        };
        let seen = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, tls) = (Arc::clone(&log), tls.clone());
                tokio::spawn(async move {
                    // A client hangs up as it likes.
                    let _ = match (kind, tls) {
                        (Kind::Socks, _) => socks(stream, &log).await,
                        (_, Some(tls)) => match tls.accept(stream).await {
                            Ok(stream) => tunnel(stream, answer, &log).await,
                            Err(error) => Err(error),
                        },
                        (_, None) => tunnel(stream, answer, &log).await,
                    };
                });
            }
        });
        Self {
            url: format!("{scheme}://{USER}{address}"),
            seen,
            task,
        }
    }

    pub(super) fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}

/// CONNECT (RFC 9110 section 9.3.6).
async fn tunnel(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    log: &Mutex<String>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).replace("Proxy-Authorization", "proxy-authorization");
    log.lock().unwrap().push_str(&head);
    let to = head.split(' ').nth(1).unwrap_or_default();
    let has_user = head.contains(BASIC);
    let answer = if has_user { answer } else { "407 Who?" };
    let line = format!("HTTP/1.1 {answer}\r\n\r\n");
    stream.write_all(line.as_bytes()).await?;
    if answer.starts_with("200") {
        let mut api = TcpStream::connect(to).await?;
        copy_bidirectional(&mut stream, &mut api).await?;
    }
    Ok(())
}

/// RFC 1928 with user and password (RFC 1929), to an IPv4 address.
async fn socks(mut stream: TcpStream, log: &Mutex<String>) -> std::io::Result<()> {
    let mut hello = [0; 3];
    stream.read_exact(&mut hello).await?;
    stream.write_all(&[5, 2]).await?;
    let mut user = [0; 8];
    stream.read_exact(&mut user).await?;
    let is_known = user == *b"\x01\x01u\x04p@ss";
    stream.write_all(&[1, u8::from(!is_known)]).await?;
    let mut to = [0; 10];
    stream.read_exact(&mut to).await?;
    let [5, 1, 0, 1, a, b, c, d, port @ ..] = to else {
        return Err(std::io::Error::other("no IPv4 address"));
    };
    let to = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes(port));
    writeln!(log.lock().unwrap(), "CONNECT {}:{} ", to.0, to.1).unwrap();
    let mut api = TcpStream::connect(to).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut stream, &mut api).await?;
    Ok(())
}
