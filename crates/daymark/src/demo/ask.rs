//! Clients in places of the lab, and what came of their requests.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use anyhow::Context;
use daymark_lab::cluster::{Cluster, Where};

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// HOST:PORT.
    pub(crate) to: String,
    /// Which addresses of the host count.
    pub(crate) family: Family,
    /// How many requests.
    pub(crate) count: usize,
    /// How many a second; one after the other with 0.
    pub(crate) rate: u32,
    /// How long one may take, seconds.
    pub(crate) timeout: f64,
}

/// An IP family, as a row names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// For an address of this family.
    pub(crate) fn of(ip: &str) -> Self {
        if ip.contains(':') { Self::V6 } else { Self::V4 }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// HOST:PORT of an address.
pub(crate) fn at(ip: &str, port: u16) -> String {
    match Family::of(ip) {
        Family::V4 => format!("{ip}:{port}"),
        Family::V6 => format!("[{ip}]:{port}"),
    }
}

impl Ask {
    /// `count` requests, one after the other.
    pub(crate) fn new(to: impl Into<String>, family: Family, count: usize) -> Self {
        Self {
            to: to.into(),
            family,
            count,
            rate: 0,
            timeout: 3.0,
        }
    }

    /// So many a second.
    pub(crate) fn at_rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Each may take so many seconds.
    pub(crate) fn within(mut self, timeout: f64) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts the client in a place.
    pub(crate) fn start(&self, cluster: &Cluster, from: &Where) -> anyhow::Result<Job> {
        let binary = std::env::current_exe()?;
        let mut command = cluster.command(from, &binary.to_string_lossy())?;
        let family = match self.family {
            Family::V4 => "4",
            Family::V6 => "6",
        };
        command.args([
            "ask",
            &self.to,
            "--family",
            family,
            "--count",
            &self.count.to_string(),
        ]);
        command.args([
            "--rate",
            &self.rate.to_string(),
            "--timeout",
            &self.timeout.to_string(),
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        Ok(Job(command
            .spawn()
            .with_context(|| format!("a client in {from}"))?))
    }
}

/// A client at work.
pub(crate) struct Job(Child);

impl Job {
    /// Waits for the end of the work.
    pub(crate) async fn finish(self) -> anyhow::Result<Answers> {
        let output = tokio::task::spawn_blocking(move || self.0.wait_with_output()).await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text
            .lines()
            .map(Answer::parse)
            .collect::<Option<Vec<_>>>()
            .context("a client's report")?;
        lines.sort_by_key(|answer| answer.started);
        Ok(Answers(lines))
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// When it was started, microseconds since 1970.
    pub(crate) started: u64,
    /// How long it took, microseconds.
    pub(crate) took: u64,
    /// Who answered, or what went wrong.
    pub(crate) result: Result<By, String>,
}

/// Who answered.
#[derive(Clone, Debug)]
pub(crate) struct By {
    /// The Pod.
    pub(crate) pod: String,
    /// Its node.
    pub(crate) node: String,
    /// The client's address, as the Pod saw it.
    pub(crate) client: String,
}

impl Answer {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let started = words.next()?.parse().ok()?;
        let took = words.next()?.parse().ok()?;
        let result = match (words.next()?, words.next().unwrap_or_default()) {
            ("ok", rest) => {
                let mut rest = rest.split(' ');
                Ok(By {
                    pod: rest.next()?.to_owned(),
                    node: rest.next()?.to_owned(),
                    client: rest.next()?.to_owned(),
                })
            }
            (_, text) => Err(text.to_owned()),
        };
        Some(Self {
            started,
            took,
            result,
        })
    }
}

/// All requests of a client, in the order of their start.
#[derive(Clone, Debug)]
pub(crate) struct Answers(pub(crate) Vec<Answer>);

impl Answers {
    /// How many were answered.
    pub(crate) fn good(&self) -> usize {
        self.0.iter().filter(|answer| answer.result.is_ok()).count()
    }

    /// How many were not.
    pub(crate) fn failed(&self) -> usize {
        self.0.len() - self.good()
    }

    /// `good/all`, and the first thing that went wrong.
    pub(crate) fn share(&self) -> String {
        let wrong = self
            .0
            .iter()
            .find_map(|answer| answer.result.as_ref().err());
        let wrong = wrong.map_or(String::new(), |wrong| format!(" ({wrong})"));
        format!("{}/{} answered{wrong}", self.good(), self.0.len())
    }

    /// How many each Pod answered.
    pub(crate) fn by_pod(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for by in self
            .0
            .iter()
            .filter_map(|answer| answer.result.as_ref().ok())
        {
            *count.entry(by.pod.clone()).or_default() += 1;
        }
        count
    }

    /// Whether some Pod of the node answered.
    pub(crate) fn reached_node(&self, node: &str) -> bool {
        self.0
            .iter()
            .filter_map(|answer| answer.result.as_ref().ok())
            .any(|by| by.node == node)
    }

    /// Whether some Pod of another node answered.
    pub(crate) fn reached_other_than(&self, node: &str) -> bool {
        self.0
            .iter()
            .filter_map(|answer| answer.result.as_ref().ok())
            .any(|by| by.node != node)
    }

    /// The start of the last request that the Pod answered.
    pub(crate) fn last_of(&self, pod: &str) -> Option<u64> {
        let of_pod = |answer: &&Answer| answer.result.as_ref().is_ok_and(|by| by.pod == pod);
        self.0
            .iter()
            .filter(of_pod)
            .map(|answer| answer.started)
            .next_back()
    }

    /// The start of the first request from `after` on that the Pod answered.
    pub(crate) fn first_of_since(&self, pod: &str, after: u64) -> Option<u64> {
        let of_pod = |answer: &&Answer| {
            answer.started >= after && answer.result.as_ref().is_ok_and(|by| by.pod == pod)
        };
        self.0.iter().find(of_pod).map(|answer| answer.started)
    }

    /// What failed, seen from a moment (microseconds since 1970) at which something was broken.
    pub(crate) fn outage(&self, since: u64) -> Outage {
        let wrong = |answer: &Answer| Some((answer.started, answer.result.clone().err()?));
        let wrong: Vec<(u64, String)> = self.0.iter().filter_map(wrong).collect();
        let last = wrong.last();
        Outage {
            failed: wrong.len(),
            last: last.map_or(0, |(started, _)| started.saturating_sub(since)),
            reason: last.map(|(_, reason)| reason.clone()).unwrap_or_default(),
        }
    }

    /// Requests a second, from the first start to the last.
    pub(crate) fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return 0.0;
        };
        let seconds = (last.started - first.started) as f64 / 1e6;
        if seconds > 0.0 {
            (self.0.len() - 1) as f64 / seconds
        } else {
            0.0
        }
    }
}

/// How long requests went on failing.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    /// How many failed.
    pub(crate) failed: usize,
    /// When the last of them was started, microseconds after the moment.
    pub(crate) last: u64,
    /// What went wrong with it.
    pub(crate) reason: String,
}

impl std::fmt::Display for Outage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.failed == 0 {
            return out.write_str("0 failed");
        }
        let (failed, last) = (self.failed, self.last as f64 / 1e6);
        write!(
            out,
            "{failed} failed, the last {last:.2} s after ({})",
            self.reason
        )
    }
}
