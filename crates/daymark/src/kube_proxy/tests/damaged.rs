//! Configurations that somebody damaged: settings, or an error in a few lines.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::by_file;

const WHOLE: &str = "mode: nftables
clusterCIDR: 10.1.0.0/16,fd00:1::/48
bindAddress: 0.0.0.0
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: [primary, 192.0.2.0/24]
detectLocalMode: ClusterCIDR
detectLocal: {bridgeInterface: cni0, interfaceNamePrefix: veth}
conntrack: {maxPerCore: 0, tcpCloseWaitTimeout: 0s, tcpBeLiberal: true, udpTimeout: 40s}
iptables: {masqueradeAll: false, masqueradeBit: 14, syncPeriod: 30s, localhostNodePorts: true}
nftables: {masqueradeAll: true, minSyncPeriod: 1s, syncPeriod: 30s}
featureGates: {KubeProxyNFTablesLocalhostNodePorts: true}
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 5, burst: 10, contentType: application/json}
logging: {format: text, verbosity: 2}
oomScoreAdj: -999
";

/// A piece of YAML that stands where it does not belong.
const ODDITIES: [&str; 16] = [
    "null",
    "~",
    "-1",
    "1e400",
    "99999999999999999999",
    "[]",
    "{}",
    "[[[[]]]]",
    "{a: {b: c}}",
    "*none",
    "&a [*a]",
    "!!binary x",
    "\"\\u0000\"",
    "|\n  text",
    "? x",
    "'",
];

#[test]
fn a_whole_configuration_is_read() {
    by_file(WHOLE, "").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Oddities for values, lines that come twice or are gone, single characters, and the end cut: settings, or an error that says
    /// something in a few lines.
    #[test]
    fn a_bent_configuration_is_read_or_refused(
        values in vec((any::<Index>(), any::<Index>()), 0..3),
        lines in vec((any::<Index>(), any::<bool>()), 0..3),
        bytes in vec((any::<Index>(), 0x20_u8..0x7f), 0..3),
        cut in proptest::option::weighted(0.2, any::<Index>()),
    ) {
        let mut all: Vec<String> = WHOLE.lines().map(str::to_owned).collect();
        for (at, oddity) in values {
            let line = at.get_mut(&mut all);
            let name = line.split(':').next().unwrap_or_default().to_owned();
            *line = format!("{name}: {}", oddity.get(&ODDITIES));
        }
        for (at, twice) in lines {
            let at = at.index(all.len());
            if twice {
                all.insert(at, all[at].clone());
            } else if all.len() > 1 {
                all.remove(at);
            }
        }
        let mut text = all.join("\n").into_bytes();
        for (at, byte) in bytes {
            *at.get_mut(&mut text) = byte;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Err(error) = by_file(&text, "") {
            let said = format!("{error:#}");
            prop_assert!(!said.is_empty() && said.len() < 10_000, "{} bytes", said.len());
        }
    }
}

/// A document may be deep, or short and unfold into more than memory holds: both are refused at once.
#[test]
fn a_document_that_unfolds_without_end_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let ten = vec![before; 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{ten}]\n");
    }
    let begun = crate::clock::now();
    assert!(by_file(&bomb, "").is_err());
    for depth in [1_000, 100_000] {
        for [open, close] in [["[", "]"], ["{a: ", "}"]] {
            let deep = format!("mode: {}{}\n", open.repeat(depth), close.repeat(depth));
            assert!(by_file(&deep, "").is_err(), "{depth} {open}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}
