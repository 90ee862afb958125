//! The configurations under which both programs are compared.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use daymark_model::Options;
use serde_json::{Value, json};

use crate::beside::{self, NODE};
use crate::kube_proxy::{self, flags::Flags};

/// A KubeProxyConfiguration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The defaults of the mode; own Pods by the Node's prefixes.
    Defaults,
    /// Own Pods by the cluster's prefixes; node ports at every address.
    EveryAddress,
    /// Own Pods by the names of their interfaces; node ports at the addresses of some prefixes.
    Interfaces,
    /// Every source is replaced at cluster IPs; no detector that knows a Pod.
    MasqueradeAll,
}

impl Variant {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::Defaults,
        Self::EveryAddress,
        Self::Interfaces,
        Self::MasqueradeAll,
    ];

    /// The one that the cluster of a seed is compared under, whatever the run begins with.
    pub(crate) fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % 4).expect("less than four")]
    }

    /// What the configuration means to daymark.
    pub(crate) fn options(self, folder: &Path) -> anyhow::Result<Options> {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            flags: Flags,
        }
        let config = self.write("model", Path::new("none"), folder)?;
        let line = Line::try_parse_from([Path::new("daymark"), Path::new("--config"), &config])?;
        Ok(kube_proxy::decide(&line.flags, NODE)?.settings.options)
    }

    /// Writes the configuration of a program.
    pub(crate) fn write(
        self,
        name: &str,
        kubeconfig: &Path,
        folder: &Path,
    ) -> anyhow::Result<PathBuf> {
        let config = self.configuration(kubeconfig);
        let file = folder.join(format!("{name}.json"));
        std::fs::write(&file, config.to_string())
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    fn configuration(self, kubeconfig: &Path) -> Value {
        let mut config = beside::configuration(kubeconfig);
        // kube-proxy acts upon a ServiceCIDR with a full sync alone.
        config["nftables"] = json!({"minSyncPeriod": "20ms", "syncPeriod": "5s"});
        match self {
            Self::Defaults => {}
            Self::EveryAddress => {
                config["detectLocalMode"] = json!("ClusterCIDR");
                config["clusterCIDR"] = json!("10.244.0.0/16,fd00:10:244::/48");
                config["nodePortAddresses"] = json!(["0.0.0.0/0", "::/0"]);
            }
            Self::Interfaces => {
                config["detectLocalMode"] = json!("InterfaceNamePrefix");
                config["detectLocal"] = json!({"interfaceNamePrefix": "pod"});
                config["nodePortAddresses"] = json!(["172.30.0.0/24", "fd00:30::/64"]);
            }
            Self::MasqueradeAll => {
                config["detectLocalMode"] = json!("ClusterCIDR");
                config["nftables"]["masqueradeAll"] = json!(true);
            }
        }
        config
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Defaults => "the defaults of the mode",
            Self::EveryAddress => "node ports at every address, own Pods by the cluster's prefixes",
            Self::Interfaces => "node ports at some prefixes, own Pods by interface",
            Self::MasqueradeAll => "masqueradeAll, no detector that knows a Pod",
        })
    }
}
