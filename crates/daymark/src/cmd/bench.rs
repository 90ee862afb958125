//! `daymark bench`: reproducible measurements.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use daymark_sys::ns::{self, Entered, UserNamespace};

use crate::bench::peers::{self, Row, Subject, Wanted};
use crate::bench::{self, Figure, Measurement, Sizes};
use crate::out::say;

/// Flags of `daymark bench`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark bench
  daymark bench nft-load nft-change --runs 11
  daymark bench api-creates -o json
  daymark bench conntrack --flows 1000000
  daymark bench --quick
  daymark bench --peers target/peers/bin --only churn,connections --runs 1

No root is needed without --peers: everything happens in namespaces of its own. Each figure is the median of its runs, with the
least and the greatest. Use a release build on a machine that does nothing else; docs/benchmarks.md explains the figures.
Exit code 0 if every goal is met, 1 if one is missed or something could not be measured. --quick judges nothing.")]
pub(crate) struct Args {
    /// What to measure; everything if nothing is named.
    #[arg(value_name = "NAME", value_enum)]
    names: Vec<Measurement>,
    /// How often each is measured: 5 times, beside kube-proxy 3 times, if this is not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// Small sizes and three runs at most, one beside kube-proxy, to see whether it works.
    #[arg(long)]
    quick: bool,
    /// How many flows conntrack has tracked; fewer where the kernel's table has no room for them.
    #[arg(long, value_name = "N")]
    flows: Option<usize>,
    /// Where stores are written: the disk whose fsync is measured.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Measure beside the real kube-proxy, under the real API server, of this folder (make peers). As root: the nft command
    /// of kube-proxy fails with large clusters otherwise.
    #[arg(long, value_name = "DIR", conflicts_with = "names")]
    peers: Option<PathBuf>,
    /// With --peers: what to measure; everything if nothing is named.
    #[arg(
        long,
        value_name = "NAME",
        value_enum,
        value_delimiter = ',',
        requires = "peers"
    )]
    only: Vec<Subject>,
    /// How the figures are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line a figure.
    Text,
    /// One array of objects.
    Json,
    /// A table, as it stands in docs/benchmarks.md.
    Markdown,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Always: the figures are those of an ordinary user, whose send buffers the kernel bounds.
    // kube-proxy's one transaction is larger than the send buffers that the kernel gives an ordinary user.
    let user = if args.peers.is_some() {
        UserNamespace::UnlessPrivileged
    } else {
        UserNamespace::Always
    };
    if let Entered::Outside(code) = ns::enter(user)? {
        return Ok(code);
    }
    if let Some(peers) = &args.peers {
        return beside(&args, peers);
    }
    let all = Measurement::value_variants();
    let wanted = if args.names.is_empty() {
        all
    } else {
        &args.names
    };
    let runs = args.runs.unwrap_or(RUNS);
    let (mut sizes, runs) = if args.quick {
        (Sizes::quick(), runs.min(3))
    } else {
        (Sizes::full(), runs)
    };
    sizes.flows = args.flows.unwrap_or(sizes.flows);
    let base = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    heading(&args, Figure::HEAD);
    let shown = |figure: &Figure| {
        let figure = judged(&args, figure);
        line(&args, || figure.to_line(), || figure.to_markdown());
    };
    let figures = bench::run(wanted, &sizes, runs.into(), &base, shown)
        .context("not everything could be measured")?;
    if args.output == Output::Json {
        let rows = figures.iter().map(|figure| judged(&args, figure).to_json());
        print(&serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
    }
    let missed = |figure: &Figure| judged(&args, figure).met() == Some(false);
    Ok(if figures.iter().any(missed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The figures beside kube-proxy.
fn beside(args: &Args, programs: &Path) -> anyhow::Result<ExitCode> {
    let shown = programs.display();
    let found = programs.canonicalize();
    let programs = found.with_context(|| format!("--peers {shown}"))?;
    heading(args, Row::HEAD);
    let runs = args.runs.unwrap_or(RUNS_BESIDE);
    let (mut sizes, runs) = if args.quick {
        (peers::Sizes::quick(), 1)
    } else {
        (peers::Sizes::full(), runs)
    };
    sizes.flows = args.flows.unwrap_or(sizes.flows);
    let subjects = if args.only.is_empty() {
        Subject::value_variants().to_vec()
    } else {
        args.only.clone()
    };
    let plan = peers::Plan {
        programs: &programs,
        base: args.folder.clone().unwrap_or_else(std::env::temp_dir),
        sizes,
        runs: runs.into(),
        subjects,
    };
    let judged = |row: &Row| Row {
        // Without its goal if the sizes are not those of the goals.
        wanted: match args.quick {
            true => Wanted::Nothing,
            false => row.wanted,
        },
        ..row.clone()
    };
    let rows = peers::run(&plan, |row| {
        let row = judged(row);
        line(args, || row.to_line(), || row.to_markdown());
    })
    .context("not everything could be measured")?;
    if args.output == Output::Json {
        let rows: Vec<_> = rows.iter().map(|row| judged(row).to_json()).collect();
        print(&serde_json::to_string_pretty(&rows)?);
    }
    let missed = |row: &Row| judged(row).met() == Some(false);
    Ok(if rows.iter().any(missed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

const RUNS: u16 = 5;
/// Each takes some minutes.
const RUNS_BESIDE: u16 = 3;

/// Without its goal if the sizes are not those of the goals.
fn judged(args: &Args, figure: &Figure) -> Figure {
    let goal = figure.goal.filter(|_| !args.quick);
    Figure {
        goal,
        ..figure.clone()
    }
}

fn heading(args: &Args, table: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let mut said = vec![format!("load average before: {load}")];
    if cfg!(debug_assertions) {
        said.push("this is a debug build: its figures say little".to_owned());
    }
    match args.output {
        Output::Text => print(&said.join("\n")),
        Output::Markdown => print(&format!("{}\n\n{table}", said.join("; "))),
        Output::Json => {}
    }
}

/// Prints a figure as soon as it is known, unless all of them are one array.
fn line(args: &Args, text: impl FnOnce() -> String, markdown: impl FnOnce() -> String) {
    match args.output {
        Output::Text => print(&text()),
        Output::Markdown => print(&markdown()),
        Output::Json => {}
    }
}

fn print(text: &str) {
    say!("{text}");
}
