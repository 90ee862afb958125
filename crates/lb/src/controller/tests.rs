//! Writes that do not end as they should.

use std::future::pending;

use axum::Router;

use super::*;

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
