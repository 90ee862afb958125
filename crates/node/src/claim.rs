//! Whose daymark's tables are: one process at a time in a network namespace has the claim, an agent or `daymark cleanup`.
//!
//! The claim is a name of the namespace (an abstract Unix socket), as the tables are: it holds whatever socket an agent was
//! given, and where no file can be written, and the kernel takes it back when its holder ends. Without it two agents would mend each
//! other's tables without end, on kernels before 6.9. Any user can take a name; one whom an agent cannot be is not believed, and
//! keeps no agent out.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use rustix::process::{Uid, geteuid};
use thiserror::Error;
use tokio::net::UnixStream;
use tracing::{info, warn};

/// Why there is no claim.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error(
        "{} has daymark's tables of this network namespace: another agent, whatever its --socket, or daymark cleanup; that has to end",
        process(*by)
    )]
    Held {
        /// Its number, if it has one in this PID namespace.
        by: Option<i32>,
    },
    /// It cannot be had at all.
    #[error("an abstract Unix socket, which tells two agents of this network namespace apart: {0}")]
    Io(#[from] io::Error),
}

fn process(by: Option<i32>) -> String {
    by.map_or_else(
        || "a process of another PID namespace".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// The claim, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    /// Nothing where a stranger has the name.
    _held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    listener: UnixListener,
    /// Takes off who asks whose it is: those who do not wait for an answer would fill the queue.
    thread: Option<JoinHandle<()>>,
}

impl Claim {
    fn of(held: Option<Held>) -> Self {
        Self { _held: held }
    }

    /// Takes the claim on the tables of this network namespace.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if an agent, or a cleanup, has it.
    pub async fn take() -> Result<Self, ClaimError> {
        for _ in 0..TRIES {
            match bind() {
                Ok(listener) => return Ok(Self::of(Some(Held::over(listener)?))),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error.into()),
            }
            match who().await {
                Who::Peer(by) => return Err(ClaimError::Held { by }),
                Who::Stranger(why) => {
                    warn!(
                        why,
                        "the name by which two agents are told apart is not an agent's"
                    );
                    return Ok(Self::of(None));
                }
                Who::Nobody => tokio::time::sleep(SOON).await,
            }
        }
        warn!(
            "the name by which two agents are told apart is held by who does not listen: by no agent"
        );
        Ok(Self::of(None))
    }

    /// As [`Self::take`], but waits up to half a minute for who has it: a cleanup, or an agent that ends.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn take_at_last() -> Result<Self, ClaimError> {
        for look in 0..LOOKS {
            match Self::take().await {
                Err(error @ ClaimError::Held { .. }) => {
                    if look == 0 {
                        info!("waiting: {error}");
                    }
                    tokio::time::sleep(LOOK).await;
                }
                taken => return taken,
            }
        }
        Self::take().await
    }
}

impl Held {
    fn over(listener: UnixListener) -> io::Result<Self> {
        let accepting = listener.try_clone()?;
        let accept = move || {
            loop {
                match accepting.accept() {
                    Ok(_) => {}
                    // It was shut down.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("claim".to_owned())
            .spawn(accept)?;
        Ok(Self {
            listener,
            thread: Some(thread),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Its thread has a descriptor too, and the name goes with the last.
        let is_shut = shutdown(&self.listener, Shutdown::Both).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_shut) {
            let _ = thread.join();
        }
    }
}

fn bind() -> io::Result<UnixListener> {
    let name = NAME.trim_start_matches('\0');
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Who has the name.
#[derive(Debug)]
enum Who {
    /// One who may change the tables as well as we may.
    Peer(Option<i32>),
    /// Another user, or nobody knows.
    Stranger(String),
    /// Nobody listens: it comes, or goes.
    Nobody,
}

/// The kernel remembers who listens (`unix(7)`, `SO_PEERCRED`).
async fn who() -> Who {
    let stream = match UnixStream::connect(Path::new(NAME)).await {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => Who::Nobody,
                io::ErrorKind::WouldBlock => Who::Stranger("it does not answer".to_owned()),
                _ => Who::Peer(None),
            };
        }
    };
    match stream.peer_cred() {
        Ok(peer) if is_trusted(Uid::from_raw(peer.uid()), geteuid()) => {
            Who::Peer(peer.pid().filter(|pid| *pid > 0))
        }
        Ok(peer) => Who::Stranger(format!(
            "{} of user {} has it",
            process(peer.pid().filter(|pid| *pid > 0)),
            peer.uid()
        )),
        Err(_) => Who::Peer(None),
    }
}

/// Who cannot be an agent beside this one does not keep it out.
fn is_trusted(peer: Uid, own: Uid) -> bool {
    peer.is_root() || peer == own
}

/// The name; the first byte says that it is no file.
const NAME: &str = "\0daymark-tables";
/// Between two who come and go at the same moment.
const SOON: Duration = Duration::from_millis(20);
const TRIES: usize = 10;
/// How often a claim that is taken is looked at, and how many times.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 60;

#[cfg(test)]
mod tests {
    use daymark_sys::ns::isolated_test;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn one_process_has_the_claim_and_the_next_waits_for_it() {
        let test = "claim::tests::one_process_has_the_claim_and_the_next_waits_for_it";
        isolated_test(test, || {
            run(async {
                let claim = Claim::take().await.unwrap();
                assert!(claim._held.is_some());
                // As often as agents that begin anew may ask, without filling a queue.
                for _ in 0..6 {
                    let said = Claim::take_at_last().await.unwrap_err().to_string();
                    let own = format!("process {}", std::process::id());
                    assert!(said.contains(&own), "{said}");
                }
                let waits = tokio::spawn(Claim::take_at_last());
                tokio::time::sleep(LOOK * 3).await;
                assert!(!waits.is_finished());
                drop(claim);
                let next = waits.await.unwrap().unwrap();
                assert!(next._held.is_some());
            });
        });
    }

    #[test]
    fn who_does_not_listen_keeps_nobody_out() {
        let test = "claim::tests::who_does_not_listen_keeps_nobody_out";
        isolated_test(test, || {
            run(async {
                let socket =
                    socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
                let socket = socket.unwrap();
                let name = socket2::SockAddr::unix(NAME).unwrap();
                socket.bind(&name).unwrap();
                let claim = Claim::take().await.unwrap();
                assert!(claim._held.is_none());
            });
        });
    }

    #[test]
    fn another_user_is_believed_only_if_it_is_root() {
        let [root, agent, other] = [0, 997, 1000].map(Uid::from_raw);
        let trusted = [(root, agent), (root, root), (agent, agent)];
        assert!(trusted.into_iter().all(|(peer, own)| is_trusted(peer, own)));
        assert!(!is_trusted(other, root) && !is_trusted(other, agent));
    }
}
