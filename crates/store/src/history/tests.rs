use super::*;
use crate::clock;
use crate::value::{Key, What};

/// A ring of one kind with changes of these revisions, all of them now.
fn rings(revisions: &[u64]) -> Rings<u64> {
    let mut rings = Rings::default();
    let at = clock::now();
    for (index, revision) in (0..).zip(revisions) {
        let key = Key::new("things", "", "thing");
        let change = Change {
            revision: *revision,
            key,
            what: What::Modified,
            value: Arc::new(*revision),
            previous: None,
        };
        rings.push(Record {
            change: Arc::new(change),
            index,
            created: 1,
            before: None,
            at,
        });
    }
    rings
}

fn history(min_entries: usize, min_age: u64, max_entries: usize) -> History {
    History {
        min_entries,
        min_age: Duration::from_secs(min_age),
        max_entries,
    }
}

/// The revisions that stay, 60 seconds later.
fn stay(revisions: &[u64], history: History, limit: usize) -> Vec<u64> {
    let mut rings = rings(revisions);
    let forgotten = rings.excess(&history, clock::now() + Duration::from_secs(60), limit);
    assert_eq!(rings.forget(&forgotten).len(), forgotten.changes.len());
    rings.kinds["things"]
        .records
        .iter()
        .map(|record| record.change.revision)
        .collect()
}

#[test]
fn a_change_goes_when_it_is_old_or_one_too_many() {
    for (name, history, expected) in [
        ("old, but needed", history(9, 30, 9), vec![1, 2, 3, 4, 5]),
        ("old, and not needed", history(2, 30, 9), vec![4, 5]),
        (
            "not needed, but young",
            history(2, 90, 9),
            vec![1, 2, 3, 4, 5],
        ),
        ("young, but too many", history(2, 90, 3), vec![3, 4, 5]),
    ] {
        assert_eq!(stay(&[1, 2, 3, 4, 5], history, 99), expected, "{name}");
    }
}

#[test]
fn a_transaction_goes_whole_or_stays_whole() {
    assert_eq!(
        stay(&[1, 2, 2, 2, 3], history(2, 0, 9), 99),
        [2, 2, 2, 3],
        "the policy keeps a part: all stays"
    );
    assert_eq!(
        stay(&[1, 1, 1, 2, 3], history(1, 0, 9), 2),
        [2, 3],
        "the limit cuts it: all goes"
    );
    assert_eq!(
        stay(&[1, 1, 1], history(1, 0, 1), 9),
        [1, 1, 1],
        "one transaction is never cut"
    );
}

#[test]
fn a_floor_of_all_kinds_holds_for_kinds_without_changes() {
    let mut rings = rings(&[7]);
    rings.set_floor(Arc::from(ALL_KINDS), 5);
    let compacted = Err(HistoryError::Compacted { floor: 5 });
    for kind in ["things", "others"] {
        assert_eq!(rings.changes(kind, 4, 9).map(|_| ()), compacted, "{kind}");
        assert!(rings.changes(kind, 5, 9).is_ok(), "{kind}");
    }
}
