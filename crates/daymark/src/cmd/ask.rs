//! `daymark ask`: a client for tests and demonstrations.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use daymark_lab::echo::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Flags of `daymark ask`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark ask backend-service:80
  daymark ask backend-service:80 --family 6 --count 1000 --rate 200
  daymark ask 10.96.0.80:53 --protocol udp --from-port 12345
  daymark ask 172.30.0.11:32000 --code --path /healthz

Each request is one TCP connection or one datagram, never tried again. A line a request:
  START-MICROSECONDS  TOOK-MICROSECONDS  ok POD NODE CLIENT  |  code NUMBER BODY  |  error TEXT
The exit code is 0 if all were answered, else 1.")]
pub(crate) struct Args {
    /// HOST:PORT; the host is looked up by getaddrinfo for every request.
    #[arg(value_name = "HOST:PORT")]
    to: String,
    /// Which addresses of the host count.
    #[arg(long, value_enum)]
    family: Option<Only>,
    /// How many requests.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// How many a second; as fast as they go with 0, one after the other.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// How long a request may take, seconds.
    #[arg(long, default_value_t = 3.0)]
    timeout: f64,
    /// The path.
    #[arg(long, default_value = "/")]
    path: String,
    /// The method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// HTTP over a TCP connection, or one datagram each way.
    #[arg(long, value_enum, default_value = "tcp")]
    protocol: Protocol,
    /// The client's own port.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    from_port: u16,
    /// How many bytes the request carries; the answer must bring them back.
    #[arg(long, value_name = "N", default_value_t = 0)]
    bytes: usize,
    /// Print the HTTP status code and the body instead of who answered: any HTTP server will do.
    #[arg(long)]
    code: bool,
}

/// What requests are sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// HTTP over TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What came back.
enum Answer {
    /// From `daymark echo`.
    Echo(Box<Reply>),
    /// From any HTTP server: its code and its body.
    Http(u16, String),
}

/// Addresses of one family alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// IPv4.
    #[value(name = "4")]
    V4,
    /// IPv6.
    #[value(name = "6")]
    V6,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let failed = runtime.block_on(ask_all(Arc::new(args)))?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn ask_all(args: Arc<Args>) -> anyhow::Result<usize> {
    let patience = Duration::try_from_secs_f64(args.timeout).context("--timeout")?;
    let room = Arc::new(Semaphore::new(if args.rate == 0 { 1 } else { AT_ONCE }));
    let mut ticks = (args.rate > 0).then(|| {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / args.rate);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        ticks
    });
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..args.count {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let permit = Arc::clone(&room).acquire_owned().await?;
        let args = Arc::clone(&args);
        under_way.spawn(async move {
            let started = microseconds();
            let answer = tokio::time::timeout(patience, ask(&args)).await;
            let took = microseconds() - started;
            drop(permit);
            report(
                started,
                took,
                answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time"))),
            )
        });
    }
    let mut failed = 0;
    while let Some(good) = under_way.join_next().await {
        failed += usize::from(!good?);
    }
    Ok(failed)
}

/// One request, one answer.
async fn ask(args: &Args) -> anyhow::Result<Answer> {
    let address = resolve(&args.to, args.family).await?;
    if args.protocol == Protocol::Udp {
        return by_datagram(args, address).await;
    }
    let (own, text) = by_http(args, address).await?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer ended before its body")?;
    if args.code {
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        return Ok(Answer::Http(
            code.context("the answer has no status code")?,
            body.split_whitespace().collect::<Vec<_>>().join(" "),
        ));
    }
    if args.method != "GET" && args.bytes == 0 && head.starts_with("HTTP/1.1 2") {
        return Ok(Answer::Echo(Box::new(Reply {
            pod: "-".to_owned(),
            node: "-".to_owned(),
            client: own,
            local: address,
            carried: String::new(),
        })));
    }
    let reply = serde_json::from_str(body).with_context(|| {
        format!(
            "not an answer of daymark echo: {}",
            head.lines().next().unwrap_or_default()
        )
    })?;
    checked(args, reply)
}

/// The client's own address, and the whole answer.
async fn by_http(args: &Args, address: SocketAddr) -> anyhow::Result<(SocketAddr, String)> {
    let mut stream = connect(args, address).await.context("connect")?;
    let own = stream.local_addr()?;
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        args.method, args.path, args.to, args.bytes
    );
    let request = head + &payload(args.bytes);
    stream.write_all(request.as_bytes()).await.context("send")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("receive")?;
    Ok((own, String::from_utf8_lossy(&answer).into_owned()))
}

async fn connect(args: &Args, address: SocketAddr) -> std::io::Result<TcpStream> {
    if args.from_port == 0 {
        return TcpStream::connect(address).await;
    }
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(own_port(args, address))?;
    socket.connect(address).await
}

async fn by_datagram(args: &Args, address: SocketAddr) -> anyhow::Result<Answer> {
    let socket = UdpSocket::bind(own_port(args, address))
        .await
        .context("bind")?;
    socket.connect(address).await.context("connect")?;
    let request = payload(args.bytes.max(1));
    socket.send(request.as_bytes()).await.context("send")?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).await.context("receive")?;
    let reply = serde_json::from_slice(&answer[..length]);
    checked(args, reply.context("not an answer of daymark echo")?)
}

fn own_port(args: &Args, to: SocketAddr) -> SocketAddr {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, args.from_port)
}

fn payload(bytes: usize) -> String {
    "42".chars().cycle().take(bytes).collect()
}

fn checked(args: &Args, reply: Reply) -> anyhow::Result<Answer> {
    anyhow::ensure!(
        args.bytes == 0 || reply.carried == payload(args.bytes),
        "{} of {} bytes came back",
        reply.carried.len(),
        args.bytes
    );
    Ok(Answer::Echo(Box::new(reply)))
}

/// By getaddrinfo, as every program of a Pod does; a literal address needs no thread for that.
async fn resolve(to: &str, family: Option<Only>) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = to.parse() {
        return Ok(address);
    }
    let name = to.to_owned();
    let found =
        tokio::task::spawn_blocking(move || name.to_socket_addrs().map(Vec::from_iter)).await?;
    let found = found.with_context(|| format!("look up {to}"))?;
    let fits = |address: &&SocketAddr| match family {
        None => true,
        Some(Only::V4) => address.is_ipv4(),
        Some(Only::V6) => address.is_ipv6(),
    };
    found
        .iter()
        .find(fits)
        .copied()
        .with_context(|| format!("{to} has no such address among {found:?}"))
}

/// A line for one request. Whoever stopped reading does not want to know.
fn report(started: u128, took: u128, answer: anyhow::Result<Answer>) -> bool {
    let mut out = std::io::stdout().lock();
    let _ = match &answer {
        Ok(Answer::Http(code, body)) => writeln!(out, "{started} {took} code {code} {body}"),
        Ok(Answer::Echo(reply)) => writeln!(
            out,
            "{started} {took} ok {} {} {}",
            reply.pod,
            reply.node,
            reply.client.ip()
        ),
        Err(error) => writeln!(out, "{started} {took} error {error:#}"),
    };
    answer.is_ok()
}

#[allow(
    clippy::disallowed_methods,
    reason = "lines are matched with events of other processes by the wall clock"
)]
fn microseconds() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros())
}

/// The most requests that wait for an answer at a time.
const AT_ONCE: usize = 512;
