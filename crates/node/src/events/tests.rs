use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use axum::http::{Request as HttpRequest, Response};
use kube::client::Body;

use super::*;

fn notice(message: &str) -> Notice {
    Notice {
        about: ServiceKey::new("default", "web").into(),
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
        Timestamp::from_second(7).unwrap(),
    );
    let times = [&event.first_timestamp, &event.last_timestamp];
    let times = times.map(|time| time.as_ref().map(|time| time.0.as_second()));
    assert_eq!(times, [Some(7); 2]);
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
            event(
                about("web", uid),
                node,
                Severity::Warning,
                said,
                Timestamp::UNIX_EPOCH,
            ),
            second / WINDOW,
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
    let made = event(
        about(&long, "u"),
        &long,
        Severity::Warning,
        said,
        Timestamp::UNIX_EPOCH,
    );
    let name = name_of(named(made, ["1"]));
    assert_eq!(name.len(), 235 + 17);
    assert!(name.starts_with(&format!("{}.", "a".repeat(235))), "{name}");
}

/// Names of what was asked to be written.
type Posted = Arc<Mutex<Vec<String>>>;

/// Its API answers with these codes, then that it has written.
fn pen(node: &str, codes: &[u16]) -> (Pen, Posted) {
    let posted = Posted::default();
    let codes = Mutex::new(VecDeque::from(codes.to_vec()));
    let log = Arc::clone(&posted);
    let service = tower::service_fn(move |request: HttpRequest<Body>| {
        let code = codes.lock().unwrap().pop_front().unwrap_or(201);
        let log = Arc::clone(&log);
        async move {
            let body = request.into_body().collect_bytes().await?;
            let event: Event = serde_json::from_slice(&body)?;
            log.lock().unwrap().push(name_of(event));
            let refusal = format!(r#"{{"kind":"Status","code":{code},"reason":"R"}}"#);
            let answer = if code == 201 {
                body.to_vec()
            } else {
                refusal.into()
            };
            let answer = Response::builder().status(code).body(Body::from(answer));
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer?)
        }
    });
    let pen = Pen {
        client: kube::Client::new(service, "default"),
        node: node.to_owned(),
        orders: orders::channel().0,
        own: Said::default(),
        common: Said::default(),
        nodes: None,
    };
    (pen, posted)
}

/// Says something about one Service at a second.
async fn say(pen: &mut Pen, scope: Scope, message: &str, second: i64) -> Request {
    let moment = Moment {
        now: clock::now(),
        at: Timestamp::from_second(second).unwrap(),
    };
    let mut queue = Queue::new(moment.now);
    let notice = Notice {
        scope,
        ..notice(message)
    };
    queue.add(notice, moment, 0.0);
    let waiting = queue.take(moment.now, 0.0).unwrap();
    pen.say(about("web", "u"), &waiting).await
}

#[tokio::test]
async fn what_the_api_has_of_what_every_node_says_is_no_request() {
    // Another node was first with the second one.
    let (mut pen, posted) = pen("node-1", &[201, 409]);
    let made = Request::Made(Outcome::Stands);
    let rows = [
        ("lost", 1_200, made),
        ("won", 1_201, made),
        ("lost", 1_202, Request::NotMade),
        ("won", 1_799, Request::NotMade),
        ("lost", 1_800, made),
    ];
    for (message, second, expected) in rows {
        let request = say(&mut pen, Scope::Cluster, message, second).await;
        assert_eq!(request, expected, "{message} at {second}");
    }
    assert_eq!(posted.lock().unwrap().len(), 3);
}

/// What is left of the window before is written between news.
#[tokio::test]
async fn what_the_api_has_is_no_request_while_older_things_wait() {
    for (scope, second, expected) in [
        (Scope::Cluster, WINDOW, 2),
        // What a node says of itself it says again while it runs, as another Event.
        (Scope::Node, HOUR, 3),
    ] {
        let (mut pen, posted) = pen("node-1", &[]);
        for (message, second) in [("news", second), ("old", second - 1), ("news", second + 1)] {
            say(&mut pen, scope, message, second).await;
        }
        let posted = posted.lock().unwrap().clone();
        let names: BTreeSet<&String> = posted.iter().collect();
        assert_eq!([posted.len(), names.len()], [expected; 2], "{scope:?}");
    }
}

#[tokio::test]
async fn an_event_that_was_not_written_is_tried_again() {
    for scope in [Scope::Cluster, Scope::Node] {
        let (mut pen, posted) = pen("node-1", &[500, 403]);
        for outcome in [Outcome::Failed, Outcome::Refused, Outcome::Stands] {
            let request = say(&mut pen, scope, "lost", 1_200).await;
            assert_eq!(request, Request::Made(outcome), "{scope:?}");
        }
        // It is the same one.
        let posted = posted.lock().unwrap().clone();
        assert_eq!(posted, vec![posted[0].clone(); 3], "{scope:?}");
    }
}

#[tokio::test]
async fn what_is_said_of_a_service_that_went_is_no_request() {
    let (mut pen, posted) = pen("node-1", &[]);
    let mut queue = Queue::new(clock::now());
    let (now, at) = (clock::now(), Timestamp::UNIX_EPOCH);
    queue.add(notice("lost"), Moment { now, at }, 0.0);
    let waiting = queue.take(now, 0.0).unwrap();
    assert_eq!(pen.write(&waiting).await, Request::NotMade);
    assert!(posted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_says_the_same_once_an_hour_across_restarts_and_anew_while_it_runs() {
    async fn made((pen, posted): &mut (Pen, Posted), message: &str, second: i64) -> String {
        say(pen, Scope::Node, message, second).await;
        posted.lock().unwrap().last().unwrap().clone()
    }
    let mut first = pen("node-1", &[]);
    let name = made(&mut first, "refused", 3_600).await;
    let again = made(&mut first, "refused", 3_700).await;
    let other = made(&mut first, "other", 3_700).await;
    let later = made(&mut first, "refused", 7_200).await;
    let all = BTreeSet::from([&name, &again, &other, &later]);
    assert_eq!(all.len(), 4, "{all:?}");
    // The API has them.
    let mut restarted = pen("node-1", &[409; 3]);
    assert_eq!(made(&mut restarted, "refused", 7_199).await, name);
    assert_eq!(made(&mut restarted, "refused", 7_199).await, again);
    assert_eq!(made(&mut restarted, "refused", 7_200).await, later);
    let mut second = pen("node-2", &[]);
    assert_ne!(made(&mut second, "refused", 3_600).await, name);
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

#[tokio::test(start_paused = true)]
async fn an_api_that_hangs_is_given_up() {
    let hangs = tower::service_fn(|_: HttpRequest<Body>| {
        std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
    });
    let client = kube::Client::new(hangs, "default");
    let said = ("ConntrackFull", "full".to_owned());
    let told = about_node(&client, "node-1", Severity::Warning, said);
    let outcome = timeout(PATIENCE * 2, told).await;
    assert_eq!(outcome.expect("an end of waiting"), Outcome::Failed);
}

/// A plane's thread that knows every object, and of ten nodes.
fn knows_all() -> orders::Sender<Order> {
    let (sender, inbox) = orders::channel();
    std::thread::spawn(move || {
        for order in inbox {
            match order {
                Order::Ask(Ask::Reference { reply, .. }) => {
                    let _ = reply.send(Some(Box::new(about("web", "u"))));
                }
                Order::Ask(Ask::Nodes { reply, .. }) => {
                    let _ = reply.send(10);
                }
                other => panic!("{other:?}"),
            }
        }
    });
    sender
}

#[tokio::test]
async fn what_an_api_that_is_away_did_not_take_waits_on_and_what_it_refuses_does_not() {
    for scope in [Scope::Node, Scope::Cluster] {
        for (code, waits) in [
            (503, true),
            (429, true),
            (401, true),
            (403, false),
            (404, false),
            (201, false),
        ] {
            let (mut pen, _) = pen("node-1", &[code]);
            pen.orders = knows_all();
            let (now, at) = (clock::now(), Timestamp::UNIX_EPOCH);
            let mut queue = Queue::new(now);
            let notice = Notice {
                scope,
                ..notice("lost")
            };
            queue.add(notice, Moment { now, at }, 0.0);
            let waiting = queue.take(now, 0.0).unwrap();
            pen.deal(waiting, &mut queue).await;
            let later = now + Duration::from_secs(29);
            assert_eq!(
                queue.due().is_some_and(|due| due > later),
                waits,
                "{scope:?}: {code}"
            );
            // Nothing that waits is written before.
            assert!(queue.take(later, 0.0).is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_the_node_once_is_told_when_the_api_is_back() {
    for (codes, tries) in [
        (vec![503, 500, 201], 3),
        (vec![403], 1),
        (vec![503; 1000], TRIES),
    ] {
        let (pen, posted) = pen("node-1", &codes);
        let said = ("ApiServerIsService", "it is".to_owned());
        about_node_at_last(pen.client, "node-1".into(), Severity::Warning, said).await;
        let posted = posted.lock().unwrap().clone();
        // It is the same one.
        assert_eq!(
            posted,
            vec![posted[0].clone(); usize::try_from(tries).unwrap()]
        );
    }
}
