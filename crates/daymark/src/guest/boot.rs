//! The host's side: packs, boots, prints, bounds, judges.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use daymark_sys::process::{Isolation, Lifetime};
use rustix::fs::{MemfdFlags, memfd_create};

use super::Plan;
use super::image::{INIT, Image};
use super::modules::{LAB, Tree};
use super::report::{Ended, Stopped};
use crate::out::warn_line;

/// A guest and what it is to do.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The kernel.
    pub(crate) kernel: Kernel,
    /// Modules beside those that the lab needs, by name; `*` stands for anything.
    pub(crate) modules: Vec<String>,
    /// Files and folders beside the commands' own programs.
    pub(crate) with: Vec<PathBuf>,
    /// What the commands find in their environment, beside `PATH`.
    pub(crate) environment: Vec<(String, String)>,
    /// Programs with their arguments.
    pub(crate) commands: Vec<Vec<String>>,
    /// In MiB.
    pub(crate) memory: u32,
    /// Processors of the guest.
    pub(crate) cpus: u8,
    /// What the guest's clock follows.
    pub(crate) clock: Clock,
    /// How long the guest may run, by the host's clock.
    pub(crate) patience: Duration,
}

/// What the guest's clock follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clock {
    /// The instructions it carries out, a nanosecond each; sleep costs nothing. One thread of the host.
    Instructions,
    /// The host's clock: everything seems slow. A thread for each processor.
    Host,
}

/// A kernel that was unpacked, not installed.
#[derive(Debug)]
pub(crate) struct Kernel {
    image: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Kernel {
    /// The one kernel in a folder that a package was unpacked into.
    pub(crate) fn find(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        let homes = ["lib/modules", "usr/lib/modules"].map(|home| folder.join(home));
        let mut found = homes.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let Some(modules) = found.next().map(|entry| entry.path()) else {
            bail!("{shown} holds no lib/modules/RELEASE: unpack a kernel's package there");
        };
        if let Some(other) = found.next() {
            let (one, other) = (modules.display(), other.path());
            bail!(
                "{shown} holds two kernels, {one} and {}: give each its own folder",
                other.display()
            );
        }
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let release = release.into_owned();
        let images = [
            folder.join("boot").join(format!("vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let Some(image) = images.iter().find(|image| image.is_file()).cloned() else {
            bail!("{shown} holds no boot/vmlinuz-{release}: unpack the package with the image too");
        };
        Ok(Self {
            image,
            modules,
            release,
        })
    }
}

/// Boots the guest, lets it run its commands, and says on standard error how it ended. Its exit code is the first
/// of the commands' that is not 0.
pub(crate) fn boot(boot: &Boot) -> anyhow::Result<u8> {
    let ended = run(boot, &pack(boot)?)?;
    say(&format!("guest of kernel {}: {ended}", boot.kernel.release));
    Ok(ended.code())
}

fn pack(boot: &Boot) -> anyhow::Result<Vec<u8>> {
    let lab = LAB.iter().map(|name| (*name).to_owned());
    let wanted: Vec<String> = lab.chain(boot.modules.iter().cloned()).collect();
    let modules = Tree::read(&boot.kernel.modules)?.resolve(&wanted)?;
    let mut image = Image::new()?;
    let mut commands = boot.commands.clone();
    for program in commands
        .iter_mut()
        .filter_map(|command| command.first_mut())
    {
        let found = located(program)?;
        image.add(&found)?;
        *program = std::path::absolute(&found)?.to_string_lossy().into_owned();
    }
    for path in &boot.with {
        image.add(path)?;
    }
    let path = ("PATH".to_owned(), PATH.to_owned());
    let plan = Plan {
        modules: Vec::new(),
        folder: std::env::current_dir().context("cannot tell the working folder")?,
        environment: std::iter::once(path)
            .chain(boot.environment.iter().cloned())
            .collect(),
        commands,
    };
    image.finish(modules, plan)
}

/// A program by its path, or by its name as a shell finds it.
fn located(program: &str) -> anyhow::Result<PathBuf> {
    if program.contains('/') {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    let mut found = candidates.filter(|file| file.is_file());
    found
        .next()
        .with_context(|| format!("no program {program} here: give its path, or install it"))
}

/// Runs QEMU. What it reads and writes are files in memory: nothing is left behind, however this program ends.
fn run(boot: &Boot, initramfs: &[u8]) -> anyhow::Result<Ended> {
    let archive = in_memory(initramfs).context("no memory for the initramfs")?;
    let mut report = in_memory(&[]).context("no memory for the report")?;
    let mut command = qemu(boot);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let isolation = Isolation {
        lifetime: Lifetime::BoundToThread,
        descriptors: vec![
            (archive.into(), ARCHIVE),
            (report.try_clone()?.into(), REPORT),
        ],
        ..Isolation::default()
    };
    let child = isolation.apply(&mut command).spawn();
    let child = child.with_context(|| format!("cannot run {QEMU}: install qemu-system-x86"))?;
    let stopped = wait(child, boot.patience)?;
    let mut text = String::new();
    report.rewind()?;
    report
        .read_to_string(&mut text)
        .context("the guest's report")?;
    Ok(Ended::read(&text, boot.commands.len(), stopped))
}

fn in_memory(content: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("daymark-guest", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
}

fn qemu(boot: &Boot) -> Command {
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    command.args(["-machine", "q35,accel=tcg", "-cpu", "max"]);
    command.args(["-display", "none", "-serial", "stdio", "-serial"]);
    command.arg(format!("file:/proc/self/fd/{REPORT}"));
    command.arg("-m").arg(boot.memory.to_string());
    command.arg("-smp").arg(boot.cpus.to_string());
    if boot.clock == Clock::Instructions {
        command.args(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]);
    }
    command.arg("-kernel").arg(&boot.kernel.image);
    command
        .arg("-initrd")
        .arg(format!("/proc/self/fd/{ARCHIVE}"));
    // A panic starts the machine anew, at once, which QEMU takes for its end.
    let line = format!("console=ttyS0 quiet panic=-1 rdinit={INIT} -- guest init");
    command.arg("-append").arg(line);
    command
}

/// Prints what the guest says until QEMU ends, or ends it when the time is up.
fn wait(mut child: Child, patience: Duration) -> anyhow::Result<Stopped> {
    let console = child.stdout.take().context("QEMU has no output")?;
    let (ended, end) = mpsc::channel::<()>();
    let printer = std::thread::spawn(move || {
        print(console);
        drop(ended);
    });
    let stopped = match end.recv_timeout(patience) {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            child.kill().context("cannot end QEMU")?;
            Stopped::ByUs
        }
        _ => Stopped::ByItself,
    };
    let status = child.wait().context("cannot wait for QEMU")?;
    let printed = printer.join();
    if stopped == Stopped::ByItself && !status.success() {
        bail!("{QEMU} failed: {status}");
    }
    match printed {
        Ok(()) => Ok(stopped),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A serial line has a carriage return before each line feed.
fn print(mut console: impl Read) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = console.read(&mut buffer) {
        let text: Vec<u8> = buffer[..length]
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect();
        let mut out = std::io::stdout().lock();
        // Whoever reads may have gone; the guest's end is what counts.
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}

fn say(line: &str) {
    warn_line!("{line}");
}

/// QEMU's descriptors of its files.
const ARCHIVE: RawFd = 3;
const REPORT: RawFd = 4;
const QEMU: &str = "qemu-system-x86_64";
/// Where programs are looked for in the guest.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn a_kernel_is_found_wherever_its_package_puts_it() {
        for files in [
            [
                "lib/modules/6.1.0-9/modules.builtin",
                "boot/vmlinuz-6.1.0-9",
            ],
            [
                "usr/lib/modules/6.1.0-9/a",
                "usr/lib/modules/6.1.0-9/vmlinuz",
            ],
        ] {
            let root = folder(&files);
            let kernel = Kernel::find(root.path()).unwrap();
            assert_eq!(kernel.release, "6.1.0-9");
            assert_eq!(kernel.image, root.path().join(files[1]));
        }
    }

    #[test]
    fn what_is_no_single_kernel_says_what_is_wrong() {
        for (files, expected) in [
            (vec!["boot/vmlinuz-6.1.0-9"], "holds no lib/modules/RELEASE"),
            (
                vec!["lib/modules/6.1.0-9/a"],
                "holds no boot/vmlinuz-6.1.0-9",
            ),
            (
                vec!["lib/modules/6.1.0-9/a", "lib/modules/6.1.0-8/a"],
                "holds two kernels",
            ),
        ] {
            let root = folder(&files);
            let error = Kernel::find(root.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
