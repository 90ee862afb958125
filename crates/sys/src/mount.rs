//! Mounts inside a mount namespace of one's own: nothing here shows outside once [`make_private`] was called.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Cuts every mount off from its twin outside: later mounts stay in this namespace.
///
/// # Errors
/// EPERM without `CAP_SYS_ADMIN` over the mount namespace.
pub fn make_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// A fresh `proc`: it shows the pid namespace of the caller, and is writable where the machine's is not.
///
/// # Errors
/// EPERM in a container that masks parts of `/proc` (`mount_too_revealing` in fs/namespace.c).
pub fn proc(target: &str) -> io::Result<()> {
    Ok(rustix::mount::mount(
        "proc",
        target,
        "proc",
        secure(),
        None,
    )?)
}

/// A fresh `sysfs`: its `class/net` shows the network namespace of the caller.
///
/// # Errors
/// EPERM when the caller does not own its network namespace.
pub fn sysfs(target: &str) -> io::Result<()> {
    Ok(rustix::mount::mount(
        "sysfs",
        target,
        "sysfs",
        secure(),
        None,
    )?)
}

/// An empty `tmpfs`, of at most `bytes`, that only its owner may read.
///
/// # Errors
/// ENOENT when the target is not a folder.
pub fn tmpfs(target: &str, bytes: u64) -> io::Result<()> {
    let options = CString::new(format!("mode=0700,size={bytes}")).expect("digits and letters");
    Ok(rustix::mount::mount(
        "tmpfs",
        target,
        "tmpfs",
        secure(),
        Some(options.as_c_str()),
    )?)
}

/// Takes a mount away: from its place at once, and for good when nobody uses it any more.
///
/// # Errors
/// EINVAL when nothing is mounted there.
pub fn detach(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH)?)
}

/// A file or folder shown at the place of another, ready to be mounted without allocating.
#[derive(Clone, Debug)]
pub struct Bind {
    source: CString,
    target: CString,
}

impl Bind {
    /// `source` shall be seen at `target`. Both must exist: a symbolic link is followed to what it names.
    ///
    /// # Errors
    /// NotFound with the missing path and the remedy; InvalidInput for a path with a zero byte.
    pub fn new(source: &Path, target: &Path) -> io::Result<Self> {
        for path in [source, target] {
            if let Err(error) = std::fs::metadata(path) {
                let remedy = format!(
                    "{}: {error} (create it, an empty file will do)",
                    path.display()
                );
                return Err(io::Error::new(error.kind(), remedy));
            }
        }
        Ok(Self {
            source: c_path(source)?,
            target: c_path(target)?,
        })
    }

    /// Mounts it. One system call, safe between fork and exec.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN` over the mount namespace.
    pub fn mount(&self) -> io::Result<()> {
        let (source, target): (&CStr, &CStr) = (&self.source, &self.target);
        Ok(rustix::mount::mount_bind(source, target)?)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn secure() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_onto_a_missing_file_names_the_file_and_the_remedy() {
        let error =
            Bind::new(Path::new("/proc/self/stat"), Path::new("/no/such/file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/no/such/file: "), "{error}");
        assert!(error.to_string().contains("create it"), "{error}");
    }
}
