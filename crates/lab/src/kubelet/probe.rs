//! Readiness probes: the verdict over time, and one attempt.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::container::{ExecError, Spaces, execute};
use super::plan::{Action, Probe};

/// Whether a container is ready, as its probe's thresholds decide (prober/worker.go of the kubelet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    ready: bool,
    last: Attempt,
    /// Attempts in a row that ended as the last one did.
    run: u32,
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Succeeded,
    Failed,
}

impl Verdict {
    /// Not ready until proven.
    pub(super) fn new() -> Self {
        Self {
            ready: false,
            last: Attempt::Failed,
            run: 0,
        }
    }

    /// Takes an attempt in; `Some` when the container became ready or stopped being so.
    pub(super) fn record(&mut self, attempt: Attempt, probe: &Probe) -> Option<bool> {
        self.run = if attempt == self.last {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = attempt;
        let (threshold, ready) = match attempt {
            Attempt::Succeeded => (probe.success_threshold, true),
            Attempt::Failed => (probe.failure_threshold, false),
        };
        if self.run < threshold || ready == self.ready {
            return None;
        }
        self.ready = ready;
        Some(ready)
    }

    /// How long to wait before the next attempt.
    ///
    /// Until a container is ready for the first time it is asked more often than its period says: a lab is for
    /// people who wait for it.
    pub(super) fn pause(&self, probe: &Probe, was_ready: bool) -> Duration {
        if was_ready {
            probe.period
        } else {
            probe.period.min(EAGER)
        }
    }
}

/// Between attempts before the first success.
const EAGER: Duration = Duration::from_millis(20);

/// Makes one attempt.
pub(super) async fn attempt(probe: &Probe, address: IpAddr, spaces: &Spaces) -> Attempt {
    let outcome = tokio::time::timeout(probe.timeout, async {
        match &probe.action {
            Action::Tcp { host, port } => {
                TcpStream::connect(target(host.as_deref(), address, *port)?)
                    .await
                    .ok()
                    .map(drop)
            }
            Action::Http {
                host,
                port,
                path,
                headers,
            } => http_get(target(host.as_deref(), address, *port)?, path, headers).await,
            Action::Exec(command) => match execute(command, spaces).await {
                Ok(status) => status.success().then_some(()),
                Err(ExecError::Empty | ExecError::Start(_)) => None,
            },
        }
    });
    match outcome.await {
        Ok(Some(())) => Attempt::Succeeded,
        Ok(None) | Err(_) => Attempt::Failed,
    }
}

fn target(host: Option<&str>, address: IpAddr, port: u16) -> Option<SocketAddr> {
    let ip = host
        .filter(|host| !host.is_empty())
        .map_or(Some(address), |host| host.parse().ok())?;
    Some((ip, port).into())
}

/// 200 to 399 is a success (pkg/probe/http/http.go); redirects are not followed.
async fn http_get(to: SocketAddr, path: &str, headers: &[(String, String)]) -> Option<()> {
    let stream = TcpStream::connect(to).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let connection = tokio::task::spawn_local(connection);
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let mut request = Request::get(path).header("Connection", "close");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header("Host", to.to_string());
    }
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new()).ok()?)
        .await;
    connection.abort();
    (200..400)
        .contains(&response.ok()?.status().as_u16())
        .then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_attempts_in_a_row() {
        let probe = Probe {
            action: Action::Tcp {
                host: None,
                port: 1,
            },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 2,
            failure_threshold: 3,
        };
        let mut verdict = Verdict::new();
        let script = [
            ('s', None),
            ('f', None),
            ('s', None),
            ('s', Some(true)),
            ('s', None),
            ('f', None),
            ('f', None),
            ('s', None),
            ('f', None),
            ('f', None),
            ('f', Some(false)),
            ('f', None),
        ];
        for (index, (letter, change)) in script.into_iter().enumerate() {
            let attempt = if letter == 's' {
                Attempt::Succeeded
            } else {
                Attempt::Failed
            };
            assert_eq!(verdict.record(attempt, &probe), change, "attempt {index}");
        }
    }
}
