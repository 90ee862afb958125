//! Room for connections, a bounded number of them, of each listener and of all together.
//!
//! One more takes the place of the connection that has been idle the longest, if that is long enough; else it waits. Who
//! keeps connections open for nothing keeps nobody else out, and who uses one keeps it.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};

use crate::clock;

/// What bounds the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most of one listener.
    pub(crate) of_each: usize,
    /// The most of all.
    pub(crate) of_all: usize,
    /// How long a connection is idle before another may have its place.
    pub(crate) idle: Duration,
}

/// The connections of all listeners that share it.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    held: Mutex<Held>,
    /// Told when somebody leaves.
    left: Notify,
}

#[derive(Debug, Default)]
struct Held {
    /// The number of the next.
    next: u64,
    places: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    listener: u64,
    used: Used,
    /// Dropped when another has the place.
    _keeps: oneshot::Sender<()>,
}

/// When bytes last passed.
#[derive(Clone, Debug)]
struct Used(Arc<Mutex<Instant>>);

impl Used {
    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = clock::now();
    }
}

/// One listener's share of a [`Room`].
#[derive(Clone, Debug)]
pub(crate) struct Share {
    room: Room,
    listener: u64,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    number: u64,
    used: Used,
    lost: oneshot::Receiver<()>,
}

impl Room {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            bounds,
            held: Mutex::default(),
            left: Notify::new(),
        }))
    }

    /// For another listener.
    pub(crate) fn share(&self) -> Share {
        let mut held = self.held();
        held.next += 1;
        Share {
            room: self.clone(),
            listener: held.next,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Makes room for one more of this listener.
    ///
    /// # Errors
    /// When the one that is idle the longest has been so for long enough, if it is not used until then.
    fn make_room(&mut self, listener: u64, bounds: Bounds, now: Instant) -> Result<(), Instant> {
        let own = |taken: &&Taken| taken.listener == listener;
        let is_full = self.places.values().filter(own).count() >= bounds.of_each;
        if !is_full && self.places.len() < bounds.of_all {
            return Ok(());
        }
        let among = self.places.iter();
        let among = among.filter(|(_, taken)| !is_full || taken.listener == listener);
        let idlest = among
            .map(|(number, taken)| (taken.used.at(), *number))
            .min();
        let Some((used, number)) = idlest else {
            return Err(now + bounds.idle);
        };
        let due = used + bounds.idle;
        if due > now {
            return Err(due);
        }
        self.places.remove(&number);
        Ok(())
    }
}

impl Share {
    /// A place; waits until there is one.
    pub(crate) async fn place(&self) -> Place {
        loop {
            // Before the look, so that nobody leaves unheard between the two.
            let left = self.room.0.left.notified();
            let due = match self.try_place() {
                Ok(place) => return place,
                Err(due) => due,
            };
            tokio::select! {
                () = left => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    fn try_place(&self) -> Result<Place, Instant> {
        let (now, listener) = (clock::now(), self.listener);
        let mut held = self.room.held();
        held.make_room(listener, self.room.0.bounds, now)?;
        held.next += 1;
        let number = held.next;
        let used = Used(Arc::new(Mutex::new(now)));
        let (keeps, lost) = oneshot::channel();
        let taken = Taken {
            listener,
            used: used.clone(),
            _keeps: keeps,
        };
        held.places.insert(number, taken);
        Ok(Place {
            room: self.room.clone(),
            number,
            used,
            lost,
        })
    }
}

impl Place {
    /// A stream whose bytes keep the place.
    pub(crate) fn stream<S>(&self, stream: S) -> Stream<S> {
        Stream {
            stream,
            used: self.used.clone(),
        }
    }

    /// Serves a connection to its end, or until another has the place. `None`: that.
    pub(crate) async fn hold<T>(mut self, connection: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            ended = connection => Some(ended),
            // Nothing is ever sent.
            _ = &mut self.lost => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.held().places.remove(&self.number);
        self.room.0.left.notify_waiters();
    }
}

/// A stream that says when it was used.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    stream: S,
    used: Used,
}

impl<S> Stream<S> {
    /// The stream itself, for its options.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.used.now();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.used.now();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    fn room(of_each: usize, of_all: usize, idle: Duration) -> Room {
        Room::new(Bounds {
            of_each,
            of_all,
            idle,
        })
    }

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn idle_connections_of_some_listeners_keep_none_of_another_out() {
        let room = room(2, 4, Duration::ZERO);
        let shares = [room.share(), room.share(), room.share()];
        let mut idle = Vec::new();
        for share in &shares[..2] {
            for _ in 0..2 {
                idle.push(share.place().await);
            }
        }
        let place = timeout(SOON, shares[2].place()).await.expect("room");
        // The one that has been idle the longest, which is another listener's.
        assert_eq!(
            timeout(SOON, idle.remove(0).hold(forever())).await,
            Ok(None)
        );
        for place in idle {
            assert!(timeout(SOON, place.hold(forever())).await.is_err());
        }
        assert_eq!(place.hold(std::future::ready(7)).await, Some(7));
        assert_eq!(room.held().places.len(), 0);
    }

    #[tokio::test]
    async fn a_listener_takes_places_of_its_own_alone_while_there_are_others() {
        let room = room(1, 9, Duration::ZERO);
        let (one, other) = (room.share(), room.share());
        let first = one.place().await;
        let others = other.place().await;
        let _second = one.place().await;
        assert_eq!(timeout(SOON, first.hold(forever())).await, Ok(None));
        assert!(timeout(SOON, others.hold(forever())).await.is_err());
    }

    #[tokio::test]
    async fn who_is_not_idle_for_long_enough_is_waited_for() {
        let room = room(1, 1, LONG);
        let (one, other) = (room.share(), room.share());
        for share in [&one, &other] {
            let first = one.place().await;
            assert!(timeout(SOON, share.place()).await.is_err(), "full");
            let (place, ()) = tokio::join!(timeout(LONG, share.place()), async {
                tokio::time::sleep(SOON).await;
                drop(first);
            });
            place.expect("the first has left");
        }
    }

    #[tokio::test]
    async fn bytes_in_either_direction_keep_a_place() {
        let room = room(2, 2, Duration::ZERO);
        let share = room.share();
        let (reads, writes) = (share.place().await, share.place().await);
        let (near, mut far) = duplex(64);
        let mut near = reads.stream(near);
        far.write_all(b"x").await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        let _third = share.place().await;
        assert_eq!(timeout(SOON, writes.hold(forever())).await, Ok(None));
        near.write_all(b"y").await.unwrap();
        let _fourth = share.place().await;
        assert!(timeout(SOON, reads.hold(forever())).await.is_err());
    }

    async fn forever() {
        std::future::pending().await
    }
}
