//! `daymark cleanup`: what an agent, or kube-proxy, left in the kernel.

mod follower;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use daymark_model::Cidr;
use daymark_node::ask::server::{SocketError, Vacancy, vacancy};
use daymark_node::claim::Claim;
use daymark_node::leftovers::{self, Outcome, Scope};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use self::follower::Follower;
use crate::agent_socket;
use crate::out::{say, warn_line};
use crate::shutdown::{Ending, Work};

/// Flags of `daymark cleanup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark cleanup               # both
  daymark cleanup --daymark     # on a node that goes back to kube-proxy, once that runs
  daymark cleanup --kube-proxy  # what a running agent does by itself after its first commit

It acts in the network namespace that it runs in. Connections that are there go on. Exit code 1 if something stays that
should not.")]
pub(crate) struct Args {
    /// Remove daymark's own tables; its agent must have ended.
    #[arg(long)]
    daymark: bool,
    /// The socket that the agent of this node was started with: while one answers there, its tables stay.
    #[arg(long, value_name = "PATH", default_value = agent_socket::DEFAULT)]
    socket: PathBuf,
    /// Remove daymark's own tables only once kube-proxy, which follows it on this node, serves: `/healthz` at this address (its
    /// `healthzBindAddress`) answers 200, and it has written its rules, by its metrics or by what is in nf_tables.
    #[arg(long, value_name = "ADDRESS:PORT")]
    once_healthy: Option<SocketAddr>,
    /// Where kube-proxy's metrics are asked for that: its `metricsBindAddress`.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:10249",
        requires = "once_healthy"
    )]
    metrics: SocketAddr,
    /// Remove kube-proxy's tables, chains, ipsets, virtual servers and device; it must have ended, or it makes them anew.
    #[arg(long)]
    kube_proxy: bool,
    /// Leave virtual servers of IPVS in these ranges: kube-proxy's `ipvs.excludeCIDRs`.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    ipvs_exclude_cidrs: Vec<Cidr>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // It may wait for minutes until kube-proxy serves. The end of the process gives the agent's place free.
    let _ending = Ending::listen(Work::Job)?;
    let both = !args.daymark && !args.kube_proxy;
    let mut outcomes = Vec::new();
    if both || args.daymark {
        // Held to the end, so that no agent comes up over tables that go.
        let follower = args.once_healthy.map(|healthz| Follower {
            healthz,
            metrics: args.metrics,
        });
        let _place = followed(&args.socket, follower)?;
        outcomes.extend(leftovers::remove_own());
    }
    if both || args.kube_proxy {
        let gone = kube_proxys(args.ipvs_exclude_cidrs.clone())?;
        leave_mark(&args.socket, &gone);
        outcomes.extend(gone);
    }
    Ok(tell(&outcomes))
}

/// The same as `daymark node --cleanup`, kube-proxy's own flag.
pub(crate) fn run_for_kube_proxy(spared: Vec<Cidr>) -> anyhow::Result<ExitCode> {
    Ok(tell(&kube_proxys(spared)?))
}

/// Makes sure that no agent runs, and that another proxy serves if that is asked for. It is asked while the agent's place is
/// held, since tables that go right after its answer must be those of no agent that came meanwhile.
fn followed(socket: &Path, follower: Option<Follower>) -> anyhow::Result<Place> {
    let Some(follower) = follower else {
        return without_agent(socket);
    };
    let mut said = String::new();
    for _ in 0..TRIES {
        let place = without_agent(socket)?;
        match follower.serves() {
            Ok(()) => return Ok(place),
            Err(why) => said = why,
        }
        drop(place);
        std::thread::sleep(AGAIN);
    }
    bail!(
        "daymark's tables stay, since they are all that this node has: no other proxy is known to serve here ({said}); start kube-proxy, \
         or name its healthzBindAddress with --once-healthy"
    )
}

/// The next proxy is looked at so often, two minutes in all.
const TRIES: usize = 60;
const AGAIN: Duration = Duration::from_secs(2);

/// The place of this node's agent: beside its socket, and in the network namespace.
type Place = (Vacancy, Claim);

/// Before Linux 6.9 tables have no owner, and the kernel would let those of a running agent be removed.
fn without_agent(socket: &Path) -> anyhow::Result<Place> {
    let runtime = runtime()?;
    let vacancy = vacancy(socket).map_err(|error| match error {
        SocketError::Taken { path } => {
            let agent = match runtime.block_on(process(&path)) {
                Some(pid) => format!("an agent runs on this node, process {pid}, and answers at {}", path.display()),
                None => format!("an agent runs on this node, and answers at {}", path.display()),
            };
            anyhow!("daymark's tables stay: {agent}; {END_IT}")
        }
        SocketError::Locked { .. } => anyhow!("daymark's tables stay: {error}; {END_IT}"),
        SocketError::NoSocket { .. } | SocketError::Io { .. } => anyhow!(
            "daymark's tables stay, since it is not known whether an agent runs on this node: {error}; run this as root"
        ),
    })?;
    match runtime.block_on(Claim::take()) {
        Ok(claim) => Ok((vacancy, claim)),
        Err(error) => bail!("daymark's tables stay: {error}; {END_IT}"),
    }
}

const END_IT: &str = "an agent has to end first (`kubectl label node NODE daymark-` ends the Pod of deploy/node.yaml); then clean up";

/// Who answers at a socket. A process of another PID namespace has no number here.
async fn process(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let peer = stream.peer_cred().ok()?;
    peer.pid().filter(|pid| *pid > 0)
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn cidr(text: &str) -> Result<Cidr, &'static str> {
    Cidr::parse(text).ok_or("write ranges such as 10.0.0.0/8")
}

fn kube_proxys(spared: Vec<Cidr>) -> anyhow::Result<Vec<Outcome>> {
    let scope = Scope { spared, mark: None };
    Ok(runtime()?.block_on(leftovers::remove_kube_proxys(scope)))
}

/// Tells the agent of this node that nothing is left, if it has a folder; without, it will go on saying that it cannot know.
fn leave_mark(socket: &Path, outcomes: &[Outcome]) {
    let is_left = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    if !outcomes.iter().any(is_left) && socket.parent().is_some_and(Path::exists) {
        let _ = agent_socket::mark(socket).leave();
    }
}

fn tell(outcomes: &[Outcome]) -> ExitCode {
    if outcomes.is_empty() {
        say!("there was nothing to remove");
    }
    let mut code = ExitCode::SUCCESS;
    for outcome in outcomes {
        match outcome {
            Outcome::Removed(what) => say!("removed {what}"),
            Outcome::Kept(what) => say!("kept {what}"),
            Outcome::Failed(why) => {
                warn_line!("daymark: {why}");
                code = ExitCode::from(1);
            }
        }
    }
    code
}
