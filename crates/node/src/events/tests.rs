use std::collections::BTreeSet;

use axum::http::{Request, Response};

use super::*;

fn notice(message: &str) -> Notice {
    Notice {
        about: ServiceKey::new("default", "web"),
        scope: Scope::Node,
        severity: Severity::Warning,
        reason: "NotProgrammed",
        message: message.to_owned(),
    }
}

#[test]
fn an_event_names_its_object_its_host_and_a_message_that_the_api_takes() {
    let about = ObjectReference {
        name: Some("web".to_owned()),
        namespace: Some("default".to_owned()),
        uid: Some("u".to_owned()),
        ..ObjectReference::default()
    };
    let event = event(
        about.clone(),
        "node-1",
        Severity::Warning,
        ("NotProgrammed", "\u{e9}".repeat(600)),
    );
    assert_eq!(event.involved_object, about);
    assert_eq!(event.metadata.namespace, about.namespace);
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let message = event.message.unwrap();
    assert_eq!((message.len(), message.ends_with("...")), (1023, true));
    assert_eq!(
        event.source.and_then(|source| source.host).as_deref(),
        Some("node-1")
    );
}

fn about(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn name_of(event: Event) -> String {
    event.metadata.name.unwrap()
}

#[test]
fn what_every_node_says_is_one_event_a_window() {
    let made = |node: &str, uid: &str, reason: &'static str, message: &str, second: i64| {
        let said = (reason, message.to_owned());
        common(
            event(about("web", uid), node, Severity::Warning, said),
            second,
        )
    };
    let first = made("node-1", "u", "Conflict", "lost", 1_200);
    let name = first.metadata.name.clone().unwrap();
    // Written down, so that agents of two builds agree.
    assert_eq!(name, "web.5762b892616fc5c4");
    assert_eq!(first.metadata.generate_name, None);
    assert_eq!(first.source.and_then(|source| source.host), None);
    assert_eq!(
        name_of(made("node-2", "u", "Conflict", "lost", 1_799)),
        name
    );
    for other in [
        made("node-1", "u", "Conflict", "lost", 1_800),
        made("node-1", "v", "Conflict", "lost", 1_200),
        made("node-1", "u", "Conflic", "tlost", 1_200),
        made("node-1", "u", "Conflict", "won", 1_200),
    ] {
        assert_ne!(name_of(other), name);
    }
}

#[test]
fn a_name_is_one_however_long_the_nodes_is() {
    let long = format!("{}.{}", "a".repeat(235), "b".repeat(17));
    let said = ("KubeProxyRuns", "is back".to_owned());
    let made = event(about(&long, "u"), &long, Severity::Warning, said);
    let name = name_of(named(made, ["1"]));
    assert_eq!(name.len(), 235 + 17);
    assert!(name.starts_with(&format!("{}.", "a".repeat(235))), "{name}");
}

fn pen(node: &str) -> Pen {
    let service = tower::service_fn(|_: Request<kube::client::Body>| async {
        Err::<Response<kube::client::Body>, _>(std::io::Error::other("nobody"))
    });
    Pen {
        client: kube::Client::new(service, "default"),
        node: node.to_owned(),
        orders: orders::channel().0,
        said: Said::default(),
        tried: Said::default(),
        nodes: None,
    }
}

#[tokio::test]
async fn what_every_node_says_a_node_tries_once_a_window() {
    let mut pen = pen("node-1");
    let mut tries = |message: &str, second| {
        let said = ("Conflict", message.to_owned());
        let event = event(about("web", "u"), "node-1", Severity::Warning, said);
        pen.common(event, second).is_some()
    };
    assert!(tries("lost", 1_200) && tries("won", 1_201));
    assert!(!tries("lost", 1_202) && !tries("won", 1_799));
    assert!(tries("lost", 1_800));
}

#[tokio::test]
async fn a_node_says_the_same_once_an_hour_across_restarts_and_anew_while_it_runs() {
    let made = |pen: &mut Pen, message: &str, second| {
        let said = ("NotProgrammed", message.to_owned());
        let event = event(about("web", "u"), &pen.node, Severity::Warning, said);
        name_of(pen.own(event, second))
    };
    let mut first = pen("node-1");
    let name = made(&mut first, "refused", 3_600);
    let again = made(&mut first, "refused", 3_700);
    let other = made(&mut first, "other", 3_700);
    let later = made(&mut first, "refused", 7_200);
    let all = BTreeSet::from([&name, &again, &other, &later]);
    assert_eq!(all.len(), 4, "{all:?}");
    let mut restarted = pen("node-1");
    assert_eq!(made(&mut restarted, "refused", 7_199), name);
    assert_eq!(made(&mut restarted, "refused", 7_199), again);
    assert_eq!(made(&mut restarted, "refused", 7_200), later);
    assert_ne!(made(&mut pen("node-2"), "refused", 3_600), name);
}

#[test]
fn a_full_board_takes_no_more_and_says_how_many_it_lost() {
    let (notices, mut board) = board();
    for _ in 0..ROOM + 3 {
        notices.put(notice("no"));
    }
    assert_eq!(board.lost.load(Ordering::Relaxed), 3);
    assert_eq!(std::iter::from_fn(|| board.take()).count(), ROOM);
}
