//! A disk that fails while the store runs: the write is refused, the reads go on, nothing is used twice.

use daymark_store::{Health, SubmitError};

use crate::disk::{Disk, Event, Fault};
use crate::model::{KIND, Step, objects, open, submit};

fn set(name: u8, value: &str) -> Step {
    Step(vec![(name, Some(value.into()))])
}

/// The highest revision that any plan was given.
fn handed_out(disk: &Disk) -> u64 {
    let revisions = disk.events().into_iter().filter_map(|event| match event {
        Event::HandedOut(revision) => Some(revision),
        _ => None,
    });
    revisions.max().unwrap_or(0)
}

/// Lets a disk fail at its `after`th operation of the sort, and checks all that must hold then.
fn check(fault: Fault, after: usize) {
    let disk = Disk::default();
    let store = open(&disk);
    for number in 0..5 {
        submit(&store, &disk, set(number, "old"))
            .recv()
            .unwrap()
            .unwrap();
    }
    let (before, durable) = (objects(&store.snapshot()), store.revision());
    disk.fail(fault, after);
    let mut answered = durable;
    let failure = loop {
        assert!(answered < durable + 1000, "the fault never hit");
        match submit(
            &store,
            &disk,
            Step(vec![(0, Some(vec![7; 5000])), (50, None)]),
        )
        .recv()
        .unwrap()
        {
            Ok(committed) => answered = committed.revision,
            Err(failure) => break failure,
        }
    };
    let SubmitError::Unavailable(reason) = failure else {
        panic!("{failure:?}")
    };
    assert!(
        reason.contains("read-only") && reason.contains("restart daymark"),
        "{reason}"
    );

    assert!(matches!(store.health(), Health::ReadOnly { .. }));
    assert_eq!(store.revision(), answered, "nobody sees the failed write");
    assert_eq!(objects(&store.snapshot()).len(), before.len());
    assert_eq!(store.changes(KIND, answered, 10).unwrap().len(), 0);
    assert!(
        store
            .snapshot_at(durable)
            .is_ok_and(|old| objects(&old) == before)
    );

    disk.heal();
    let outcome = submit(&store, &disk, set(60, "late")).recv().unwrap();
    assert!(
        matches!(outcome, Err(SubmitError::Unavailable(_))),
        "still read-only: {outcome:?}"
    );
    drop(store);

    let store = open(&Disk::with_image(disk.image()));
    assert!(store.revision() >= answered, "an answered write is lost");
    let next = submit(&store, &disk, set(61, "new"))
        .recv()
        .unwrap()
        .unwrap();
    assert!(next.revision > answered);
}

#[test]
fn a_failing_disk_makes_the_store_read_only_and_loses_nothing() {
    for fault in [
        Fault::NoSpace,
        Fault::ShortWrite,
        Fault::WriteError,
        Fault::SyncError,
    ] {
        for after in [0, 1, 2, 3, 5, 8, 13] {
            check(fault, after);
        }
    }
}

#[test]
fn a_revision_of_a_failed_write_is_not_used_again() {
    let disk = Disk::default();
    let store = open(&disk);
    submit(&store, &disk, set(1, "old"))
        .recv()
        .unwrap()
        .unwrap();
    disk.fail(Fault::WriteError, 0);
    submit(&store, &disk, set(2, "failed"))
        .recv()
        .unwrap()
        .unwrap_err();
    drop(store);
    disk.heal();
    let used = handed_out(&disk);
    let store = open(&disk);
    let next = submit(&store, &disk, set(3, "new"))
        .recv()
        .unwrap()
        .unwrap();
    assert!(next.revision > used, "{} <= {used}", next.revision);
}

#[test]
fn every_plan_of_a_failed_group_is_told() {
    let disk = Disk::default();
    let store = open(&disk);
    disk.fail(Fault::SyncError, 0);
    let outcomes: Vec<_> = (0..100)
        .map(|number| submit(&store, &disk, set(number, "x")))
        .collect();
    for outcome in outcomes {
        assert!(matches!(
            outcome.recv().unwrap(),
            Err(SubmitError::Unavailable(_))
        ));
    }
    assert_eq!(store.revision(), 0);
}
