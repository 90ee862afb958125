//! Where processes are measured: network namespaces with a loopback, folders that go away, children that end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_lab::net::Segment;
use daymark_sys::ns::NetNs;
use daymark_sys::process::{Isolation, Lifetime};
use rustix::process::{Pid, Signal, kill_process};

use super::inputs::{self, Stored};

/// The API server's address in each [`Ground`].
pub(crate) const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

/// A network namespace with a loopback, and a socket on which an API server may listen.
pub(crate) struct Ground {
    ns: NetNs,
    listener: TcpListener,
    _segment: Segment,
}

impl Ground {
    /// A new one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let ns = NetNs::create()?;
        let segment = Segment::new(ns.clone(), &[])?;
        let listener = ns.within(|| TcpListener::bind(API))??;
        Ok(Self {
            ns,
            listener,
            _segment: segment,
        })
    }

    /// The socket at [`API`].
    pub(crate) fn listener(&self) -> anyhow::Result<TcpListener> {
        Ok(self.listener.try_clone()?)
    }

    /// Runs `f` inside, on a thread of its own.
    pub(crate) fn run<R: Send>(
        &self,
        f: impl FnOnce() -> anyhow::Result<R> + Send,
    ) -> anyhow::Result<R> {
        self.ns.run(f)?
    }
}

/// A folder that is removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty one in `base`.
    pub(crate) fn new(base: &Path, name: &str) -> anyhow::Result<Self> {
        // The number of a process in a pid namespace of its own is no name: the time it started is.
        let unique = rand::random::<u32>();
        let path = base.join(format!("daymark-bench-{name}-{unique:08x}"));
        fs::create_dir_all(&path).with_context(|| format!("folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child process of this program, which ends with the thread that started it.
pub(crate) struct Part {
    child: Child,
    shown: String,
}

impl Part {
    /// Starts a verb of this program; `sockets` are left open in it under their own numbers.
    pub(crate) fn start(args: &[String], sockets: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's path")?;
        Self::start_program(&program, args, sockets, Stdio::inherit())
    }

    /// The same with another program, whose log goes to a place of its own.
    pub(crate) fn start_program(
        program: &Path,
        args: &[String],
        sockets: Vec<OwnedFd>,
        log: Stdio,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("DAYMARK_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let descriptors = sockets
            .into_iter()
            .map(|socket| {
                let number = socket.as_raw_fd();
                (socket, number)
            })
            .collect();
        Isolation {
            lifetime: Lifetime::BoundToThread,
            descriptors,
            ..Isolation::default()
        }
        .apply(&mut command);
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let shown = format!("{name} {}", args.first().map_or("", String::as_str));
        let child = command
            .spawn()
            .with_context(|| format!("starting {shown}"))?;
        Ok(Self { child, shown })
    }

    /// Starts an API server over the store of a folder, listening on these grounds, and writing `admin.conf`,
    /// `controller.conf` and `node.conf` there.
    pub(crate) fn api(folder: &Folder, grounds: &[&Ground]) -> anyhow::Result<Self> {
        let listeners = grounds.iter().map(|ground| ground.listener());
        Self::api_at(folder, listeners.collect::<Result<_, _>>()?)
    }

    /// The same, listening on these sockets, the first of which is at [`API`] in its namespace.
    pub(crate) fn api_at(folder: &Folder, listeners: Vec<TcpListener>) -> anyhow::Result<Self> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut args = vec![
            "api".to_owned(),
            "--data".to_owned(),
            text(folder.join("data")),
        ];
        args.extend(["--kubeconfig".to_owned(), text(folder.join("admin.conf"))]);
        for (role, file) in [
            ("agent:node-1", "node.conf"),
            ("controller", "controller.conf"),
        ] {
            let issued = format!("{role}={}", text(folder.join(file)));
            args.extend(["--issue".to_owned(), issued]);
        }
        let mut sockets = Vec::new();
        for listener in listeners {
            let socket = OwnedFd::from(listener);
            args.extend(["--listen-fd".to_owned(), socket.as_raw_fd().to_string()]);
            sockets.push(socket);
        }
        Self::start(&args, sockets)
    }

    /// As [`memory`], of the process.
    pub(crate) fn memory(&self, field: &str) -> anyhow::Result<f64> {
        memory(&self.child.id().to_string(), field)
    }

    /// As [`reset_peak`], of the process.
    pub(crate) fn reset_peak(&self) -> anyhow::Result<()> {
        reset_peak(&self.child.id().to_string())
    }

    /// Seconds of processor time that it and the children that it has waited for have used.
    pub(crate) fn processor_time(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in parentheses, which may hold anything: utime, stime, cutime and cstime (proc(5)).
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let times = fields.split_whitespace().skip(11).take(4);
        let ticks: f64 = times.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks / USER_HZ)
    }

    /// An error if it has ended.
    pub(crate) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}", self.shown),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.still_runs()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that was stopped is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A figure of `/proc/PROCESS/status`, in bytes: `VmHWM:`, `VmRSS:`.
pub(crate) fn memory(process: &str, field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next());
    let kilobytes = kilobytes.with_context(|| format!("no {field} in /proc/{process}/status"))?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}

/// Makes what a process holds now its peak (`VmHWM`).
pub(crate) fn reset_peak(process: &str) -> anyhow::Result<()> {
    let file = format!("/proc/{process}/clear_refs");
    // `5` of proc(5), "/proc/pid/clear_refs".
    fs::write(&file, "5").context(file)
}

/// Waits until `done` says so; asks it every few milliseconds.
pub(crate) fn until(
    part: &mut Part,
    what: &str,
    mut done: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let rounds = PATIENCE.as_millis() / ROUND.as_millis();
    for _ in 0..rounds {
        if done() {
            return Ok(());
        }
        part.still_runs()?;
        std::thread::sleep(ROUND);
    }
    bail!("{what}: not within {} s", PATIENCE.as_secs())
}

/// Ticks a second in `/proc` (include/asm-generic/param.h): the same on every architecture that this runs on.
const USER_HZ: f64 = 100.0;
const ROUND: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a store of made-up objects, taken stock of once by a server that has ended again.
pub(crate) fn filled(base: &Path, services: usize, stored: Stored) -> anyhow::Result<Folder> {
    use std::io::Write;
    let folder = Folder::new(base, "filled")?;
    fs::create_dir_all(folder.join("data"))?;
    let lines = folder.join("lines.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&lines)?);
    for line in inputs::lines(services, stored) {
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    let store = folder.join("data").join("store.redb");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let import = ["store", "import", &text(&store), &text(&lines)].map(str::to_owned);
    let mut import = Part::start(&import, Vec::new())?;
    let status = import.child.wait()?;
    anyhow::ensure!(status.success(), "filling the store: {status}");
    let ground = Ground::new()?;
    let mut api = Part::api(&folder, &[&ground])?;
    ground.run(|| super::api::ready(&mut api, &folder))?;
    api.stop()?;
    Ok(folder)
}
