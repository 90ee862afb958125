//! What is held side by side: the real kube-proxy (mode nftables) and this program's own agent, both told the same by
//! one KubeProxyConfiguration, under one real control plane.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use daymark_lab::control::{Controllers, Spec, User};
use serde_json::{Value, json};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// kube-proxy.
    Kube,
    /// `daymark node`.
    Daymark,
}

impl Proxy {
    pub(crate) const BOTH: [Self; 2] = [Self::Kube, Self::Daymark];

    /// The name of the program, and of its user at the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kube => "kube-proxy",
            Self::Daymark => "daymark",
        }
    }

    /// The program and its arguments, with a file that holds a [`configuration`].
    pub(crate) fn command(
        self,
        programs: &Path,
        config: &Path,
    ) -> anyhow::Result<(PathBuf, Vec<String>)> {
        let word = |path: &Path| path.to_string_lossy().into_owned();
        // Beside the configuration: the usual place is one of the whole machine.
        let socket = ["--socket".to_owned(), word(&config.with_extension("sock"))];
        let config = ["--config".to_owned(), word(config)];
        Ok(match self {
            Self::Kube => (programs.join("kube-proxy"), config.into()),
            Self::Daymark => {
                let program = std::env::current_exe().context("this program's path")?;
                let verb = ["node".to_owned()];
                (
                    program,
                    verb.into_iter().chain(config).chain(socket).collect(),
                )
            }
        })
    }
}

/// The KubeProxyConfiguration that both read, as far as it is the same everywhere: own Pods by the Node's prefixes, and
/// hands off the settings of the machine's connection tracking, which zeros leave alone.
pub(crate) fn configuration(kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": NODE,
        "detectLocalMode": "NodeCIDR",
        "conntrack": {
            "maxPerCore": 0, "min": 0,
            "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
    })
}

/// The control plane over both: whoever holds them side by side writes endpoints himself.
pub(crate) fn control_plane(programs: &Path, state: PathBuf, users: Vec<User>) -> Spec {
    Spec {
        programs: programs.to_owned(),
        state,
        users,
        service_ranges: "10.96.0.0/16,fd00:10:96::/108".to_owned(),
        advertised: Ipv4Addr::new(172, 30, 0, 1),
        controllers: Controllers::None,
        node_grace: Duration::from_secs(40),
    }
}

/// The node that the programs run on.
pub(crate) const NODE: &str = "node-1";
