//! A thread beside the plane that forgets UDP flows of endpoints that left.
//!
//! It is told after each commit that touched a UDP Service, and works off the commit's path: listing the
//! flows of a busy node takes longer than a commit. What comes meanwhile is one more look, not one each.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use daymark_dataplane::conntrack::forget;
use daymark_model::flows::Verdicts;
use daymark_sys::netlink::{NfSocket, OpenError};
use thiserror::Error;
use tracing::{debug, warn};

/// Why flows cannot be followed.
#[derive(Debug, Error)]
pub enum CleanerError {
    /// No socket.
    #[error("conntrack: {0}")]
    Open(#[from] OpenError),
    /// No thread.
    #[error("cannot start the thread that forgets stale flows: {0}")]
    Thread(#[source] io::Error),
}

/// Starts the thread in the network namespace of the caller. It ends with the last sender.
///
/// # Errors
/// If the socket or the thread cannot be had.
pub fn start() -> Result<Sender<Verdicts>, CleanerError> {
    let socket = NfSocket::open()?;
    let (sender, inbox) = channel();
    thread::Builder::new()
        .name("conntrack".to_owned())
        .spawn(move || run(socket, &inbox))
        .map_err(CleanerError::Thread)?;
    Ok(sender)
}

fn run(mut socket: NfSocket, inbox: &Receiver<Verdicts>) {
    let mut pending = Verdicts::default();
    let mut wait = FIRST_WAIT;
    loop {
        let news = if pending.is_empty() {
            inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            inbox.recv_timeout(wait)
        };
        match news {
            Ok(verdicts) => pending.extend(verdicts),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        inbox.try_iter().for_each(|more| pending.extend(more));
        match forget(&mut socket, &pending) {
            Ok(done) => {
                debug!(
                    removed = done.removed,
                    "forgot flows of endpoints that left"
                );
                (pending, wait) = (Verdicts::default(), FIRST_WAIT);
            }
            Err(error) => {
                wait = (wait * 2).min(LONGEST_WAIT);
                warn!(%error, ?wait, "stale UDP flows stay; tried again");
            }
        }
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
