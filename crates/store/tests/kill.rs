//! 200 times: a child process writes to a store under load, tells by a pipe what it was answered, and dies by SIGKILL.
//!
//! Without the libtest harness, because the child is this same program: `kill child PATH`. Each line of the child is one
//! fact, told in order:
//!
//! ```text
//! open REVISION             the store is open
//! try REVISION              a plan was given this revision
//! ack REVISION WORKER N     the worker's N-th write was answered
//! saw REVISION WORKER N     a watcher was shown it
//! ```
//!
//! Each worker writes its counter to an object and, in the same transaction, to a twin, which it removes at every
//! fourth count: so a torn transaction shows.
#![allow(
    clippy::disallowed_macros,
    reason = "a program of its own: what it prints is its result, or the pipe"
)]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use daymark_store::{Key, Op, Options, Plan, Raw, Snapshot, Store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [child, path] if child == "child" => work(Path::new(path)),
        _ if arguments.iter().any(|argument| argument == "--list") => println!("{NAME}: test"),
        _ if selected(&arguments) => judge(),
        _ => println!("test {NAME} ... filtered out"),
    }
}

/// As libtest does: no filter, or one that is part of the name.
fn selected(arguments: &[String]) -> bool {
    let mut filters = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    filters.peek().is_none() || filters.any(|filter| NAME.contains(filter.as_str()))
}

/// What the children told, all rounds together.
#[derive(Default)]
struct Told {
    /// The highest revision that was answered or seen.
    durable: u64,
    /// The highest revision that a plan was given, in this round and in the ones before.
    tried: u64,
    tried_before: u64,
    /// The highest count that was answered or seen, by worker.
    counts: BTreeMap<u64, u64>,
    acknowledged: u64,
}

fn judge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut told = Told::default();
    for round in 0..KILLS {
        told.tried_before = told.tried;
        let mut child = start(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        wait_for_open(&mut lines);
        std::thread::sleep(Duration::from_millis(5 + round * 37 % 60));
        child.kill().unwrap();
        child.wait().unwrap();
        listen(lines, &mut told);
        verify(&path, &told);
    }
    assert!(
        told.acknowledged > 2 * KILLS,
        "only {} writes were answered",
        told.acknowledged
    );
    println!(
        "test {NAME} ... ok ({KILLS} kills, {} answered writes)",
        told.acknowledged
    );
}

fn start(path: &Path) -> Child {
    let program: PathBuf = std::env::current_exe().unwrap();
    Command::new(program)
        .arg("child")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for_open(lines: &mut BufReader<ChildStdout>) {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(
        line.starts_with("open "),
        "the child did not open the store: {line:?}"
    );
}

/// Reads what is left in the pipe; the last line may be cut off.
fn listen(mut lines: BufReader<ChildStdout>, told: &mut Told) {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        let mut words = line.split_whitespace();
        let sort = words.next().unwrap();
        let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        match (sort, numbers.as_slice()) {
            ("try", [revision]) => {
                assert!(
                    *revision > told.tried_before,
                    "revision {revision} was given to a plan before a kill, too"
                );
                told.tried = told.tried.max(*revision);
            }
            ("ack" | "saw", [revision, worker, count]) => {
                told.durable = told.durable.max(*revision);
                told.acknowledged += u64::from(sort == "ack");
                let known = told.counts.entry(*worker).or_default();
                *known = (*known).max(*count);
            }
            _ => panic!("what is {line:?}?"),
        }
        line.clear();
    }
}

/// Opens what the kill left, and holds it to what was told.
fn verify(path: &Path, told: &Told) {
    let store: Store<Raw> = Store::open(Options::at(path)).unwrap();
    let state = store.snapshot();
    assert!(
        state.revision() >= told.durable,
        "revision {} is lost: at {}",
        told.durable,
        state.revision()
    );
    assert!(
        state.revision() <= told.tried.max(told.durable),
        "revision {} comes from nowhere",
        state.revision()
    );
    for (worker, known) in &told.counts {
        let found = count(&state, *worker, OBJECT)
            .unwrap_or_else(|| panic!("worker {worker} lost its object"));
        assert!(
            found >= *known,
            "worker {worker} lost count {known}: at {found}"
        );
        let twin = count(&state, *worker, TWIN);
        assert_eq!(
            twin,
            (!found.is_multiple_of(4)).then_some(found),
            "worker {worker}: half a transaction"
        );
    }
}

/// The child: writes until it dies.
fn work(path: &Path) {
    let store: Store<Raw> = Store::open(Options::at(path)).unwrap();
    let start = store.revision();
    tell(&format!("open {start}\n"));
    let watcher = store.clone();
    let (wake, woken) = std::sync::mpsc::channel();
    store.on_publish(move |revision| {
        let _ = wake.send(revision);
    });
    for worker in 0..WORKERS {
        let store = store.clone();
        std::thread::spawn(move || count_up(&store, worker));
    }
    watch(&watcher, start, woken.into_iter());
}

fn count_up(store: &Store<Raw>, worker: u64) {
    loop {
        let outcome = store.transact(move |state, revision| {
            tell(&format!("try {revision}\n"));
            let count = count(state, worker, OBJECT).unwrap_or(0) + 1;
            Ok::<_, ()>(Plan {
                ops: ops(state, worker, count),
                answer: count,
            })
        });
        let committed = outcome.unwrap();
        tell(&format!(
            "ack {} {worker} {}\n",
            committed.revision, committed.answer
        ));
    }
}

fn ops(state: &Snapshot<Raw>, worker: u64, count: u64) -> Vec<Op<Raw>> {
    let value = || Raw(format!("{count} {}", "x".repeat((count % 7 * 400) as usize)).into_bytes());
    let twin = key(worker, TWIN);
    let mut ops = vec![Op::Put {
        key: key(worker, OBJECT),
        value: value(),
    }];
    match (count % 4, state.get(&twin)) {
        (0, None) => {}
        (0, Some(_)) => ops.push(Op::Delete {
            key: twin,
            last: value(),
        }),
        _ => ops.push(Op::Put {
            key: twin,
            value: value(),
        }),
    }
    ops
}

fn watch(store: &Store<Raw>, mut after: u64, woken: impl Iterator<Item = u64>) {
    for _ in woken {
        for change in store.changes(KIND, after, usize::MAX).unwrap() {
            after = change.revision;
            if &*change.key.name == OBJECT {
                tell(&format!(
                    "saw {after} {} {}\n",
                    change.key.namespace,
                    parse(&change.value)
                ));
            }
        }
    }
}

/// One write, so that a line comes whole or as the last one.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

fn key(worker: u64, name: &str) -> Key {
    Key::new(KIND, worker.to_string(), name)
}

fn count(state: &Snapshot<Raw>, worker: u64, name: &str) -> Option<u64> {
    state
        .get(&key(worker, name))
        .map(|entry| parse(&entry.value))
}

fn parse(value: &Raw) -> u64 {
    let text = std::str::from_utf8(&value.0).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

const NAME: &str = "no_kill_loses_an_answered_write_or_uses_a_revision_twice";
const KIND: &str = "counters";
const OBJECT: &str = "object";
const TWIN: &str = "twin";
const WORKERS: u64 = 8;
const KILLS: u64 = 200;
