//! Sockets on loopback, opened, refused and closed.

use std::net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream};

use tokio::io::AsyncReadExt;

use super::*;

/// A port of 127.0.0.1 that was free a moment ago.
fn free() -> SocketAddr {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

async fn hold(_: &'static str, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let mut stream = accept(&listener).await;
        connections.spawn(async move {
            let _ = stream.read(&mut [0]).await;
        });
    }
}

fn keep_open(what: &&'static str, listener: TcpListener) -> impl Future<Output = ()> + use<> {
    hold(what, listener)
}

#[tokio::test]
async fn what_is_wanted_is_open_and_what_is_not_is_closed_with_its_connections() {
    let mut sockets = Sockets::none();
    let at = free();
    let wanted = BTreeMap::from([(at, "web")]);
    let now = clock();
    assert!(sockets.keep(now, &wanted, keep_open).await.is_empty());
    let mut client = TcpStream::connect(at).await.unwrap();
    // Nothing changes, nothing happens.
    assert!(sockets.keep(now, &wanted, keep_open).await.is_empty());
    // Another purpose is another socket, at the same address and at once.
    let wanted = BTreeMap::from([(at, "other")]);
    assert!(sockets.keep(now, &wanted, keep_open).await.is_empty());
    assert_ne!(
        client.read(&mut [0]).await.ok(),
        Some(1),
        "its connections end"
    );
    StdStream::connect(at).unwrap();

    assert!(
        sockets
            .keep(now, &BTreeMap::new(), keep_open)
            .await
            .is_empty()
    );
    assert!(StdStream::connect(at).is_err());
    assert_eq!(sockets.due(), None);
}

#[tokio::test]
async fn a_taken_address_is_told_once_and_tried_again_after_waits_that_double() {
    let taken = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let wanted = BTreeMap::from([(at, "web")]);
    let mut sockets = Sockets::none();
    let mut now = clock();
    let mut waits = Vec::new();
    for round in 0..9 {
        let failures = sockets.keep(now, &wanted, keep_open).await;
        let [failure] = failures.as_slice() else {
            panic!("{failures:?}")
        };
        assert_eq!((failure.at, failure.what), (at, "web"));
        assert_eq!(failure.again == Again::First, round == 0);
        assert_eq!(failure.why.kind(), io::ErrorKind::AddrInUse);
        let due = sockets.due().unwrap();
        // Before it is due nothing is tried.
        assert!(sockets.keep(now, &wanted, keep_open).await.is_empty());
        waits.push((due - now).as_millis());
        now = due;
    }
    assert_eq!(
        waits,
        [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
    );

    drop(taken);
    assert!(sockets.keep(now, &wanted, keep_open).await.is_empty());
    assert_eq!(sockets.due(), None);
    StdStream::connect(at).unwrap();
}

#[tokio::test]
async fn who_is_not_wanted_any_more_is_not_tried_again() {
    let taken = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let wanted = BTreeMap::from([(taken.local_addr().unwrap(), "web")]);
    let mut sockets = Sockets::none();
    assert_eq!(sockets.keep(clock(), &wanted, keep_open).await.len(), 1);
    assert!(
        sockets
            .keep(clock(), &BTreeMap::new(), keep_open)
            .await
            .is_empty()
    );
    assert_eq!(sockets.due(), None);
}

fn clock() -> Instant {
    clock::now()
}

/// A task that died leaves a socket that nobody accepts at; nothing else would open another one.
#[tokio::test]
async fn a_socket_whose_task_panics_is_told_and_opened_anew() {
    let mut sockets = Sockets::none();
    let at = free();
    let wanted = BTreeMap::from([(at, "web")]);
    let fall = |_: &&'static str, listener: TcpListener| async move {
        accept(&listener).await;
        panic!("such a client");
    };
    assert!(sockets.keep(clock(), &wanted, fall).await.is_empty());
    StdStream::connect(at).unwrap();
    let failure = sockets.ended().await;
    assert_eq!((failure.at, failure.what), (at, "web"));
    assert_eq!(failure.again, Again::First);
    let why = failure.why.to_string();
    assert!(why.contains("panicked: such a client"), "{why}");
    assert_eq!((sockets.open().count(), sockets.unopened()), (0, 1));

    let due = sockets.due().expect("it is tried again");
    assert!(sockets.keep(due, &wanted, keep_open).await.is_empty());
    assert_eq!((sockets.open().count(), sockets.unopened()), (1, 0));
    StdStream::connect(at).unwrap();
}
