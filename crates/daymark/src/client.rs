//! A client of the API from a kubeconfig.

use std::path::Path;

use anyhow::{Context, anyhow};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// A client for the current context of the file.
///
/// # Errors
/// If the file cannot be read, or what it says cannot be used.
pub(crate) async fn from_kubeconfig(path: &Path) -> anyhow::Result<Client> {
    let shown = path.display();
    let unusable = || format!("the kubeconfig {shown} cannot be used; {REMEDY}");
    let file = Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(source, _) => {
            anyhow!("cannot read the kubeconfig {shown}: {source}; {REMEDY}")
        }
        error => anyhow!(error).context(unusable()),
    })?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(unusable)?;
    tracing::info!(server = %config.cluster_url, "the API");
    Client::try_from(config).with_context(unusable)
}

const REMEDY: &str = "name another one with --kubeconfig: daymark api --issue ROLE=FILE writes one, and \
    daymark lab kubeconfig says where a lab's is";
