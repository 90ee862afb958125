//! A client of the API from a kubeconfig.

use std::path::Path;

use anyhow::Context;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

/// A client for the current context of the file.
///
/// # Errors
/// If the file cannot be read, or what it says cannot be used.
pub(crate) async fn from_kubeconfig(path: &Path) -> anyhow::Result<Client> {
    let shown = path.display();
    let file = Kubeconfig::read_from(path)
        .with_context(|| format!("cannot read the kubeconfig {shown}"))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("the kubeconfig {shown} cannot be used"))?;
    Client::try_from(config).with_context(|| format!("the kubeconfig {shown} cannot be used"))
}
