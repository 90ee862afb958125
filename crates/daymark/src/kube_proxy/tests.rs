//! Files and flags in, what the agent runs with out.

mod damaged;

use std::io::Write;
use std::time::Duration;

use clap::Parser;
use daymark_model::input::{Detector, MasqueradeAll};
use daymark_model::node_ports::{NodePortAddresses, UnnamedFamily};
use daymark_model::rules::{Invalid, Mode, Rules, UnservedLoopback};
use daymark_model::{Cidr, InterfacePattern};
use daymark_node::health::Busy;

use super::configuration::rows;
use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

fn flags(words: &str) -> Result<Flags, clap::Error> {
    let words = ["node"].into_iter().chain(words.split_whitespace());
    Ok(Program::try_parse_from(words)?.flags)
}

fn by_flags(words: &str) -> anyhow::Result<Decided> {
    decide(&flags(words)?, "Host-1")
}

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn by_file(body: &str, words: &str) -> anyhow::Result<Decided> {
    let mut file = tempfile::NamedTempFile::new()?;
    write!(file, "{HEAD}{body}")?;
    let words = format!("--config {} {words}", file.path().display());
    decide(&flags(&words)?, "Host-1")
}

#[test]
fn without_a_file_and_a_mode_the_defaults_are_daymarks() {
    let Decided { settings, .. } = by_flags("").unwrap();
    assert_eq!(&*settings.options.node_name, "host-1");
    assert_eq!(settings.options.detector, Detector::NodeCidr);
    assert_eq!(settings.options.rules.unnamed_family, UnnamedFamily::Closed);
    assert_eq!(settings.healthz, Some("[::]:10256".parse().unwrap()));
    assert_eq!(settings.metrics, Some("127.0.0.1:10249".parse().unwrap()));
    assert_eq!(settings.busy, Busy::Fail);
    assert_eq!(settings.sysctls, daymark_node::sysctls::Wanted::default());
    assert_eq!(settings.oom_score, None);
    assert_eq!(settings.notices, []);
}

#[test]
fn in_kube_proxys_place_the_defaults_are_those_of_its_mode() {
    let check = |mode: &str, node_ports: &[&str], reasons: &[&str]| {
        let decided = if mode.is_empty() {
            by_file("", "")
        } else {
            by_flags(&format!("--proxy-mode {mode}"))
        };
        let settings = decided.unwrap().settings;
        let expected = NodePortAddresses::parse(node_ports).unwrap();
        assert_eq!(settings.options.node_port_addresses, expected, "{mode}");
        assert_eq!(
            settings.options.rules.unnamed_family,
            UnnamedFamily::Open,
            "{mode}"
        );
        assert_eq!(settings.options.detector, Detector::None, "{mode}");
        assert_eq!(settings.healthz, Some("0.0.0.0:10256".parse().unwrap()));
        assert_eq!(settings.metrics, Some("127.0.0.1:10249".parse().unwrap()));
        assert_eq!(settings.patience.as_secs(), 60);
        assert_eq!(settings.oom_score, Some(-999));
        assert_eq!(settings.sysctls.tcp_established, Some(86_400));
        let found: Vec<_> = settings
            .notices
            .iter()
            .map(|notice| notice.reason)
            .collect();
        assert_eq!(found, reasons, "{mode}");
    };
    let iptables = ["all", "127.0.0.0/8"];
    check("", &iptables, &["KubeProxyDefaultMode", "ServedByNftables"]);
    check("iptables", &iptables, &["ServedByNftables"]);
    check("ipvs", &["all"], &["ServedByNftables"]);
    check("nftables", &["primary"], &[]);
}

#[test]
fn what_passes_in_kube_proxys_place_is_noted_unless_it_was_chosen() {
    let noted = |flags: &str, choices: &[&str]| {
        let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
        let mut settings = by_flags(flags).unwrap().settings;
        settings.notices.clear();
        settings.choose(&choices).unwrap();
        let notices = settings.notices.iter().map(|notice| {
            let passes = notice.message.split(&[':', ';'][..]).nth(1).unwrap();
            format!("{}{passes}", notice.reason)
        });
        notices.collect::<Vec<String>>()
    };
    let nftables = "--proxy-mode nftables";
    assert_eq!(
        noted(nftables, &[]),
        ["LetThrough unknown-ports=refuse-at-cluster-ips, invalid=let-through"]
    );
    assert_eq!(
        noted(nftables, &["invalid=drop", "unknown-ports=let-through"]),
        Vec::<String>::new()
    );
    assert_eq!(
        noted("", &["unallocated=let-through"]),
        Vec::<String>::new()
    );
    let mut settings = by_flags("").unwrap().settings;
    let error = settings
        .choose(&["unallocated=refuse".to_owned()])
        .unwrap_err();
    let words = "--choice unallocated=refuse: there is no such choice or word; there are ranges-of-one-family={closed, open} ";
    assert!(error.to_string().starts_with(words), "{error}");
}

#[test]
fn a_file_is_read_to_what_the_agent_runs_with() {
    let body = "
mode: nftables
bindAddress: fd00::7
hostnameOverride: Node-7
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 7, burst: 3}
clusterCIDR: 10.1.0.0/16,fd00:1::/48
nodePortAddresses: [localhost, 10.0.0.0/8]
nftables: {masqueradeAll: yes, syncPeriod: 1m}
conntrack: {maxPerCore: 0, tcpCloseWaitTimeout: 0s, tcpBeLiberal: true, udpTimeout: 40s}
oomScoreAdj: -5
bindAddressHardFail: true
metricsBindAddress: 0.0.0.0
";
    let Decided {
        settings,
        given,
        remarks,
    } = by_file(body, "").unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    let options = &settings.options;
    assert_eq!(&*options.node_name, "node-7");
    assert!(matches!(&options.detector, Detector::Cidrs(two) if two.len() == 2));
    assert_eq!(options.masquerade_all, MasqueradeAll::Yes);
    let node_ports = NodePortAddresses::parse(&["localhost", "10.0.0.0/8"]);
    assert_eq!(options.node_port_addresses, node_ports.unwrap());
    assert_eq!(settings.primary, Some("fd00::7".parse().unwrap()));
    assert_eq!(settings.healthz, Some("[::]:10256".parse().unwrap()));
    assert_eq!(settings.metrics, Some("0.0.0.0:10249".parse().unwrap()));
    assert_eq!(
        (settings.busy, settings.patience.as_secs()),
        (Busy::Fail, 120)
    );
    assert_eq!(settings.sysctls.max, None);
    assert_eq!(settings.sysctls.tcp_close_wait, None);
    assert_eq!(settings.sysctls.udp, Some(40));
    assert_eq!(settings.sysctls.tcp, daymark_node::sysctls::Tcp::Liberal);
    let access = given.access(&Flags::default());
    assert_eq!(
        access.kubeconfig,
        Some("/var/lib/kube-proxy/kubeconfig.conf".into())
    );
}

/// `config.conf` of the ConfigMap `kube-system/kube-proxy` as kubeadm writes it: every field, most at the zero of its Go type.
const KUBEADM: &str = include_str!("kubeadm.yaml");

#[test]
fn what_kubeadm_writes_is_read_without_a_remark_in_every_mode() {
    for mode in ["\"\"", "iptables", "ipvs", "nftables"] {
        let text = KUBEADM.replace("mode: \"\"", &format!("mode: {mode}"));
        let body = text.strip_prefix(HEAD).expect("the head of each file");
        let Decided {
            settings, remarks, ..
        } = by_file(body, "").unwrap_or_else(|error| panic!("{mode}: {error:#}"));
        assert_eq!(remarks, Vec::<String>::new(), "{mode}");
        assert!(matches!(&settings.options.detector, Detector::Cidrs(one) if one.len() == 1));
        assert_eq!(settings.healthz, Some("0.0.0.0:10256".parse().unwrap()));
    }
}

#[test]
fn the_frequency_of_flushes_is_a_time_or_nanoseconds() {
    let shown = |value: &str| {
        let decided = by_file(&format!("logging: {{flushFrequency: {value}}}\n"), "");
        decided
            .map(|decided| decided.given.configuration.json()["logging"]["flushFrequency"].clone())
    };
    assert_eq!(shown("5000000000").unwrap(), "5s");
    assert_eq!(shown("5s").unwrap(), "5s");
    let error = shown("[5]").unwrap_err().to_string();
    assert!(error.contains("logging.flushFrequency"), "{error}");
}

#[test]
fn own_pods_are_known_by_what_the_mode_of_detection_says() {
    let check = |words: &str, expected: Detector| {
        let found = by_flags(words).unwrap().settings.options.detector;
        assert_eq!(found, expected, "{words}");
    };
    let interface = |text| Detector::Interface(InterfacePattern::parse(text).unwrap());
    check(
        "--detect-local-mode NodeCIDR --proxy-mode nftables",
        Detector::NodeCidr,
    );
    check(
        "--detect-local-mode BridgeInterface --pod-bridge-interface cni0",
        interface("cni0"),
    );
    check(
        "--detect-local-mode InterfaceNamePrefix --pod-interface-name-prefix veth",
        interface("veth*"),
    );
    let range = Detector::Cidrs(vec![Cidr::parse("10.1.0.0/16").unwrap()]);
    check("--cluster-cidr 10.1.0.0/16", range);
    for (words, field) in [
        (
            "--detect-local-mode BridgeInterface",
            "--pod-bridge-interface: \"\"",
        ),
        (
            "--detect-local-mode InterfaceNamePrefix",
            "--pod-interface-name-prefix: \"\"",
        ),
        ("--detect-local-mode Pods", "--detect-local-mode: \"Pods\""),
    ] {
        let said = by_flags(words).unwrap_err().to_string();
        assert!(said.contains(field), "{said}");
    }
}

#[test]
fn what_the_rules_leave_open_is_as_in_the_mode() {
    let rules = |words: &str| by_flags(words).unwrap().settings.options.rules;
    assert_eq!(rules(""), Rules::default());
    for mode in Mode::ALL {
        assert_eq!(rules(&format!("--proxy-mode {mode}")), Rules::of_mode(mode));
    }
    let liberal = rules("--proxy-mode iptables --conntrack-tcp-be-liberal");
    assert_eq!(liberal.invalid, Invalid::LetThrough);
}

#[test]
fn a_file_wins_over_flags_but_for_the_name_and_the_log() {
    let words =
        "--hostname-override NODE-9 -v 5 --proxy-mode ipvs --conntrack-min 7 --kubeconfig /k";
    let decided = by_file("mode: nftables\nhostnameOverride: node-7\n", words).unwrap();
    assert_eq!(&*decided.settings.options.node_name, "node-9");
    assert_eq!(decided.log_level(), "debug");
    assert_eq!(decided.settings.notices, []);
    assert_eq!(decided.settings.sysctls.max.unwrap().least, 131_072);
    assert_eq!(
        decided.given.configuration.client_connection.kubeconfig,
        "/k"
    );
    assert_eq!(
        decided.remarks,
        ["beside --config these flags have no effect: --proxy-mode, --conntrack-min"]
    );
}

#[test]
fn fields_that_are_not_known_or_stand_there_twice_are_read_over_and_said() {
    let body = "
mode: foo
Mode: iptables
mode: nftables
metadata: {name: x}
conntrack: {max: 1, min: 5}
featureGates: {NFTablesNetlink: true}
iptables: {masqueradeBit: null}
";
    let decided = by_file(body, "").unwrap();
    let unknown = "there is no such field; check its spelling and its place";
    assert_eq!(
        decided.remarks,
        [
            "the configuration: mode: it stands there again further down, and the last one counts"
                .to_owned(),
            format!("the configuration: Mode: {unknown}"),
            format!("the configuration: metadata: {unknown}"),
            format!("the configuration: conntrack.max: {unknown}"),
            "daymark has none of these feature gates; they have no effect: NFTablesNetlink"
                .to_owned(),
        ]
    );
    assert_eq!(decided.settings.sysctls.max.unwrap().least, 5);
}

/// What kube-proxy 1.37.2 refuses too, in one message of it.
#[test]
fn everything_that_cannot_be_used_is_named_at_once() {
    let body = "
mode: 5
bindAddress: abc
healthzBindAddress: 1.2.3.4:99999999
metricsBindAddress: host:12
clusterCIDR: 10.0.0.0/8,10.1.0.0/16
oomScoreAdj: -5000
configSyncPeriod: -3s
nodePortAddresses: [primary, primary, 10.0.0.1, Local]
conntrack: {maxPerCore: -1, tcpEstablishedTimeout: 15, udpTimeout: -1s}
iptables: {masqueradeBit: 40, syncPeriod: -1s}
ipvs: {excludeCIDRs: [x]}
logging: {format: xml}
";
    let said = by_file(body, "").unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().skip(1).map(str::trim).collect();
    let fields: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    let expected = [
        "mode",
        "conntrack.tcpEstablishedTimeout",
        "bindAddress",
        "conntrack.maxPerCore",
        "iptables.masqueradeBit",
        "conntrack.udpTimeout",
        "iptables.syncPeriod",
        "configSyncPeriod",
        "clusterCIDR",
        "nodePortAddresses[1]",
        "nodePortAddresses[2]",
        "nodePortAddresses[3]",
        "healthzBindAddress",
        "metricsBindAddress",
        "oomScoreAdj",
        "ipvs.excludeCIDRs[0]",
        "logging.format",
    ];
    let sorted = |mut all: Vec<&str>| {
        all.sort_unstable();
        all.join(" ")
    };
    assert_eq!(sorted(fields), sorted(expected.to_vec()), "{said}");
    for line in [
        "mode: 5 cannot be used: this is a number, and the field takes a text",
        "conntrack.maxPerCore: -1 cannot be used: write 0 or more",
        "clusterCIDR: \"10.0.0.0/8,10.1.0.0/16\" cannot be used: write one range, or one of each family, as in \
         10.100.0.0/16,fde4:8dba:82e1::/48",
    ] {
        assert!(lines.contains(&line), "{line} is not in {said}");
    }
}

#[test]
fn flags_are_named_as_flags() {
    let said = by_flags(
        "--proxy-mode foo --nodeport-addresses a,all --oom-score-adj 2000 --cluster-cidr x",
    );
    let said = said.unwrap_err().to_string();
    for part in [
        "the flags cannot be used:",
        "--proxy-mode: \"foo\"",
        "--nodeport-addresses[0]: \"a\"",
        "--oom-score-adj: 2000",
        "--cluster-cidr: \"x\"",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    for (words, part) in [
        (
            "--conntrack-min x",
            "--conntrack-min: \"x\" cannot be used: the flag takes a whole number",
        ),
        ("--iptables-sync-period 15", "a time with its unit"),
        ("--healthz-port x", "a port from 0 to 65535"),
        ("--foo", "unexpected argument '--foo'"),
    ] {
        let said = flags(words).unwrap_err().to_string();
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn flags_are_taken_as_kube_proxy_takes_them() {
    let words = "--masquerade-all --iptables-localhost-nodeports=false --proxy-mode=iptables --nodeport-addresses 10.0.0.0/8 \
                 --nodeport-addresses 0.0.0.0/0 --healthz-port 0 --metrics-port 99 --node-name n --log-json-info-buffer-size 4Ki";
    let Decided { settings, .. } = by_flags(words).unwrap();
    assert_eq!(settings.options.masquerade_all, MasqueradeAll::Yes);
    let expected = NodePortAddresses::parse(&["10.0.0.0/8", "0.0.0.0/0"]).unwrap();
    assert_eq!(settings.options.node_port_addresses, expected);
    assert_eq!(settings.healthz, None);
    assert_eq!(settings.metrics, Some("127.0.0.1:99".parse().unwrap()));
    assert_eq!(&*settings.options.node_name, "n");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let rows = [
        (
            "apiVersion: kubeproxy.config.k8s.io/v1beta1\nkind: KubeProxyConfiguration\n",
            "v1beta1",
        ),
        ("mode: iptables\n", "apiVersion \"\""),
        ("- a\n", "group of fields"),
        ("a: [", "no YAML or JSON"),
    ];
    for (text, part) in rows {
        let mut report = Report::default();
        let error = load::text_of(text, &mut report).map(drop).unwrap_err();
        let said = format!("{error} {:?}", report.refused);
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

/// The defaults that kube-proxy 1.37.2 writes, but for what daymark says of itself.
#[test]
fn the_defaults_that_are_written_are_kube_proxys() {
    let text = default_file();
    let mut report = Report::default();
    let read = load::text_of(&text, &mut report).unwrap();
    assert_eq!(report.refused, []);
    assert_eq!(report.ignored, []);
    assert_eq!(read, Configuration::default().completed());
    for line in [
        "bindAddress: 0.0.0.0",
        "configSyncPeriod: 15m0s",
        "  maxPerCore: 32768",
        "  tcpEstablishedTimeout: 24h0m0s",
        "  udpTimeout: 0s",
        "detectLocalMode: ClusterCIDR",
        "healthzBindAddress: 0.0.0.0:10256",
        "  localhostNodePorts: true",
        "  masqueradeBit: 14",
        "nodePortAddresses: null",
        "oomScoreAdj: -999",
        "  qps: 5",
    ] {
        let bare = text.replace('"', "");
        assert!(
            bare.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn every_field_has_its_row_in_the_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/from-kube-proxy.md");
    let document = std::fs::read_to_string(path).unwrap();
    let mut wanted = Vec::new();
    for row in rows().into_iter().chain(flags::ALONE) {
        let code = |text: &str, dashes: &str| match text {
            "" => String::new(),
            text => format!("`{dashes}{text}`"),
        };
        assert!(!row.meaning.is_empty(), "{row:?}");
        let dashes = if row.flag.len() == 1 { "-" } else { "--" };
        wanted.push(format!(
            "| {} | {} | {} |",
            code(&row.path, ""),
            code(row.flag, dashes),
            row.meaning
        ));
    }
    let found: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| ") && wanted.iter().any(|row| row == line))
        .collect();
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|row| !found.contains(&row.as_str()))
        .collect();
    let shown: String = missing.iter().map(|row| format!("{row}\n")).collect();
    assert!(
        missing.is_empty(),
        "docs/from-kube-proxy.md lacks:\n{shown}"
    );
}

#[test]
fn the_gate_for_loopback_refuses_what_is_not_served_there_in_mode_nftables_alone() {
    let read = |mode: &str, gate: &str| {
        let decided = by_file(&format!("mode: {mode}\n{gate}"), "").unwrap();
        decided.settings.options.rules.unserved_loopback
    };
    let on = "featureGates: {KubeProxyNFTablesLocalhostNodePorts: true}\n";
    let off = "featureGates: {KubeProxyNFTablesLocalhostNodePorts: false}\n";
    assert_eq!(read("nftables", on), UnservedLoopback::Refuse);
    for (mode, gate) in [("nftables", off), ("nftables", ""), ("iptables", on)] {
        let found = read(mode, gate);
        assert_eq!(found, UnservedLoopback::LetThrough, "{mode} {gate}");
    }
}

/// Every kind of field, in the words of a cluster's own ConfigMap.
#[test]
fn changes_without_end_wait_for_each_other_no_longer_than_the_modes_own_min_sync_period() {
    let pause = |body: &str| by_file(body, "").unwrap().settings.longest_pause;
    let millis = |number| Some(Duration::from_millis(number));
    assert_eq!(pause("mode: nftables\n"), millis(1_000));
    assert_eq!(pause("mode: iptables\n"), millis(1_000));
    assert_eq!(pause("mode: ipvs\n"), None);
    let all = "iptables: {minSyncPeriod: 30ms}\nipvs: {minSyncPeriod: 20ms}\nnftables: {minSyncPeriod: 10ms}\n";
    for (mode, longest) in [("iptables", 30), ("ipvs", 20), ("nftables", 10)] {
        let body = format!("mode: {mode}\n{all}");
        assert_eq!(pause(&body), millis(longest), "{mode}");
    }
}
