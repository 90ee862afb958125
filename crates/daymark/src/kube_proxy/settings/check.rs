//! The values one by one: each is read to what it means, or refused with its path or flag.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use daymark_model::input::Detector;
use daymark_model::node_ports::{EntryError, EntryFault, NodePortAddress, NodePortAddresses};
use daymark_model::rules::Mode;
use daymark_model::{Cidr, InterfacePattern};
use daymark_node::health::Busy;
use daymark_node::sysctls;

use super::{Defaults, sync_period};
use crate::kube_proxy::Given;
use crate::kube_proxy::configuration::{Configuration, rows};
use crate::kube_proxy::defaults::HEALTH_PORT;
use crate::kube_proxy::period::Period;
use crate::kube_proxy::report::Report;

/// What was given, and where refusals go.
pub(super) struct Check<'a> {
    pub(super) given: &'a Given,
    pub(super) report: &'a mut Report,
}

impl Check<'_> {
    fn is_own(&self) -> bool {
        self.given.defaults == Defaults::Own
    }

    /// Names a field as it was given: by its path, or by its flag.
    pub(super) fn refuse(&mut self, path: &str, value: impl std::fmt::Display, why: &str) {
        let (plain, index) = path.split_at(path.find('[').unwrap_or(path.len()));
        let flag = rows()
            .into_iter()
            .find(|row| row.path == plain && !row.flag.is_empty());
        let field = match flag.filter(|_| !self.given.from_file) {
            Some(row) => format!("--{}{index}", row.flag),
            None => path.to_owned(),
        };
        self.report.refuse(&field, value, why);
    }

    pub(super) fn mode(&mut self) -> Mode {
        match self.given.configuration.mode.as_str() {
            "" if self.is_own() => Mode::Nftables,
            "" | "iptables" => Mode::Iptables,
            "ipvs" => Mode::Ipvs,
            "nftables" => Mode::Nftables,
            other => {
                self.refuse(
                    "mode",
                    format!("{other:?}"),
                    "write iptables, ipvs, nftables, or nothing for iptables",
                );
                Mode::Iptables
            }
        }
    }

    /// The address, all zeros if it only names a family.
    pub(super) fn bind_address(&mut self, full: &Configuration) -> Option<IpAddr> {
        let parsed = full.bind_address.parse().ok();
        if parsed.is_none() {
            let why = "write the Node's address, or 0.0.0.0 or :: for its family";
            self.refuse("bindAddress", format!("{:?}", full.bind_address), why);
        }
        parsed
    }

    /// An address with a port, or with that default.
    pub(super) fn address(&mut self, path: &str, text: &str, port: u16) -> Option<SocketAddr> {
        let raw = match path {
            "healthzBindAddress" => &self.given.configuration.healthz_bind_address,
            _ => &self.given.configuration.metrics_bind_address,
        };
        if raw.is_empty() && self.is_own() && port == HEALTH_PORT {
            return Some(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let with_port = |ip| SocketAddr::new(ip, port);
        let address = text.parse().or_else(|_| bare.parse().map(with_port));
        match address {
            Ok(address) if address.port() == 0 => {
                let why = "write a port from 1 to 65535; leave the field out for the default";
                self.refuse(path, format!("{text:?}"), why);
                None
            }
            Ok(address) => Some(address),
            Err(_) => {
                let why =
                    format!("write an address and a port, as in 0.0.0.0:{port} or [::]:{port}");
                self.refuse(path, format!("{text:?}"), &why);
                None
            }
        }
    }

    pub(super) fn busy(&self) -> Busy {
        if self.is_own() || self.given.configuration.bind_address_hard_fail {
            Busy::Fail
        } else {
            Busy::TryAgain
        }
    }

    pub(super) fn detector(&mut self, full: &Configuration) -> Detector {
        let asked = &self.given.configuration;
        if self.is_own() && asked.detect_local_mode.is_empty() && asked.cluster_cidr.is_empty() {
            return Detector::default();
        }
        match full.detect_local_mode.as_str() {
            "ClusterCIDR" => self.cluster_cidrs(full),
            "NodeCIDR" => Detector::NodeCidr,
            "BridgeInterface" => self.interface(
                "detectLocal.bridgeInterface",
                &full.detect_local.bridge_interface,
                "",
            ),
            "InterfaceNamePrefix" => self.interface(
                "detectLocal.interfaceNamePrefix",
                &full.detect_local.interface_name_prefix,
                "*",
            ),
            other => {
                let why = "write ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
                self.refuse("detectLocalMode", format!("{other:?}"), why);
                Detector::None
            }
        }
    }

    /// Own Pods by the interface they come in through; `suffix` stands behind a name that is only a beginning.
    pub(super) fn interface(&mut self, path: &str, name: &str, suffix: &str) -> Detector {
        match InterfacePattern::parse(&format!("{name}{suffix}")) {
            Some(pattern) if !name.is_empty() => Detector::Interface(pattern),
            _ => {
                let why = "detectLocalMode asks for the name of an interface here: up to 15 bytes, no space and no slash";
                self.refuse(path, format!("{name:?}"), why);
                Detector::None
            }
        }
    }

    pub(super) fn cluster_cidrs(&mut self, full: &Configuration) -> Detector {
        let text = &full.cluster_cidr;
        if text.is_empty() {
            return Detector::None;
        }
        let cidrs: Option<Vec<Cidr>> = text
            .split(',')
            .map(|part| Cidr::parse(part.trim()))
            .collect();
        let pair = |cidrs: &[Cidr]| match cidrs {
            [_] => true,
            [first, second] => first.family() != second.family(),
            _ => false,
        };
        match cidrs.filter(|cidrs| pair(cidrs)) {
            Some(cidrs) => Detector::Cidrs(cidrs),
            None => {
                let why = "write one range, or one of each family, as in 10.100.0.0/16,fde4:8dba:82e1::/48";
                self.refuse("clusterCIDR", format!("{text:?}"), why);
                Detector::None
            }
        }
    }

    /// Unset means `primary` with nftables and `all` with the other modes. Of those iptables serves 127.0.0.0/8 too, if
    /// `localhostNodePorts` is not false; the others serve loopback only where it is named.
    pub(super) fn node_port_addresses(
        &mut self,
        full: &Configuration,
        mode: Mode,
    ) -> NodePortAddresses {
        let texts = &self.given.configuration.node_port_addresses;
        let mut entries = match NodePortAddresses::parse(texts) {
            Ok(NodePortAddresses(entries)) => entries,
            Err(errors) => {
                for error in errors {
                    self.refuse_entry(&error);
                }
                Vec::new()
            }
        };
        if entries.is_empty() {
            entries.push(match mode {
                Mode::Nftables => NodePortAddress::Primary,
                Mode::Iptables | Mode::Ipvs => NodePortAddress::All,
            });
        }
        if mode == Mode::Iptables {
            let loopback = NodePortAddress::Cidr(Cidr::parse("127.0.0.0/8").expect("a prefix"));
            let everything = [
                NodePortAddress::All,
                NodePortAddress::Cidr(Cidr::parse("0.0.0.0/0").expect("a prefix")),
            ];
            let wanted = full.iptables.localhost_node_ports == Some(true);
            if wanted && entries.iter().any(|entry| everything.contains(entry)) {
                entries.push(loopback);
            }
            if !wanted {
                entries.retain(|entry| ![loopback, NodePortAddress::Localhost].contains(entry));
            }
        }
        NodePortAddresses(entries)
    }

    pub(super) fn refuse_entry(&mut self, error: &EntryError) {
        let field = format!("nodePortAddresses[{}]", error.index);
        let why = match error.why {
            EntryFault::Duplicate => "it stands there twice; write a keyword once",
            EntryFault::Invalid => "write a range such as 10.0.0.0/8, or primary, localhost or all",
        };
        self.refuse(&field, format!("{:?}", error.value), why);
    }

    pub(super) fn numbers(&mut self, full: &Configuration) {
        let conntrack = &full.conntrack;
        let least = [
            ("conntrack.maxPerCore", conntrack.max_per_core),
            ("conntrack.min", conntrack.min),
            ("clientConnection.burst", full.client_connection.burst),
        ];
        for (path, number) in least {
            if let Some(number) = number.filter(|number| *number < 0) {
                self.refuse(path, number, "write 0 or more");
            }
        }
        let bits = [
            ("iptables.masqueradeBit", full.iptables.masquerade_bit),
            ("nftables.masqueradeBit", full.nftables.masquerade_bit),
        ];
        for (path, bit) in bits {
            if let Some(bit) = bit.filter(|bit| !(0..32).contains(bit)) {
                self.refuse(path, bit, "write a bit from 0 to 31");
            }
        }
    }

    pub(super) fn periods(&mut self, full: &Configuration, mode: Mode) {
        let conntrack = &full.conntrack;
        let none = Period::ZERO;
        let not_negative = [
            (
                "conntrack.tcpEstablishedTimeout",
                conntrack.tcp_established_timeout.unwrap_or(none),
            ),
            (
                "conntrack.tcpCloseWaitTimeout",
                conntrack.tcp_close_wait_timeout.unwrap_or(none),
            ),
            ("conntrack.udpTimeout", conntrack.udp_timeout),
            ("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout),
            ("ipvs.tcpTimeout", full.ipvs.tcp_timeout),
            ("ipvs.tcpFinTimeout", full.ipvs.tcp_fin_timeout),
            ("ipvs.udpTimeout", full.ipvs.udp_timeout),
            ("iptables.minSyncPeriod", full.iptables.min_sync_period),
            ("ipvs.minSyncPeriod", full.ipvs.min_sync_period),
            ("nftables.minSyncPeriod", full.nftables.min_sync_period),
        ];
        for (path, period) in not_negative {
            if period.is_negative() {
                self.refuse(path, period, "write 0s or more");
            }
        }
        let (path, period) = sync_period(full, mode);
        for (path, period) in [
            (path, period),
            ("configSyncPeriod", full.config_sync_period),
        ] {
            if period.is_negative() {
                self.refuse(path, period, "write more than 0s");
            }
        }
    }

    pub(super) fn patience(&self, full: &Configuration, mode: Mode) -> Duration {
        if self.is_own() {
            return daymark_node::health::PATIENCE;
        }
        sync_period(full, mode).1.duration() * 2
    }

    pub(super) fn sysctls(&self, full: &Configuration, mode: Mode) -> sysctls::Wanted {
        // Without kube-proxy's defaults only what was asked for is done.
        let conntrack = if self.is_own() {
            &self.given.configuration.conntrack
        } else {
            &full.conntrack
        };
        let number = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
        let seconds = |period: Period| {
            u32::try_from(period.whole_seconds())
                .ok()
                .filter(|seconds| *seconds > 0)
        };
        sysctls::Wanted {
            max: number(conntrack.max_per_core)
                .filter(|max| *max > 0)
                .map(|per_core| sysctls::Max {
                    per_core,
                    least: number(conntrack.min).unwrap_or(0),
                }),
            tcp_established: conntrack.tcp_established_timeout.and_then(seconds),
            tcp_close_wait: conntrack.tcp_close_wait_timeout.and_then(seconds),
            udp: seconds(conntrack.udp_timeout),
            udp_stream: seconds(conntrack.udp_stream_timeout),
            tcp: if conntrack.tcp_be_liberal {
                sysctls::Tcp::Liberal
            } else {
                sysctls::Tcp::AsItIs
            },
            arp: if mode == Mode::Ipvs && full.ipvs.strict_arp {
                sysctls::Arp::Strict
            } else {
                sysctls::Arp::AsItIs
            },
        }
    }

    pub(super) fn oom_score(&mut self, full: &Configuration) -> Option<i32> {
        let asked = if self.is_own() {
            self.given.configuration.oom_score_adj
        } else {
            full.oom_score_adj
        };
        if let Some(score) = asked.filter(|score| !(-1000..=1000).contains(score)) {
            self.refuse("oomScoreAdj", score, "write a number from -1000 to 1000");
        }
        asked
    }

    pub(super) fn spared(&mut self, full: &Configuration) -> Vec<Cidr> {
        let mut spared = Vec::new();
        for (index, text) in full.ipvs.exclude_cidrs.iter().enumerate() {
            match Cidr::parse(text) {
                Some(cidr) => spared.push(cidr),
                None => self.refuse(
                    &format!("ipvs.excludeCIDRs[{index}]"),
                    format!("{text:?}"),
                    "write ranges such as 10.0.0.0/8",
                ),
            }
        }
        spared
    }

    /// What has no meaning here, and would be wrong all the same.
    pub(super) fn others(&mut self, full: &Configuration) {
        if !["", "text", "json"].contains(&full.logging.format.as_str()) {
            self.refuse(
                "logging.format",
                format!("{:?}", full.logging.format),
                "write text or json",
            );
        }
    }
}
