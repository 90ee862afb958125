use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::value::{Key, Op, Raw, What};

fn key(name: &str) -> Key {
    Key::new("services", "default", name)
}

fn put(name: &str, value: &str) -> Op<Raw> {
    Op::Put {
        key: key(name),
        value: Raw(value.into()),
    }
}

fn delete(name: &str) -> Op<Raw> {
    Op::Delete {
        key: key(name),
        last: Raw("last".into()),
    }
}

type Outcome = Result<u64, SubmitError<&'static str>>;

fn write(store: &Store<Raw>, ops: Vec<Op<Raw>>) -> Outcome {
    store
        .transact(|_, _| Ok(Plan { ops, answer: () }))
        .map(|committed| committed.revision)
}

/// `name=value@created/revision` of every service.
fn shown(snapshot: &Snapshot<Raw>) -> String {
    let line = |(key, entry): (&Key, &crate::Entry<Raw>)| {
        let value = String::from_utf8_lossy(&entry.value.0).into_owned();
        format!("{}={value}@{}/{}", key.name, entry.created, entry.revision)
    };
    snapshot
        .range("services", None, None)
        .map(line)
        .collect::<Vec<_>>()
        .join(" ")
}

fn changes(store: &Store<Raw>, after: u64) -> Vec<(u64, What, String)> {
    let changes = store.changes("services", after, 100).unwrap();
    changes
        .iter()
        .map(|change| (change.revision, change.what, change.key.name.to_string()))
        .collect()
}

/// The same test in memory and on disk.
fn both(test: impl Fn(Options)) {
    test(Options::in_memory());
    let folder = tempfile::tempdir().unwrap();
    test(Options::at(folder.path().join("store.redb")));
}

#[test]
fn a_write_is_visible_with_its_revision_once_answered() {
    both(|options| {
        let store = Store::open(options).unwrap();
        assert_eq!(write(&store, vec![put("a", "1"), put("b", "1")]), Ok(1));
        assert_eq!(write(&store, vec![put("a", "2"), delete("b")]), Ok(2));
        assert_eq!(shown(&store.snapshot()), "a=2@1/2");
        assert_eq!((store.revision(), store.snapshot().revision()), (2, 2));
    });
}

#[test]
fn a_snapshot_stays_as_it_was() {
    both(|options| {
        let store = Store::open(options).unwrap();
        write(&store, vec![put("a", "1")]).unwrap();
        let before = store.snapshot();
        write(&store, vec![put("a", "2"), put("b", "2")]).unwrap();
        assert_eq!(shown(&before), "a=1@1/1");
    });
}

#[test]
fn changes_come_oldest_first_with_the_state_before() {
    both(|options| {
        let store = Store::open(options).unwrap();
        write(&store, vec![put("a", "1")]).unwrap();
        write(&store, vec![put("a", "2"), put("b", "2")]).unwrap();
        write(&store, vec![delete("a")]).unwrap();
        let all = [
            (1, What::Added, "a".to_owned()),
            (2, What::Modified, "a".to_owned()),
            (2, What::Added, "b".to_owned()),
            (3, What::Deleted, "a".to_owned()),
        ];
        assert_eq!(changes(&store, 0), all);
        assert_eq!(changes(&store, 1), all[1..]);
        assert_eq!(changes(&store, 3), []);
        let last = store.changes("services", 2, 1).unwrap().remove(0);
        assert_eq!(
            (&last.value.0, &last.previous.as_ref().unwrap().0),
            (&b"last".to_vec(), &b"2".to_vec())
        );
    });
}

#[test]
fn a_limit_never_cuts_a_transaction() {
    both(|options| {
        let store = Store::open(options).unwrap();
        write(&store, vec![put("a", "1"), put("b", "1"), put("c", "1")]).unwrap();
        write(&store, vec![put("d", "2")]).unwrap();
        assert_eq!(store.changes("services", 0, 1).unwrap().len(), 3);
        assert_eq!(store.changes("services", 0, 3).unwrap().len(), 3);
        assert_eq!(store.changes("services", 0, 4).unwrap().len(), 4);
    });
}

#[test]
fn an_earlier_revision_can_be_read() {
    both(|options| {
        let store = Store::open(options).unwrap();
        let states: Vec<String> = [
            vec![put("a", "1")],
            vec![put("a", "2"), put("b", "2")],
            vec![delete("a")],
        ]
        .into_iter()
        .map(|ops| {
            write(&store, ops).unwrap();
            shown(&store.snapshot())
        })
        .collect();
        for (revision, state) in (1..).zip(&states) {
            assert_eq!(shown(&store.snapshot_at(revision).unwrap()), *state);
            assert_eq!(
                shown(&store.snapshot_of_kind_at("services", revision).unwrap()),
                *state
            );
        }
        assert_eq!(shown(&store.snapshot_at(0).unwrap()), "");
        assert_eq!(
            store.snapshot_at(4).unwrap_err(),
            HistoryError::Future { current: 3 }
        );
        assert_eq!(
            store.changes("services", 4, 1).unwrap_err(),
            HistoryError::Future { current: 3 }
        );
    });
}

#[test]
fn a_refusal_and_a_plan_without_operations_use_no_revision() {
    both(|options| {
        let store = Store::open(options).unwrap();
        write(&store, vec![put("a", "1")]).unwrap();
        let refused = store.transact(|_, _| Err::<Plan<Raw, ()>, _>("no"));
        assert_eq!(refused, Err(SubmitError::Refused("no")));
        let read = store.transact(|state, _| {
            Ok::<_, &str>(Plan {
                ops: Vec::new(),
                answer: state.count("services", None),
            })
        });
        assert_eq!(
            read,
            Ok(Committed {
                revision: 1,
                answer: 1
            })
        );
        assert_eq!(write(&store, vec![put("a", "2")]), Ok(2));
    });
}

#[test]
fn a_plan_that_breaks_a_rule_changes_nothing() {
    let store = Store::open(Options::in_memory()).unwrap();
    for (ops, reason) in [
        (
            vec![put("a", "1"), delete("b")],
            "services default/b: the plan deletes it, but it is not there",
        ),
        (
            vec![put("a", "1"), put("a", "2")],
            "services default/a: the plan touches it twice",
        ),
    ] {
        assert_eq!(
            write(&store, ops),
            Err(SubmitError::Unavailable(reason.to_owned()))
        );
    }
    assert!(matches!(
        write(&store, vec![put("a\0b", "1")]),
        Err(SubmitError::Unavailable(_))
    ));
    assert_eq!(
        (shown(&store.snapshot()).as_str(), store.health()),
        ("", Health::Ready)
    );
}

#[test]
fn a_panic_in_a_plan_or_a_callback_harms_nobody_else() {
    let store = Store::open(Options::in_memory()).unwrap();
    let outcome =
        store.transact(|_, _| -> Result<Plan<Raw, ()>, ()> { panic!("a plan of this test") });
    assert_eq!(
        outcome,
        Err(SubmitError::Unavailable("the plan panicked".to_owned()))
    );
    store.submit(
        |_, _| {
            Ok::<_, ()>(Plan {
                ops: vec![put("a", "1")],
                answer: (),
            })
        },
        |_| panic!("a callback of this test"),
    );
    assert_eq!(write(&store, vec![put("b", "1")]), Ok(2));
}

#[test]
fn a_plan_that_waits_for_a_plan_is_told() {
    let store = Store::open(Options::in_memory()).unwrap();
    let inner = store.clone();
    let outcome = store.transact(move |_, _| {
        Ok::<_, ()>(Plan {
            ops: Vec::new(),
            answer: write(&inner, Vec::new()),
        })
    });
    assert!(matches!(
        outcome.unwrap().answer,
        Err(SubmitError::Unavailable(_))
    ));
}

#[test]
fn plans_of_a_group_see_each_other_and_are_answered_in_order() {
    both(|options| {
        let store = Store::open(options).unwrap();
        let (answer, answers) = channel();
        for number in 0..500_usize {
            let answer = answer.clone();
            store.submit(
                move |state, _| {
                    let ops = vec![put(&format!("s{number:03}"), "1")];
                    Ok::<_, ()>(Plan {
                        ops,
                        answer: state.count("services", None),
                    })
                },
                move |outcome| answer.send(outcome.unwrap()).unwrap(),
            );
        }
        for number in 0..500_usize {
            let expected = Committed {
                revision: number as u64 + 1,
                answer: number,
            };
            assert_eq!(answers.recv_timeout(Duration::from_secs(30)), Ok(expected));
        }
    });
}

#[test]
fn listeners_hear_a_revision_that_is_already_visible() {
    let store = Store::open(Options::in_memory()).unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&store.inner.shared);
    let ears = Arc::clone(&heard);
    store.on_publish(move |revision| {
        assert_eq!(shared.revision(), revision);
        ears.store(revision, Ordering::SeqCst);
    });
    write(&store, vec![put("a", "1")]).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[test]
fn a_reopened_store_is_the_same_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::at(folder.path().join("store.redb"));
    let store = Store::open(options.clone()).unwrap();
    write(&store, vec![put("a", "1"), put("b", "1")]).unwrap();
    write(&store, vec![put("a", "2")]).unwrap();
    write(&store, vec![delete("b")]).unwrap();
    let before = (
        shown(&store.snapshot()),
        changes(&store, 0),
        store.revision(),
        store.cluster_id(),
    );
    let first = shown(&store.snapshot_at(1).unwrap());
    drop(store);

    let store = Store::open(options).unwrap();
    assert_eq!(
        (
            shown(&store.snapshot()),
            changes(&store, 0),
            store.revision(),
            store.cluster_id()
        ),
        before
    );
    assert_eq!(shown(&store.snapshot_at(1).unwrap()), first);
    assert_eq!(write(&store, vec![put("b", "4")]), Ok(4));
}

#[test]
fn history_that_a_limit_drops_is_compacted_in_memory_and_on_disk() {
    both(|options| {
        let history = History {
            min_entries: 4,
            min_age: Duration::ZERO,
            max_entries: 8,
        };
        let options = options.with_history(history);
        let store = Store::open(options.clone()).unwrap();
        write(
            &store,
            vec![Op::Put {
                key: Key::new("nodes", "", "n"),
                value: Raw("1".into()),
            }],
        )
        .unwrap();
        for _ in 0..50 {
            write(&store, vec![put("a", "1")]).unwrap();
        }
        let floor = store.floor("services");
        assert!((40..=47).contains(&floor), "{floor}");
        assert_eq!(
            store.changes("services", floor - 1, 1).unwrap_err(),
            HistoryError::Compacted { floor }
        );
        assert_eq!(changes(&store, floor).len() as u64, 51 - floor);
        assert_eq!(
            store.changes("nodes", 0, 9).unwrap().len(),
            1,
            "a quiet kind keeps its history"
        );
        assert_eq!(
            store.snapshot_at(floor - 1).unwrap_err(),
            HistoryError::Compacted { floor }
        );
        assert!(store.snapshot_of_kind_at("nodes", 0).is_ok());
    });
}

#[test]
fn a_restart_keeps_the_newest_changes_of_each_kind_and_clears_the_rest_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let long = History {
        min_entries: 5000,
        ..History::default()
    };
    let store = Store::open(Options::at(&path).with_history(long)).unwrap();
    for number in 0..1500 {
        store.submit(
            move |_, _| {
                Ok::<_, ()>(Plan {
                    ops: vec![put(&format!("s{}", number % 700), "1")],
                    answer: (),
                })
            },
            |_| {},
        );
    }
    write(&store, vec![put("last", "1")]).unwrap();
    let before = shown(&store.snapshot());
    drop(store);

    let short = History {
        min_entries: 100,
        ..History::default()
    };
    let store = Store::open(Options::at(&path).with_history(short)).unwrap();
    assert_eq!(
        (shown(&store.snapshot()), store.floor("services")),
        (before, 1401)
    );
    assert_eq!(changes(&store, 1401).len(), 100);
    drop(store);
    let rows = |path: &Path| {
        let database = open_file(path, DEFAULT_CACHE, WhenMissing::Refuse).unwrap();
        let stored = Stored::read(&database).unwrap();
        (stored.log.len(), stored.leftover.len())
    };
    assert_eq!(
        rows(&path),
        (100, 1401),
        "the rows are still there, and not read"
    );
    let store = Store::open(Options::at(&path).with_history(short)).unwrap();
    for _ in 0..60 {
        write(&store, vec![put("last", "2")]).unwrap();
    }
    drop(store);
    assert_eq!(rows(&path), (160, 0), "each commit cleared some");
}
