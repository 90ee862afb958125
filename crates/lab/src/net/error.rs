//! Why a part of the lab's network could not be built.

use std::io;

use thiserror::Error;

/// Why a part of the lab's network could not be built.
#[derive(Debug, Error)]
pub enum NetError {
    /// The kernel refused one request; those before it stand.
    #[error("{what}: {source}")]
    Refused {
        /// The request as an `ip` command would say it.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The netlink conversation itself failed.
    #[error("route netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// A network namespace could not be made or entered.
    #[error("network namespace of {name}: {source}; see user.max_net_namespaces")]
    Namespace {
        /// Whose namespace.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A setting of a namespace could not be written.
    #[error("sysctl {name} = {value} in {host}: {source}; {remedy}")]
    Sysctl {
        /// The file under `/proc/sys`.
        name: &'static str,
        /// What was to be written.
        value: &'static str,
        /// Whose namespace.
        host: String,
        /// The kernel's answer.
        source: io::Error,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A host of this name is not on the segment.
    #[error("no host {name} on the segment; there are {known}")]
    UnknownHost {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
}
