//! Why a namespace could not be entered, and what its user can do about it.

use std::io;

use thiserror::Error;

/// Why [`enter`](super::enter) failed, with the remedy in the message.
#[derive(Debug, Error)]
pub enum EnterError {
    /// A user namespace can only be made by a process of one thread.
    #[error(
        "this process already has {count} threads: namespaces must be entered before any thread starts"
    )]
    Threads {
        /// Threads of the process, its first one included.
        count: usize,
    },
    /// The machine does not let this user make user namespaces.
    #[error("user namespaces are forbidden on this machine: {0}")]
    Forbidden(Forbidden),
    /// The kernel was built without a kind of namespace.
    #[error("this kernel has no {what} ({option} is not set): use a kernel that has it")]
    Missing {
        /// What is missing, in words.
        what: &'static str,
        /// The kernel's build option.
        option: &'static str,
    },
    /// The id map of the new user namespace was refused.
    #[error(
        "writing {file} of the new user namespace: {source}; run as a user that has a normal uid here, or as root"
    )]
    IdMap {
        /// The file under `/proc/self`.
        file: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file system could not be mounted in the new mount namespace.
    #[error(
        "mounting {what}: {source}; in a container, start it with --security-opt systempaths=unconfined \
         (or --privileged), because a masked /proc forbids a fresh one"
    )]
    Mount {
        /// What was to be mounted where.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `/proc/sys` is read-only, as in most containers: no address could be forwarded.
    #[error(
        "/proc/sys is read-only here, so nodes could not forward packets: start the container with \
         --security-opt systempaths=unconfined or --privileged"
    )]
    ReadOnlySysctl,
    /// Anything else, with the call that failed.
    #[error("{call}: {source}")]
    Call {
        /// The system call, in the manual's spelling.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What forbids user namespaces, found by looking at the settings that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Forbidden {
    /// Debian's switch.
    #[error(
        "kernel.unprivileged_userns_clone is 0; as root: sysctl -w kernel.unprivileged_userns_clone=1"
    )]
    UnprivilegedClone,
    /// The limit is zero or used up.
    #[error(
        "user.max_user_namespaces is {limit}; as root: sysctl -w user.max_user_namespaces=10000"
    )]
    Limit {
        /// The limit as it stands.
        limit: u64,
    },
    /// Ubuntu 24.04 and newer: the namespace is made, but holds no capability.
    #[error(
        "AppArmor restricts them; as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, \
         or give this program a profile that allows userns"
    )]
    AppArmor,
    /// No setting explains it: a seccomp filter, as container engines install, or another security module.
    #[error(
        "no sysctl explains it, so it is a seccomp filter or a security module; in a container, start it with \
         --security-opt seccomp=unconfined, or run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN"
    )]
    Filter,
}

/// Names the setting that forbids user namespaces, given a reader of sysctls (`user.max_user_namespaces`
/// by its dotted name; `None` when the kernel has no such setting).
///
/// In order: Debian's switch, the limit, AppArmor's restriction, and what is left.
pub fn forbidden_by(read: impl Fn(&str) -> Option<u64>) -> Forbidden {
    if read("kernel.unprivileged_userns_clone") == Some(0) {
        return Forbidden::UnprivilegedClone;
    }
    if let Some(0) = read("user.max_user_namespaces") {
        return Forbidden::Limit { limit: 0 };
    }
    if read("kernel.apparmor_restrict_unprivileged_userns").is_some_and(|value| value != 0) {
        return Forbidden::AppArmor;
    }
    Forbidden::Filter
}

/// Why [`join`](super::join) failed.
#[derive(Debug, Error)]
pub enum JoinError {
    /// There is no such process any more.
    #[error("process {pid} is gone: the lab has ended; start it again with daymark lab up")]
    Gone {
        /// The process that was to be joined.
        pid: u32,
    },
    /// The process is there, but its namespaces are not open to the caller.
    #[error(
        "entering the namespaces of process {pid}: {source}; run it as the user who started the lab"
    )]
    Refused {
        /// The process that was to be joined.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}
