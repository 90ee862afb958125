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

/// Lets sockets of the namespace answer from addresses that are not its own.
pub(super) fn allow_foreign_sources(ns: &NetNs, host: &str) -> Result<(), NetError> {
    let settings = [
        ("ipv4/ip_nonlocal_bind", "1"),
        ("ipv6/ip_nonlocal_bind", "1"),
    ];
    write_all(ns, host, &settings)
}

/// Lets the kernel send as many ICMP errors as there are reasons: one a second to a client would make the next refusals
/// look like silence.
pub(crate) fn lift_icmp_limits(ns: &NetNs, host: &str) -> Result<(), NetError> {
    // The types that are limited: none, and one that nobody uses (net/ipv6/icmp.c takes no empty list).
    let settings = [("ipv4/icmp_ratemask", "0"), ("ipv6/icmp/ratemask", "255")];
    write_all(ns, host, &settings)
}

/// Applies the settings of the role.
pub(super) fn configure(ns: &NetNs, host: &str, role: Role) -> Result<(), NetError> {
    let router = if role == Role::Router { ROUTER } else { &[] };
    write_all(ns, host, &[router, EVERYWHERE].concat())
}

fn write_all(
    ns: &NetNs,
    host: &str,
    settings: &[(&'static str, &'static str)],
) -> Result<(), NetError> {
    let written = ns.within(|| settings.iter().try_for_each(|setting| write(setting, host)));
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
    // Link-local addresses are given, not generated: a generated one appears some time after the link, and until
    // then a router sends no neighbour solicitation for what it forwards (net/ipv6/ndisc.c, ndisc_send_ns).
    ("ipv6/conf/default/addr_gen_mode", "1"),
    // A test asks more often than the six refusals a second that a stock kernel answers.
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    // Probe servers take any port.
    ("ipv4/ip_unprivileged_port_start", "0"),
];
