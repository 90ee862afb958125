//! `daymark conformance`: daymark beside the real kube-proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use daymark_sys::ns::{self, Entered, UserNamespace};

use crate::conformance::{self, Plan};

/// Flags of `daymark conformance`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark conformance --peers target/peers/bin
  daymark conformance --peers target/peers/bin --seed 7 --clusters 1    (one cluster again)

Two labs of namespaces, alike in everything but the proxy of their node: kube-proxy (nftables) and daymark, both under
one real kube-apiserver. Random clusters are written to it, the same packets are sent in both labs, and what became of
them is compared. Differences that are meant are listed in docs/semantics.md. No root is needed. Exit code 0 if every
difference is one of those, 1 otherwise.")]
pub(crate) struct Args {
    /// The folder of the real programs: make peers builds them.
    #[arg(long, value_name = "DIR")]
    peers: PathBuf,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clusters, each from the next seed.
    #[arg(long, default_value_t = 200)]
    clusters: u64,
    /// Packets in each of a cluster's two states, no two alike: 20,000 in 200 clusters.
    #[arg(long, default_value_t = 50)]
    packets: usize,
    /// Where logs, keys and the store go; removed at the end unless something differs.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let peers = args.peers.canonicalize();
    let peers = peers.with_context(|| format!("the folder {}", args.peers.display()))?;
    let state = args.state.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("daymark-conformance-{}", std::process::id()))
    });
    std::fs::create_dir_all(&state).with_context(|| format!("the folder {}", state.display()))?;
    if let Entered::Outside(code) = ns::enter(UserNamespace::Always)? {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let plan = Plan {
        programs: peers,
        state,
        seeds: args.seed..args.seed.saturating_add(args.clusters),
        packets: args.packets,
    };
    Ok(if conformance::run(&runtime, &plan)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
