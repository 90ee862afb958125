//! One watch against scripted answers: what it tells the hub, and what it asks next.

use std::collections::VecDeque;

use http::{Request, Response};
use http_body_util::{Full, StreamBody};

use super::lines::LONGEST;
use super::*;
use crate::config::Retry;

const SILENT: Duration = Duration::from_secs(3600);

/// A watch of `kind` that gets these answers in order, then none; what it asks and what it says.
struct Script {
    asked: Arc<Mutex<Vec<String>>>,
    said: mpsc::Receiver<Messages>,
    task: tokio::task::JoinHandle<()>,
}

impl Script {
    fn start(kind: Kind, answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self::with_header(kind, answers, None)
    }

    /// `retry_after` stands in the header of that name of each refusal.
    fn with_header(
        kind: Kind,
        answers: impl IntoIterator<Item = (u16, String)>,
        retry_after: Option<&'static str>,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            log.lock().unwrap().push(request.uri().to_string());
            let answer = answers.lock().unwrap().pop_front();
            async move {
                let Some((code, text)) = answer else {
                    sleep(SILENT).await;
                    return Err(std::io::Error::other("the script is over"));
                };
                let body = Full::new(Bytes::from(text));
                let mut answer = Response::builder().status(code);
                if let Some(seconds) = retry_after.filter(|_| code != 200) {
                    answer = answer.header(RETRY_AFTER, seconds);
                }
                Ok(answer.body(body).unwrap())
            }
        });
        let retry = Retry {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(20),
            longest_away: Duration::from_millis(20),
        };
        let config = Config {
            retry,
            absent: Retry {
                first: Duration::from_millis(1),
                ..retry
            },
            ..Config::default()
        };
        let client = kube::Client::new(service, "default");
        let (watch, said) = watch(kind, client, config);
        let task = tokio::spawn(watch.run());
        Self { asked, said, task }
    }

    /// The next `count` messages as short words.
    async fn words(&mut self, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        while words.len() < count {
            let next = timeout(Duration::from_secs(5), self.said.recv()).await;
            let messages = next.expect("a message within 5 s").expect("the watch runs");
            words.extend(messages.iter().map(word));
        }
        words
    }
}

/// And what it tells.
fn watch(kind: Kind, client: kube::Client, config: Config) -> (Watch, mpsc::Receiver<Messages>) {
    let (hub, said) = mpsc::channel(64);
    let shared = (Arc::default(), Arc::default());
    let watch = Watch::new(kind, client, Arc::new(config), shared, hub);
    (watch, said)
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn word(message: &Message) -> String {
    match message {
        Message::ListBegin(_) => "begin".to_owned(),
        Message::ListEnd(_) => "end".to_owned(),
        Message::Put(_, key, ..) => format!("+{}", key.name),
        Message::Gone(_, key) => format!("-{}", key.name),
    }
}

fn event(event: &str, name: &str, revision: u32) -> String {
    format!(
        "{{\"type\":\"{event}\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"ns\",\
         \"resourceVersion\":\"{revision}\"}},\"spec\":{{}}}}}}\n"
    )
}

fn end(revision: u32) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{revision}\",\
         \"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}}}\n"
    )
}

fn status(code: u16) -> (u16, String) {
    (
        code,
        format!(r#"{{"kind":"Status","code":{code},"reason":"R","message":"no"}}"#),
    )
}

#[tokio::test]
async fn lines_before_one_without_end_count_and_a_list_follows() {
    let list = event("ADDED", "a", 1) + &end(5);
    let broken = event("ADDED", "b", 6) + &event("DELETED", "a", 7) + &" ".repeat(LONGEST + 1);
    let again = event("ADDED", "b", 6) + &end(9);
    let answers = [list, broken, again].map(|text| (200, text));
    let mut script = Script::start(Kind::Service, answers);
    let said = script.words(8).await;
    assert_eq!(
        said,
        ["begin", "+a", "end", "+b", "-a", "begin", "+b", "end"]
    );
    let asked = script.asked.lock().unwrap().clone();
    assert!(asked[1].ends_with("resourceVersion=5"), "{}", asked[1]);
    assert!(asked[2].contains("sendInitialEvents=true"), "{}", asked[2]);
}

#[tokio::test]
async fn optional_kinds_without_rights_are_empty_until_the_role_grants_them() {
    for kind in [Kind::ServiceCidr, Kind::Pool, Kind::L2Advertisement] {
        let granted = (200, event("ADDED", "p", 1) + &end(5));
        let mut script = Script::start(kind, [status(403), status(403), granted]);
        let said = script.words(7).await;
        assert_eq!(said, ["begin", "end", "begin", "end", "begin", "+p", "end"]);
    }
}

#[tokio::test]
async fn rights_that_go_after_a_list_take_nothing_away() {
    let list = (200, event("ADDED", "p", 1) + &end(5));
    let back = (200, event("ADDED", "q", 6));
    let mut script = Script::start(Kind::Pool, [list, status(403), back]);
    assert_eq!(script.words(4).await, ["begin", "+p", "end", "+q"]);
}

#[tokio::test]
async fn a_kind_that_every_cluster_has_is_not_taken_for_empty_without_rights() {
    let list = (200, event("ADDED", "s", 1) + &end(5));
    let mut script = Script::start(Kind::Service, [status(403), list]);
    assert_eq!(script.words(3).await, ["begin", "+s", "end"]);
}

fn page(names: &[&str], token: &str) -> String {
    let items: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"metadata":{{"name":"{name}","namespace":"ns"}},"spec":{{}}}}"#))
        .collect();
    format!(
        r#"{{"metadata":{{"resourceVersion":"5","continue":"{token}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

#[tokio::test]
async fn a_list_that_breaks_off_is_asked_for_again_after_waits_that_double() {
    let first = event("ADDED", "a", 1);
    let refusal = r#"{"type":"ERROR","object":{"kind":"Status","code":429,"reason":"R"}}"#;
    let rows = [
        ("cut", vec![(200, first.clone())]),
        ("refused half-way", vec![(200, first + refusal + "\n")]),
        (
            "its second page is refused",
            vec![(200, page(&["a"], "more")), status(429)],
        ),
    ];
    for (what, attempt) in rows {
        let whole = if attempt.len() == 1 {
            event("ADDED", "a", 1) + &event("ADDED", "b", 2) + &end(5)
        } else {
            page(&["a", "b"], "")
        };
        // A server that streams no lists is asked for pages.
        let unstreamed = (attempt.len() == 2).then(|| status(400));
        let broken = std::iter::repeat_n(attempt, 6).flatten();
        let answers = unstreamed.into_iter().chain(broken).chain([(200, whole)]);
        let began = clock::now();
        let mut script = Script::start(Kind::Service, answers);
        let said = script.words(6 * 2 + 4).await;
        let took = began.elapsed();

        assert_eq!(said[12..], ["begin", "+a", "+b", "end"], "{what}");
        assert!(!said[..12].contains(&"end".to_owned()), "{what}: {said:?}");
        // 1 + 2 + 4 + 8 + 16 + 20 ms, less half by chance.
        assert!(took >= Duration::from_millis(25), "{what}: {took:?}");
    }
}

#[allow(clippy::disallowed_methods, reason = "the test's own, paused clock")]
#[tokio::test(start_paused = true)]
async fn a_server_that_asks_to_be_left_alone_is() {
    let list = || (200, event("ADDED", "a", 1) + &end(5));
    let in_body = |code| {
        let text = format!(
            r#"{{"kind":"Status","code":{code},"reason":"R","details":{{"retryAfterSeconds":7}}}}"#
        );
        (code, text)
    };
    let in_line = (
        200,
        format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", in_body(429).1),
    );
    let rows = [
        ("header of a 429", status(429), Some("7")),
        ("header of a 503", status(503), Some("7")),
        ("body of a 429", in_body(429), None),
        ("line of a list", in_line, None),
        // Pages are asked for next, which are no less work for it.
        ("header of a 500", status(500), Some("7")),
        ("body of a 500", in_body(500), None),
    ];
    for (what, refusal, header) in rows {
        let began = tokio::time::Instant::now();
        let mut script = Script::with_header(Kind::Service, [refusal, list()], header);
        while script.asked.lock().unwrap().len() < 2 {
            sleep(Duration::from_millis(50)).await;
        }
        let waited = began.elapsed();
        let asked = Duration::from_secs(7)..Duration::from_secs(9);
        assert!(asked.contains(&waited), "{what}: {waited:?}");
        let said = script.words(2).await;
        assert!(said.contains(&"begin".to_owned()), "{what}: {said:?}");
    }
}

#[test]
fn a_missing_right_is_told_once_an_hour() {
    let (mut trouble, start) = (Trouble::default(), clock::now());
    let at = |looks: &u32| start + Duration::from_secs(10) * *looks;
    let told =
        (0..=360).filter(|looks| trouble.again("403", at(looks), REMIND_ABSENT) == Tell::Now);
    assert_eq!(told.count(), 2);
}

/// Each answer is whole, and then its connection ends.
fn client(answers: impl IntoIterator<Item = String>) -> kube::Client {
    let answers: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
    let service = tower::service_fn(move |_: Request<Body>| {
        let text = answers.lock().unwrap().pop_front();
        async move {
            let text = text.ok_or_else(|| std::io::Error::other("no more"))?;
            Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    kube::Client::new(service, "default")
}

/// A line with a Service whose address is none.
fn wrong(name: &str, revision: u32) -> String {
    event("ADDED", name, revision).replace("\"spec\":{}", "\"spec\":{\"clusterIPs\":[\"x\"]}")
}

#[tokio::test]
async fn what_vanished_while_nobody_watched_is_not_remembered() {
    let rows = [
        ("streamed", Lists::Streamed, end(9)),
        ("pages", Lists::Paged, page(&[], "")),
    ];
    for (what, lists, empty) in rows {
        let answers = [wrong("a", 1) + &end(5), empty];
        let (mut watch, mut said) = watch(Kind::Service, client(answers), Config::default());
        let (_, first) = watch.attempt().await;
        assert!(first.is_ok(), "{what}: {first:?}");
        assert_eq!(watch.unusable.known(), 1, "{what}");
        // The server has forgotten where it stood.
        (watch.position, watch.lists) = (None, lists);
        let (_, second) = watch.attempt().await;
        assert!(second.is_ok(), "{what}: {second:?}");
        assert_eq!(watch.unusable.known(), 0, "{what}");
        said.close();
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_without_end_is_gathered_for_a_while() {
    // Four in a millisecond, for ever.
    let step = GAP / 4;
    let steady = futures::stream::unfold(6, move |revision| async move {
        tokio::time::advance(step).await;
        let line = Bytes::from(event("MODIFIED", "a", revision));
        Some((
            Ok::<_, std::io::Error>(hyper::body::Frame::data(line)),
            revision + 1,
        ))
    });
    let steady = Mutex::new(Some(StreamBody::new(Box::pin(steady))));
    let service = tower::service_fn(move |_: Request<Body>| {
        let body = steady.lock().unwrap().take();
        async move {
            let body = body.ok_or_else(|| std::io::Error::other("no more"))?;
            Ok::<_, std::io::Error>(Response::new(body))
        }
    });
    let client = kube::Client::new(service, "default");
    let (mut watch, _said) = watch(Kind::Service, client, Config::default());
    let mut body = watch.open(&Ask::StreamedList, OPEN).await.unwrap();
    let (mut lines, mut taken) = (Lines::default(), Taken::default());
    watch.gather(&mut body, &mut lines, &mut taken).await;
    assert!(taken.error.is_none(), "{:?}", taken.error);
    assert_eq!(taken.lines, 80);
}
