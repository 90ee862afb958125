//! A crash after every single write, with every kind of loss: what was answered or seen is there.

use std::collections::BTreeMap;
use std::time::Duration;

use daymark_store::History;
use proptest::prelude::*;

use crate::disk::{Disk, Event, Leaves, Random, Replay};
use crate::model::{KIND, Objects, Step, objects, open, open_with, replay_log, submit};

/// What a run left behind.
struct Run {
    /// The disk before it.
    image: Vec<u8>,
    events: Vec<Event>,
    /// The state after each revision.
    states: BTreeMap<u64, Objects>,
}

/// Runs bursts of steps; the steps of a burst share groups.
fn run(bursts: Vec<Vec<Step>>) -> Run {
    let disk = Disk::default();
    drop(open(&disk));
    let image = disk.record();
    let store = open(&disk);
    disk.watch(Some(store.clone()));
    let listener = disk.clone();
    store.on_publish(move |revision| listener.note(Event::Seen(revision)));
    for burst in bursts {
        let outcomes: Vec<_> = burst
            .into_iter()
            .map(|step| submit(&store, &disk, step))
            .collect();
        outcomes.into_iter().for_each(|outcome| {
            outcome.recv().unwrap().unwrap();
        });
    }
    let states = replay_log(&store);
    assert_eq!(
        states.last_key_value().unwrap().1,
        &objects(&store.snapshot()),
        "the state is the log, replayed"
    );
    disk.watch(None);
    drop(store);
    Run {
        image,
        events: disk.events(),
        states,
    }
}

/// What a client knew at the moment of a crash.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The newest revision that was answered or seen.
    durable: u64,
    /// The newest revision that a plan was given.
    handed_out: u64,
}

impl Known {
    fn learn(&mut self, event: &Event) {
        match event {
            Event::Acknowledged(revision) | Event::Seen(revision) => {
                self.durable = self.durable.max(*revision)
            }
            Event::HandedOut(revision) => self.handed_out = self.handed_out.max(*revision),
            Event::Write { .. } | Event::SetLen(_) | Event::Sync => {}
        }
    }
}

/// Opens what a crash left, and holds it to what was known.
fn recover(image: Vec<u8>, known: Known, states: &BTreeMap<u64, Objects>) {
    let disk = Disk::with_image(image);
    let store = open(&disk);
    let revision = store.revision();
    assert!(
        revision >= known.durable,
        "revision {} is lost, the store is at {revision}",
        known.durable
    );
    assert!(
        revision <= known.handed_out.max(known.durable),
        "revision {revision} comes from nowhere"
    );
    assert_eq!(
        objects(&store.snapshot()),
        states[&revision],
        "the state of another revision than {revision}"
    );
    let replayed = replay_log(&store);
    assert!(
        replayed.iter().all(|(at, state)| states[at] == *state),
        "the log tells another story"
    );
    let next = submit(&store, &disk, Step(vec![(99, Some(b"new".to_vec()))]))
        .recv()
        .unwrap()
        .unwrap();
    assert!(
        next.revision > known.handed_out,
        "revision {} is used twice",
        next.revision
    );
}

/// Crashes at every event that changes the disk.
fn crash_everywhere(run: &Run, seed: u64) -> usize {
    let mut random = Random(seed);
    let mut replay = Replay::new(run.image.clone());
    let mut known = Known::default();
    let mut crashes = 0;
    for event in &run.events {
        known.learn(event);
        replay.step(event);
        if !matches!(event, Event::Write { .. } | Event::SetLen(_) | Event::Sync) {
            continue;
        }
        for leaves in [
            Leaves::Nothing,
            Leaves::Everything,
            Leaves::Some(random.next()),
            Leaves::Some(random.next()),
        ] {
            recover(replay.crash(leaves), known, &run.states);
            crashes += 1;
        }
    }
    crashes
}

#[test]
fn no_crash_loses_an_answered_write_or_uses_a_revision_twice() {
    let mut random = Random(20);
    let bursts = (0..6)
        .map(|burst| (0..=burst * 2).map(|_| Step::random(&mut random)).collect())
        .collect();
    let run = run(bursts);
    let crashes = crash_everywhere(&run, 7);
    assert!(crashes > 200, "only {crashes} crashes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_of_any_run_loses_an_answered_write(seed in 1..u64::MAX, sizes in prop::collection::vec(1..10_usize, 1..4)) {
        let mut random = Random(seed);
        let bursts = sizes.into_iter().map(|size| (0..size).map(|_| Step::random(&mut random)).collect()).collect();
        crash_everywhere(&run(bursts), seed);
    }
}

#[test]
fn a_crash_while_the_store_recovers_from_a_crash_loses_nothing_either() {
    let mut random = Random(3);
    let first = run((0..3)
        .map(|_| (0..4).map(|_| Step::random(&mut random)).collect())
        .collect());
    let mut replay = Replay::new(first.image.clone());
    let mut known = Known::default();
    for event in &first.events[..first.events.len() * 2 / 3] {
        known.learn(event);
        replay.step(event);
    }
    let crashed = replay.crash(Leaves::Some(11));
    let disk = Disk::with_image(crashed.clone());
    drop(open(&disk));
    let second = Run {
        image: crashed,
        events: disk.events(),
        states: first.states,
    };
    let mut replay = Replay::new(second.image);
    for event in &second.events {
        replay.step(event);
        for leaves in [
            Leaves::Nothing,
            Leaves::Some(random.next()),
            Leaves::Everything,
        ] {
            recover(replay.crash(leaves), known, &second.states);
        }
    }
}

/// The log is cut at nearly every commit, and the restarts trim it too.
#[test]
fn no_crash_while_the_log_is_compacted_loses_anything() {
    let history = History {
        min_entries: 2,
        min_age: Duration::ZERO,
        max_entries: 4,
    };
    let disk = Disk::default();
    drop(open_with(&disk, history));
    let image = disk.record();
    let store = open_with(&disk, history);
    let mut states = BTreeMap::from([(0, Objects::new())]);
    let mut random = Random(77);
    for _ in 0..25 {
        submit(&store, &disk, Step::random(&mut random))
            .recv()
            .unwrap()
            .unwrap();
        states.insert(store.revision(), objects(&store.snapshot()));
    }
    assert!(store.floor(KIND) > 0, "nothing was compacted");
    drop(store);
    let mut replay = Replay::new(image);
    let mut known = Known::default();
    for event in &disk.events() {
        known.learn(event);
        replay.step(event);
        for leaves in [Leaves::Nothing, Leaves::Some(random.next())] {
            let crashed = Disk::with_image(replay.crash(leaves));
            let store = open_with(&crashed, history);
            assert!(store.revision() >= known.durable);
            assert_eq!(objects(&store.snapshot()), states[&store.revision()]);
            let next = submit(&store, &crashed, Step(vec![(99, Some(Vec::new()))]))
                .recv()
                .unwrap()
                .unwrap();
            assert!(next.revision > known.handed_out);
        }
    }
}

#[test]
fn the_recorder_itself_loses_what_was_not_synced() {
    let mut replay = Replay::new(vec![0; 2048]);
    replay.step(&Event::Write {
        offset: 0,
        data: vec![1; 600],
    });
    replay.step(&Event::Sync);
    replay.step(&Event::Write {
        offset: 0,
        data: vec![2; 1024],
    });
    assert_eq!(replay.crash(Leaves::Nothing)[..600], [1; 600]);
    assert_eq!(replay.crash(Leaves::Everything)[..1024], [2; 1024]);
    let torn = (1..50).any(|seed| {
        let image = replay.crash(Leaves::Some(seed));
        image[0] == 1 && image[512] == 2
    });
    assert!(torn, "no crash tore the write");
}
