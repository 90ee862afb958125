//! `daymark lab`.

use std::process::ExitCode;

/// Flags of `daymark lab`.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
