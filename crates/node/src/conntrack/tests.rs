//! What a burst of changes costs, by a clock that is only counted.

use std::cell::RefCell;

use daymark_model::Protocol;

use super::*;

/// Walks until nothing waits any more and the oldest wait for one, if changes of a protocol come at such times, in milliseconds, and each walk takes so
/// long.
fn walks(protocol: Protocol, changes: &[u64], walk: Duration) -> (usize, Duration) {
    let start = clock::now();
    let mut changes = changes.iter().map(|at| Told {
        at: start + Duration::from_millis(*at),
        verdicts: steps::lost(protocol, 53),
    });
    let mut coming = changes.by_ref().peekable();
    let (mut looks, mut now, mut count) = (Looks::default(), start, 0);
    let (mut waits, mut longest) = (Vec::new(), Duration::ZERO);
    loop {
        while let Some(told) = coming.next_if(|told| told.at <= now) {
            waits.push(told.at);
            looks.add(told);
        }
        let next = coming.peek().map(|told| told.at);
        let Some(due) = looks.due().into_iter().chain(next).min() else {
            return (count, longest);
        };
        if due > now {
            now = due;
            continue;
        }
        let before = count;
        let walked = RefCell::new(&mut count);
        let looked = looks.pending.look(now, |_, _| {
            **walked.borrow_mut() += 1;
            Ok::<_, ()>(())
        });
        assert_eq!(looked, Ok(()));
        if count > before {
            longest = longest.max(now - waits[0]);
            waits.clear();
        }
        let worked = walk * u32::try_from(count - before).expect("few");
        now += worked + rest_after(worked);
    }
}

/// Those of kube-proxy 1.37: one in each sync, at least a second apart (`minSyncPeriod`), if a sync takes no longer than its walk.
fn kube_proxy_walks(changes: &[u64], walk: Duration) -> usize {
    let (mut count, mut free) = (0, Duration::ZERO);
    let mut changes = changes
        .iter()
        .map(|at| Duration::from_millis(*at))
        .peekable();
    while let Some(first) = changes.next() {
        let sync = first.max(free);
        while changes.next_if(|at| *at <= sync).is_some() {}
        count += 1;
        free = sync + walk + Duration::from_secs(1);
    }
    count
}

/// A thousand ports lose their endpoint in the course of some time, told at most fifty times a second; then again after a while, and
/// slowly.
#[test]
fn a_burst_costs_at_most_as_many_walks_as_with_kube_proxy() {
    for walk in [1, 5, 50, 300, 900].map(Duration::from_millis) {
        for length in (0..5000).step_by(70) {
            for step in [20, 70, 250] {
                let changes: Vec<u64> = (0..=length).step_by(step).collect();
                let (count, longest) = walks(Protocol::Udp, &changes, walk);
                let other = kube_proxy_walks(&changes, walk);
                assert!(
                    count <= other,
                    "{length} ms of changes, a walk of {walk:?}: {count}, kube-proxy {other}"
                );
                let most = rest_after(walk).max(Duration::from_secs(1)) + walk;
                assert!(
                    longest <= most,
                    "{length} ms of changes, a walk of {walk:?}: one waits {longest:?}"
                );
            }
        }
    }
}

#[test]
fn a_change_is_looked_at_at_once_and_one_that_follows_it_after_the_rest() {
    let walk = Duration::from_millis(5);
    assert_eq!(walks(Protocol::Udp, &[0], walk), (1, Duration::ZERO));
    assert_eq!(walks(Protocol::Udp, &[0, 1000], walk), (2, Duration::ZERO));
    let after = PACE + walk - Duration::from_millis(100);
    assert_eq!(walks(Protocol::Udp, &[0, 100], walk), (2, after));
    assert_eq!(walks(Protocol::Tcp, &[0], walk), (1, SETTLE));
}
