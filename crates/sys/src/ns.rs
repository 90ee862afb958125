//! Namespaces: enter fresh ones, make more, work inside one, join those of a running process.
//!
//! A program that wants a lab calls [`enter`] first thing in `main`: it moves the process into namespaces
//! of its own, without root, and leaves nothing behind however it ends. From then on it is root *there*:
//! [`NetNs::create`] makes further network namespaces, [`NetNs::run`] and [`NetNs::within`] work inside one,
//! and another process of the same user gets in with [`join`].

mod enter;
mod error;
mod isolated;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

pub use enter::{Entered, Inside, UserNamespace, enter};
pub use error::{EnterError, Forbidden, JoinError, forbidden_by};
pub use isolated::{Ran, isolated_test};

/// A network namespace, held by a file descriptor: it lives as long as any clone, socket or process in it.
#[derive(Clone, Debug)]
pub struct NetNs(Arc<OwnedFd>);

impl NetNs {
    /// The network namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The network namespace behind a `/proc/PID/ns/net`, `/proc/PID/fd/N` or bind-mounted file.
    ///
    /// # Errors
    /// When the file cannot be opened. That it is a namespace shows only when it is used.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(File::open(path)?.into())))
    }

    /// A new network namespace with nothing in it but a `lo` that is down.
    ///
    /// It is made by a short-lived thread, so that the caller stays where it is.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN` in the user namespace, ENOSPC at `user.max_net_namespaces`.
    pub fn create() -> io::Result<Self> {
        in_thread(|| {
            unshare(UnshareFlags::NEWNET)?;
            Self::current()
        })
    }

    /// Runs `f` inside this namespace on a thread of its own, and waits for its result.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or the thread not be started.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> io::Result<R> {
        in_thread(|| {
            self.move_thread()?;
            Ok(f())
        })
    }

    /// Runs `f` inside this namespace on the calling thread, which comes back afterwards.
    ///
    /// For opening sockets: a socket stays in the namespace it was made in. Must not span an `.await`.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> io::Result<R> {
        let home = Return(Self::current()?);
        self.move_thread()?;
        let result = f();
        drop(home);
        Ok(result)
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN` over the namespace, EINVAL when the file was none.
    pub fn move_thread(&self) -> io::Result<()> {
        Ok(rustix::thread::move_into_link_name_space(
            self.0.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Brings a thread home, also when the work in between panicked.
struct Return(NetNs);

impl Drop for Return {
    fn drop(&mut self) {
        if self.0.move_thread().is_err() {
            // Every later socket of this thread would land in the wrong network, unseen.
            std::process::abort();
        }
    }
}

/// Moves the calling process into the user, mount, network, IPC, UTS and (for its children) pid namespaces
/// of a running process of the same user. Call it before any thread exists.
///
/// The working directory is kept where the path exists on the other side too.
///
/// # Errors
/// [`JoinError::Gone`] when there is no such process, [`JoinError::Refused`] when it belongs to someone else
/// or the caller already has threads.
pub fn join(pid: u32) -> Result<(), JoinError> {
    let gone = |_| JoinError::Gone { pid };
    let raw = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(JoinError::Gone { pid })?;
    let directory = std::env::current_dir().ok();
    let handle = rustix::process::pidfd_open(raw, PidfdFlags::empty()).map_err(gone)?;
    let mut kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    if !same_user_namespace(pid).map_err(|source| JoinError::Refused { pid, source })? {
        kinds |= ThreadNameSpaceType::USER;
    }
    rustix::thread::move_into_thread_name_spaces(handle.as_fd(), kinds).map_err(|errno| {
        JoinError::Refused {
            pid,
            source: errno.into(),
        }
    })?;
    if let Some(directory) = directory {
        // The lab sees the same files, so this fails only for a directory that was removed meanwhile.
        let _ = std::env::set_current_dir(directory);
    }
    Ok(())
}

/// The kernel refuses to re-enter the user namespace that a process is already in.
fn same_user_namespace(pid: u32) -> io::Result<bool> {
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/user"))?;
    Ok(theirs == std::fs::read_link("/proc/self/ns/user")?)
}

/// `unshare(2)` of anything but the file descriptor table.
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(
        !flags.contains(UnshareFlags::FILES),
        "descriptors are shared between threads"
    );
    // SAFETY: the one hazard rustix names is CLONE_FILES (descriptors of other threads vanish); no caller
    // in this crate asks for it, and namespaces do not touch memory.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Runs `f` on a new thread and hands its result back; a panic inside continues in the caller.
fn in_thread<R: Send>(f: impl FnOnce() -> io::Result<R> + Send) -> io::Result<R> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".into())
            .spawn_scoped(scope, f)?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
