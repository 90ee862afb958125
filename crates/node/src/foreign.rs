//! Hears of other processes' commits to the plane's tables, on kernels where these have no owner.
//!
//! Other programs may commit to tables of their own as often as they like: reading ours back takes some hundred milliseconds on
//! a large cluster, and nothing has happened to them.

use std::fmt::Display;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use daymark_dataplane::nft::layout::all_tables;
use daymark_feed::trouble::{REMIND, Tell, Trouble};
use daymark_sys::netlink::{OpenError, Reach, TableWatch};
use thiserror::Error;
use tracing::{info, warn};

use crate::ask::wire::Part;
use crate::clock;
use crate::panics::caught;
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

/// Whether commits are heard of.
#[derive(Debug, Default)]
pub struct Hearing {
    /// Why not.
    failure: Mutex<Option<String>>,
}

impl Hearing {
    /// How that is, for `daymark status`.
    #[must_use]
    pub fn part(&self) -> Part {
        let failure = self.failure.lock();
        let failure = failure.unwrap_or_else(PoisonError::into_inner).clone();
        Part {
            name: "foreign".to_owned(),
            healthy: failure.is_none(),
            text: failure.map_or_else(
                || "edits of the tables by other processes are heard of, and mended".to_owned(),
                |why| format!("edits of the tables by other processes are not noticed until it is tried again: {why}"),
            ),
        }
    }

    fn set(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// Starts a thread that tells the plane of every commit to its tables that did not come through the socket with this
/// netlink port. A watch that breaks is opened anew, and the plane told to look, since commits were missed. The thread ends at the
/// first order after the plane's thread has ended.
///
/// # Errors
/// If the watch or the thread cannot be had.
pub fn follow(own: u32, orders: Sender<Order>) -> Result<Arc<Hearing>, FollowError> {
    let open = move || TableWatch::open(own, all_tables().collect());
    let watch = open()?;
    let hearing = Arc::new(Hearing::default());
    let told = Arc::clone(&hearing);
    thread::Builder::new()
        .name("foreign".to_owned())
        .spawn(move || keep(watch, open, listen, &orders, &told))
        .map_err(FollowError::Thread)?;
    Ok(hearing)
}

/// Listens until nobody takes orders, to one watch after the other.
fn keep<Watch, Error: Display>(
    mut watch: Watch,
    open: impl Fn() -> Result<Watch, Error>,
    listen: impl Fn(Watch, &Sender<Order>) -> io::Result<()>,
    orders: &Sender<Order>,
    hearing: &Hearing,
) {
    let mut trouble = Trouble::default();
    let mut failed = |error: &dyn Display| {
        let why = error.to_string();
        let tell = trouble.again(&why, clock::now(), REMIND);
        if tell == Tell::Now {
            warn!(
                why,
                "edits of the tables by other processes are not noticed; tried again each second"
            );
        }
        hearing.set(Some(why));
        thread::sleep(AGAIN);
        tell
    };
    let listen = |watch| {
        caught(|| listen(watch, orders))
            .map_err(io::Error::other)
            .flatten()
    };
    while let Err(error) = listen(watch) {
        let tell = failed(&error);
        watch = loop {
            match open() {
                Ok(watch) => break watch,
                Err(error) => {
                    failed(&error);
                }
            }
        };
        hearing.set(None);
        if tell == Tell::Now {
            info!("edits of the tables by other processes are noticed again");
        }
        if orders.send(Order::ForeignCommit).is_err() {
            return;
        }
    }
}

const AGAIN: Duration = Duration::from_secs(1);

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
    fn a_watch_that_breaks_is_opened_anew_and_the_tables_are_looked_at() {
        let (orders, inbox) = channel();
        let hearing = Hearing::default();
        // The first watch breaks, the next cannot be had, the one after that panics, the last works to the end.
        let opened = std::cell::Cell::new(0);
        let open = || {
            assert!(!hearing.part().healthy);
            opened.set(opened.get() + 1);
            match opened.get() {
                1 => Err("no descriptor is free"),
                2 => Ok("panics"),
                _ => Ok("works"),
            }
        };
        let listen = |watch, _: &Sender<Order>| match watch {
            "breaks" => Err(io::Error::other("no buffer")),
            "panics" => panic!("such a message"),
            _ => Ok(()),
        };
        keep("breaks", open, listen, &orders, &hearing);
        assert!(hearing.part().healthy);
        assert!(matches!(inbox.try_recv(), Ok(Order::ForeignCommit)));
        assert!(matches!(inbox.try_recv(), Ok(Order::ForeignCommit)));
        assert!(inbox.try_recv().is_err(), "one look each");
        assert_eq!(opened.get(), 3);
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
                let first = inbox.recv_timeout(Duration::from_millis(500));
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
