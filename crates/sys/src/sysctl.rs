//! Kernel settings under `/proc/sys`.
//!
//! What lies under `net/` belongs to the network namespace of the thread that opens the file.

use std::fs;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// One setting, by its path below `/proc/sys`: `net/ipv4/ip_forward`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sysctl {
    name: String,
}

/// Why a setting was not read or written.
#[derive(Debug, Error)]
pub enum SysctlError {
    /// There is no such setting.
    #[error(
        "sysctl {name} does not exist: the kernel lacks the feature, or its module is not loaded"
    )]
    Absent {
        /// Its path below `/proc/sys`.
        name: String,
    },
    /// `/proc/sys` is mounted read-only.
    #[error(
        "sysctl {name} cannot be set to {value:?}: /proc/sys is read-only (in a container, run it privileged or set the value on the host)"
    )]
    ReadOnly {
        /// Its path below `/proc/sys`.
        name: String,
        /// What was to be written.
        value: String,
    },
    /// This thread may not.
    #[error(
        "sysctl {name}: permission denied (it needs root or CAP_NET_ADMIN in its namespace; some settings belong to the host alone)"
    )]
    Denied {
        /// Its path below `/proc/sys`.
        name: String,
    },
    /// The kernel does not take this value.
    #[error("sysctl {name} does not take the value {value:?}")]
    Value {
        /// Its path below `/proc/sys`.
        name: String,
        /// What was to be written.
        value: String,
    },
    /// Anything else.
    #[error("sysctl {name}: {source}")]
    Io {
        /// Its path below `/proc/sys`.
        name: String,
        /// What happened.
        source: io::Error,
    },
}

impl Sysctl {
    /// A setting, by its path below `/proc/sys`; interface names may hold dots, so that slashes separate.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its path below `/proc/sys`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value, without the newline.
    ///
    /// # Errors
    /// [`SysctlError`].
    pub fn read(&self) -> Result<String, SysctlError> {
        let text = fs::read_to_string(self.path()).map_err(|source| self.failed(source, ""))?;
        Ok(text.trim_end().to_owned())
    }

    /// Sets its value.
    ///
    /// # Errors
    /// [`SysctlError`]; a value that is set already is written again.
    pub fn write(&self, value: &str) -> Result<(), SysctlError> {
        fs::write(self.path(), value).map_err(|source| self.failed(source, value))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(&self.name)
    }

    fn failed(&self, source: io::Error, value: &str) -> SysctlError {
        let (name, value) = (self.name.clone(), value.to_owned());
        match source.kind() {
            io::ErrorKind::NotFound => SysctlError::Absent { name },
            io::ErrorKind::ReadOnlyFilesystem => SysctlError::ReadOnly { name, value },
            io::ErrorKind::PermissionDenied => SysctlError::Denied { name },
            io::ErrorKind::InvalidInput => SysctlError::Value { name, value },
            _ => SysctlError::Io { name, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_without_its_newline() {
        let hostname = Sysctl::new("kernel/ostype").read().unwrap();
        assert_eq!(hostname, "Linux");
    }

    #[test]
    fn a_setting_that_is_not_there_says_so() {
        let error = Sysctl::new("net/no/such/thing").read().unwrap_err();
        assert!(matches!(error, SysctlError::Absent { .. }), "{error}");
        assert!(error.to_string().contains("net/no/such/thing"));
    }

    /// An ordinary user is refused by the file's mode, root by the lack of a write bit.
    #[test]
    fn a_setting_that_cannot_be_written_says_so() {
        let error = Sysctl::new("kernel/ostype").write("Minix").unwrap_err();
        assert!(
            matches!(
                error,
                SysctlError::Denied { .. } | SysctlError::ReadOnly { .. } | SysctlError::Io { .. }
            ),
            "{error}"
        );
    }
}
