//! What a container runtime takes away from the first process of a container: capabilities, places to write, system calls.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::unshare;
use crate::mount;

/// What is left to a process that is confined, for good: it and its children get nothing back.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Its bounding, permitted and effective set; the inheritable and the ambient set are empty.
    pub capabilities: CapabilitySet,
    /// The folders in which it may write; everything else, `/proc` and `/dev` too, is read-only.
    pub writable: Vec<PathBuf>,
}

/// A [`Confinement`] with every path and the filter ready for the kernel.
pub(super) struct Ready {
    capabilities: CapabilitySet,
    writable: Vec<CString>,
    filter: Vec<libc::sock_filter>,
}

impl Ready {
    /// A path with a zero byte names no folder: it stays read-only.
    pub(super) fn prepare(confinement: Confinement) -> Self {
        let path = |path: &PathBuf| CString::new(path.as_os_str().as_bytes()).ok();
        Self {
            capabilities: confinement.capabilities,
            writable: confinement.writable.iter().filter_map(path).collect(),
            filter: filter(),
        }
    }

    /// Between fork and exec, last of all steps.
    pub(super) fn run(&self) -> io::Result<()> {
        self.mounts()?;
        self.drop_capabilities()?;
        install(&self.filter)
    }

    fn mounts(&self) -> io::Result<()> {
        unshare(UnshareFlags::NEWNS)?;
        mount::make_private()?;
        for place in &self.writable {
            rustix::mount::mount_bind(place.as_c_str(), place.as_c_str())?;
        }
        set_mounts(c"/", libc::AT_RECURSIVE, libc::MOUNT_ATTR_RDONLY, 0)?;
        for place in &self.writable {
            set_mounts(place, 0, 0, libc::MOUNT_ATTR_RDONLY)?;
        }
        Ok(())
    }

    /// Root gets what its bounding set has when it executes a program (capabilities(7)), and without new privileges no more
    /// than it has at that moment.
    fn drop_capabilities(&self) -> io::Result<()> {
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if self.capabilities.contains(one) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // Behind the last that this kernel knows.
                Err(rustix::io::Errno::INVAL) => break,
                removed => removed?,
            }
        }
        rustix::thread::clear_ambient_capability_set()?;
        rustix::thread::set_no_new_privs(true)?;
        let sets = CapabilitySets {
            effective: self.capabilities,
            permitted: self.capabilities,
            inheritable: CapabilitySet::empty(),
        };
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }
}

/// Sets and clears attributes of a mount, or of all below it (mount_setattr(2), Linux 5.12).
fn set_mounts(path: &CStr, flags: i32, set: u64, clear: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: path and attributes are live for the call, and the size of the latter is passed with it.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// From here on every system call passes the filter (seccomp(2)); it needs no capability once there are no new privileges.
fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads the program, which is live for the call, and keeps a copy (seccomp_prepare_filter).
    let code = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the runtimes' default profile refuses to a container without `CAP_SYS_ADMIN` and its like; theirs lists what is allowed,
/// of which there is more than this system has, and here stands what is not.
fn filter() -> Vec<libc::sock_filter> {
    let mut filter = vec![load(NUMBER)];
    for call in REFUSED {
        filter.extend([unless_equal(number(call), 1), answer(libc::EPERM)]);
    }
    // Its flags are in memory that no filter reads: C libraries fall back to clone.
    filter.extend([
        unless_equal(number(libc::SYS_clone3), 1),
        answer(libc::ENOSYS),
    ]);
    for (call, refused) in [
        (libc::SYS_clone, unless_set(NEW_NAMESPACES, 1)),
        (libc::SYS_socket, unless_equal(libc::AF_VSOCK as u32, 1)),
    ] {
        filter.extend([
            unless_equal(number(call), 4),
            load(FIRST_ARGUMENT),
            refused,
            answer(libc::EPERM),
            load(NUMBER),
        ]);
    }
    filter.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    filter
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("a system call's number")
}

const fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

const fn answer(errno: i32) -> libc::sock_filter {
    statement(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32)
}

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0)
}

const fn unless_equal(value: u32, skip: u8) -> libc::sock_filter {
    jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip)
}

const fn unless_set(bits: u32, skip: u8) -> libc::sock_filter {
    jump(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, bits, skip)
}

const fn jump(code: u32, k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip,
        k,
    }
}

const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// Offsets in `struct seccomp_data` (linux/seccomp.h); of an argument the half that matters here, where bytes are little-endian.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") {
    16
} else {
    20
};

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

const REFUSED: [libc::c_long; 46] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::Isolation;
    use super::*;
    use crate::ns::isolated_test;

    #[test]
    fn a_confined_child_has_what_is_left_and_nothing_else() {
        let test = "process::confine::tests::a_confined_child_has_what_is_left_and_nothing_else";
        isolated_test(test, || {
            let folder =
                std::env::temp_dir().join(format!("daymark-confined-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let tries = "grep -E '^(Cap|NoNewPrivs:|Seccomp:)' /proc/self/status | tr '\\t\\n' '  '\n\
                touch \"$0/here\" && echo wrote\n\
                { touch \"$0/../elsewhere\"; } 2>/dev/null || echo read-only\n\
                { unshare --user true; } 2>/dev/null || echo no new namespace\n\
                true";
            let mut command = Command::new("/bin/sh");
            command.args(["-c", tries]).arg(&folder);
            Isolation {
                confinement: Some(Confinement {
                    capabilities: CapabilitySet::NET_ADMIN,
                    writable: vec![folder.clone()],
                }),
                ..Isolation::default()
            }
            .apply(&mut command);
            let output = command.output().unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            let net_admin = "0000000000001000";
            let none = "0000000000000000";
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                format!(
                    "CapInh: {none} CapPrm: {net_admin} CapEff: {net_admin} CapBnd: {net_admin} CapAmb: {none} \
                     NoNewPrivs: 1 Seccomp: 2 wrote\nread-only\nno new namespace\n"
                ),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        });
    }
}
