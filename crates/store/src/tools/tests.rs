use std::fs;
use std::path::PathBuf;

use super::*;
use crate::error::{HistoryError, OpenError};
use crate::value::{Key, Op, Plan, Raw};
use crate::{Options, Store};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    (folder, path)
}

fn write(store: &Store<Raw>, ops: Vec<Op<Raw>>) -> u64 {
    store
        .transact(|_, _| Ok::<_, ()>(Plan { ops, answer: () }))
        .unwrap()
        .revision
}

fn put(kind: &str, name: &str, value: &str) -> Op<Raw> {
    Op::Put {
        key: Key::new(kind, "", name),
        value: Raw(value.into()),
    }
}

/// A store with an object of JSON, one of other bytes, and one that is gone.
fn filled(path: &std::path::Path) {
    let store = Store::open(Options::at(path)).unwrap();
    write(
        &store,
        vec![
            put("nodes", "n", r#"{"b":1.0,"a":[2]}"#),
            put("pods", "gone", "1"),
        ],
    );
    write(
        &store,
        vec![
            put("nodes", "odd", "{\n}"),
            Op::Delete {
                key: Key::new("pods", "", "gone"),
                last: Raw("1".into()),
            },
        ],
    );
}

fn exported(path: &std::path::Path) -> String {
    let mut out = Vec::new();
    export(path, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn imported(path: &std::path::Path, text: &str, existing: Existing) -> Result<Imported, String> {
    let stamp: Stamp = |_, mut value, revision| {
        value.extend(format!(" {revision}").bytes());
        value
    };
    import(path, text.as_bytes(), existing, stamp).map_err(|error| error.to_string())
}

#[test]
fn an_export_is_a_header_and_a_line_an_object() {
    let (_folder, path) = folder();
    filled(&path);
    let text = exported(&path);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(r#"{"daymark":"store","format":1,"cluster":""#),
        "{}",
        lines[0]
    );
    assert!(
        lines[0].ends_with(r#""revision":2,"reserved":2}"#),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[1],
        r#"{"kind":"nodes","name":"n","created":1,"revision":1,"value":{"b":1.0,"a":[2]}}"#
    );
    assert_eq!(
        lines[2],
        r#"{"kind":"nodes","name":"odd","created":2,"revision":2,"bytes":"7b0a7d"}"#
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_restored_store_exports_the_same_and_goes_on_after_it() {
    let (folder, path) = folder();
    filled(&path);
    let text = exported(&path);
    let copy = folder.path().join("copy.redb");
    assert_eq!(
        imported(&copy, &text, Existing::Refuse),
        Ok(Imported {
            objects: 2,
            revision: 2
        })
    );
    assert_eq!(exported(&copy), text);
    let store: Store<Raw> = Store::open(Options::at(&copy)).unwrap();
    for kind in ["nodes", "pods"] {
        assert_eq!(
            store.changes(kind, 1, 9).unwrap_err(),
            HistoryError::Compacted { floor: 2 },
            "{kind}"
        );
        assert_eq!(store.changes(kind, 2, 9).unwrap().len(), 0, "{kind}");
    }
    assert_eq!(
        store.snapshot_at(1).unwrap_err(),
        HistoryError::Compacted { floor: 2 }
    );
    assert_eq!(write(&store, vec![put("nodes", "new", "1")]), 3);
}

#[test]
fn lines_by_hand_get_a_revision_and_are_stamped_with_it() {
    let (_folder, path) = folder();
    let text = r#"{"kind":"nodes","name":"a","value":1}"#;
    assert_eq!(
        imported(&path, text, Existing::Refuse),
        Ok(Imported {
            objects: 1,
            revision: 1
        })
    );
    let text = r#"{"kind":"nodes","name":"b","value":2}"#;
    assert_eq!(
        imported(&path, text, Existing::Refuse),
        Ok(Imported {
            objects: 1,
            revision: 2
        })
    );
    let store: Store<Raw> = Store::open(Options::at(&path)).unwrap();
    let state = store.snapshot();
    let values: Vec<_> = state
        .range("nodes", None, None)
        .map(|(_, entry)| entry.value.0.clone())
        .collect();
    assert_eq!(values, [b"1 1".to_vec(), b"2 2".to_vec()]);
}

#[test]
fn an_object_that_is_there_stops_the_import_unless_it_is_replaced() {
    let (_folder, path) = folder();
    filled(&path);
    let before = exported(&path);
    let text = "{\"kind\":\"nodes\",\"name\":\"new\",\"value\":1}\n{\"kind\":\"nodes\",\"name\":\"n\",\"value\":2}\n";
    let refused = imported(&path, text, Existing::Refuse).unwrap_err();
    assert_eq!(
        refused,
        "nodes n is in the store already: nothing was imported; `--replace` replaces what is there"
    );
    assert_eq!(exported(&path), before);
    assert_eq!(
        imported(&path, text, Existing::Replace),
        Ok(Imported {
            objects: 2,
            revision: 3
        })
    );
}

#[test]
fn a_wrong_line_is_named_and_nothing_is_imported() {
    let (_folder, path) = folder();
    let good = r#"{"kind":"nodes","name":"a","value":1}"#;
    for (line, reason) in [
        ("kind: Service", "not an object: "),
        (
            r#"{"kind":"nodes","name":"b"}"#,
            "exactly one of `value` and `bytes` must be there",
        ),
        (
            r#"{"kind":"","name":"b","value":1}"#,
            "`kind` is empty or holds a zero byte",
        ),
        (
            r#"{"kind":"nodes","name":"b","value":1,"extra":1}"#,
            "not an object: unknown field `extra`",
        ),
        (
            r#"{"kind":"nodes","name":"b","created":3,"revision":2,"value":1}"#,
            "`created` must be at least 1",
        ),
        (
            r#"{"kind":"nodes","name":"b","bytes":"7g"}"#,
            "`bytes` is not hexadecimal",
        ),
        (good, "nodes a was on an earlier line"),
    ] {
        let error = imported(&path, &format!("{good}\n{line}\n"), Existing::Refuse).unwrap_err();
        assert!(
            error.starts_with("line 2: ") && error.contains(reason),
            "{error}"
        );
        assert!(!path.exists());
    }
    let newer = r#"{"daymark":"store","format":9,"cluster":"1","revision":1,"reserved":1}"#;
    assert!(
        imported(&path, newer, Existing::Refuse)
            .unwrap_err()
            .starts_with("line 1: a `store` of format 9")
    );
}

#[test]
fn a_sound_store_is_counted() {
    let (_folder, path) = folder();
    filled(&path);
    let report = check(&path).unwrap();
    assert_eq!((report.revision, report.reserved), (2, 2));
    assert_eq!(report.objects, [("nodes".to_owned(), 2)].into());
    assert_eq!(
        report.changes,
        [("nodes".to_owned(), 2), ("pods".to_owned(), 2)].into()
    );
}

#[test]
fn compacting_makes_the_file_smaller_and_keeps_its_content() {
    let (_folder, path) = folder();
    filled(&path);
    let store = Store::open(Options::at(&path)).unwrap();
    for _ in 0..30 {
        write(&store, vec![put("pods", "large", &"x".repeat(200_000))]);
    }
    write(
        &store,
        vec![Op::Delete {
            key: Key::new("pods", "", "large"),
            last: Raw(Vec::new()),
        }],
    );
    drop(store);
    let before = exported(&path);
    let sizes = compact(&path).unwrap();
    assert!(sizes.after < sizes.before, "{sizes:?}");
    assert_eq!(sizes.after, fs::metadata(&path).unwrap().len());
    assert_eq!(exported(&path), before);
    check(&path).unwrap();
}

#[test]
fn tools_make_no_store_and_need_it_closed() {
    let (_folder, path) = folder();
    assert!(matches!(check(&path), Err(OpenError::Io { .. })));
    assert!(!path.exists());
    let _store: Store<Raw> = Store::open(Options::at(&path)).unwrap();
    assert!(matches!(check(&path), Err(OpenError::Locked { .. })));
    assert!(matches!(compact(&path), Err(OpenError::Locked { .. })));
    assert!(matches!(
        export(&path, &mut Vec::new()),
        Err(ExportError::Open(OpenError::Locked { .. }))
    ));
}
