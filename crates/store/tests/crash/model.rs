//! What the store should hold: the same plans on plain maps.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};

use daymark_store::{
    Committed, History, Key, Op, Options, Plan, Raw, Snapshot, Store, SubmitError, What,
};

use crate::disk::{Disk, Event, Random};

/// Name -> value, of the one kind that these tests use.
pub(crate) type Objects = BTreeMap<String, Vec<u8>>;

/// A plan of the tests: sets or removes some of a few names. What is not there is not removed.
#[derive(Clone, Debug)]
pub(crate) struct Step(pub(crate) Vec<(u8, Option<Vec<u8>>)>);

impl Step {
    /// A step of a seeded run.
    pub(crate) fn random(random: &mut Random) -> Self {
        let names = 1 + random.below(3);
        let mut writes = BTreeMap::new();
        for _ in 0..names {
            let value = match random.below(4) {
                0 => None,
                _ => Some(vec![random.next() as u8; random.below(3000) as usize]),
            };
            writes.insert(random.below(12) as u8, value);
        }
        Self(writes.into_iter().collect())
    }

    fn ops(&self, state: &Snapshot<Raw>) -> Vec<Op<Raw>> {
        let op = |(name, value): &(u8, Option<Vec<u8>>)| {
            let key = key(&name.to_string());
            match value {
                Some(value) => Some(Op::Put {
                    key,
                    value: Raw(value.clone()),
                }),
                None if state.get(&key).is_none() => None,
                None => Some(Op::Delete {
                    key,
                    last: Raw(b"last".to_vec()),
                }),
            }
        };
        self.0.iter().filter_map(op).collect()
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(KIND, "", name)
}

pub(crate) fn open(disk: &Disk) -> Store<Raw> {
    open_with(disk, History::default())
}

pub(crate) fn open_with(disk: &Disk, history: History) -> Store<Raw> {
    Store::with_backend(disk.clone(), Options::in_memory().with_history(history)).unwrap()
}

/// Submits a step; notes on the disk's record what the plan was given and when it was answered.
pub(crate) fn submit(
    store: &Store<Raw>,
    disk: &Disk,
    step: Step,
) -> Receiver<Result<Committed<()>, SubmitError<()>>> {
    let (answer, outcome) = channel();
    let (plan_notes, done_notes) = (disk.clone(), disk.clone());
    store.submit(
        move |state, revision| {
            let ops = step.ops(state);
            if !ops.is_empty() {
                plan_notes.note(Event::HandedOut(revision));
            }
            Ok(Plan { ops, answer: () })
        },
        move |result| {
            if let Ok(committed) = &result {
                done_notes.note(Event::Acknowledged(committed.revision));
            }
            drop(answer.send(result));
        },
    );
    outcome
}

pub(crate) fn objects(snapshot: &Snapshot<Raw>) -> Objects {
    let entries = snapshot.range(KIND, None, None);
    entries
        .map(|(key, entry)| (key.name.to_string(), entry.value.0.clone()))
        .collect()
}

/// The state after each revision, by applying the log to nothing.
pub(crate) fn replay_log(store: &Store<Raw>) -> BTreeMap<u64, Objects> {
    let mut states = BTreeMap::from([(0, Objects::new())]);
    let mut state = Objects::new();
    for change in store.changes(KIND, 0, usize::MAX).unwrap() {
        let name = change.key.name.to_string();
        let before = match change.what {
            What::Deleted => state.remove(&name),
            What::Added | What::Modified => state.insert(name, change.value.0.clone()),
        };
        assert_eq!(
            before.as_ref(),
            change.previous.as_ref().map(|value| &value.0),
            "{change:?}"
        );
        assert_eq!(change.what == What::Added, before.is_none(), "{change:?}");
        states.insert(change.revision, state.clone());
    }
    states
}

pub(crate) const KIND: &str = "things";
