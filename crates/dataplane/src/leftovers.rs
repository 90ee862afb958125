//! What kube-proxy left in the kernel, by exact name, and how it goes.
//!
//! | mode | what | where it is decided |
//! |---|---|---|
//! | nftables | tables `ip kube-proxy` and `ip6 kube-proxy` | [`nft`] |
//! | iptables, through nf_tables | chains `KUBE-*` of the tables `nat`, `filter` and `mangle` | [`nft`] |
//! | iptables, the older kind | the same, as the text of `iptables-save` | [`text`] |
//! | ipvs | chains as above, ipsets, virtual servers, the device `kube-ipvs0` | [`ipvs`] |
//!
//! Never touched: `KUBE-IPTABLES-HINT` and `KUBE-KUBELET-CANARY`, which are kubelet's; `KUBE-FIREWALL`, which both write
//! alike and kube-proxy never deletes; and a chain that a rule of somebody else still jumps to, with what it needs.
//!
//! The removal is for after this node's own first commit: until then these rules serve its Services.

pub mod ipvs;
pub mod nft;
pub mod text;

use std::collections::BTreeSet;

/// Chains of kube-proxy, all modes. (kubernetes `pkg/proxy/iptables/proxier.go`, `pkg/proxy/ipvs/proxier.go`.)
const CHAINS: [&str; 14] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-MARK-DROP",
];

/// Beginnings of the names of its chains for a Service port or an endpoint; 16 characters of base32 follow.
const PREFIXES: [&str; 6] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-SEP-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-XLB-",
];

/// Whether a chain of this name is kube-proxy's.
#[must_use]
pub fn is_kube_proxys(chain: &str) -> bool {
    let hash = |text: &str| {
        text.len() == 16
            && text
                .bytes()
                .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
    };
    let of_a_port = PREFIXES
        .iter()
        .filter_map(|prefix| chain.strip_prefix(prefix));
    CHAINS.contains(&chain) || of_a_port.into_iter().any(hash)
}

/// A rule that sends packets from one chain to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump<'a> {
    /// The rule's chain.
    pub from: &'a str,
    /// Where it sends them.
    pub to: &'a str,
}

/// Which chains of a table can go: kube-proxy's, but for those that a chain which stays jumps to. `hooks` are the chains
/// that the kernel calls; jumps from there are kube-proxy's own, and go too.
#[must_use]
pub fn removable<'a>(
    chains: impl IntoIterator<Item = &'a str>,
    jumps: &[Jump<'a>],
    hooks: &BTreeSet<&str>,
) -> BTreeSet<&'a str> {
    let mut going: BTreeSet<&str> = chains
        .into_iter()
        .filter(|chain| is_kube_proxys(chain))
        .collect();
    loop {
        let stays = |jump: &&Jump<'a>| {
            going.contains(jump.to) && !going.contains(jump.from) && !hooks.contains(jump.from)
        };
        let Some(needed) = jumps.iter().find(stays).map(|jump| jump.to) else {
            return going;
        };
        going.remove(needed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_kube_proxys_by_their_exact_name() {
        for name in [
            "KUBE-SERVICES",
            "KUBE-PROXY-CANARY",
            "KUBE-SVC-NPX46M4PTMTKRN6Y",
            "KUBE-SEP-2222222222222222",
        ] {
            assert!(is_kube_proxys(name), "{name}");
        }
        for name in [
            "KUBE-IPTABLES-HINT",
            "KUBE-KUBELET-CANARY",
            "KUBE-FIREWALL",
            "KUBE-ROUTER-SERVICES",
            "KUBE-SVC-npx46m4ptmtkrn6y",
            "KUBE-SVC-NPX46M4PTMTKRN6",
            "KUBE-SERVICES-OLD",
            "PREROUTING",
        ] {
            assert!(!is_kube_proxys(name), "{name}");
        }
    }

    #[test]
    fn a_chain_that_others_need_stays_with_what_it_needs() {
        let hooks = BTreeSet::from(["PREROUTING"]);
        let jump = |from, to| Jump { from, to };
        let chains = [
            "PREROUTING",
            "KUBE-SERVICES",
            "KUBE-MARK-MASQ",
            "KUBE-SVC-NPX46M4PTMTKRN6Y",
            "CNI-HOSTPORT",
        ];
        let jumps = [
            jump("PREROUTING", "KUBE-SERVICES"),
            jump("PREROUTING", "CNI-HOSTPORT"),
            jump("KUBE-SERVICES", "KUBE-SVC-NPX46M4PTMTKRN6Y"),
            jump("KUBE-SVC-NPX46M4PTMTKRN6Y", "KUBE-MARK-MASQ"),
        ];
        let going = removable(chains, &jumps, &hooks);
        assert_eq!(going.len(), 3, "{going:?}");
        let needed = [&jumps[..], &[jump("CNI-HOSTPORT", "KUBE-MARK-MASQ")]].concat();
        let going = removable(chains, &needed, &hooks);
        assert!(!going.contains("KUBE-MARK-MASQ"), "{going:?}");
        assert!(going.contains("KUBE-SERVICES"), "{going:?}");
        let through = [
            &jumps[..],
            &[jump("CNI-HOSTPORT", "KUBE-SVC-NPX46M4PTMTKRN6Y")],
        ]
        .concat();
        let going = removable(chains, &through, &hooks);
        assert_eq!(going, BTreeSet::from(["KUBE-SERVICES"]));
    }
}
