//! Containers as processes of this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use daymark_sys::mount::Bind;
use daymark_sys::ns::NetNs;
use daymark_sys::process::{Isolation, Lifetime, Mounts, Session};
use rustix::process::{Pid, PidfdFlags, Signal};
use thiserror::Error;

/// What a Pod's processes share.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Its network namespace: its own, or the node's.
    pub(super) network: NetNs,
    /// The files it finds in place of the machine's.
    pub(super) binds: Vec<Bind>,
    pub(super) hostname: String,
}

/// A program to start.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) command: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) directory: Option<&'a str>,
    pub(super) log: &'a Path,
}

/// A running container.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: tokio::process::Child,
    pub(super) handle: Handle,
}

/// A process that can be signalled, also while another task waits for its end.
#[derive(Debug)]
pub(super) struct Handle {
    pidfd: OwnedFd,
    pub(super) pid: u32,
}

/// The namespaces of a container, to run something beside it.
#[derive(Clone, Debug)]
pub(super) struct Spaces {
    pub(super) network: NetNs,
    /// `/proc/PID/ns/mnt` of the container.
    pub(super) mounts: PathBuf,
}

/// Starts a container. Must be called on the kubelet's main thread, whose end it shares.
pub(super) fn start(sandbox: &Sandbox, launch: &Launch<'_>) -> io::Result<Process> {
    let [program, args @ ..] = launch.command else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let log = File::options().create(true).append(true).open(launch.log)?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(launch.env);
    command.current_dir(launch.directory.unwrap_or("/"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Isolation {
        network: Some(sandbox.network.clone()),
        mounts: Mounts::Own(sandbox.binds.clone()),
        hostname: Some(sandbox.hostname.clone()),
        session: Session::Own,
        lifetime: Lifetime::BoundToThread,
        ..Isolation::default()
    }
    .apply(&mut command);
    let child = tokio::process::Command::from(command).spawn()?;
    let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
    Ok(Process {
        handle: Handle::open(pid)?,
        child,
    })
}

impl Handle {
    fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            pidfd: rustix::process::pidfd_open(raw, PidfdFlags::empty())?,
            pid,
        })
    }

    /// Asks the main process to end.
    pub(super) fn terminate(&self) {
        // A process that has ended needs no signal.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::TERM);
    }

    /// Ends the main process and every other of its session's group.
    pub(super) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.kill_group();
    }

    /// Ends what the main process left behind in its group.
    pub(super) fn kill_group(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }

    /// Where the container's mount namespace is found.
    pub(super) fn mounts(&self) -> PathBuf {
        format!("/proc/{}/ns/mnt", self.pid).into()
    }
}

/// Why a command beside a container did not run.
#[derive(Debug, Error)]
pub(super) enum ExecError {
    #[error("an empty command")]
    Empty,
    #[error(transparent)]
    Start(#[from] io::Error),
}

/// Runs a command in a container's namespaces and waits for it; dropping the future kills it.
pub(super) async fn execute(command: &[String], spaces: &Spaces) -> Result<ExitStatus, ExecError> {
    let [program, args @ ..] = command else {
        return Err(ExecError::Empty);
    };
    let mounts = File::open(&spaces.mounts)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Isolation {
        network: Some(spaces.network.clone()),
        mounts: Mounts::Join(mounts.into()),
        session: Session::Own,
        lifetime: Lifetime::BoundToThread,
        ..Isolation::default()
    }
    .apply(&mut command);
    let mut command = tokio::process::Command::from(command);
    Ok(command.kill_on_drop(true).spawn()?.wait().await?)
}
