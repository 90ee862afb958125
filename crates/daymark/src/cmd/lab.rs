//! `daymark lab`: up, down, run, exec, kubeconfig, status.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_lab::cluster::{
    Cluster, Control, Lock, Running, RunningError, Spec, Where, whole_seconds,
};
use daymark_sys::ns::{self, EnterError, Entered, UserNamespace};
use daymark_sys::process::{Isolation, Session, inherited};
use tokio::signal::unix::{SignalKind, signal};

mod scenarios;

use super::node::{seconds, timing};
use crate::failure;
use crate::out::say;

/// Flags of `daymark lab`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  daymark lab up\n  export KUBECONFIG=$(daymark lab kubeconfig)\n  kubectl get nodes\n  \
    daymark lab exec node-1 -- ip route\n  daymark lab down"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Build a lab and leave it running in the background.
    Up(Up),
    /// End a running lab; nothing of it is left.
    Down(Name),
    /// Run a command in a place of a running lab.
    Exec(Exec),
    /// Run scenarios in labs of their own; exit code 1 if a line of one does not hold.
    Run(scenarios::Args),
    /// Print the path of the kubeconfig for this machine's shells.
    Kubeconfig(Name),
    /// Show the processes, nodes and Pods of a running lab.
    Status(Status),
    /// The process that keeps a lab, started by `up`.
    #[command(hide = true)]
    Keep(Keep),
}

#[derive(clap::Args)]
struct Name {
    /// The lab's name; several may run at once.
    #[arg(long, default_value = "lab", value_parser = name)]
    name: String,
}

#[derive(clap::Args)]
struct Up {
    #[command(flatten)]
    name: Name,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=80))]
    nodes: u8,
    /// Kubelets renew their node's Lease this often, in seconds, and agents the one that says that they announce.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    lease_renew: Duration,
    /// A node that is silent for so many seconds is not ready, and others answer for its addresses: at least three
    /// renewals.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    node_grace: Duration,
    /// Use the real etcd, kube-apiserver and kube-controller-manager of this folder (make peers) instead of daymark's.
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Exec {
    #[command(flatten)]
    name: Name,
    /// node-1, pod/NAME, pod/NAMESPACE/NAME, outside or fabric.
    #[arg(value_name = "WHERE")]
    place: Where,
    /// The command, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(clap::Args)]
struct Status {
    #[command(flatten)]
    name: Name,
    /// Table for people, or JSON for programs.
    #[arg(long, short, default_value = "table")]
    output: Output,
}

#[derive(clap::Args)]
struct Keep {
    #[command(flatten)]
    up: Up,
    #[arg(long)]
    listen_fd: RawFd,
    #[arg(long)]
    ready_fd: RawFd,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A table.
    Table,
    /// JSON.
    Json,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Up(args) => up(&args),
        Verb::Down(args) => down(&args),
        Verb::Exec(args) => exec(&args),
        Verb::Run(args) => scenarios::run(&args),
        Verb::Kubeconfig(args) => kubeconfig(&args),
        Verb::Status(args) => status(&args),
        Verb::Keep(args) => keep(args),
    }
}

/// Starts the keeper and waits until it says that the lab is ready.
fn up(args: &Up) -> anyhow::Result<ExitCode> {
    let state = state(&args.name.name)?;
    check_leases(args)?;
    // Asked early: the keeper would find out too, but nothing should be started for nothing.
    if Running::find(&state).is_ok() {
        bail!(
            "lab {} runs already: daymark lab down --name {} ends it",
            args.name.name,
            args.name.name
        );
    }
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).context("a port on 127.0.0.1 for the API")?;
    let (read, write) = std::io::pipe().context("pipe")?;
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.args([
        "lab",
        "keep",
        "--name",
        &args.name.name,
        "--nodes",
        &args.nodes.to_string(),
    ]);
    for (flag, time) in [
        ("--lease-renew", args.lease_renew),
        ("--node-grace", args.node_grace),
    ] {
        command.args([flag, &time.as_secs_f64().to_string()]);
    }
    if let Some(peers) = &args.peers {
        let folder = peers.canonicalize().context("--peers")?;
        command.arg("--peers").arg(folder);
    }
    command.args(["--listen-fd", &listener.as_raw_fd().to_string()]);
    command.args(["--ready-fd", &write.as_raw_fd().to_string()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let descriptors = [OwnedFd::from(listener), OwnedFd::from(write)].map(|fd| {
        let number = fd.as_raw_fd();
        (fd, number)
    });
    Isolation {
        session: Session::Own,
        descriptors: descriptors.into(),
        ..Isolation::default()
    }
    .apply(&mut command);
    command.spawn().context("starting the lab's keeper")?;
    // The command holds this process's copy of the writing end: without it the pipe ends with the keeper.
    drop(command);
    let mut report = BufReader::new(read);
    let mut text = String::new();
    report.read_line(&mut text).context("the keeper's report")?;
    if text.trim_end() == READY {
        let kubeconfig = Running::find(&state)?.kubeconfig();
        print(&format!(
            "lab {} is ready: export KUBECONFIG={}",
            args.name.name,
            kubeconfig.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    // Whatever else it says is why it failed, and it ends after that.
    report
        .read_to_string(&mut text)
        .context("the keeper's report")?;
    if text.is_empty() {
        bail!(
            "the lab's keeper ended without a word; its logs are in {}",
            state.join("logs").display()
        );
    }
    bail!("{}", text.trim_end())
}

/// Refuses times with which nodes would come and go by themselves.
fn check_leases(args: &Up) -> anyhow::Result<()> {
    let (renew, grace) = (args.lease_renew, args.node_grace);
    if renew.saturating_mul(3) > grace {
        bail!(
            "--node-grace: one late renewal each {renew:?} would make a node that may be silent for {grace:?} not \
             ready: allow three, or make --lease-renew shorter"
        );
    }
    timing(
        ("--lease-renew", renew),
        ("--node-grace", whole_seconds(grace)),
    )
    .map(drop)
}

/// The lab itself: lives until it is told to end.
fn keep(args: Keep) -> anyhow::Result<ExitCode> {
    // No thread exists yet, and both descriptors are this process's alone.
    let mut report = File::from(inherited(args.ready_fd).context("--ready-fd")?);
    let listener = TcpListener::from(inherited(args.listen_fd).context("--listen-fd")?);
    let kept = keep_inside(&args.up, listener, &mut report);
    if let Err(error) = &kept {
        // Who waits for the report prints it; if nobody does, the exit code is left.
        let _ = writeln!(report, "{}", failure::sentence(error));
    }
    kept
}

fn keep_inside(args: &Up, listener: TcpListener, report: &mut File) -> anyhow::Result<ExitCode> {
    let state = state(&args.name.name)?;
    let lock = Lock::take(&state)?;
    let inside = match enter(UserNamespace::UnlessPrivileged, &state)? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(inside) => inside,
    };
    let mut spec = Spec::new(
        state,
        std::env::current_exe().context("the path of this program")?,
        inside.outer_pid,
    );
    spec.nodes = args.nodes;
    spec.lease_renew = args.lease_renew;
    spec.node_grace = args.node_grace;
    spec.control = control(args.peers.as_deref())?;
    spec.api_listener = Some(listener);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut cluster = Cluster::up(spec, |_| ()).await?;
        cluster.create_basics().await?;
        cluster
            .write_part_states()
            .context("the state of the parts")?;
        writeln!(report, "{READY}").context("reporting")?;
        attend(&mut cluster, &lock).await?;
        cluster.down();
        Ok(ExitCode::SUCCESS)
    })
}

/// Until the lab is told to end or nobody can find it any more; meanwhile writes down which of its parts ended.
async fn attend(cluster: &mut Cluster, lock: &Lock) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut children = signal(SignalKind::child())?;
    loop {
        // A full disk makes the status old, and is no reason to end the lab.
        let _ = cluster.write_part_states();
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            () = lock.vanished() => return Ok(()),
            _ = children.recv() => {}
        }
    }
}

fn down(args: &Name) -> anyhow::Result<ExitCode> {
    let state = state(&args.name)?;
    match Running::find(&state) {
        Ok(running) => running.down()?,
        // What a lab left that was killed. The lock makes sure that none is just starting.
        Err(RunningError::None { .. }) if state.exists() => {
            let _lock = Lock::take(&state)?;
            std::fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(args: &Exec) -> anyhow::Result<ExitCode> {
    let running = Running::find(&state(&args.name.name)?)?;
    running.join()?;
    let mut command = running.command(&args.place, &args.command[0])?;
    let status = command.args(&args.command[1..]).status();
    let status = status.with_context(|| format!("{} in {}", args.command[0], args.place))?;
    // As a shell does: a signal's number above 128.
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Whose control plane a lab has.
fn control(peers: Option<&Path>) -> anyhow::Result<Control> {
    let Some(folder) = peers else {
        return Ok(Control::Embedded);
    };
    let folder = folder.canonicalize();
    Ok(Control::Real(folder.context("--peers")?))
}

fn kubeconfig(args: &Name) -> anyhow::Result<ExitCode> {
    print(
        &Running::find(&state(&args.name)?)?
            .kubeconfig()
            .display()
            .to_string(),
    );
    Ok(ExitCode::SUCCESS)
}

fn status(args: &Status) -> anyhow::Result<ExitCode> {
    let running = Running::find(&state(&args.name.name)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let overview = runtime.block_on(running.overview());
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&overview)?),
        Output::Table => print(overview.to_string().trim_end()),
    }
    if let Some(problem) = overview.problem {
        bail!("{problem}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Moves into the namespaces of a lab whose folder was just taken. Where that is refused there is no lab, and its
/// folder goes.
pub(crate) fn enter(user: UserNamespace, state: &Path) -> Result<Entered, EnterError> {
    ns::enter(user).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(state);
    })
}

/// The folder of a lab: `$XDG_RUNTIME_DIR/daymark/NAME`, or `/tmp/daymark-UID/NAME`.
pub(crate) fn state(name: &str) -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_dir()) {
        Some(runtime) => PathBuf::from(runtime).join("daymark"),
        None => PathBuf::from(format!(
            "/tmp/daymark-{}",
            rustix::process::geteuid().as_raw()
        )),
    };
    let state = base.join(name);
    // sun_path holds 108 bytes, and the longest socket is /node-80.agent.sock.
    anyhow::ensure!(
        state.as_os_str().len() <= 88,
        "{}: too long for sockets in it; choose a shorter --name",
        state.display()
    );
    Ok(state)
}

pub(crate) fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 40 || !text.chars().all(good) {
        return Err("a lab's name has 1 to 40 of a-z, 0-9 and -".to_owned());
    }
    Ok(text.to_owned())
}

fn print(text: &str) {
    say!("{text}");
}

/// What the keeper reports when all is well.
const READY: &str = "ready";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        up: Up,
    }

    #[test]
    fn times_with_which_nodes_would_flap_are_refused() {
        let check = |flags: &str, expected: Result<(), &str>| {
            let words = ["up"].into_iter().chain(flags.split_whitespace());
            let found = check_leases(&Program::try_parse_from(words).unwrap().up);
            let found = found.map_err(|error| error.to_string());
            let expected = expected.map_err(str::to_owned);
            match (&found, &expected) {
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                _ => assert_eq!(found, expected, "{flags}"),
            }
        };
        check("", Ok(()));
        check("--lease-renew 0.3 --node-grace 1", Ok(()));
        check("--lease-renew 500ms --node-grace 1.5s", Ok(()));
        check("--lease-renew 10 --node-grace 50", Ok(()));
        check(
            "--lease-renew 2",
            Err("--node-grace: one late renewal each 2s"),
        );
        check(
            "--lease-renew 0.6 --node-grace 1.5",
            Err("--node-grace: one late"),
        );
        check(
            "--node-grace 4000",
            Err("--node-grace: the Lease duration is 4000s"),
        );
    }
}
