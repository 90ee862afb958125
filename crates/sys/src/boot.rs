//! What the first process of a machine does: the usual mounts, kernel modules, loopback, and the end.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;

use rustix::mount::MountFlags;
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, init_module, reboot};

/// Mounts what programs expect: `/proc`, `/sys` with cgroups and BPF objects below it, `/dev`.
///
/// # Errors
/// The path that could not be mounted, in the message. Folders that are missing are made.
pub fn mount_usual() -> io::Result<()> {
    for (kind, target, need) in USUAL {
        let mounted = std::fs::create_dir_all(target).and_then(|()| {
            Ok(rustix::mount::mount(
                *kind,
                *target,
                *kind,
                MountFlags::empty(),
                None::<&CStr>,
            )?)
        });
        match mounted {
            Err(error) if *need == Need::Always => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("mounting {target}: {error}"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a machine is of use without a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    /// The kernel may lack it.
    Perhaps,
}

/// Kind, place.
const USUAL: &[(&str, &str, Need)] = &[
    ("proc", "/proc", Need::Always),
    ("sysfs", "/sys", Need::Always),
    ("devtmpfs", "/dev", Need::Always),
    ("cgroup2", "/sys/fs/cgroup", Need::Perhaps),
    ("bpf", "/sys/fs/bpf", Need::Perhaps),
];

/// Puts a kernel module, as the bytes of its `.ko` file, into the kernel. One that is there already is no error.
///
/// # Errors
/// ENOENT when it needs a symbol of a module that is not loaded, EPERM without `CAP_SYS_MODULE`, ENOEXEC for a
/// module of another kernel (`init_module(2)`).
pub fn load_module(image: &[u8]) -> io::Result<()> {
    match init_module(image, c"") {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Raises `lo` in the network namespace of this thread (`netdevice(7)`).
///
/// # Errors
/// EPERM without `CAP_NET_ADMIN`.
pub fn raise_loopback() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Buries the children that ended and that nobody waits for: the first process inherits every orphan.
pub fn reap_orphans() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Switches the machine off; on success it does not return.
///
/// # Errors
/// EPERM without `CAP_SYS_BOOT`.
pub fn power_off() -> io::Result<()> {
    Ok(reboot(RebootCommand::PowerOff)?)
}
