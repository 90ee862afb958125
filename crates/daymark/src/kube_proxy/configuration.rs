//! The fields of `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`), in kube-proxy's order, and its flags.
//!
//! The last column says what daymark makes of a field. It stands in the table of `docs/from-kube-proxy.md` and in
//! `daymark node --help`, and a test holds the three together. What begins with "No meaning" is read, checked for its
//! type, and has no effect.

use std::collections::BTreeMap;

use serde_json::Value;

use super::field::{Field, Row, Shape, Taken, fields};
use super::period::Period;
use super::report::{Report, below};
use super::tree::Tree;

/// `apiVersion` of the file.
pub(crate) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// `kind` of the file.
pub(crate) const KIND: &str = "KubeProxyConfiguration";

fields! {
    /// The whole configuration, as it was given: what was not stays at its zero.
    struct Configuration {
        "kind", "", kind: String = String::new(), "Must be `KubeProxyConfiguration`.";
        "apiVersion", "", api_version: String = String::new(), "Must be `kubeproxy.config.k8s.io/v1alpha1`.";
        "featureGates", "feature-gates", feature_gates: BTreeMap<String, bool> = BTreeMap::new(),
            "With `mode: nftables`, `KubeProxyNFTablesLocalhostNodePorts` refuses what node ports do not serve on loopback. Others have no meaning; those that were set are named in the log.";
        "clientConnection", "", client_connection: ClientConnection = ClientConnection::default(), "A group.";
        "logging", "", logging: Logging = Logging::default(), "A group.";
        "hostnameOverride", "hostname-override", hostname_override: String = String::new(),
            "The name of this node's Node object, else the host's name in lower case. The flag wins over the file.";
        "bindAddress", "bind-address", bind_address: String = String::new(),
            "Its family decides the default health and metrics addresses. An address (not `0.0.0.0` or `::`) replaces the Node's primary one in `nodePortAddresses: primary`.";
        "healthzBindAddress", "healthz-bind-address", healthz_bind_address: String = String::new(),
            "Where `/healthz`, `/livez` and `/readyz` are served: port 10256 of all addresses unless set. One that 127.0.0.1 does not reach is to be written into the probes of `deploy/node.yaml` too: `--validate-only` warns.";
        "metricsBindAddress", "metrics-bind-address", metrics_bind_address: String = String::new(),
            "Where `/metrics`, `/proxyMode`, `/configz` and `/healthz` are served: port 10249 of loopback unless set.";
        "bindAddressHardFail", "bind-address-hard-fail", bind_address_hard_fail: bool = false,
            "A health or metrics address that cannot be bound ends the agent; without it, binding is tried again each 5 s. Either way the Node has kube-proxy's Event, `FailedToStartProxierHealthcheck` or `FailedToStartMetricServer`, and `daymark status` a row for each port.";
        "enableProfiling", "profiling", enable_profiling: bool = false, "No meaning: there is no profiler in the agent.";
        "showHiddenMetricsForVersion", "show-hidden-metrics-for-version", show_hidden_metrics: String = String::new(),
            "No meaning: no metric is hidden.";
        "mode", "proxy-mode", mode: String = String::new(),
            "Every mode is served by nftables; the mode decides the defaults. Unset means `iptables`, and an Event on the Node says so.";
        "iptables", "", iptables: Iptables = Iptables::default(), "A group.";
        "ipvs", "", ipvs: Ipvs = Ipvs::default(), "A group.";
        "nftables", "", nftables: Nftables = Nftables::default(), "A group.";
        "winkernel", "", winkernel: Winkernel = Winkernel::default(), "A group.";
        "detectLocalMode", "detect-local-mode", detect_local_mode: String = String::new(),
            "How own Pods are known: `ClusterCIDR` unless set; `NodeCIDR`, `BridgeInterface`, `InterfaceNamePrefix`.";
        "detectLocal", "", detect_local: DetectLocal = DetectLocal::default(), "A group.";
        "clusterCIDR", "cluster-cidr", cluster_cidr: String = String::new(),
            "The Pods' range, or a range of each family. Without one, `ClusterCIDR` knows no own Pods.";
        "nodePortAddresses", "nodeport-addresses", node_port_addresses: Vec<String> = Vec::new(),
            "Which addresses serve node ports: `primary`, `localhost`, `all` and CIDRs. Unset: `all`, and `primary` with `mode: nftables`.";
        "oomScoreAdj", "oom-score-adj", oom_score_adj: Option<i32> = None,
            "Written to `/proc/self/oom_score_adj`: -999 unless set. Where it may not be lowered, the log says so.";
        "conntrack", "", conntrack: Conntrack = Conntrack::default(), "A group.";
        "configSyncPeriod", "config-sync-period", config_sync_period: Period = Period::ZERO,
            "No meaning: the agent watches, and never asks for everything again while its watch lasts.";
        "portRange", "", port_range: String = String::new(), "No meaning, as in kube-proxy.";
        "windowsRunAsService", "", windows_run_as_service: bool = false, "No meaning on Linux.";
    }
}

fields! {
    /// `clientConnection`.
    struct ClientConnection {
        "kubeconfig", "kubeconfig", kubeconfig: String = String::new(), "How to reach the API.";
        "acceptContentTypes", "", accept_content_types: String = String::new(), "No meaning: the agent reads JSON.";
        "contentType", "kube-api-content-type", content_type: String = String::new(), "No meaning: the agent reads JSON.";
        "qps", "kube-api-qps", qps: f64 = 0.0, "No meaning: the agent holds one watch of each kind and writes few Events.";
        "burst", "kube-api-burst", burst: Option<i32> = None, "No meaning, as `qps`.";
    }
}

fields! {
    /// `logging`.
    struct Logging {
        "format", "logging-format", format: String = String::new(), "No meaning: the log is text.";
        "flushFrequency", "log-flush-frequency", flush_frequency: FlushFrequency = FlushFrequency::default(), "No meaning: each line is written at once.";
        "verbosity", "v", verbosity: Option<i32> = None,
            "4 and more: what developers want to know too. The variable `DAYMARK_LOG` wins. The flag wins over the file.";
        "vmodule", "vmodule", vmodule: Vec<Pattern> = Vec::new(), "No meaning: `DAYMARK_LOG` names parts of the program.";
        "options", "", options: LoggingOptions = LoggingOptions::default(), "A group.";
    }
}

fields! {
    /// An entry of `logging.vmodule`.
    struct Pattern {
        "filePattern", "", file_pattern: String = String::new(), "No meaning.";
        "verbosity", "", verbosity: i32 = 0, "No meaning.";
    }
}

fields! {
    /// `logging.options`.
    struct LoggingOptions {
        "text", "", text: TextOptions = TextOptions::default(), "A group.";
        "json", "", json: JsonOptions = JsonOptions::default(), "A group.";
    }
}

fields! {
    /// `logging.options.text`.
    struct TextOptions {
        "splitStream", "log-text-split-stream", split_stream: bool = false, "No meaning: the log goes to standard error.";
        "infoBufferSize", "log-text-info-buffer-size", info_buffer_size: Quantity = Quantity::default(), "No meaning.";
    }
}

fields! {
    /// `logging.options.json`.
    struct JsonOptions {
        "splitStream", "log-json-split-stream", split_stream: bool = false, "No meaning: the log goes to standard error.";
        "infoBufferSize", "log-json-info-buffer-size", info_buffer_size: Quantity = Quantity::default(), "No meaning.";
    }
}

fields! {
    /// `iptables`.
    struct Iptables {
        "masqueradeBit", "iptables-masquerade-bit", masquerade_bit: Option<i32> = None, "No meaning: daymark marks no packet.";
        "masqueradeAll", "masquerade-all", masquerade_all: bool = false,
            "In this mode and in `ipvs`: traffic to cluster IPs leaves with the node's address. The flag holds in every mode.";
        "localhostNodePorts", "iptables-localhost-nodeports", localhost_node_ports: Option<bool> = None,
            "In this mode: whether node ports are served at 127.0.0.1: true unless set.";
        "syncPeriod", "iptables-sync-period", sync_period: Period = Period::ZERO,
            "In this mode: `/healthz`, `/livez` and `/readyz` turn bad when a change, the first state too, waits for twice as long, be it that commits fail or that one does not return. Nothing is done at intervals.";
        "minSyncPeriod", "iptables-min-sync-period", min_sync_period: Period = Period::ZERO,
            "In this mode: a change is brought to the kernel at once; where more than fifty a second come without end they wait for each other, a quarter of a second, or so long where that is less (and not 0).";
    }
}

fields! {
    /// `ipvs`.
    struct Ipvs {
        "syncPeriod", "ipvs-sync-period", sync_period: Period = Period::ZERO, "In this mode: as `iptables.syncPeriod`.";
        "minSyncPeriod", "ipvs-min-sync-period", min_sync_period: Period = Period::ZERO, "In this mode: as `iptables.minSyncPeriod`.";
        "scheduler", "ipvs-scheduler", scheduler: String = String::new(),
            "No meaning: a new connection goes to a random endpoint. With `mode: ipvs` and a scheduler other than `rr`, an Event says so.";
        "excludeCIDRs", "ipvs-exclude-cidrs", exclude_cidrs: Vec<String> = Vec::new(),
            "Virtual servers of IPVS in these ranges are not kube-proxy's, and stay when its own are removed.";
        "strictARP", "ipvs-strict-arp", strict_arp: bool = false,
            "With `mode: ipvs`: sets `arp_ignore` and `arp_announce`, on which others may rely.";
        "tcpTimeout", "ipvs-tcp-timeout", tcp_timeout: Period = Period::ZERO, "No meaning: connections are tracked by conntrack; see `conntrack`.";
        "tcpFinTimeout", "ipvs-tcpfin-timeout", tcp_fin_timeout: Period = Period::ZERO, "No meaning, as `ipvs.tcpTimeout`.";
        "udpTimeout", "ipvs-udp-timeout", udp_timeout: Period = Period::ZERO, "No meaning, as `ipvs.tcpTimeout`.";
    }
}

fields! {
    /// `nftables`.
    struct Nftables {
        "masqueradeBit", "", masquerade_bit: Option<i32> = None, "No meaning: daymark marks no packet.";
        "masqueradeAll", "", masquerade_all: bool = false, "In this mode: as `iptables.masqueradeAll`.";
        "syncPeriod", "", sync_period: Period = Period::ZERO, "In this mode: as `iptables.syncPeriod`.";
        "minSyncPeriod", "", min_sync_period: Period = Period::ZERO, "In this mode: as `iptables.minSyncPeriod`.";
    }
}

fields! {
    /// `winkernel`.
    struct Winkernel {
        "networkName", "", network_name: String = String::new(), "No meaning on Linux.";
        "sourceVip", "", source_vip: String = String::new(), "No meaning on Linux.";
        "enableDSR", "", enable_dsr: bool = false, "No meaning on Linux.";
        "rootHnsEndpointName", "", root_hns_endpoint_name: String = String::new(), "No meaning on Linux.";
        "forwardHealthCheckVip", "", forward_health_check_vip: bool = false, "No meaning on Linux.";
    }
}

fields! {
    /// `detectLocal`.
    struct DetectLocal {
        "bridgeInterface", "pod-bridge-interface", bridge_interface: String = String::new(),
            "With `detectLocalMode: BridgeInterface`: what comes in through this interface is of own Pods.";
        "interfaceNamePrefix", "pod-interface-name-prefix", interface_name_prefix: String = String::new(),
            "With `detectLocalMode: InterfaceNamePrefix`: what comes in through an interface with a name that begins so.";
    }
}

fields! {
    /// `conntrack`.
    struct Conntrack {
        "maxPerCore", "conntrack-max-per-core", max_per_core: Option<i32> = None,
            "`nf_conntrack_max` is raised to this for each core, 32768 unless set, to 1048576 at most, and never lowered; 0 leaves it as it is.";
        "min", "conntrack-min", min: Option<i32> = None, "And at least to this, 131072 unless set.";
        "tcpEstablishedTimeout", "conntrack-tcp-timeout-established", tcp_established_timeout: Option<Period> = None,
            "`nf_conntrack_tcp_timeout_established`: 24h unless set; 0 leaves it as it is.";
        "tcpCloseWaitTimeout", "conntrack-tcp-timeout-close-wait", tcp_close_wait_timeout: Option<Period> = None,
            "`nf_conntrack_tcp_timeout_close_wait`: 1h unless set; 0 leaves it as it is.";
        "tcpBeLiberal", "conntrack-tcp-be-liberal", tcp_be_liberal: bool = false,
            "`nf_conntrack_tcp_be_liberal` is set; false leaves it as it is.";
        "udpTimeout", "conntrack-udp-timeout", udp_timeout: Period = Period::ZERO, "`nf_conntrack_udp_timeout`; 0 leaves it as it is.";
        "udpStreamTimeout", "conntrack-udp-timeout-stream", udp_stream_timeout: Period = Period::ZERO,
            "`nf_conntrack_udp_timeout_stream`; 0 leaves it as it is.";
    }
}

/// A number of bytes: a text such as `4Ki`, or a number. It is shown again and not used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity(String);

impl Default for Quantity {
    fn default() -> Self {
        Self("0".to_owned())
    }
}

impl Field for Quantity {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        match tree {
            Tree::Integer(number) => self.0 = number.to_string(),
            other => self.0.take_tree(at, other, report),
        }
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        self.0.take_flag(name, text)
    }

    fn json(&self) -> Value {
        self.0.json()
    }
}

/// A span of time, or a number of nanoseconds: component-base's `TimeOrMetaDuration`. The other form of the two is what
/// kubeadm writes into every ConfigMap: `flushFrequency: 0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlushFrequency(pub(crate) Period);

impl Field for FlushFrequency {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        match tree {
            Tree::Integer(nanos) => self.0 = Period::nanos(*nanos),
            other => self.0.take_tree(at, other, report),
        }
    }

    fn take_flag(&mut self, name: &str, text: &str) -> Taken {
        self.0.take_flag(name, text)
    }

    fn json(&self) -> Value {
        self.0.json()
    }
}

/// `logging.vmodule`: a list in the file, a text as a flag.
impl Field for Vec<Pattern> {
    fn take_tree(&mut self, at: &str, tree: &Tree, report: &mut Report) {
        match tree {
            Tree::List(items) => {
                self.clear();
                for (index, item) in items.iter().enumerate() {
                    let mut pattern = Pattern::default();
                    pattern.take_tree(&format!("{at}[{index}]"), item, report);
                    self.push(pattern);
                }
            }
            Tree::Null => {}
            other => report.refuse(at, other, "this is a list of patterns with their verbosity"),
        }
    }

    fn take_flag(&mut self, name: &str, _text: &str) -> Taken {
        if name.is_empty() {
            Taken::Yes
        } else {
            Taken::NotHere
        }
    }

    fn json(&self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        self.iter().map(Field::json).collect()
    }
}

/// Every field with its flag and meaning, in order.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    Configuration::rows("", "", "", &mut rows);
    rows
}

/// A flag without a field.
pub(crate) const fn flag_alone(flag: &'static str, shape: Shape, meaning: &'static str) -> Row {
    Row {
        path: String::new(),
        flag,
        shape,
        meaning,
    }
}
