//! The API server writes one kubeconfig; the lab needs one for each side of its walls.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;

/// Why a kubeconfig could not be derived.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    /// The API server's own cannot be read.
    #[error("kubeconfig {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The derived one cannot be written.
    #[error("writing kubeconfig {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes a copy of `from` with another server address, readable by its user alone. Written as JSON, which is YAML.
pub(super) fn derive(from: &Path, server: &str, to: &Path) -> Result<(), KubeconfigError> {
    let bad = |reason: String| KubeconfigError::Read {
        path: from.to_owned(),
        reason,
    };
    let mut config = Kubeconfig::read_from(from).map_err(|error| bad(error.to_string()))?;
    for cluster in config
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        cluster.server = Some(server.to_owned());
    }
    let mut text = serde_json::to_string_pretty(&config).map_err(|error| bad(error.to_string()))?;
    text.push('\n');
    write_private(to, &text).map_err(|source| KubeconfigError::Write {
        path: to.to_owned(),
        source,
    })
}

/// A client of the API that a kubeconfig names.
pub(crate) async fn client(path: &Path) -> Result<Client, KubeconfigError> {
    let bad = |reason: String| KubeconfigError::Read {
        path: path.to_owned(),
        reason,
    };
    let file = Kubeconfig::read_from(path).map_err(|error| bad(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| bad(error.to_string()))?;
    Client::try_from(config).map_err(|error| bad(error.to_string()))
}

/// Appears whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(temporary, path)
}
