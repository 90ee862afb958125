//! `daymark cleanup`: what an agent, or kube-proxy, left in the kernel.

use std::process::ExitCode;

use daymark_node::leftovers::{self, Outcome};

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
    /// Remove kube-proxy's tables, chains and device; it must have ended, or it makes them anew.
    #[arg(long)]
    kube_proxy: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let both = !args.daymark && !args.kube_proxy;
    let mut outcomes = Vec::new();
    if both || args.daymark {
        outcomes.extend(leftovers::remove_own());
    }
    if both || args.kube_proxy {
        outcomes.extend(kube_proxys()?);
    }
    Ok(tell(&outcomes))
}

/// The same as `daymark node --cleanup`, kube-proxy's own flag.
pub(crate) fn run_for_kube_proxy() -> anyhow::Result<ExitCode> {
    Ok(tell(&kube_proxys()?))
}

fn kube_proxys() -> anyhow::Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(leftovers::remove_kube_proxys()))
}

#[allow(
    clippy::disallowed_macros,
    reason = "the binary is the one place that prints"
)]
fn tell(outcomes: &[Outcome]) -> ExitCode {
    if outcomes.is_empty() {
        println!("there was nothing to remove");
    }
    let mut code = ExitCode::SUCCESS;
    for outcome in outcomes {
        match outcome {
            Outcome::Removed(what) => println!("removed {what}"),
            Outcome::Kept(what) => println!("kept {what}"),
            Outcome::Failed(why) => {
                eprintln!("daymark: {why}");
                code = ExitCode::from(1);
            }
        }
    }
    code
}
