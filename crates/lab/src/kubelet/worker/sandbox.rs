//! What a Pod's containers share: addresses, a network namespace, files under /etc.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use daymark_sys::mount::Bind;
use k8s_openapi::api::core::v1::Pod;

use super::{Kubelet, names};
use crate::kubelet::address::Lease;
use crate::kubelet::container::{Sandbox, Spaces};
use crate::kubelet::files::{self, ClusterDns};
use crate::kubelet::plan::Network;
use crate::net::PodLink;

/// A Pod's sandbox.
pub(super) struct PodSandbox {
    pub(super) shared: Sandbox,
    pub(super) addresses: Vec<IpAddr>,
    own: Option<(Lease, PodLink)>,
    folder: PathBuf,
}

impl PodSandbox {
    /// Takes an address, makes and links the namespace, writes the files. The error is a message for the status.
    pub(super) async fn make(
        kubelet: &Kubelet,
        pod: &Pod,
        network: Network,
    ) -> Result<Self, String> {
        let folder = kubelet
            .config
            .state
            .join("pods")
            .join(pod.metadata.uid.as_deref().unwrap_or_default());
        let (own, addresses, network) = match network {
            Network::Pod => {
                let (lease, link) = link(kubelet).await?;
                let network = link.ns.clone();
                (
                    Some((lease, link)),
                    lease.addresses.iter().collect(),
                    network,
                )
            }
            Network::Host => {
                let host = kubelet.host.lock().unwrap_or_else(PoisonError::into_inner);
                (None, kubelet.node_addresses.clone(), host.ns().clone())
            }
        };
        let hostname = names(pod).1.to_owned();
        let binds = write_files(kubelet, pod, &addresses, &folder);
        let mut sandbox = Self {
            shared: Sandbox {
                network,
                binds: Vec::new(),
                hostname,
            },
            addresses,
            own,
            folder,
        };
        match binds {
            Ok(binds) => {
                sandbox.shared.binds = binds;
                Ok(sandbox)
            }
            Err(error) => {
                sandbox.remove(kubelet).await;
                Err(error.to_string())
            }
        }
    }

    /// The namespaces of one container.
    pub(super) fn spaces(&self, mounts: PathBuf) -> Spaces {
        Spaces {
            network: self.shared.network.clone(),
            mounts,
        }
    }

    /// Unlinks the Pod and frees its address.
    pub(super) async fn remove(self, kubelet: &Kubelet) {
        if let Some((lease, link)) = self.own {
            let host = Arc::clone(&kubelet.host);
            let removed = tokio::task::spawn_blocking(move || {
                host.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove_pod(&link)
            });
            if let Ok(Err(error)) = removed.await {
                tracing::debug!(%error, "the link had gone already");
            }
            kubelet.addresses.borrow_mut().free(lease);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::debug!(%error, folder = %self.folder.display(), "removing a Pod's files");
        }
    }
}

async fn link(kubelet: &Kubelet) -> Result<(Lease, PodLink), String> {
    let lease = kubelet.addresses.borrow_mut().take();
    let lease = lease.ok_or_else(|| {
        "every address of the node's podCIDRs is in use: delete some Pods".to_owned()
    })?;
    let number = kubelet.next_link.replace(kubelet.next_link.get() + 1);
    let host = Arc::clone(&kubelet.host);
    let linked = tokio::task::spawn_blocking(move || {
        host.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add_pod(number, lease.addresses)
    });
    let message = match linked.await {
        Ok(Ok(link)) => return Ok((lease, link)),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    kubelet.addresses.borrow_mut().free(lease);
    Err(message)
}

fn write_files(
    kubelet: &Kubelet,
    pod: &Pod,
    addresses: &[IpAddr],
    folder: &Path,
) -> io::Result<Vec<Bind>> {
    std::fs::create_dir_all(folder)?;
    let dns = ClusterDns {
        servers: &kubelet.config.dns,
        domain: &kubelet.config.domain,
    };
    let mut wanted = vec![("hosts", files::hosts(pod, addresses))];
    wanted.extend(files::resolv_conf(pod, dns).map(|text| ("resolv.conf", text)));
    crate::etc::binds(folder, &wanted)
}
