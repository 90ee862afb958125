use super::*;

fn snapshot() -> Snapshot<u64> {
    let names = ["a/x", "a/y", "b/x", "c/x", "c/z"];
    let key = |name: &str| {
        let (namespace, name) = name.split_once('/').unwrap();
        Key::new("pods", namespace, name)
    };
    let entry = |revision| Entry {
        value: Arc::new(revision),
        created: 1,
        revision,
    };
    Snapshot::at(
        9,
        names
            .iter()
            .map(|name| (key(name), entry(1)))
            .chain([(Key::new("nodes", "", "n"), entry(2))]),
    )
}

fn names(kind: &str, namespace: Option<&str>, after: Option<(&str, &str)>) -> String {
    let snapshot = snapshot();
    let names = snapshot
        .range(kind, namespace, after)
        .map(|(key, _)| format!("{}/{}", key.namespace, key.name));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_range_is_one_kind_one_namespace_and_what_is_behind_the_last() {
    for (namespace, after, expected) in [
        (None, None, "a/x a/y b/x c/x c/z"),
        (None, Some(("a", "y")), "b/x c/x c/z"),
        (None, Some(("b", "a")), "b/x c/x c/z"),
        (None, Some(("d", "")), ""),
        (Some("a"), None, "a/x a/y"),
        (Some("a"), Some(("a", "x")), "a/y"),
        (Some("b"), Some(("a", "y")), "b/x"),
        (Some("a"), Some(("b", "x")), ""),
        (Some("none"), None, ""),
    ] {
        assert_eq!(
            names("pods", namespace, after),
            expected,
            "{namespace:?} {after:?}"
        );
    }
    assert_eq!(names("nodes", None, None), "/n");
    assert_eq!(names("services", None, None), "");
}

#[test]
fn objects_are_counted_by_kind_and_namespace() {
    let snapshot = snapshot();
    assert_eq!(
        (
            snapshot.count("pods", None),
            snapshot.count("pods", Some("c"))
        ),
        (5, 2)
    );
    assert_eq!(
        (
            snapshot.count("services", None),
            snapshot.count("pods", Some("none"))
        ),
        (0, 0)
    );
    assert_eq!(
        snapshot.kinds().map(|kind| &**kind).collect::<Vec<_>>(),
        ["nodes", "pods"]
    );
}
