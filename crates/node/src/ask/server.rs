//! The socket, mode 0600: who may open it may ask.
//!
//! A request has at most [`MOST_BYTES`] and comes within [`PATIENCE`]; [`AT_ONCE`] are answered at a time, the others wait. A
//! socket that a dead agent left is replaced; that of a living one is not: it holds a lock beside it, which the kernel lets go
//! of however the agent ends. `daymark cleanup` holds that lock too, without a socket, and an agent that starts waits for it.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use daymark_dataplane::nft::apply::{CommitError, StartError};
use daymark_dataplane::nft::compare::{self, Comparison, Holding};
use daymark_dataplane::nft::kernel::Netlink;
use futures::FutureExt;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::status::{self, Parts, Standing};
use super::wire::{Reply, Request};
use super::{Ask, MOST_DIFFERENCES, lock, wire};
use crate::panics::words;
use crate::proxy::Order;

/// Why the socket is not there.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A living agent answers there.
    #[error(
        "{}: another daymark agent answers at this socket; stop it, or, for one in another network namespace, name another socket \
         with --socket", path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Nobody answers, and yet its place is held.
    #[error(
        "{}: {} holds this lock, and nobody answers at the socket: a daymark agent that starts or ends, or daymark cleanup; end that \
         process, or name another socket with --socket", path.display(), process(*by)
    )]
    Locked {
        /// The lock.
        path: PathBuf,
        /// Who holds it, if it has a number in this PID namespace.
        by: Option<u32>,
    },
    /// Something else is in its place.
    #[error("{} is there and is no socket: remove it, or name another socket with --socket", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("{}: {source}; name another socket with --socket", path.display())]
    Io {
        /// The socket, or its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn process(by: Option<u32>) -> String {
    by.map_or_else(
        || "a process of another PID namespace".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// A socket that is listened on, and taken away in the end.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the agent lives.
    _lock: File,
}

impl Listener {
    /// Takes the socket's place. Its folder is made if it is not there.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        lock::make_folder(path)?;
        let lock = lock::lock(path)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NoSocket {
                    path: path.to_owned(),
                });
            }
            // Whoever made it is dead: the lock is ours.
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(Self {
            listener: listen(path).map_err(failed)?,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// As [`Self::bind`], but while somebody has the place who does not answer, waits up to half a minute until it is free. That is
    /// `daymark cleanup`: tables must not be adopted, or come up, while it removes them.
    ///
    /// # Errors
    /// [`SocketError`]; [`SocketError::Taken`] at once if an agent answers.
    pub async fn bind_after_cleanup(path: &Path) -> Result<Self, SocketError> {
        for look in 0..LOOKS {
            match Self::bind(path) {
                Err(SocketError::Locked { path, by }) => {
                    if look == 0 {
                        let (lock, holder) = (path.display(), process(by));
                        info!(%lock, holder, "waiting: daymark cleanup works on this node, or an agent starts or ends");
                    }
                    tokio::time::sleep(LOOK).await;
                }
                bound => return bound,
            }
        }
        Self::bind(path)
    }

    /// Answers until the task is ended.
    pub async fn serve(self, desk: Desk) {
        let desk = Arc::new(desk);
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let desk = Arc::clone(&desk);
                    tokio::spawn(async move {
                        // Who goes away before the answer does not want it.
                        let _ = attend(&desk, stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "the agent's socket; tried again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If it is gone already somebody else was tidy.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The place of an agent's socket while no agent has it: none can take it before this is dropped.
#[derive(Debug)]
pub struct Vacancy {
    _lock: Option<File>,
}

/// Makes sure that no agent answers at this socket, or is about to. An agent makes the folder: where there is none, there is no agent.
///
/// # Errors
/// [`SocketError::Taken`] or [`SocketError::Locked`] if one does; [`SocketError::Io`] if it cannot be known, as where the folder cannot be read.
pub fn vacancy(path: &Path) -> Result<Vacancy, SocketError> {
    let folder = lock::folder(path);
    let there = folder.try_exists().map_err(|source| SocketError::Io {
        path: folder.to_owned(),
        source,
    })?;
    let lock = there.then(|| lock::lock(path)).transpose()?;
    Ok(Vacancy { _lock: lock })
}

/// A socket's file gets the mode that the socket has before it is bound (`net/unix/af_unix.c`, `unix_bind_bsd`): at no moment
/// can others open it.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = File::from(OwnedFd::from(Socket::new(
        Domain::UNIX,
        Type::STREAM.nonblocking().cloexec(),
        None,
    )?));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// What answers need.
pub struct Desk {
    /// The plane's thread.
    pub orders: Sender<Order>,
    /// Reads the tables beside it.
    pub read: Arc<dyn Fn() -> Result<Holding, StartError> + Send + Sync>,
    /// How the other parts are.
    pub parts: Parts,
    /// One comparison at a time.
    pub comparing: Mutex<()>,
}

impl Desk {
    /// One over the kernel of this network namespace.
    #[must_use]
    pub fn new(orders: Sender<Order>, parts: Parts) -> Self {
        Self {
            orders,
            read: Arc::new(read_kernel),
            parts,
            comparing: Mutex::default(),
        }
    }

    /// The answer; where it cannot be made for a panic, that, and the next request is answered.
    async fn reply(&self, request: Request) -> Reply {
        let answer = AssertUnwindSafe(self.answer(request)).catch_unwind();
        answer.await.unwrap_or_else(|panic| {
            let why = words(&*panic);
            Reply::Error(format!(
                "it panicked over this request, and goes on; its log has more: {why}"
            ))
        })
    }

    async fn answer(&self, request: Request) -> Reply {
        let answer = async {
            match request {
                Request::Explain(question) => self.explain(question).await.map(Reply::Explained),
                Request::Status(_) => self.status().await.map(Reply::Status),
            }
        };
        match timeout(LONGEST, answer).await {
            Ok(Some(reply)) => reply,
            Ok(None) => Reply::Error(
                "the plane's thread has ended: restart the agent; its log has the reason"
                    .to_owned(),
            ),
            Err(_) => Reply::Error(format!(
                "the plane's thread did not answer within {} s: the kernel may hold it, in a large commit of another program to nf_tables, or \
                 by a fault; the agent's log has more",
                LONGEST.as_secs()
            )),
        }
    }

    async fn explain(&self, question: wire::Explain) -> Option<wire::Explained> {
        self.ask(|reply| Ask::Explain { question, reply }).await
    }

    async fn status(&self) -> Option<wire::Status> {
        let _alone = self.comparing.lock().await;
        let others = (self.parts)();
        for _ in 0..TRIES {
            let standing = self.ask(Ask::Standing).await?;
            let read = Arc::clone(&self.read);
            let held = match beside(move || read()).await {
                Ok(held) => held,
                Err(error) => {
                    return Some(status::status(standing, Err(error.to_string()), others));
                }
            };
            let moment = standing.moment;
            let wanted = self.ask(|reply| Ask::Wanted { moment, reply }).await?;
            let Some(wanted) = wanted else { continue };
            let compare = move || Box::new(wanted.compare(&held, MOST_DIFFERENCES));
            let found = beside(compare).await;
            let found = self.ask(|reply| Ask::Name(found, reply)).await?;
            return Some(status::status(standing, Ok(found), others));
        }
        let (standing, found) = self.look().await?;
        Some(status::status(standing, found, others))
    }

    /// Where the tables change all the time, the thread reads them itself.
    async fn look(&self) -> Option<(Standing, Result<Comparison, String>)> {
        let found = self.ask(Ask::Look).await?;
        let standing = self.ask(Ask::Standing).await?;
        Some((standing, found.map_err(|error| error.to_string())))
    }

    /// `None` if the thread has ended.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Ask(ask(reply))).ok()?;
        answer.await.ok()
    }
}

/// Works on a thread for what takes long, and panics if that does.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

/// The tables, through a socket of its own.
fn read_kernel() -> Result<Holding, StartError> {
    let opened = Netlink::open();
    let mut kernel = opened.map_err(|error| CommitError::Socket(error.to_string()))?;
    compare::read(&mut kernel)
}

async fn attend(desk: &Desk, mut stream: UnixStream) -> io::Result<()> {
    let reply = match timeout(PATIENCE, request(&mut stream)).await {
        Err(_) => Reply::Error(format!(
            "no request within {} s: one JSON document in one line",
            PATIENCE.as_secs()
        )),
        Ok(read) => match read? {
            Err(error) => Reply::Error(error),
            Ok(request) => desk.reply(request).await,
        },
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    let sent = timeout(PATIENCE, stream.write_all(&line)).await;
    sent.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    stream.shutdown().await?;
    // A socket that is closed with something unread takes the answer with it.
    let mut rest = stream.take(MOST_DRAINED);
    let _ = timeout(PATIENCE, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}

/// The request, or what is wrong with it.
async fn request(stream: &mut UnixStream) -> io::Result<Result<Request, String>> {
    let mut line = Vec::new();
    let mut limited = BufReader::new(stream.take(MOST_BYTES + 1));
    limited.read_until(b'\n', &mut line).await?;
    if line.len() as u64 > MOST_BYTES {
        return Ok(Err(format!("a request has at most {MOST_BYTES} bytes")));
    }
    Ok(serde_json::from_slice(&line).map_err(|error| {
        format!("not a request: {error}; send {{\"status\":{{}}}} or {{\"explain\":{{...}}}} (docs/explain.md)")
    }))
}

/// How often a place that is taken is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How many times. A cleanup removes tables within a second, and has the place for some seconds while it asks whether another
/// proxy serves; one that has it longer hangs, and the node's traffic goes before it.
const LOOKS: u32 = 60;
/// The longest request, bytes.
const MOST_BYTES: u64 = 16 * 1024;
/// What is read of a request that is too long, bytes.
const MOST_DRAINED: u64 = 1 << 20;
/// How long a request may take to come, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take to be made.
const LONGEST: Duration = Duration::from_secs(30);
/// Requests that are answered at the same time.
const AT_ONCE: usize = 4;
/// Requests that wait.
const BACKLOG: i32 = 16;
/// Tables that change while they are read are read again so often.
const TRIES: usize = 5;
const AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
