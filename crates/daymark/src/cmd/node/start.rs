//! What surrounds the agent when it stands in kube-proxy's place: what is done before it, and beside it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_feed::{PlaneReceiver, PlaneStatus};
use daymark_node::ask::Ask;
use daymark_node::ask::server::{Desk, Listener, SocketError};
use daymark_node::claim::Claim;
use daymark_node::events::{Severity, about_node_at_last};
use daymark_node::health::{self, Busy, Pages, Place, Port};
use daymark_node::metrics::Metrics;
use daymark_node::proxy::Order;
use daymark_node::sysctls;
use daymark_sys::probe::{self, Answer};
use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::parts::Parts;
use super::vital::Vital;
use crate::agent_socket;
use crate::client::Server;
use crate::cmd::cleanup;
use crate::kube_proxy;
use crate::kube_proxy::flags::Flags;
use crate::kube_proxy::settings::{Notice, Settings};
use crate::out::say;

/// What some flags ask for in place of an agent.
pub(super) fn instead_of_running(version: bool, flags: &Flags) -> anyhow::Result<Option<ExitCode>> {
    if version {
        say!("daymark {}", env!("CARGO_PKG_VERSION"));
        return Ok(Some(ExitCode::SUCCESS));
    }
    if flags.cleanup {
        let decided = kube_proxy::decide(flags, &host_name())?;
        return cleanup::run_for_kube_proxy(decided.settings.spared).map(Some);
    }
    let Some(path) = &flags.write_config_to else {
        return Ok(None);
    };
    let text = kube_proxy::default_file();
    std::fs::write(path, text)
        .with_context(|| format!("--write-config-to {}: cannot be written", path.display()))?;
    Ok(Some(ExitCode::SUCCESS))
}

/// The name of this host.
pub(super) fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Conntrack has settings once its module is loaded, and on a node that came up just now nobody may have done that: asking
/// for NAT does. If it cannot be asked the settings are tried all the same.
pub(super) fn load_conntrack() {
    let ask = || anyhow::Ok(probe::nft_nat(Netlink::open()?.socket())?);
    match ask() {
        Ok(Answer::Yes) => info!("the kernel has NAT by nftables, and so conntrack"),
        Ok(Answer::No { why, remedy }) => {
            warn!(
                why,
                remedy, "the kernel cannot translate addresses by nftables"
            );
        }
        Err(error) => warn!("whether the kernel has NAT cannot be asked: {error:#}"),
    }
}

/// Kernel settings and the process's own score. With `--init-only` a setting that cannot be set is the end; later it
/// is said, and Services work without.
pub(super) fn privileged(settings: &Settings, flags: &Flags) -> anyhow::Result<()> {
    let failures = sysctls::set(&settings.sysctls);
    if flags.init_only && !failures.is_empty() {
        let all: String = failures
            .iter()
            .map(|error| format!("\n  {error}"))
            .collect();
        bail!("some kernel settings cannot be set:{all}");
    }
    for error in failures {
        warn!(%error, "left as it is; a privileged `daymark node --init-only` before sets it");
    }
    if flags.init_only {
        return Ok(());
    }
    if let Some(score) = settings.oom_score
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        info!(%error, score, "oomScoreAdj is left as it is; a lower one needs CAP_SYS_RESOURCE, or a Pod of system-node-critical");
    }
    Ok(())
}

/// As many open files as this process may have: node ports on loopback take two for each connection.
pub(super) fn allow_files() {
    let allowed = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: allowed.maximum,
        ..allowed
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        info!(%error, current = allowed.current, "the limit of open files is left as it is");
    }
}

/// The ports for health and metrics, those that there are to be.
pub(super) struct Ports {
    health: Option<Arc<Port>>,
    metrics: Option<Arc<Port>>,
}

impl Ports {
    pub(super) fn of(settings: &Settings) -> Self {
        let place = |address| Place {
            address,
            busy: settings.busy,
        };
        Self {
            health: settings.healthz.map(|at| Port::health(place(at))),
            metrics: settings.metrics.map(|at| Port::metrics(place(at))),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Port>> {
        self.health.iter().chain(&self.metrics).cloned().collect()
    }

    /// Opens them, and lets them be watched. One that is taken is told on the Node, as kube-proxy does.
    pub(super) async fn open(
        self,
        settings: &Settings,
        plane: &PlaneReceiver,
        (metrics, pages): (&Arc<Metrics>, Pages),
        client: &kube::Client,
        vital: &mut Vital,
    ) -> anyhow::Result<()> {
        let told = |port| tell_taken(port, settings, client);
        if let Some(port) = self.health {
            let name = port.name();
            let (plane, metrics) = (plane.clone(), Arc::clone(metrics));
            let patience = settings.patience;
            let open = health::serve_health(Arc::clone(&port), plane, metrics, patience).await;
            told(port).await;
            vital.endless(name, open?);
        }
        if let Some(port) = self.metrics {
            let name = port.name();
            let (plane, metrics) = (plane.clone(), Arc::clone(metrics));
            let open = health::serve_metrics(Arc::clone(&port), plane, metrics, pages).await;
            told(port).await;
            vital.endless(name, open?);
        }
        Ok(())
    }
}

/// Writes the Event of a port that is taken, if it is. An agent that ends for it waits a moment for the API, and no longer.
async fn tell_taken(port: Arc<Port>, settings: &Settings, client: &kube::Client) {
    let Some(message) = port.trouble() else {
        return;
    };
    let (client, node) = (client.clone(), Arc::clone(&settings.options.node_name));
    let told = tokio::spawn(async move {
        let said = (port.reason(), message);
        about_node_at_last(client, node, Severity::Warning, said).await;
    });
    if settings.busy == Busy::Fail {
        let _ = tokio::time::timeout(TOLD, told).await;
    }
}

/// Takes the agent's place on this node, before anything looks at the tables: another agent has it, or `daymark cleanup` while it
/// removes them. The claim on the network namespace is held whatever becomes of the socket.
pub(super) async fn take_place(socket: &Path) -> anyhow::Result<(Option<Listener>, Claim)> {
    let listener = match Listener::bind_after_cleanup(socket).await {
        Ok(listener) => Some(listener),
        Err(error) if can_do_without(socket, &error) => {
            warn!(%error, "daymark explain and daymark status get no answer from this agent");
            None
        }
        Err(error) => return Err(error.into()),
    };
    Ok((listener, Claim::take_at_last().await?))
}

/// A socket that a flag names must be had. Without the usual one the node is served all the same where its file cannot be made, as
/// on a root file system that is read-only; not where somebody has it.
fn can_do_without(socket: &Path, error: &SocketError) -> bool {
    socket == Path::new(agent_socket::DEFAULT) && matches!(error, SocketError::Io { .. })
}

/// Answers at the agent's socket.
pub(super) fn answer_questions(
    listener: Listener,
    orders: Sender<Order>,
    parts: Parts,
) -> impl Future<Output = ()> + Send + 'static {
    let desk = Desk::new(orders, Arc::new(move || parts.tell()));
    listener.serve(desk)
}

/// Writes the notices as Events, each of which the log has too.
pub(super) async fn tell_node(client: kube::Client, notices: Vec<Notice>, node: Arc<str>) {
    let told = notices.into_iter().map(|Notice { reason, message }| {
        warn!(reason, "{message}");
        let (client, node) = (client.clone(), Arc::clone(&node));
        about_node_at_last(client, node, Severity::Warning, (reason, message))
    });
    join_all(told).await;
}

/// Whether the kernel came to hold this node's first state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstState {
    Held,
    /// The plane ended before.
    Never,
}

pub(super) async fn first_state(plane: &mut PlaneReceiver) -> FirstState {
    let committed = |status: &PlaneStatus| matches!(status, PlaneStatus::Committed { .. });
    match plane.wait_for(committed).await {
        Ok(_) => FirstState::Held,
        Err(_) => FirstState::Never,
    }
}

/// Whether the API is reached at a Service's address, which only the API itself could tell: the agent goes on, since ending would
/// take the node what it has, and the Node is told.
pub(super) async fn api_address(
    mut plane: PlaneReceiver,
    (client, server): (kube::Client, Server),
    orders: Sender<Order>,
    (node, metrics): (Arc<str>, Arc<Metrics>),
) {
    let Ok(ip) = server.host.parse() else { return };
    if first_state(&mut plane).await == FirstState::Never {
        return;
    }
    let (reply, answer) = oneshot::channel();
    if orders.send(Order::Ask(Ask::Holder(ip, reply))).is_err() {
        return;
    }
    if let Ok(Some(whose)) = answer.await {
        let message = server.is_a_service(&whose);
        error!("{message}");
        metrics.set_api_server_is_service(message.clone());
        let said = ("ApiServerIsService", message);
        about_node_at_last(client, node, Severity::Warning, said).await;
    }
}

/// Gives back what the first state needed on its way to the kernel and nobody needs any more.
pub(super) async fn give_back_memory(mut plane: PlaneReceiver) {
    if first_state(&mut plane).await == FirstState::Never {
        return;
    }
    tokio::time::sleep(CALM).await;
    daymark_sys::process::give_back_memory();
}

/// After the first state: what follows from it is done by then, the look at stale flows too.
const CALM: Duration = Duration::from_secs(2);
/// How long an agent that ends waits for the API to take the Event about it.
const TOLD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn only_a_file_that_cannot_be_made_is_gone_without_and_only_the_usual_one() {
        let path = Path::new(agent_socket::DEFAULT).to_owned();
        let source = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let lock = path.clone();
        let io = SocketError::Io { path, source };
        let path = Path::new(agent_socket::DEFAULT);
        assert!(can_do_without(path, &io));
        assert!(!can_do_without(Path::new("/run/other.sock"), &io));
        let held = [
            SocketError::Taken { path: lock.clone() },
            SocketError::NoSocket { path: lock.clone() },
            SocketError::Locked {
                path: lock,
                by: None,
            },
        ];
        for error in held {
            assert!(!can_do_without(path, &error), "{error}");
        }
    }
}
