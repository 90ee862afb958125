//! What fields that were not given come to, as in kube-proxy (`pkg/proxy/apis/config/v1alpha1/defaults.go`), and the
//! whole of it in kube-proxy's order for `--write-config-to` and `/configz`.

use super::configuration::{API_VERSION, Configuration, KIND};
use super::period::Period;

/// kube-proxy's health port.
pub(crate) const HEALTH_PORT: u16 = 10256;
/// kube-proxy's metrics port.
pub(crate) const METRICS_PORT: u16 = 10249;

impl Configuration {
    /// Fills in what was not given and does not depend on the mode.
    #[must_use]
    pub(crate) fn completed(mut self) -> Self {
        let fill = |text: &mut String, default: &str| {
            if text.is_empty() {
                default.clone_into(text);
            }
        };
        fill(&mut self.kind, KIND);
        fill(&mut self.api_version, API_VERSION);
        fill(&mut self.bind_address, "0.0.0.0");
        let (all, loopback) = if self.bind_address.contains(':') {
            ("[::]", "[::1]")
        } else {
            ("0.0.0.0", "127.0.0.1")
        };
        fill(
            &mut self.healthz_bind_address,
            &format!("{all}:{HEALTH_PORT}"),
        );
        fill(
            &mut self.metrics_bind_address,
            &format!("{loopback}:{METRICS_PORT}"),
        );
        fill(&mut self.detect_local_mode, "ClusterCIDR");
        fill(&mut self.client_connection.content_type, "application/json");
        fill(&mut self.logging.format, "text");
        self.oom_score_adj.get_or_insert(-999);
        self.fill_numbers_and_times();
        self
    }

    fn fill_numbers_and_times(&mut self) {
        self.iptables.masquerade_bit.get_or_insert(14);
        self.iptables.localhost_node_ports.get_or_insert(true);
        self.nftables.masquerade_bit.get_or_insert(14);
        let client = &mut self.client_connection;
        client.burst.get_or_insert(10);
        if client.qps == 0.0 {
            client.qps = 5.0;
        }
        self.logging.verbosity.get_or_insert(0);
        let conntrack = &mut self.conntrack;
        conntrack.max_per_core.get_or_insert(32_768);
        conntrack.min.get_or_insert(131_072);
        conntrack
            .tcp_established_timeout
            .get_or_insert(Period::seconds(86_400));
        conntrack
            .tcp_close_wait_timeout
            .get_or_insert(Period::seconds(3_600));
        for (period, seconds) in [
            (&mut self.iptables.sync_period, 30),
            (&mut self.iptables.min_sync_period, 1),
            (&mut self.ipvs.sync_period, 30),
            (&mut self.nftables.sync_period, 30),
            (&mut self.nftables.min_sync_period, 1),
            (&mut self.config_sync_period, 900),
            (&mut self.logging.flush_frequency.0, 5),
        ] {
            if *period == Period::ZERO {
                *period = Period::seconds(seconds);
            }
        }
    }
}
