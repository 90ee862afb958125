//! Writes that do not end as they should.

use std::future::{pending, ready};
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};

use super::write::MOST_WARNINGS;
use super::*;
use crate::events::MOST_ASIDE;
use crate::testing::pool;

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_or_has_no_end_is_tried_again() {
    let client = kube::Client::new(Router::new(), "default");
    let mut task = Task::new(client, Config::default());
    let subject = |name| Subject::Service(ServiceKey::new("default", name));
    task.spawn(subject("good"), async { Ok(()) });
    task.spawn(subject("hangs"), pending());
    task.spawn(subject("panics"), async { panic!("such a Service") });
    while let Some(ended) = task.jobs.join_next().await {
        let (subject, outcome) = ended.expect("an outcome");
        task.finished(subject, outcome);
    }
    assert!(task.busy.is_empty());
    let again = [subject("hangs"), subject("panics")];
    assert_eq!(task.waiting, BTreeSet::from(again));
}

/// Messages of the Events that were written.
type Told = Arc<Mutex<Vec<String>>>;

/// What was told once nothing more is under way: time stands still as long as something is.
async fn settled(told: &Told) -> Vec<String> {
    sleep(Duration::from_millis(1)).await;
    told.lock().unwrap().clone()
}

/// It takes Events, and refuses everything else.
fn takes_events() -> (kube::Client, Told) {
    let told = Told::default();
    let log = Arc::clone(&told);
    let take = move |body: Bytes| {
        let event: Value = serde_json::from_slice(&body).unwrap();
        let message = event["message"].as_str().unwrap().to_owned();
        log.lock().unwrap().push(message);
        ready((StatusCode::CREATED, body))
    };
    let refusal = json!({ "kind": "Status", "code": 403, "reason": "Forbidden" }).to_string();
    let api = Router::new()
        .route("/api/v1/namespaces/{namespace}/events", post(take))
        .fallback(|| async move { (StatusCode::FORBIDDEN, refusal) });
    (kube::Client::new(api, "default"), told)
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_pool_is_told_once_and_in_few_words_though_its_status_is_refused() {
    let (client, told) = takes_events();
    let mut task = Task::new(client, Config::default());
    let unreadable = |number: usize| format!("address {number}").into();
    let mut bad = record::Pool {
        unreadable: (0..MOST_WARNINGS + 20).map(unreadable).collect(),
        ..pool("bad", &[])
    };
    let key = bad.key.clone();
    put(&mut task.records, &key, Some(&Arc::new(bad.clone())));
    for attempts in 1..4 {
        task.round();
        task.start_jobs();
        let (subject, outcome) = task.jobs.join_next().await.unwrap().unwrap();
        let refused = matches!(&outcome, Err(WriteError::Api(kube::Error::Api(status))) if status.code == 403);
        assert!(refused, "{outcome:?}");
        task.finished(subject.clone(), outcome);
        assert_eq!(task.waiting, BTreeSet::from([subject]), "it is tried again");
        let told = settled(&told).await;
        assert_eq!(told.len(), MOST_WARNINGS, "after {attempts}");
        assert!(told[MOST_WARNINGS - 1].ends_with("; and so 20 more"));
    }
    // One more is told, and what was told before is not.
    bad.unreadable.push("another".into());
    put(&mut task.records, &key, Some(&Arc::new(bad)));
    task.round();
    task.start_jobs();
    task.jobs.join_next().await.unwrap().unwrap().1.unwrap_err();
    let told = settled(&told).await;
    assert_eq!(told.len(), MOST_WARNINGS + 1);
    assert!(told[MOST_WARNINGS].contains("\"another\""), "{told:?}");
}

/// An API server keeps Events in another store than the rest, and that is away.
#[tokio::test(start_paused = true)]
async fn events_that_hang_keep_nothing_else_from_being_written() {
    let hangs = post(pending::<StatusCode>);
    let api = Router::new()
        .route("/api/v1/namespaces/{namespace}/events", hangs)
        .fallback(|body: Bytes| async move { body });
    let mut task = Task::new(kube::Client::new(api, "default"), Config::default());
    for number in 0..2 * MOST_ASIDE {
        let mut bad = pool(&format!("bad-{number}"), &[]);
        bad.unreadable = vec!["one".into(), "two".into(), "three".into(), "four".into()];
        put(&mut task.records, &bad.key, Some(&Arc::new(bad.clone())));
    }
    let mut written = 0;
    let writes = async {
        task.round();
        task.start_jobs();
        while let Some(ended) = task.jobs.join_next().await {
            let (subject, outcome) = ended.unwrap();
            outcome.as_ref().unwrap();
            task.finished(subject, outcome);
            task.start_jobs();
            written += 1;
        }
    };
    // Less than one Event that hangs takes.
    let soon = timeout(Duration::from_secs(29), writes).await;
    soon.expect("statuses are written");
    assert_eq!(written, 2 * MOST_ASIDE);
}
