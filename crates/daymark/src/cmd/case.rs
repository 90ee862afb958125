//! `daymark case`: puts behaviour cases before a judge, or makes one out of a cluster's objects.

mod new;
mod random;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;
use daymark_case::{Case, Report, judge_model};
use daymark_dataplane::nft::TableFlags;
use daymark_sys::ns::{self, Entered, UserNamespace};
use serde_json::json;

use crate::judge::lab::{LabJudge, Sctp};
use crate::judge::trace::TraceJudge;
use crate::out::say;

/// Flags of `daymark case`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  daymark case cases/
  kubectl get service,endpointslice,node -A -o yaml | daymark case new --from - --node node-1
  daymark case cases/a_headless_service_has_no_packets.case -o json
  daymark case cases/ --judge lab     (real packets, in namespaces of its own, no root needed)
  daymark case --random 200 --judge lab --keep /tmp/found     (clusters nobody thought of; the seed is printed)

Exit code 0 if every case holds, 1 if one fails or cannot be read. The format is in docs/cases.md.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Case files, or folders whose `.case` files are taken.
    #[arg(required_unless_present = "random", value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    random: random::Draw,

    /// Who judges.
    #[arg(long, value_enum, default_value_t = JudgeName::Model)]
    judge: JudgeName,

    /// The data plane that the trace or the lab puts to the test.
    #[arg(long, value_enum, default_value_t = Dataplane::Nft)]
    dataplane: Dataplane,

    /// What stands for SCTP in the lab.
    #[arg(long, value_enum, default_value_t = SctpName::Inits)]
    sctp: SctpName,

    /// How the results are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Write a case out of objects that kubectl printed: a bug report becomes a test.
    New(new::Args),
}

/// Who judges a case.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum JudgeName {
    /// The reference: the model's own verdict.
    Model,
    /// A walk through the compiled program of a data plane.
    Trace,
    /// Real packets through a real kernel.
    Lab,
}

/// What stands for SCTP.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SctpName {
    /// An INIT in a raw packet: every kernel translates it.
    Inits,
    /// That, and whole associations where INITs get through: fails on a kernel without SCTP.
    Associations,
}

impl From<SctpName> for Sctp {
    fn from(name: SctpName) -> Self {
        match name {
            SctpName::Inits => Self::Inits,
            SctpName::Associations => Self::Associations,
        }
    }
}

/// A data plane by name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dataplane {
    /// nftables.
    Nft,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line a case, and one for each packet that did not get its verdict.
    Text,
    /// One array of objects.
    Json,
}

/// What came of one file.
struct Outcome {
    file: String,
    result: Result<Report, String>,
    /// SCTP associations that came to be; nothing where none was asked for.
    associations: Option<usize>,
}

impl Outcome {
    fn holds(&self) -> bool {
        matches!(&self.result, Ok(report) if report.failures.is_empty())
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Verb::New(args)) = args.verb {
        return new::run(&args);
    }
    if args.sctp == SctpName::Associations && args.judge != JudgeName::Lab {
        bail!("--sctp associations needs real packets: add --judge lab");
    }
    if args.judge == JudgeName::Lab
        && let Entered::Outside(code) = ns::enter(UserNamespace::Always)?
    {
        return Ok(code);
    }
    let mut outcomes = Vec::new();
    for path in files(&args.paths)? {
        let file = path.display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        let case = Case::parse(&file, &text).map_err(|error| error.to_string());
        outcomes.push(judged(file, case, &args));
    }
    for case in args.random.cases() {
        let outcome = judged(case.file.clone(), Ok(case.clone()), &args);
        if !outcome.holds() {
            args.random.keep(&case)?;
        }
        outcomes.push(outcome);
    }
    match args.output {
        Output::Text => print_sum(&outcomes),
        Output::Json => print_json(&outcomes),
    }
    Ok(if outcomes.iter().all(Outcome::holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Puts a case before the judge, and says at once what came of it.
fn judged(file: String, case: Result<Case, String>, args: &Args) -> Outcome {
    let outcome = outcome(file, case, args);
    if args.output == Output::Text {
        print_case(&outcome);
    }
    outcome
}

fn outcome(file: String, case: Result<Case, String>, args: &Args) -> Outcome {
    let mut associations = None;
    let result = case.and_then(|case| match args.judge {
        JudgeName::Model => Ok(judge_model(&case)),
        JudgeName::Trace => Ok(daymark_case::judge(&case, &mut TraceJudge::new())),
        JudgeName::Lab => {
            let mut lab = lab(&case, args.sctp.into())?;
            let report = daymark_case::judge(&case, &mut lab);
            associations = (args.sctp == SctpName::Associations).then(|| lab.associations());
            Ok(report)
        }
    });
    Outcome {
        file,
        result,
        associations,
    }
}

/// The lab of a case; an error where there can be none.
fn lab(case: &Case, sctp: Sctp) -> Result<LabJudge, String> {
    let lab = LabJudge::new(case, TableFlags::NONE).and_then(|lab| lab.with_sctp(sctp));
    lab.map_err(|why| format!("{}: the lab cannot be built: {why}", case.file))
}

/// The files named, and the `.case` files of the folders named, by name.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(files_in(path)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = folder.display();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read folder {shown}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read folder {shown}"))?
            .path();
        if path.extension().is_some_and(|ending| ending == "case") {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("folder {shown} holds no .case file");
    }
    found.sort();
    Ok(found)
}

fn print_case(outcome: &Outcome) {
    match &outcome.result {
        Ok(report) if report.failures.is_empty() => {
            let associations = match outcome.associations {
                None | Some(0) => String::new(),
                Some(count) => format!(", {count} associations"),
            };
            let (file, checks) = (&outcome.file, report.checks);
            say!("holds  {file} ({checks} packets{associations})");
        }
        Ok(report) => {
            let (failed, checks) = (report.failures.len(), report.checks);
            say!("fails  {} ({failed} of {checks} packets)", outcome.file);
            for failure in &report.failures {
                say!("       {failure}");
            }
        }
        Err(error) => say!("fails  {error}"),
    }
}

fn print_sum(outcomes: &[Outcome]) {
    let failed = outcomes.iter().filter(|outcome| !outcome.holds()).count();
    let counts: Option<Vec<usize>> = outcomes.iter().map(|one| one.associations).collect();
    let associations = counts.map_or(String::new(), |counts| {
        format!(", {} SCTP associations", counts.iter().sum::<usize>())
    });
    let packets = outcomes.iter().filter_map(|one| one.result.as_ref().ok());
    let packets: usize = packets.map(|report| report.checks).sum();
    say!(
        "{} passed, {failed} failed, {packets} packets{associations}",
        outcomes.len() - failed
    );
}

fn print_json(outcomes: &[Outcome]) {
    let rows: Vec<serde_json::Value> = outcomes.iter().map(row).collect();
    say!("{:#}", json!(rows));
}

fn row(outcome: &Outcome) -> serde_json::Value {
    let verdict = if outcome.holds() { "holds" } else { "fails" };
    match &outcome.result {
        Ok(report) => {
            let failures = report.failures.iter().map(|failure| {
                json!({
                    "line": failure.line,
                    "packet": failure.packet,
                    "expected": failure.expected,
                    "got": failure.got,
                })
            });
            json!({
                "name": outcome.file,
                "verdict": verdict,
                "packets": report.checks,
                "failures": failures.collect::<Vec<_>>(),
            })
        }
        Err(error) => json!({ "name": outcome.file, "verdict": verdict, "error": error }),
    }
}
