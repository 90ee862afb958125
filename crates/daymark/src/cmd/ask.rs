//! `daymark ask`: a client for tests and demonstrations.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use daymark_lab::echo::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Flags of `daymark ask`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark ask backend-service:80
  daymark ask backend-service:80 --family 6 --count 1000 --rate 200

Each request is one TCP connection, never tried again. A line a request:
  START-MICROSECONDS  TOOK-MICROSECONDS  ok POD NODE CLIENT  |  error TEXT
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
    /// What must come of it, whoever answers: an HTTP status such as 503, or `refused`. Without: an answer of daymark echo.
    #[arg(long, value_name = "STATUS|refused", value_parser = outcome)]
    expect: Option<Outcome>,
}

/// What a request may be expected to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// Nobody listens.
    Refused,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    if text == "refused" {
        return Ok(Outcome::Refused);
    }
    let status = text
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status));
    let status = status.ok_or("neither `refused` nor an HTTP status such as 503")?;
    Ok(Outcome::Status(status))
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

/// One connection, one request, one answer.
async fn ask(args: &Args) -> anyhow::Result<Reply> {
    let address = resolve(&args.to, args.family).await?;
    let nobody = Reply {
        pod: "-".to_owned(),
        node: "-".to_owned(),
        client: address,
        local: address,
    };
    let mut stream = match (TcpStream::connect(address).await, args.expect) {
        (Err(error), Some(Outcome::Refused)) if error.kind() == ErrorKind::ConnectionRefused => {
            return Ok(nobody);
        }
        (Ok(_), Some(Outcome::Refused)) => bail!("somebody listens"),
        (connected, _) => connected.context("connect")?,
    };
    let own = stream.local_addr()?;
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        args.method, args.path, args.to
    );
    stream.write_all(head.as_bytes()).await.context("send")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("receive")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer ended before its body")?;
    let status = head.lines().next().unwrap_or_default();
    if let Some(Outcome::Status(wanted)) = args.expect {
        let given = status.split(' ').nth(1);
        ensure!(given == Some(&wanted.to_string()), "{status}");
        return Ok(Reply {
            client: own,
            ..nobody
        });
    }
    if args.method != "GET" && head.starts_with("HTTP/1.1 2") {
        return Ok(Reply {
            client: own,
            ..nobody
        });
    }
    serde_json::from_str(body).with_context(|| format!("not an answer of daymark echo: {status}"))
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
fn report(started: u128, took: u128, answer: anyhow::Result<Reply>) -> bool {
    let mut out = std::io::stdout().lock();
    let _ = match &answer {
        Ok(reply) => writeln!(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_a_status_or_refused() {
        assert_eq!(outcome("503"), Ok(Outcome::Status(503)));
        assert_eq!(outcome("refused"), Ok(Outcome::Refused));
        for text in ["", "99", "600", "ok", "70000"] {
            assert!(outcome(text).is_err(), "{text}");
        }
    }
}
