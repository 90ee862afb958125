//! The zone follows the feed, and the data plane.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use daymark_feed::{Batch, PlaneReceiver, PlaneStatus, Subscription};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::serve::Shared;
use crate::clock;
use crate::metrics::add;
use crate::zone::Hold;

/// Runs for ever. Once the feed has ended, which others tell, the zone stays as it is.
pub(super) async fn follow(shared: Arc<Shared>, mut feed: Subscription, mut plane: PlaneReceiver) {
    // Batches with names held, and when their patience ends.
    let mut held: VecDeque<(u64, std::time::Instant)> = VecDeque::new();
    let mut publisher = Publisher::There;
    loop {
        let next = held
            .front()
            .map(|(_, until)| until.saturating_duration_since(clock::now()));
        tokio::select! {
            batch = feed.next() => {
                let Some(batch) = batch else { return pending().await };
                if take(&shared, &batch, *plane.borrow_and_update()) > 0 {
                    held.push_back((batch.number, clock::now() + shared.config.hold));
                }
            }
            changed = plane.changed(), if publisher == Publisher::There => {
                if changed.is_err() {
                    publisher = Publisher::Gone;
                }
                let status = *plane.borrow_and_update();
                if let Some((last, _)) = held.iter().rev().find(|(number, _)| status.holds(*number)) {
                    let last = *last;
                    release(&shared, last);
                    held.retain(|(number, _)| *number > last);
                }
            }
            () = sleep(next.unwrap_or(Duration::MAX)), if next.is_some() => {
                if let Some((number, _)) = held.pop_front() {
                    let names = release(&shared, number);
                    add(&shared.metrics.hold_timeouts, names);
                    if names > 0 {
                        warn!(batch = number, names, "the data plane took too long; names are given out without it");
                    }
                }
            }
        }
    }
}

/// Whether somebody still reports on the data plane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publisher {
    There,
    Gone,
}

/// Returns how many names are held back.
fn take(shared: &Shared, batch: &Batch, plane: PlaneStatus) -> usize {
    let hold = if plane.holds(batch.number) {
        Hold::Nothing
    } else {
        Hold::ForPlane
    };
    let mut zone = shared.zone.write().unwrap_or_else(PoisonError::into_inner);
    let names = zone.apply(batch, hold, clock::serial());
    drop(zone);
    shared.ready.store(true, Ordering::Relaxed);
    add(&shared.metrics.held, names);
    debug!(
        batch = batch.number,
        events = batch.events.len(),
        held = names,
        "zone updated"
    );
    names
}

fn release(shared: &Shared, number: u64) -> usize {
    shared
        .zone
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .release(number)
}
