//! Kubeconfig files: where the server is, how to trust it, and who one is.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use thiserror::Error;

use super::{ClientCertificate, Pki, write_private};

/// A kubeconfig was not written.
#[derive(Debug, Error)]
#[error("{path}: writing the kubeconfig: {source}: name another file with --kubeconfig")]
pub struct KubeconfigError {
    path: PathBuf,
    source: io::Error,
}

/// A kubeconfig with one cluster, one user and one context.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    text: String,
}

impl Kubeconfig {
    /// For a client, to a server at a URL such as `https://127.0.0.1:6443`. `cluster` names cluster and context.
    pub fn new(pki: &Pki, client: &ClientCertificate, cluster: &str, server: &str) -> Self {
        let encode = |text: &str| STANDARD.encode(text);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": cluster, "cluster": {
                "server": server,
                "certificate-authority-data": encode(pki.certificate()),
            }}],
            "users": [{ "name": client.user.name, "user": {
                "client-certificate-data": encode(&client.certificate),
                "client-key-data": encode(&client.key),
            }}],
            "contexts": [{ "name": cluster, "context": {
                "cluster": cluster,
                "user": client.user.name,
                "namespace": "default",
            }}],
            "current-context": cluster,
        });
        Self {
            text: serde_saphyr::to_string(&config).expect("plain texts and lists have a YAML form"),
        }
    }

    /// The YAML text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes it with mode 0600.
    ///
    /// # Errors
    /// Names the file and what the file system said.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        write_private(path, &self.text).map_err(|source| KubeconfigError {
            path: path.to_owned(),
            source,
        })
    }
}
