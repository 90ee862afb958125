//! Into fresh namespaces, with nothing left behind however the program ends.
//!
//! One process becomes three:
//!
//! ```text
//! caller      waits, passes SIGTERM and SIGHUP on, ends with the program's exit code
//!   init      pid 1 of the new pid namespace; reaps orphans; dies with the caller (PR_SET_PDEATHSIG)
//!     program   the one that returns `Entered::Inside` and goes on
//! ```
//!
//! When init ends, the kernel kills every process of its pid namespace: a `kill -9` of any of the three
//! ends all, and with the last process and descriptor go the namespaces, links and tables.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::error::{EnterError, forbidden_by};
use super::unshare;
use crate::mount;

/// Whether a user namespace is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// Always: also root works with the rights of an ordinary user.
    Always,
    /// Not when the caller already may administer the machine's network and mounts (bpf(2) and forced socket
    /// buffers work only in the first user namespace).
    UnlessPrivileged,
}

/// Which of the processes the caller finds itself in after [`enter`].
#[derive(Debug)]
pub enum Entered {
    /// The program, inside: go on.
    Inside(Inside),
    /// The process that was called. The program has ended: return this code from `main`.
    Outside(ExitCode),
}

/// Facts the program inside could not find out later.
#[derive(Clone, Copy, Debug)]
pub struct Inside {
    /// The program's process id as the machine sees it, for [`join`](super::join).
    pub outer_pid: u32,
}

/// Moves the program into new user (single-id map), mount, network, IPC, UTS and pid namespaces.
///
/// Inside: uid 0 with every capability over these namespaces; all mounts private; a fresh `/proc`; the files
/// of the machine with the rights of the user who called. Call it first thing in `main`.
///
/// # Errors
/// See [`EnterError`]: each variant carries its remedy. Nothing has changed for the machine on any of them;
/// the process itself may be inside a part of the namespaces and should end.
pub fn enter(user: UserNamespace) -> Result<Entered, EnterError> {
    single_threaded()?;
    if user == UserNamespace::Always || !privileged() {
        user_namespace()?;
    }
    let rest = [
        (UnshareFlags::NEWNS, "mount namespaces", "CONFIG_NAMESPACES"),
        (UnshareFlags::NEWNET, "network namespaces", "CONFIG_NET_NS"),
        (UnshareFlags::NEWPID, "pid namespaces", "CONFIG_PID_NS"),
        (
            UnshareFlags::NEWIPC | UnshareFlags::NEWUTS,
            "IPC and UTS namespaces",
            "CONFIG_IPC_NS, CONFIG_UTS_NS",
        ),
    ];
    for (flags, what, option) in rest {
        unshare(flags).map_err(|error| refused(error, what, option))?;
    }
    mount::make_private().map_err(|source| EnterError::Mount {
        what: "all of / as private",
        source,
    })?;
    split()
}

/// A user namespace in which the caller is root, and nobody else exists.
fn user_namespace() -> Result<(), EnterError> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    unshare(UnshareFlags::NEWUSER)
        .map_err(|error| refused(error, "user namespaces", "CONFIG_USER_NS"))?;
    // An unprivileged user may map one id only, and groups only after giving up setgroups(2)
    // (user_namespaces(7), "Interaction with system calls that change process UIDs or GIDs").
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|source| EnterError::IdMap { file, source })?;
    }
    Ok(())
}

fn refused(error: io::Error, what: &'static str, option: &'static str) -> EnterError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS) => {
            EnterError::Forbidden(forbidden_by(sysctl))
        }
        Some(libc::EINVAL | libc::ENOSYS) => EnterError::Missing { what, option },
        _ => EnterError::Call {
            call: "unshare(2)",
            source: error,
        },
    }
}

fn sysctl(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    text.trim().parse().ok()
}

fn single_threaded() -> Result<(), EnterError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(|source| EnterError::Call {
        call: "reading /proc",
        source,
    })?;
    match threads.count() {
        0 | 1 => Ok(()),
        count => Err(EnterError::Threads { count }),
    }
}

fn privileged() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Forks init, which forks the program.
fn split() -> Result<Entered, EnterError> {
    let call = |call| move |source| EnterError::Call { call, source };
    let (alive, keep) = rustix::pipe::pipe().map_err(|errno| call("pipe(2)")(errno.into()))?;
    let signals = Signals::block().map_err(call("sigprocmask(2)"))?;
    match fork().map_err(call("fork(2)"))? {
        Some(init) => {
            let code = attend(init, &signals);
            drop(keep);
            Ok(Entered::Outside(ExitCode::from(code)))
        }
        None => {
            drop(keep);
            init(&alive, signals)
        }
    }
}

/// pid 1. Returns only in the program, its child.
fn init(caller_alive: &OwnedFd, signals: Signals) -> Result<Entered, EnterError> {
    let call = |call| move |source| EnterError::Call { call, source };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| call("prctl(PR_SET_PDEATHSIG)")(errno.into()))?;
    // The caller may have died before the line above; its end of the pipe tells.
    let mut caller = [PollFd::new(caller_alive, PollFlags::empty())];
    let ready = rustix::event::poll(
        &mut caller,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    );
    if ready.is_ok_and(|count| count > 0) {
        end(1);
    }
    // Still the machine's /proc: it knows the pid that others see.
    match fork().map_err(call("fork(2)"))? {
        Some(program) => end(attend(program, &signals)),
        None => {
            signals.restore().map_err(call("sigprocmask(2)"))?;
            let outer_pid = outer_pid().map_err(call("reading /proc/self"))?;
            mount::proc("/proc").map_err(|source| EnterError::Mount {
                what: "proc on /proc",
                source,
            })?;
            sysctls_writable()?;
            Ok(Entered::Inside(Inside { outer_pid }))
        }
    }
}

fn sysctls_writable() -> Result<(), EnterError> {
    match File::options()
        .write(true)
        .open("/proc/sys/net/ipv4/ip_forward")
    {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Err(EnterError::ReadOnlySysctl)
        }
        Err(source) => Err(EnterError::Call {
            call: "opening net.ipv4.ip_forward",
            source,
        }),
        Ok(_) => Ok(()),
    }
}

fn outer_pid() -> io::Result<u32> {
    let link = std::fs::read_link("/proc/self")?;
    let pid = link.to_str().and_then(|text| text.parse().ok());
    pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self is not a number"))
}

/// Waits until `child` ends, reaping whatever else ends meanwhile; its exit code as a shell would give it.
///
/// SIGTERM and SIGHUP are passed on. SIGINT is not: a terminal sends ^C to the whole group, the program has it.
fn attend(child: Pid, signals: &Signals) -> u8 {
    loop {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == child {
                let code = status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
                return code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            }
        }
        if matches!(signals.next(), libc::SIGTERM | libc::SIGHUP) {
            // The child may have ended in this moment: the next round sees it.
            let _ = rustix::process::kill_process(child, Signal::TERM);
        }
    }
}

/// The signals that a waiting process takes one by one instead of being ended by them.
struct Signals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl Signals {
    fn block() -> io::Result<Self> {
        // SAFETY: sigset_t is plain data, for which all zeroes is a valid value.
        let mut signals: Self = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are live for the calls, which only write into them; the process has one thread.
        let code = unsafe {
            libc::sigemptyset(&mut signals.set);
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
                libc::sigaddset(&mut signals.set, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &signals.set, &mut signals.before)
        };
        if code == 0 {
            Ok(signals)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Waits for the next one of the set; 0 when the wait was interrupted.
    fn next(&self) -> i32 {
        // SAFETY: the set is live for the call; a null info pointer is allowed (sigwaitinfo(2)).
        let signal = unsafe { libc::sigwaitinfo(&self.set, std::ptr::null_mut()) };
        signal.max(0)
    }

    fn restore(&self) -> io::Result<()> {
        // SAFETY: the old mask is live and initialised by `block`; a null old-set pointer is allowed.
        let code =
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
        if code == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// `fork(2)`: the child's pid in the parent, `None` in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: `enter` checked that this process has one thread, so the child finds no lock held by another
    // and may go on as a full program.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Ends init at once: the exit handlers and buffers belong to the caller and the program.
fn end(code: u8) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused_before_anything_changes() {
        // libtest runs this on a thread beside its own, unless asked for one thread.
        let other = std::thread::spawn(std::thread::park);
        let refused = enter(UserNamespace::Always);
        other.thread().unpark();
        assert!(
            matches!(refused, Err(EnterError::Threads { count }) if count > 1),
            "{refused:?}"
        );
        other.join().unwrap();
    }
}
