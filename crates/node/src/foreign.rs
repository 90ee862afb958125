//! Hears of other processes' commits to nf_tables, on kernels where the tables have no owner.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use daymark_sys::netlink::{GenerationWatch, OpenError, WatchEvent};
use thiserror::Error;
use tracing::warn;

use crate::proxy::Order;

/// Why foreign commits are not heard of.
#[derive(Debug, Error)]
pub enum FollowError {
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No thread.
    #[error("cannot start the thread that hears of foreign commits: {0}")]
    Thread(#[source] io::Error),
}

/// Starts a thread that tells the plane of every commit that did not come through the socket with this
/// netlink port. It ends at the first commit after the plane's thread has ended.
///
/// # Errors
/// If the watch or the thread cannot be had.
pub fn follow(own: u32, orders: Sender<Order>) -> Result<(), FollowError> {
    let watch = GenerationWatch::open()?;
    let listen = move || {
        if let Err(error) = listen(watch, own, &orders) {
            warn!(%error, "edits of the tables by other processes are no longer noticed");
        }
    };
    thread::Builder::new()
        .name("foreign".to_owned())
        .spawn(listen)
        .map_err(FollowError::Thread)?;
    Ok(())
}

fn listen(mut watch: GenerationWatch, own: u32, orders: &Sender<Order>) -> io::Result<()> {
    loop {
        watch.wait()?;
        while let Some(event) = watch.read()? {
            let foreign = match event {
                WatchEvent::Commit { port, .. } => port != own,
                WatchEvent::Lost => true,
            };
            if foreign && orders.send(Order::ForeignCommit).is_err() {
                return Ok(());
            }
        }
    }
}
