//! The proxy that follows daymark on a node: whether it serves.
//!
//! kube-proxy's `/healthz` is 200 from the moment it listens, since nothing of it is late before its first sync (kubernetes
//! `pkg/proxy/healthcheck/proxy_health.go`). So it must say besides that it has written its rules:
//!
//! 1. by [`WRITTEN`] of its metrics, which every mode sets after a sync that succeeded;
//! 2. where nobody answers with metrics, by what is in nf_tables. What iptables-legacy and IPVS hold is no sign: the one
//!    cannot be read without its programs, and of the other the device is there before the virtual servers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use daymark_node::health::SERVER;
use daymark_node::leftovers;

use crate::clock;

/// Where the next proxy is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follower {
    /// kube-proxy's `healthzBindAddress`.
    pub(super) healthz: SocketAddr,
    /// Its `metricsBindAddress`.
    pub(super) metrics: SocketAddr,
}

impl Follower {
    /// Why it does not serve yet, or is not known to.
    pub(super) fn serves(self) -> Result<(), String> {
        let at = self.healthz;
        let health = get(at, "/healthz").map_err(|why| format!("http://{at}/healthz: {why}"))?;
        if !health.is_good() {
            return Err(format!("http://{at}/healthz: {}", health.status()));
        }
        self.has_written()
    }

    fn has_written(self) -> Result<(), String> {
        let at = self.metrics;
        let why = match get(at, "/metrics") {
            Ok(page) if page.is_good() && tells_of_a_sync(&page.0) => return Ok(()),
            Ok(page) if page.is_good() => {
                return Err(format!(
                    "it is healthy, but has not written its rules yet: there is no {WRITTEN} above 0 at http://{at}/metrics"
                ));
            }
            Ok(page) => page.status().to_owned(),
            Err(why) => why,
        };
        if leftovers::kube_proxy_has_written() {
            return Ok(());
        }
        Err(format!(
            "it is healthy, but nothing shows that it has written its rules: http://{at}/metrics: {why} (name its metricsBindAddress \
             with --metrics), and nf_tables has neither a table `kube-proxy` nor a chain KUBE-NODEPORTS in `nat`"
        ))
    }
}

/// Seconds since 1970 of the last sync that succeeded. Before the first there is no such line, or, in versions that do not
/// tell the families apart, it says 0.
const WRITTEN: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

fn tells_of_a_sync(page: &str) -> bool {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(WRITTEN)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    let mut values = values.peekable();
    values.peek().is_some() && values.all(|value| value > 0.0)
}

/// An answer: its head, and the body.
#[derive(Debug)]
struct Answer(String);

impl Answer {
    fn status(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    fn is_good(&self) -> bool {
        self.status().split(' ').nth(1) == Some("200")
    }

    fn is_daymarks(&self) -> bool {
        let head = self.0.lines().take_while(|line| !line.is_empty());
        let mut fields = head.filter_map(|line| line.split_once(':'));
        fields.any(|(name, value)| name.eq_ignore_ascii_case("server") && value.trim() == SERVER)
    }
}

fn get(at: SocketAddr, path: &str) -> Result<Answer, String> {
    let answer = fetch(at, path).map_err(|error| error.to_string())?;
    if answer.is_daymarks() {
        return Err("daymark's own agent answers there: end it".to_owned());
    }
    Ok(answer)
}

/// HTTP/1.0, so that the answer ends with the connection and is whole.
fn fetch(at: SocketAddr, path: &str) -> io::Result<Answer> {
    let until = clock::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n")?;
    let (mut answer, mut part) = (Vec::new(), [0; 16 * 1024]);
    while answer.len() < MOST_BYTES {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(Answer(String::from_utf8_lossy(&answer).into_owned()))
}

/// How long an answer may take. An agent that starts waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read of an answer, bytes: some hundred times what kube-proxy's metrics have.
const MOST_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_told_by_every_family_that_has_a_line() {
        let check = |lines: &[&str], expected: bool| {
            let page = lines.iter().map(|rest| format!("{WRITTEN}{rest}\n"));
            let page = format!("# HELP {WRITTEN} [ALPHA] 1\n{}", page.collect::<String>());
            assert_eq!(tells_of_a_sync(&page), expected, "{page}");
        };
        check(&[], false);
        check(&[" 0"], false);
        check(&[" 1.7642e+09"], true);
        check(&[r#"{ip_family="IPv4"} 1.7642e+09"#], true);
        check(
            &[
                r#"{ip_family="IPv4"} 1.7642e+09"#,
                r#"{ip_family="IPv6"} 0"#,
            ],
            false,
        );
        check(&["_of_something_else 1.7642e+09"], false);
    }

    #[test]
    fn daymarks_own_answer_is_known_by_its_head() {
        let answer =
            |head: &str, body: &str| Answer(format!("HTTP/1.0 200 OK\r\n{head}\r\n{body}"));
        assert!(answer("server: daymark\r\n", "").is_daymarks());
        assert!(!answer("Date: now\r\n", "server: daymark\r\n").is_daymarks());
        assert!(!answer("Server: other\r\n", "").is_daymarks());
        assert!(answer("", "").is_good());
    }
}
