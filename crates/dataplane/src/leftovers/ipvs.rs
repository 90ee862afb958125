//! What kube-proxy's mode ipvs leaves beside chains: which ipsets and virtual servers are its own.
//!
//! Virtual servers have no owner's name: those of kube-proxy are all but the ones that it was told to leave alone
//! (`ipvs.excludeCIDRs`), since in that mode it removes every other one itself, and those with a firewall's mark, which it
//! never makes. (kubernetes `pkg/proxy/ipvs/proxier.go`, `ipset.go`, `cleanup.go`.)

use daymark_model::Cidr;
use daymark_netlink::ipvs::VirtualServer;
use daymark_sys::ipvs::IpvsSocket;
use daymark_sys::netlink::QueryError;

/// Every name that a set of kube-proxy's has.
pub fn set_names() -> impl Iterator<Item = String> {
    let six = SETS.iter().map(|name| {
        let mut name = name.replacen("KUBE-", "KUBE-6-", 1);
        name.truncate(NAME);
        name
    });
    SETS.iter().map(ToString::to_string).chain(six)
}

/// What became of virtual servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// How many were removed.
    pub removed: usize,
    /// Those that stay because they are not kube-proxy's.
    pub kept: Vec<VirtualServer>,
}

/// Removes kube-proxy's virtual servers from the network namespace of this thread. A kernel without IPVS has none.
///
/// # Errors
/// [`QueryError`]
pub fn remove_servers(spared: &[Cidr]) -> Result<Servers, QueryError> {
    let Some(mut socket) = IpvsSocket::open()? else {
        return Ok(Servers::default());
    };
    let servers = socket.servers()?.into_iter();
    let (going, kept): (Vec<_>, Vec<_>) = servers.partition(|one| is_kube_proxys(one, spared));
    for server in &going {
        socket.remove(*server)?;
    }
    Ok(Servers {
        removed: going.len(),
        kept,
    })
}

fn is_kube_proxys(server: &VirtualServer, spared: &[Cidr]) -> bool {
    match server {
        VirtualServer::Mark { .. } => false,
        VirtualServer::Address { address, .. } => {
            !spared.iter().any(|cidr| cidr.contains(*address))
        }
    }
}

/// Its ipsets of IPv4. Those of IPv6 are `KUBE-6-` in place of `KUBE-`, cut to [`NAME`].
const SETS: [&str; 17] = [
    "KUBE-LOOP-BACK",
    "KUBE-CLUSTER-IP",
    "KUBE-EXTERNAL-IP",
    "KUBE-EXTERNAL-IP-LOCAL",
    "KUBE-LOAD-BALANCER",
    "KUBE-LOAD-BALANCER-LOCAL",
    "KUBE-LOAD-BALANCER-FW",
    "KUBE-LOAD-BALANCER-SOURCE-IP",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR",
    "KUBE-NODE-PORT-TCP",
    "KUBE-NODE-PORT-LOCAL-TCP",
    "KUBE-NODE-PORT-UDP",
    "KUBE-NODE-PORT-LOCAL-UDP",
    "KUBE-NODE-PORT-SCTP-HASH",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
    "KUBE-HEALTH-CHECK-NODE-PORT",
    "KUBE-IPVS-IPS",
];

/// The longest name of a set, bytes (`IPSET_MAXNAMELEN` less its zero).
const NAME: usize = 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_ipv6_have_names_of_their_own_that_fit() {
        let all: Vec<String> = set_names().collect();
        assert_eq!(all.len(), 34);
        assert!(all.iter().all(|name| name.len() <= 31), "{all:?}");
        for name in [
            "KUBE-CLUSTER-IP",
            "KUBE-6-CLUSTER-IP",
            // One byte too long.
            "KUBE-6-LOAD-BALANCER-SOURCE-CID",
            "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS",
        ] {
            assert!(
                all.iter().any(|one| one == name),
                "{name} is not in {all:?}"
            );
        }
    }

    #[test]
    fn what_kube_proxy_was_told_to_leave_alone_and_marks_stay() {
        let spared = [Cidr::parse("192.0.2.0/24").unwrap()];
        let at = |address: &str| VirtualServer::Address {
            protocol: 6,
            address: address.parse().unwrap(),
            port: 80,
        };
        assert!(is_kube_proxys(&at("10.96.0.1"), &spared));
        assert!(is_kube_proxys(&at("fd00::1"), &spared));
        assert!(!is_kube_proxys(&at("192.0.2.7"), &spared));
        let marked = VirtualServer::Mark { family: 2, mark: 1 };
        assert!(!is_kube_proxys(&marked, &spared));
    }
}
