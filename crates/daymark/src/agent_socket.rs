//! Asking a node's agent at its socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use daymark_lab::cluster::Running;
use daymark_node::ask::wire::{Reply, Request};
use daymark_node::leftovers::Mark;

use crate::cmd::lab;

/// Where an agent answers unless it is told another place.
pub(crate) const DEFAULT: &str = "/run/daymark/node.sock";

/// Where `daymark cleanup` tells the agent that has this socket that nothing of kube-proxy is left.
pub(crate) fn mark(socket: &Path) -> Mark {
    Mark(socket.with_file_name("kube-proxy-removed"))
}

/// Flags that say which agent is asked.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The agent's socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT)]
    pub(crate) socket: PathBuf,
    /// Ask an agent of this lab, from outside of it.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "lab", value_parser = lab::name)]
    pub(crate) lab: Option<String>,
    /// With --lab, whose agent is asked: node-1, unless the client is on another.
    #[arg(long, value_name = "NODE", requires = "lab")]
    pub(crate) node: Option<String>,
}

/// The agents that can be asked.
#[derive(Debug)]
pub(crate) enum Agents {
    /// The one of this machine.
    Socket(PathBuf),
    /// Those of a lab.
    Lab(Box<Running>),
}

impl Which {
    pub(crate) fn agents(&self) -> anyhow::Result<Agents> {
        let Some(name) = &self.lab else {
            return Ok(Agents::Socket(self.socket.clone()));
        };
        let running = Running::find(&lab::state(name)?)?;
        Ok(Agents::Lab(Box::new(running)))
    }
}

impl Agents {
    /// The socket of a node's agent; `None`: of the first, or the only one.
    pub(crate) fn socket(&self, node: Option<&str>) -> anyhow::Result<PathBuf> {
        let running = match self {
            Self::Socket(path) => return Ok(path.clone()),
            Self::Lab(running) => running,
        };
        let nodes = &running.record().nodes;
        let fits = |wanted: &&daymark_lab::cluster::NodeRecord| {
            node.is_none_or(|node| wanted.name == node)
        };
        let found = nodes.iter().find(fits).map(|node| node.agent.clone());
        found.with_context(|| {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            format!(
                "there is no node {}; there are {}",
                node.unwrap_or_default(),
                known.join(", ")
            )
        })
    }

    /// The lab's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> Option<PathBuf> {
        match self {
            Self::Socket(_) => None,
            Self::Lab(running) => Some(running.kubeconfig()),
        }
    }
}

/// Asks, and waits for the answer.
///
/// # Errors
/// If nobody answers, or the agent says that it cannot.
pub(crate) fn ask(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    let shown = socket.display();
    let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, error))?;
    let answer = exchange(stream, request);
    let answer = answer.with_context(|| format!("the agent at {shown} did not answer"))?;
    let reply = serde_json::from_slice(&answer);
    match reply.with_context(|| format!("the agent at {shown} is of another version of daymark"))? {
        Reply::Error(error) => bail!("the agent at {shown}: {error}"),
        reply => Ok(reply),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

fn unreachable(socket: &Path, error: io::Error) -> anyhow::Error {
    let shown = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "no agent answers at {shown}: is daymark node running here? --socket names another place, --lab a lab"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("{shown}: {error}; ask as the user whom the agent runs as")
        }
        _ => anyhow!("{shown}: {error}"),
    }
}

/// Longer than an agent takes at most.
const PATIENCE: Duration = Duration::from_secs(40);
/// The longest answer, bytes: some 100,000 endpoints.
const MOST_BYTES: u64 = 256 << 20;
