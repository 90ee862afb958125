//! The part of the lab that plays kubelet on a node.
//!
//! One process in the node's network namespace: it registers the Node, renews its Lease, and runs the Pods bound to
//! the node as processes of this machine, each Pod in a network and mount namespace of its own. A cut cable silences
//! it as it would a real one. When it ends, its Pods end with it.
//!
//! What it does as a kubelet does: readiness probes, restarts, graceful termination with the grace period, status
//! through the status subresource. What it leaves out: images (a container without `command` runs `daymark echo`),
//! volumes, init containers that end, liveness and startup probes, resource limits.

mod address;
mod api;
mod container;
mod control;
mod environment;
mod files;
mod node;
mod plan;
mod probe;
mod status;
mod watch;
mod worker;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use daymark_sys::ns::NetNs;
use thiserror::Error;

pub use control::{PodSpaces, WhereError, where_is};

use crate::net::{Host, NetError, Prefix};
use api::Session;

/// What a node's kubelet has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The kubeconfig to reach the API with.
    pub kubeconfig: PathBuf,
    /// The Node's name.
    pub node: String,
    /// The Node's labels.
    pub labels: Vec<(String, String)>,
    /// The node's addresses on its `eth0`.
    pub addresses: Vec<Prefix>,
    /// Where Pod addresses come from, at most one prefix of each family.
    pub pod_cidrs: Vec<Prefix>,
    /// The cluster's DNS addresses, for the Pods' resolv.conf.
    pub dns: Vec<IpAddr>,
    /// The cluster's domain.
    pub domain: String,
    /// The time between two renewals of the node's Lease.
    pub lease_renew: Duration,
    /// The socket on which [`where_is`] is answered.
    pub control: PathBuf,
    /// A folder of its own: logs, and the files bound into Pods.
    pub state: PathBuf,
    /// The program that `command: [daymark, ...]` means.
    pub binary: PathBuf,
}

/// Why a kubelet could not start.
#[derive(Debug, Error)]
pub enum KubeletError {
    /// A file, socket or the runtime.
    #[error("{what}: {source}")]
    Setup {
        /// What was to be set up.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The node's network namespace.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {reason}; daymark lab kubeconfig prints a good one")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Runs until SIGTERM or SIGINT. The API may come and go meanwhile.
///
/// # Errors
/// [`KubeletError`] when it cannot start.
pub fn run(config: Config) -> Result<(), KubeletError> {
    let setup = |what: &str| {
        let what = what.to_owned();
        move |source| KubeletError::Setup { what, source }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup("async runtime"))?;
    std::fs::create_dir_all(config.state.join("logs")).map_err(setup("state folder"))?;
    let ns = NetNs::current().map_err(setup("the node's network namespace"))?;
    let host = Host::adopt(&config.node, ns, &config.addresses)?;
    // Pods are children of this thread and end with it (PR_SET_PDEATHSIG), so everything runs on it.
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let session = Session::open(&config.kubeconfig).await?;
        let kubelet = Rc::new(worker::Kubelet::new(config, host, session));
        let socket = control::listen(&kubelet.config.control).map_err(setup("control socket"))?;
        tokio::task::spawn_local(control::serve(socket, Rc::clone(&kubelet)));
        tokio::task::spawn_local(node::keep_alive(Rc::clone(&kubelet)));
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(setup("signal handler"))?;
        tokio::select! {
            () = watch::run(&kubelet) => {}
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}
