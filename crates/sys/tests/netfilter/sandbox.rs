//! A user namespace for the program and a network namespace for each test.

use std::fs;
use std::io;

use rustix::process::{getgid, getuid};
use rustix::thread::UnshareFlags;

/// Maps this user to root of a new user namespace. Fails once a second thread exists.
pub(crate) fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// A network namespace without anything but a loopback interface that is down.
pub(crate) fn enter_network_namespace() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: file descriptors stay shared and this program has one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
