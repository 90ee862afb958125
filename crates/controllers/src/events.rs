//! Events are forgotten after a while, and when there are too many.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};

use crate::clock;
use crate::collect::ignore_missing;
use crate::options::Options;
use crate::queue::Ended;

/// How often Events are looked through.
const PERIOD: Duration = Duration::from_secs(60);

const PAGE: u32 = 500;

/// One Event: namespace, name, and when it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    namespace: String,
    name: String,
    at: Timestamp,
}

impl Seen {
    fn of(event: &Event) -> Option<Self> {
        let series = event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref())
            .map(|time| time.0);
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let first = event.event_time.as_ref().map(|time| time.0);
        let created = event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        Some(Self {
            namespace: event.metadata.namespace.clone()?,
            name: event.metadata.name.clone()?,
            at: series.or(last).or(first).or(created)?,
        })
    }
}

/// The Events to delete: those older than `ttl`, and the oldest ones above `limit`.
pub(crate) fn stale(
    mut events: Vec<Seen>,
    now: Timestamp,
    ttl: Duration,
    limit: usize,
) -> Vec<Seen> {
    events.sort_by(|a, b| (b.at, &a.namespace, &a.name).cmp(&(a.at, &b.namespace, &b.name)));
    let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
    let fresh = events.partition_point(|event| now.duration_since(event.at) <= ttl);
    events.split_off(fresh.min(limit))
}

/// Deletes what is stale.
///
/// # Errors
/// Whatever the API answered; what was deleted before stays deleted.
pub(crate) async fn sweep(client: &Client, options: &Options) -> Result<Ended, kube::Error> {
    let api: Api<Event> = Api::all(client.clone());
    let mut events = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        events.extend(page.items.iter().filter_map(Seen::of));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
            None => break,
        }
    }
    for event in stale(
        events,
        clock::today(),
        options.event_ttl,
        options.event_limit,
    ) {
        let api: Api<Event> = Api::namespaced(client.clone(), &event.namespace);
        ignore_missing(
            api.delete(&event.name, &DeleteParams::default())
                .await
                .map(|_| ()),
        )?;
    }
    Ok(Ended::Again(PERIOD.min(options.event_ttl)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_events_go_and_the_oldest_of_too_many() {
        let event = |name: &str, seconds: i64| Seen {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            at: Timestamp::from_second(seconds).expect("a time"),
        };
        let events = vec![
            event("old", 10),
            event("new", 100),
            event("newer", 110),
            event("edge", 60),
        ];
        let now = Timestamp::from_second(120).expect("a time");
        let rows = [
            (60, 10, vec!["old"]),
            (1000, 3, vec!["old"]),
            (1000, 2, vec!["edge", "old"]),
            (1000, 10, vec![]),
        ];
        for (ttl, limit, expected) in rows {
            let gone = stale(events.clone(), now, Duration::from_secs(ttl), limit);
            let names: Vec<&str> = gone.iter().map(|event| event.name.as_str()).collect();
            assert_eq!(names, expected, "{ttl} s, {limit}");
        }
    }
}
