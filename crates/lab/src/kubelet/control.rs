//! Where a Pod's namespaces are: asked on a socket, one line in, one line of JSON out.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::worker::Kubelet;

/// The namespaces of a Pod, as paths that are good inside the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpaces {
    /// Its network namespace.
    pub network: PathBuf,
    /// The mount namespace of its first running container, if one runs.
    pub mounts: Option<PathBuf>,
}

/// Why a Pod was not found.
#[derive(Debug, Error)]
pub enum WhereError {
    /// The kubelet does not answer.
    #[error("kubelet at {socket}: {source}; is the lab running?")]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not run the Pod.
    #[error("the node does not run Pod {namespace}/{name}")]
    Unknown {
        /// The namespace asked for.
        namespace: String,
        /// The name asked for.
        name: String,
    },
}

/// Asks a kubelet for the namespaces of one of its Pods.
///
/// # Errors
/// [`WhereError`].
pub fn where_is(socket: &Path, namespace: &str, name: &str) -> Result<PodSpaces, WhereError> {
    let ask = || -> io::Result<Option<PodSpaces>> {
        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        writeln!(stream, "{namespace}/{name}")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    let spaces = ask().map_err(|source| WhereError::Silent {
        socket: socket.to_owned(),
        source,
    })?;
    spaces.ok_or_else(|| WhereError::Unknown {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

pub(super) fn listen(socket: &Path) -> io::Result<UnixListener> {
    // One that a kubelet before this one left.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

pub(super) async fn serve(listener: UnixListener, kubelet: Rc<Kubelet>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let kubelet = Rc::clone(&kubelet);
        tokio::task::spawn_local(async move {
            // Who asks and goes away needs no answer.
            let _ = answer(stream, &kubelet).await;
        });
    }
}

async fn answer(stream: UnixStream, kubelet: &Kubelet) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read).read_line(&mut line).await?;
    let spaces = line
        .trim_end()
        .split_once('/')
        .and_then(|(namespace, name)| kubelet.spaces(namespace, name));
    let found = spaces.map(|spaces| PodSpaces {
        network: format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            spaces.network.as_raw_fd()
        )
        .into(),
        mounts: Some(spaces.mounts).filter(|path| !path.as_os_str().is_empty()),
    });
    write
        .write_all(format!("{}\n", serde_json::to_string(&found)?).as_bytes())
        .await
}
