//! `daymark guest`: another kernel, in QEMU.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::guest::{self, Boot, Clock, Kernel};
use crate::out::warn_line;

/// Flags of `daymark guest`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  kernels/fetch debian-12-cloud
  daymark guest boot --kernel target/kernels/debian-12-cloud --with cases -- daymark case cases --judge lab

docs/kernels.md explains it.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Boot a kernel, run commands in it, exit as the first of them that fails does; 125 if it does not come to its end.
    Boot(BootArgs),
    /// The first process of a guest.
    #[command(hide = true)]
    Init,
}

#[derive(clap::Args)]
struct BootArgs {
    /// A folder that a kernel's package was unpacked into.
    #[arg(long, value_name = "DIR")]
    kernel: PathBuf,
    /// A module to load, beside those of the lab and the nftables plane; `*` stands for anything.
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// A file or folder that the guest shall have, at the same path; programs bring their libraries.
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// What every command finds in its environment.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// Memory of the guest, in MiB. Below 1024 the kernel tracks too few connections for the cases.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Processors of the guest.
    #[arg(long, default_value_t = 1)]
    cpus: u8,
    /// What the guest's clock follows.
    #[arg(long, value_enum, default_value_t = Clock::Instructions)]
    clock: Clock,
    /// Seconds by the host's clock after which the guest is ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// A file with one command a line, words between blanks; `-` is standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "command")]
    commands: Option<PathBuf>,
    /// One command.
    #[arg(last = true, conflicts_with = "commands")]
    command: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Boot(args) => Ok(boot(args).map_or_else(no_code, ExitCode::from)),
        Verb::Init => guest::init().map(|()| ExitCode::SUCCESS),
    }
}

/// What keeps a guest from its end must not look like a command's own failure.
fn no_code(error: anyhow::Error) -> ExitCode {
    warn_line!("daymark: {error:#}");
    ExitCode::from(guest::NO_CODE)
}

fn boot(args: BootArgs) -> anyhow::Result<u8> {
    let commands = match &args.commands {
        None => vec![args.command],
        Some(file) => listed(file)?,
    };
    guest::boot(&Boot {
        kernel: Kernel::find(&args.kernel)?,
        modules: args.modules,
        with: args.with,
        environment: args.environment,
        commands,
        memory: args.memory,
        cpus: args.cpus,
        clock: args.clock,
        patience: Duration::from_secs(args.timeout),
    })
}

/// The commands of a file, without empty lines.
fn listed(file: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let shown = file.display();
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.with_context(|| format!("cannot read {shown}"))?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let commands: Vec<Vec<String>> = text.lines().map(words).collect();
    let commands: Vec<_> = commands
        .into_iter()
        .filter(|words| !words.is_empty())
        .collect();
    if commands.is_empty() {
        bail!("{shown} holds no command: write one a line");
    }
    Ok(commands)
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
