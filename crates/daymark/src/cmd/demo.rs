//! `daymark demo`: the guided tour.

use std::process::ExitCode;

use anyhow::Context;
use daymark_lab::cluster::{Lock, remove_files};
use daymark_sys::ns::{Entered, UserNamespace};

use crate::demo::{self, Output};

/// Flags of `daymark demo`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark demo
  daymark demo -o json

No root is needed: everything happens in namespaces of its own, and nothing is left behind. Exit code 0 if every row
holds, 1 otherwise.")]
pub(crate) struct Args {
    /// How the rows are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let state = super::lab::state(&format!("demo-{}", std::process::id()))?;
    let _lock = Lock::take(&state)?;
    let inside = match super::lab::enter(UserNamespace::Always, &state)? {
        Entered::Outside(code) => {
            // The lab is gone; so should be its files.
            let _ = remove_files(&state);
            return Ok(code);
        }
        Entered::Inside(inside) => inside,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let good = runtime.block_on(demo::run(&state, inside.outer_pid, args.output))?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
