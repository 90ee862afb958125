//! `daymark lab run`: one scenario, step by step, or many, a line each.
//!
//! Many: scenarios that touch nothing but objects of a namespace happen in one lab, several at a time; the others have
//! a lab each. Every lab is a process of its own, which reports a line a scenario to the one that was called.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use daymark_lab::cluster::{Cluster, Lock, Spec, remove_files};
use daymark_lab::scenario::{self, Lab, Manners, Scenario};
use daymark_sys::ns::{Entered, UserNamespace};
use futures::StreamExt;

use crate::clock;

use super::{control, enter, print, state};
use crate::out::warn_line;

/// Flags of `daymark lab run`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Scenarios, or folders of them (docs/lab.md has the format).
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Use the real etcd, kube-apiserver and kube-controller-manager of this folder (make peers) instead of daymark's.
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// How many scenarios happen at a time, where they may.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// One lab for these files, a line each: what the many are made of.
    #[arg(long, hide = true)]
    lines: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.lines {
        return one_lab(args, Lines::AScenario);
    }
    match args.paths.as_slice() {
        [file] if file.is_file() => one_lab(args, Lines::AStep),
        _ => many(args),
    }
}

/// How often something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// After each step.
    AStep,
    /// After each scenario.
    AScenario,
}

/// A scenario and its file.
struct File {
    path: PathBuf,
    scenario: Scenario,
}

impl File {
    fn read(path: &Path, namespace: &str) -> anyhow::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            scenario: scenario::load(path, namespace)?,
        })
    }

    /// Where its manifests are.
    fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }
}

/// All files, those of folders and their folders included, in order.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<File>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    found
        .iter()
        .enumerate()
        .map(|(index, path)| File::read(path, &namespace(index, path)))
        .collect()
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let listed = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            below(&path, found)?;
        } else if path.extension().is_some_and(|name| name == "scenario") {
            found.push(path);
        }
    }
    Ok(())
}

/// A name that shows which scenario it is, and is a DNS label.
fn namespace(index: usize, path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let word: String = stem
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("s{index}-{}", word.to_ascii_lowercase())
        .trim_end_matches('-')
        .to_owned()
}

/// Shares the scenarios out to labs, and counts.
fn many(args: &Args) -> anyhow::Result<ExitCode> {
    let files = files(&args.paths)?;
    let mut labs: Vec<Vec<&File>> = Vec::new();
    let mut shared: BTreeMap<(u8, &[String]), Vec<&File>> = BTreeMap::new();
    for file in &files {
        match file.scenario.manners() {
            Manners::Alone => labs.push(vec![file]),
            Manners::Together => {
                let lab = (file.scenario.nodes, file.scenario.agents.as_slice());
                shared.entry(lab).or_default().push(file);
            }
        }
    }
    labs.splice(0..0, shared.into_values());
    let (mut passed, mut failed) = (0, 0);
    for lab in labs {
        let good = in_a_lab(args, &lab)?;
        passed += good;
        failed += lab.len() - good;
    }
    print(&format!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs these in a lab of their own, passes on what it says, and counts those that held.
fn in_a_lab(args: &Args, files: &[&File]) -> anyhow::Result<usize> {
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.args(["lab", "run", "--lines", "--jobs", &args.jobs.to_string()]);
    if let Some(peers) = &args.peers {
        command.arg("--peers").arg(peers);
    }
    command.args(files.iter().map(|file| &file.path));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.context("starting a lab")?;
    let said = child.stdout.take().context("the lab's output")?;
    let (mut good, mut heard) = (0, 0);
    for line in BufReader::new(said).lines() {
        let line = line.context("the lab's output")?;
        good += usize::from(line.starts_with(HELD));
        heard += 1;
        print(&line);
    }
    child.wait().context("the lab")?;
    for file in files.iter().skip(heard) {
        print(&format!(
            "FAILED           {}: the lab ended before it",
            file.path.display()
        ));
    }
    Ok(good)
}

/// A lab that lives no longer than what happens in it.
fn one_lab(args: &Args, lines: Lines) -> anyhow::Result<ExitCode> {
    let files = match args.paths.as_slice() {
        [path] => vec![File::read(path, "default")?],
        paths => files(paths)?,
    };
    let state = state(&format!("run-{}", std::process::id()))?;
    let _lock = Lock::take(&state)?;
    let inside = match enter(UserNamespace::UnlessPrivileged, &state)? {
        Entered::Outside(code) => {
            // The lab is gone; so should be its files.
            let _ = remove_files(&state);
            return Ok(code);
        }
        Entered::Inside(inside) => inside,
    };
    let binary = std::env::current_exe().context("the path of this program")?;
    let mut spec = Spec::new(state, binary, inside.outer_pid);
    let Some(first) = files.first() else {
        bail!("no scenario is named");
    };
    spec.nodes = first.scenario.nodes;
    spec.agent_args.clone_from(&first.scenario.agents);
    spec.control = control(args.peers.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut cluster = Cluster::up(spec, |_| ()).await?;
        cluster.create_basics().await?;
        let code = match (lines, files.as_slice()) {
            (Lines::AStep, [file]) => alone(&mut cluster, file).await?,
            (_, files) => together(&mut cluster, files, args.jobs).await,
        };
        cluster.down();
        Ok(code)
    })
}

/// One scenario, a line a step.
async fn alone(cluster: &mut Cluster, file: &File) -> anyhow::Result<ExitCode> {
    let said = |step: &scenario::Report| {
        let measured = if step.measured.is_empty() {
            String::new()
        } else {
            format!("  ({})", step.measured)
        };
        let seconds = step.took.as_secs_f64();
        print(&format!("{seconds:>7.3} s  {}{measured}", step.text));
    };
    let outcome = scenario::run(Lab::Own(cluster), &file.scenario, &file.folder(), said).await;
    if outcome.is_err() {
        tell_why(cluster);
    }
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Several scenarios at a time, a line each.
async fn together(cluster: &mut Cluster, files: &[File], jobs: usize) -> ExitCode {
    if let [file] = files {
        let begun = clock::now();
        let (lab, folder) = (Lab::Own(cluster), file.folder());
        let outcome = scenario::run(lab, &file.scenario, &folder, |_| ()).await;
        if outcome.is_err() {
            tell_why(cluster);
        }
        return report(file, &outcome, begun);
    }
    let cluster = &*cluster;
    let outcomes = futures::stream::iter(files).map(|file| async move {
        let begun = clock::now();
        let folder = file.folder();
        let outcome = scenario::run_in_namespace(cluster, &file.scenario, &folder).await;
        report(file, &outcome, begun)
    });
    let codes: Vec<ExitCode> = outcomes.buffer_unordered(jobs.max(1)).collect().await;
    let bad = codes.into_iter().find(|code| *code != ExitCode::SUCCESS);
    if bad.is_some() {
        tell_why(cluster);
    }
    bad.unwrap_or(ExitCode::SUCCESS)
}

/// For whoever has to find out why a scenario did not hold: the lab, and its logs, are gone in a moment.
fn tell_why(cluster: &Cluster) {
    warn_line!("{}", cluster.last_words());
}

fn report(
    file: &File,
    outcome: &Result<(), scenario::Failure>,
    begun: std::time::Instant,
) -> ExitCode {
    let seconds = begun.elapsed().as_secs_f64();
    let path = file.path.display();
    match outcome {
        Ok(()) => {
            print(&format!("{HELD}     {seconds:>7.3} s  {path}"));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let said = failure.to_string().replace('\n', " ");
            print(&format!("FAILED {seconds:>7.3} s  {path}: {said}"));
            ExitCode::FAILURE
        }
    }
}

/// What the line of a scenario that held begins with.
const HELD: &str = "ok";
