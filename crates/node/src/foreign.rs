//! Hears of other processes' commits to the plane's tables, on kernels where these have no owner.
//!
//! Other programs may commit to tables of their own as often as they like: reading ours back takes some hundred milliseconds on
//! a large cluster, and nothing has happened to them.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use daymark_dataplane::nft::layout::all_tables;
use daymark_sys::netlink::{OpenError, Reach, TableWatch};
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

/// Starts a thread that tells the plane of every commit to its tables that did not come through the socket with this
/// netlink port. It ends at the first such commit after the plane's thread has ended.
///
/// # Errors
/// If the watch or the thread cannot be had.
pub fn follow(own: u32, orders: Sender<Order>) -> Result<(), FollowError> {
    let watch = TableWatch::open(own, all_tables().collect())?;
    let listen = move || {
        if let Err(error) = listen(watch, &orders) {
            warn!(%error, "edits of the tables by other processes are no longer noticed");
        }
    };
    thread::Builder::new()
        .name("foreign".to_owned())
        .spawn(listen)
        .map_err(FollowError::Thread)?;
    Ok(())
}

fn listen(mut watch: TableWatch, orders: &Sender<Order>) -> io::Result<()> {
    loop {
        watch.wait()?;
        while let Some(reach) = watch.read()? {
            if reach == Reach::Here && orders.send(Order::ForeignCommit).is_err() {
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

    fn table(name: &str) -> TableId {
        TableId::new(nft::Family::Ip, name)
    }

    /// A set, and a commit for each number that is added to it.
    fn add(socket: &mut NfSocket, name: &str, numbers: std::ops::Range<u32>) {
        if numbers.is_empty() {
            return;
        }
        let id = table(name);
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
            let mut next = 0;
            // How many commits are ours, of others elsewhere, and of others to our table, in this order.
            let mut heard = |commits: [(u32, &str); 3]| {
                let open = || NfSocket::open().expect("a netfilter socket");
                let (mut own, mut other) = (open(), open());
                let tables = vec![table("ours")];
                let watch = TableWatch::open(own.port(), tables).expect("a watch");
                for (at, (count, name)) in commits.into_iter().enumerate() {
                    let socket = if at == 0 { &mut own } else { &mut other };
                    add(socket, name, next..next + count);
                    next += count;
                }
                let (orders, inbox) = channel();
                let thread = thread::spawn(move || listen(watch, &orders));
                let first = inbox.recv_timeout(std::time::Duration::from_millis(500));
                drop(inbox);
                // It ends with a commit once nobody listens.
                add(&mut other, "ours", next..next + 1);
                next += 1;
                thread.join().expect("the thread").expect("readable");
                matches!(first, Ok(Order::ForeignCommit))
            };
            let (none, many) = ((0, "ours"), (1_000, "ours"));
            assert!(!heard([many, none, none]), "own commits");
            assert!(!heard([many, (20, "theirs"), none]), "other tables");
            assert!(heard([many, (20, "theirs"), (1, "ours")]));
            // Far more than the receive buffer holds: the commit that matters is not among what is left.
            assert!(heard([none, (1_000, "theirs"), (1, "ours")]));
            assert!(heard([none, (1_000, "theirs"), none]), "nor can it tell");
        });
    }
}
