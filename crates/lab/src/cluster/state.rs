//! What a lab's state folder says of it.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use daymark_sys::ns::NetNs;
use serde::{Deserialize, Serialize};

use super::kubeconfig::write_private;

/// What another process needs to know to get into a lab. Paths under `/proc` are good inside only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// A process of the lab, as the machine sees it.
    pub outer_pid: u32,
    /// The nodes.
    pub nodes: Vec<NodeRecord>,
    /// The outside host's network namespace.
    pub outside: PathBuf,
    /// The API's port on the machine's loopback.
    pub api_port: Option<u16>,
}

/// What another process needs to know of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub network: PathBuf,
    /// Its kubelet's socket.
    pub control: PathBuf,
    /// Its agent's socket, for `daymark explain` and `daymark status`.
    pub agent: PathBuf,
}

impl Record {
    /// Writes the record into a lab's state folder.
    ///
    /// # Errors
    /// As the file system gives them.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        write_private(&state.join(FILE), &serde_json::to_string_pretty(self)?)
    }

    pub(super) fn read(state: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&std::fs::read_to_string(
            state.join(FILE),
        )?)?)
    }
}

/// A namespace as processes of the lab can open it, while this process lives.
pub(super) fn descriptor_path(ns: &NetNs) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), ns.as_raw_fd()).into()
}

const FILE: &str = "lab.json";
