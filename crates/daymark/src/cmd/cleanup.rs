//! `daymark cleanup`: what an agent, or kube-proxy, left in the kernel.

use std::process::ExitCode;

use daymark_model::Cidr;
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
    /// Remove kube-proxy's tables, chains, ipsets, virtual servers and device; it must have ended, or it makes them anew.
    #[arg(long)]
    kube_proxy: bool,
    /// Leave virtual servers of IPVS in these ranges: kube-proxy's `ipvs.excludeCIDRs`.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    ipvs_exclude_cidrs: Vec<Cidr>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let both = !args.daymark && !args.kube_proxy;
    let mut outcomes = Vec::new();
    if both || args.daymark {
        outcomes.extend(leftovers::remove_own());
    }
    if both || args.kube_proxy {
        outcomes.extend(kube_proxys(args.ipvs_exclude_cidrs.clone())?);
    }
    Ok(tell(&outcomes))
}

/// The same as `daymark node --cleanup`, kube-proxy's own flag.
pub(crate) fn run_for_kube_proxy(spared: Vec<Cidr>) -> anyhow::Result<ExitCode> {
    Ok(tell(&kube_proxys(spared)?))
}

fn cidr(text: &str) -> Result<Cidr, &'static str> {
    Cidr::parse(text).ok_or("write ranges such as 10.0.0.0/8")
}

fn kube_proxys(spared: Vec<Cidr>) -> anyhow::Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(leftovers::remove_kube_proxys(spared)))
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
