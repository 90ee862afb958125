//! Child processes in namespaces of their own, and what a thread gives up.

mod confine;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags};

use crate::mount::{self, Bind};
use crate::ns::NetNs;
pub use confine::Confinement;

/// Where a child process runs, as far as it differs from its parent. The default changes nothing.
#[derive(Debug, Default)]
pub struct Isolation {
    /// A set of new namespaces, before anything else.
    pub namespaces: Namespaces,
    /// The network namespace to run in.
    pub network: Option<NetNs>,
    /// The mount namespace to run in.
    pub mounts: Mounts,
    /// A host name of its own, in a UTS namespace of its own.
    pub hostname: Option<String>,
    /// Its place among sessions and process groups.
    pub session: Session,
    /// What happens to it when the thread that started it ends.
    pub lifetime: Lifetime,
    /// Descriptors the child finds under these numbers (3 and up).
    pub descriptors: Vec<(OwnedFd, RawFd)>,
    /// What a container runtime would take away from it; last of all.
    pub confinement: Option<Confinement>,
}

/// New namespaces for a child process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// Those of the parent.
    #[default]
    Inherited,
    /// User (single-id map, the child is root), mount (private), network (`lo` down), IPC and UTS. The
    /// parent may have threads.
    Fresh,
}

/// The mount namespace of a child process.
#[derive(Debug, Default)]
pub enum Mounts {
    /// The parent's.
    #[default]
    Shared,
    /// A private copy of the parent's, with these on top.
    Own(Vec<Bind>),
    /// An existing one (`/proc/PID/ns/mnt`).
    Join(OwnedFd),
}

/// The session of a child process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// The parent's: a terminal's ^C reaches the child.
    #[default]
    Shared,
    /// One of its own, whose leader it is: its pid is also its process group.
    Own,
}

/// How long a child process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as it likes.
    #[default]
    Independent,
    /// At most as long as the *thread* that starts it (`PR_SET_PDEATHSIG`): start it from one that stays.
    BoundToThread,
}

impl Isolation {
    /// Makes `command` start its child so. When a step fails, the spawn fails with its error.
    pub fn apply(self, command: &mut Command) -> &mut Command {
        Steps::prepare(self).apply(command)
    }
}

/// An [`Isolation`] with every string and path ready for the kernel.
struct Steps {
    isolation: Isolation,
    id_maps: [(&'static std::ffi::CStr, Vec<u8>); 3],
    hostname: Option<CString>,
    confinement: Option<confine::Ready>,
    /// Who starts the child.
    parent: Pid,
}

impl Steps {
    fn prepare(mut isolation: Isolation) -> Self {
        let confinement = isolation.confinement.take();
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let id_maps = [
            (c"/proc/self/setgroups", b"deny".to_vec()),
            (c"/proc/self/uid_map", format!("0 {uid} 1").into_bytes()),
            (c"/proc/self/gid_map", format!("0 {gid} 1").into_bytes()),
        ];
        // A name with a zero byte is none: the child keeps its parent's.
        let hostname = isolation
            .hostname
            .as_deref()
            .and_then(|name| CString::new(name).ok());
        Self {
            isolation,
            id_maps,
            hostname,
            confinement: confinement.map(confine::Ready::prepare),
            parent: rustix::process::getpid(),
        }
    }

    fn apply(self, command: &mut Command) -> &mut Command {
        // SAFETY: `Steps::run` makes system calls on memory prepared before and allocates nothing, as a child
        // between fork and exec must.
        unsafe { command.pre_exec(move || self.run()) }
    }

    /// Between fork and exec. In order: new namespaces, those joined, mounts, name, session, descriptors, and what is taken away.
    fn run(&self) -> io::Result<()> {
        if self.isolation.namespaces == Namespaces::Fresh {
            self.fresh()?;
        }
        if let Some(network) = &self.isolation.network {
            network.move_thread()?;
        }
        self.mounts()?;
        if let Some(hostname) = &self.hostname {
            unshare(UnshareFlags::NEWUTS)?;
            rustix::system::sethostname(hostname.as_bytes())?;
        }
        if self.isolation.session == Session::Own {
            rustix::process::setsid()?;
        }
        if self.isolation.lifetime == Lifetime::BoundToThread {
            self.bind()?;
        }
        self.isolation
            .descriptors
            .iter()
            .try_for_each(|(from, to)| duplicate(from, *to))?;
        self.confinement
            .as_ref()
            .map_or(Ok(()), confine::Ready::run)
    }

    /// Ends with the thread that starts it. That one waits for the exec, but a signal may have ended its process
    /// before the prctl: then the child has another parent already, and no signal will come.
    fn bind(&self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        match rustix::process::getppid() {
            // None: the parent lives in a pid namespace outside the child's.
            None => Ok(()),
            Some(parent) if parent == self.parent => Ok(()),
            Some(_) => Err(rustix::io::Errno::SRCH.into()),
        }
    }

    fn fresh(&self) -> io::Result<()> {
        unshare(UnshareFlags::NEWUSER)?;
        for (path, text) in &self.id_maps {
            let file = rustix::fs::open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, text)?;
        }
        unshare(
            UnshareFlags::NEWNS
                | UnshareFlags::NEWNET
                | UnshareFlags::NEWIPC
                | UnshareFlags::NEWUTS,
        )?;
        mount::make_private()
    }

    fn mounts(&self) -> io::Result<()> {
        match &self.isolation.mounts {
            Mounts::Shared => Ok(()),
            Mounts::Own(binds) => {
                unshare(UnshareFlags::NEWNS)?;
                mount::make_private()?;
                binds.iter().try_for_each(Bind::mount)
            }
            Mounts::Join(fd) => Ok(rustix::thread::move_into_link_name_space(
                fd.as_fd(),
                Some(LinkNameSpaceType::Mount),
            )?),
        }
    }
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no caller asks for CLONE_FILES, the one hazard of this call; the child has one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Makes `from` readable under the number `to` in the program that is executed next.
fn duplicate(from: &OwnedFd, to: RawFd) -> io::Result<()> {
    if from.as_raw_fd() == to {
        return Ok(rustix::io::fcntl_setfd(from, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: dup2 takes plain numbers; `to` belongs to no one in this child, which executes another program
    // next and uses only what it was given.
    match unsafe { libc::dup2(from.as_raw_fd(), to) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives up every capability of the calling thread but those in `keep`, for good: threads keep their own.
///
/// # Errors
/// None that a correct kernel gives: a thread may always give up its own.
pub fn drop_capabilities(keep: CapabilitySet) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let held = rustix::thread::capabilities(None)?;
    let sets = CapabilitySets {
        effective: held.effective & keep,
        permitted: held.permitted & keep,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Gives memory that is free in this process back to the kernel (`malloc_trim(3)`). glibc keeps what lies between things that are in
/// use: after a large load, which needs more than it leaves behind, some megabytes. Another allocator is left alone.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a plain number and the locks of the allocator, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes over a descriptor that a parent process left open under this number.
///
/// # Errors
/// EBADF when nothing is open there; InvalidInput for standard input, output and error.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors 0 to 2 are not inherited sockets",
        ));
    }
    // SAFETY: F_SETFD takes plain numbers and fails on a closed descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above), and was left by the parent for this process: nothing in
    // this process owns it before the one call that the caller makes for this number.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::ns::isolated_test;

    #[test]
    fn a_child_runs_in_the_named_network_with_its_own_hosts_and_name() {
        isolated_test(
            "process::tests::a_child_runs_in_the_named_network_with_its_own_hosts_and_name",
            || {
                let network = NetNs::create().unwrap();
                let folder =
                    std::env::temp_dir().join(format!("daymark-process-{}", std::process::id()));
                std::fs::write(&folder, "192.0.2.7 pod\n").unwrap();
                let bind = Bind::new(&folder, std::path::Path::new("/etc/hosts")).unwrap();
                let mut command = Command::new("/bin/sh");
                command.args([
                    "-c",
                    "readlink /proc/self/ns/net; cat /etc/hosts; cat /proc/sys/kernel/hostname",
                ]);
                Isolation {
                    network: Some(network.clone()),
                    mounts: Mounts::Own(vec![bind]),
                    hostname: Some("pod-1".into()),
                    session: Session::Own,
                    ..Isolation::default()
                }
                .apply(&mut command);
                let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
                let inside = network
                    .run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap())
                    .unwrap();
                assert_eq!(
                    output,
                    format!("{}\n192.0.2.7 pod\npod-1\n", inside.display())
                );
                assert_ne!(
                    std::fs::read_to_string("/etc/hosts").unwrap(),
                    "192.0.2.7 pod\n"
                );
                std::fs::remove_file(folder).unwrap();
            },
        );
    }

    #[test]
    fn a_descriptor_arrives_under_its_number() {
        let (mut read, write) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo here >&7"]);
        Isolation {
            descriptors: vec![(write.into(), 7)],
            ..Isolation::default()
        }
        .apply(&mut command);
        assert!(command.status().unwrap().success());
        drop(command);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here\n");
    }

    #[test]
    fn a_child_whose_parent_is_gone_does_not_start_when_bound_to_it() {
        let start = |parent: Option<Pid>| {
            let mut steps = Steps::prepare(Isolation {
                lifetime: Lifetime::BoundToThread,
                ..Isolation::default()
            });
            steps.parent = parent.unwrap_or(steps.parent);
            steps.apply(&mut Command::new("/bin/true")).status()
        };
        assert!(start(None).unwrap().success());
        // As if another process had started it: the one that it finds itself a child of is not that one.
        let other = rustix::process::getppid().unwrap_or(Pid::INIT);
        let refused = start(Some(other)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_closed_number_is_not_inherited() {
        assert_eq!(
            inherited(999).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert_eq!(
            inherited(1).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn a_thread_without_capabilities_cannot_make_a_namespace_and_its_sisters_still_can() {
        isolated_test(
            "process::tests::a_thread_without_capabilities_cannot_make_a_namespace_and_its_sisters_still_can",
            || {
                let poor = std::thread::spawn(|| {
                    drop_capabilities(CapabilitySet::empty()).unwrap();
                    let socket = TcpListener::bind("0.0.0.0:0").map(drop);
                    (NetNs::create().map(drop), socket)
                });
                let (made, bound) = poor.join().unwrap();
                assert_eq!(made.unwrap_err().raw_os_error(), Some(libc::EPERM));
                bound.unwrap();
                NetNs::create().unwrap();
            },
        );
    }
}
