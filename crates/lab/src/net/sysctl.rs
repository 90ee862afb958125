//! The settings of a namespace, written before its links exist: `default` is what new links copy.

use std::io;

use daymark_sys::ns::NetNs;

use super::NetError;

/// What a namespace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Forwards packets: nodes, and the fabric.
    Router,
    /// Does not: Pods, and the outside host.
    Host,
}

/// Applies the settings of the role.
pub(super) fn configure(ns: &NetNs, host: &str, role: Role) -> Result<(), NetError> {
    let written = ns.run(|| {
        let router = if role == Role::Router { ROUTER } else { &[] };
        router
            .iter()
            .chain(EVERYWHERE)
            .try_for_each(|setting| write(setting, host))
    });
    written.map_err(|source| NetError::Namespace {
        name: host.to_owned(),
        source,
    })?
}

fn write(&(name, value): &(&'static str, &'static str), host: &str) -> Result<(), NetError> {
    let Err(source) = std::fs::write(format!("/proc/sys/net/{name}"), value) else {
        return Ok(());
    };
    let remedy = match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "in a container, start it with --security-opt systempaths=unconfined or --privileged"
        }
        io::ErrorKind::NotFound if name.starts_with("ipv6/") => {
            "the kernel runs without IPv6 (ipv6.disable=1): enable it"
        }
        _ => "see docs/lab.md for what the lab needs",
    };
    Err(NetError::Sysctl {
        name,
        value,
        host: host.to_owned(),
        source,
        remedy,
    })
}

const ROUTER: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    // A redirect would teach a client the way around the node that translates for it.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];

const EVERYWHERE: &[(&str, &str)] = &[
    // The larger of `all` and the link's own value counts.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // A test asks more often than the six refusals a second that a stock kernel answers.
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    // Probe servers take any port.
    ("ipv4/ip_unprivileged_port_start", "0"),
];
