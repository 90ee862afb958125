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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use daymark_netlink::nft::{
        self, Data, Elements, Exists, Field, Message, Set, SetElem, SetKind, Table, TableId,
    };
    use daymark_sys::netlink::NfSocket;
    use daymark_sys::ns::isolated_test;

    use super::*;

    /// A set, and a commit for each number that is added to it.
    fn add(socket: &mut NfSocket, numbers: std::ops::Range<u32>) {
        let id = TableId::new(nft::Family::Ip, "busy");
        let create = [
            Message::NewTable {
                table: Table::new(id.clone()),
                exists: Exists::Keep,
            },
            Message::NewSet {
                table: id.clone(),
                set: Set::new("s", Field::Mark, SetKind::Set),
                exists: Exists::Keep,
            },
        ];
        socket.commit(&create).expect("accepted");
        for number in numbers {
            let elements = Elements {
                set: "s".into(),
                elems: vec![SetElem::key(Data::host(number))],
            };
            let add = Message::NewElems {
                table: id.clone(),
                elements,
                exists: Exists::Keep,
            };
            socket.commit(&[add]).expect("accepted");
        }
    }

    #[test]
    fn a_commit_that_an_overrun_swallowed_is_heard_of_all_the_same() {
        let test = "foreign::tests::a_commit_that_an_overrun_swallowed_is_heard_of_all_the_same";
        isolated_test(test, || {
            let open = || NfSocket::open().expect("a netfilter socket");
            let mut next = 0;
            let mut heard = |foreign: bool, commits: u32| {
                let watch = GenerationWatch::open().expect("a watch");
                let (mut own, mut other) = (open(), open());
                add(&mut own, next..next + commits);
                next += commits;
                if foreign {
                    add(&mut other, next..next + 1);
                    next += 1;
                }
                let (orders, inbox) = channel();
                let port = own.port();
                let thread = thread::spawn(move || listen(watch, port, &orders));
                let first = inbox.recv_timeout(std::time::Duration::from_millis(500));
                drop(inbox);
                // It ends with a commit once nobody listens.
                add(&mut other, next..next + 1);
                next += 1;
                thread.join().expect("the thread").expect("readable");
                matches!(first, Ok(Order::ForeignCommit))
            };
            assert!(!heard(false, 10), "own commits are none of its business");
            assert!(heard(true, 10));
            // Far more than the receive buffer holds: the foreign commit is not among what is left.
            assert!(heard(true, 1_000), "whoever misses commits says so");
            assert!(heard(false, 1_000), "and does not know whose they were");
        });
    }
}
