//! The feed against scripted API servers.

mod server;
mod size;

use std::sync::atomic::Ordering;
use std::time::Duration;

use daymark_model::Change;

use self::server::{Reply, Server, end, error, service, service_json};
use crate::{Batch, Config, Event, Feed, Kind, Nodes, Retry, Scope, Wanted};

const SERVICES: &str = "/api/v1/services";
const POOLS: &str = "/apis/metallb.io/v1beta1/ipaddresspools";
const ADVERTISEMENTS: &str = "/apis/metallb.io/v1beta1/l2advertisements";

fn quick() -> Config {
    let retry = Retry {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(20),
        longest_away: Duration::from_millis(20),
    };
    Config {
        retry,
        ..Config::default()
    }
}

/// Events as short words: `+name ip` and `-name`.
fn words(batch: &Batch) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::Model(Change::Service(key, Some(service))) => {
            format!("+{} {:?}", key.name, service.cluster_ips.all())
        }
        Event::Model(Change::Service(key, None)) => format!("-{}", key.name),
        other => format!("{other:?}"),
    };
    batch.events.iter().map(word).collect()
}

/// The words of as many batches as it takes to see `count` events.
async fn events(subscription: &mut crate::Subscription, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), subscription.next());
        seen.extend(words(
            &next
                .await
                .expect("a batch within 5 s")
                .expect("the feed runs"),
        ));
    }
    seen
}

#[tokio::test]
async fn first_batch_is_the_whole_state_and_changes_follow() {
    let (live, receiver) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::default().on(SERVICES, [Reply::Live(receiver)]);
    let feed = Feed::start(&server.client(), quick());
    let mut subscription = feed.subscribe();
    live.send(service("ADDED", "a", "10.0.0.1", 1) + &service("ADDED", "b", "10.0.0.2", 2))
        .unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), subscription.next()).await;
    assert!(early.is_err(), "a batch before the list was complete");
    live.send(end("5")).unwrap();
    let first = subscription.next().await.unwrap();
    assert_eq!((first.number, first.scope), (1, Scope::Everything));
    assert_eq!(words(&first), ["+a [10.0.0.1]", "+b [10.0.0.2]"]);

    live.send(service("MODIFIED", "a", "10.0.0.1", 6)).unwrap(); // says nothing new
    live.send(service("MODIFIED", "a", "10.0.0.9", 7) + &service("DELETED", "b", "10.0.0.2", 8))
        .unwrap();
    let next = subscription.next().await.unwrap();
    assert_eq!((next.number, next.scope), (2, Scope::Changes));
    assert_eq!(words(&next), ["+a [10.0.0.9]", "-b"]);

    let late = feed.subscribe().next().await.unwrap();
    assert_eq!((late.number, late.scope), (2, Scope::Everything));
    assert_eq!(words(&late), ["+a [10.0.0.9]"]);
}

/// A Service with a port that cannot be, or with none.
fn odd(event: &str, name: &str, ports: &str, revision: u32) -> String {
    let metadata = format!(
        r#"{{"name":"{name}","namespace":"ns","uid":"u-{name}","resourceVersion":"{revision}"}}"#
    );
    format!(
        "{{\"type\":\"{event}\",\"object\":{{\"metadata\":{metadata},\"spec\":{{\"ports\":[{ports}]}}}}}}\n"
    )
}

/// What is handed out of what cannot be used: `NAME UID FIELD +MORE`, and `NAME` if there is nothing any more.
fn unusable(batch: &Batch) -> Vec<String> {
    let words = batch.events.iter().filter_map(|event| match event {
        Event::Unusable(Kind::Service, key, Some(now)) => {
            let (first, more) = (&now.shown[0].field, now.more);
            Some(format!("{} {} {first} +{more}", key.name, now.whose.uid))
        }
        Event::Unusable(Kind::Service, key, None) => Some(key.name.to_string()),
        _ => None,
    });
    words.collect()
}

#[tokio::test]
async fn what_cannot_be_used_is_handed_out_until_it_is_mended_or_gone() {
    let (live, receiver) = tokio::sync::mpsc::unbounded_channel();
    let (again, list) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::default().on(SERVICES, [Reply::Live(receiver), Reply::Live(list)]);
    let feed = Feed::start(&server.client(), quick());
    let mut subscription = feed.subscribe();
    let wrong = r#"{"port":70000}"#;
    let many = [wrong; 12].join(",");
    let first = odd("ADDED", "a", wrong, 1) + &odd("ADDED", "b", &many, 2) + &end("5");
    live.send(first).unwrap();
    let a = "a u-a spec.ports[0].port +0".to_owned();
    let b = "b u-b spec.ports[0].port +7".to_owned();
    let both = [a.clone(), b.clone()];
    assert_eq!(unusable(&subscription.next().await.unwrap()), both);
    // A part that begins later hears of it too.
    assert_eq!(unusable(&feed.subscribe().next().await.unwrap()), both);
    // The same once more is no news; one that is well is.
    live.send(odd("MODIFIED", "b", &many, 6) + &odd("MODIFIED", "a", "", 7))
        .unwrap();
    assert_eq!(unusable(&subscription.next().await.unwrap()), ["a"]);
    live.send(odd("MODIFIED", "a", wrong, 8)).unwrap();
    assert_eq!(unusable(&subscription.next().await.unwrap()), [a]);
    live.send(odd("DELETED", "a", wrong, 9)).unwrap();
    assert_eq!(unusable(&subscription.next().await.unwrap()), ["a"]);
    // A list that does not have it.
    live.send(error(410, "Expired")).unwrap();
    again.send(end("20")).unwrap();
    assert_eq!(unusable(&subscription.next().await.unwrap()), ["b"]);
}

#[tokio::test]
async fn changes_without_end_come_by_the_handful_in_order_and_with_the_last() {
    let (live, receiver) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::default().on(SERVICES, [Reply::Live(receiver)]);
    let feed = Feed::start(&server.client(), quick());
    let mut subscription = feed.subscribe();
    live.send(end("5")).unwrap();
    subscription.next().await.unwrap();
    let count = 200;
    let name = |revision: u32| format!("s{revision}");
    for revision in 6..6 + count {
        let line = service("ADDED", &name(revision), "10.0.0.1", revision);
        live.send(line).unwrap();
    }
    // The answer ends with the last.
    drop(live);
    let (mut seen, mut largest) = (Vec::new(), 0);
    while seen.len() < count as usize {
        let next = tokio::time::timeout(Duration::from_secs(5), subscription.next());
        let batch = next.await.expect("a batch within 5 s");
        let words = words(&batch.expect("the feed runs"));
        largest = largest.max(words.len());
        seen.extend(words);
    }
    let word = |revision| format!("+{} [10.0.0.1]", name(revision));
    let expected: Vec<String> = (6..6 + count).map(word).collect();
    assert_eq!(seen, expected);
    // All that had come during the first pause.
    assert!(largest >= 100, "{largest}");
}

#[tokio::test]
async fn a_broken_watch_resumes_at_its_last_revision() {
    let script = [
        Reply::Break(
            service("ADDED", "a", "10.0.0.1", 1)
                + &end("5")
                + &service("ADDED", "b", "10.0.0.2", 6),
        ),
        Reply::Refused,
        Reply::Status(503, "ServiceUnavailable"),
        Reply::Body(service("ADDED", "c", "10.0.0.3", 7)),
        Reply::Stay(service("DELETED", "a", "10.0.0.1", 8)),
    ];
    let server = Server::default().on(SERVICES, script);
    let feed = Feed::start(&server.client(), quick());
    let seen = events(&mut feed.subscribe(), 4).await;
    assert_eq!(seen.last().map(String::as_str), Some("-a"));
    let revisions: Vec<String> = server
        .asked(SERVICES)
        .iter()
        .map(|query| query.rsplit('=').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(revisions, ["", "6", "6", "6", "7"]);
}

#[tokio::test]
async fn a_forgotten_revision_yields_the_difference() {
    for expired in [
        Reply::Status(410, "Expired"),
        Reply::Body(error(410, "Expired")),
    ] {
        let list = service("ADDED", "a", "10.0.0.1", 1)
            + &service("ADDED", "b", "10.0.0.2", 2)
            + &end("5");
        let again = service("ADDED", "b", "10.0.0.2", 9)
            + &service("ADDED", "c", "10.0.0.3", 9)
            + &end("9");
        let server =
            Server::default().on(SERVICES, [Reply::Body(list), expired, Reply::Stay(again)]);
        let feed = Feed::start(&server.client(), quick());
        let mut seen = events(&mut feed.subscribe(), 4).await;
        seen.sort();
        assert_eq!(
            seen,
            ["+a [10.0.0.1]", "+b [10.0.0.2]", "+c [10.0.0.3]", "-a"]
        );
    }
}

#[tokio::test]
async fn a_list_that_breaks_in_the_middle_deletes_nothing() {
    let list =
        service("ADDED", "a", "10.0.0.1", 1) + &service("ADDED", "b", "10.0.0.2", 2) + &end("5");
    let half = service("ADDED", "a", "10.0.0.1", 1);
    let whole = service("ADDED", "b", "10.0.0.2", 2) + &end("7");
    let script = [
        Reply::Body(list),
        Reply::Status(410, "Expired"),
        Reply::Break(half),
        Reply::Stay(whole),
    ];
    let server = Server::default().on(SERVICES, script);
    let feed = Feed::start(&server.client(), quick());
    let seen = events(&mut feed.subscribe(), 3).await;
    assert_eq!(seen, ["+a [10.0.0.1]", "+b [10.0.0.2]", "-a"]);
}

fn page(items: &[String], token: &str) -> String {
    format!(
        r#"{{"kind":"ServiceList","metadata":{{"resourceVersion":"40","continue":"{token}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_pages() {
    let refusals = [
        Reply::Status(422, "Invalid"),
        Reply::Status(400, "BadRequest"),
        Reply::Body(error(500, "InternalError")),
    ];
    for refusal in refusals {
        let script = [
            refusal,
            Reply::Body(page(&[service_json("a", "10.0.0.1", 1)], "next/1")),
            Reply::Body(page(&[service_json("b", "10.0.0.2", 2)], "")),
            Reply::Stay(service("ADDED", "c", "10.0.0.3", 41)),
        ];
        let server = Server::default().on(SERVICES, script);
        let feed = Feed::start(&server.client(), quick());
        let seen = events(&mut feed.subscribe(), 3).await;
        assert_eq!(seen, ["+a [10.0.0.1]", "+b [10.0.0.2]", "+c [10.0.0.3]"]);
        let asked = server.asked(SERVICES);
        assert_eq!(
            asked[1..3],
            ["limit=500&resourceVersion=0", "limit=500&continue=next%2F1"]
        );
        assert!(asked[3].ends_with("resourceVersion=40"), "{}", asked[3]);
    }
}

#[tokio::test]
async fn a_server_that_was_busy_once_streams_the_next_list() {
    // What it answers to the streamed list, and whether the next is asked for as one.
    let rows = [
        (Reply::Status(422, "Invalid"), false),
        (Reply::Body(error(500, "InternalError")), true),
    ];
    for (refusal, streams) in rows {
        let script = [
            refusal,
            Reply::Body(page(&[service_json("a", "10.0.0.1", 1)], "")),
            Reply::Status(410, "Expired"),
            Reply::Stay(String::new()),
        ];
        let server = Server::default().on(SERVICES, script);
        let feed = Feed::start(&server.client(), quick());
        assert_eq!(events(&mut feed.subscribe(), 1).await, ["+a [10.0.0.1]"]);
        while server.asked(SERVICES).len() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let next = &server.asked(SERVICES)[3];
        assert_eq!(next.contains("sendInitialEvents"), streams, "{next}");
    }
}

#[tokio::test]
async fn a_list_after_another_is_not_older_and_comes_from_the_servers_memory() {
    // What the server says to that, and what it is asked then.
    let rows = [
        (
            Reply::Says(504, "Timeout: Too large resource version: 40, current: 7"),
            "limit=500",
        ),
        (Reply::Status(410, "Expired"), "limit=500"),
        (
            Reply::Status(504, "Timeout"),
            "resourceVersion=40&resourceVersionMatch=NotOlderThan",
        ),
        (
            Reply::Status(503, "ServiceUnavailable"),
            "resourceVersion=40&resourceVersionMatch=NotOlderThan",
        ),
    ];
    for (answer, then) in rows {
        let script = [
            Reply::Status(422, "Invalid"),
            Reply::Body(page(&[service_json("a", "10.0.0.1", 1)], "")),
            Reply::Status(410, "Expired"),
            answer,
            Reply::Body(page(&[service_json("b", "10.0.0.2", 2)], "")),
        ];
        let server = Server::default().on(SERVICES, script);
        let feed = Feed::start(&server.client(), quick());
        let seen = events(&mut feed.subscribe(), 3).await;
        assert_eq!(seen, ["+a [10.0.0.1]", "+b [10.0.0.2]", "-a"], "{then}");
        let asked = server.asked(SERVICES);
        assert_eq!(
            asked[3],
            "resourceVersion=40&resourceVersionMatch=NotOlderThan"
        );
        assert_eq!(asked[4], then);
    }
}

#[tokio::test]
async fn a_page_token_that_expired_means_one_whole_list() {
    let script = [
        Reply::Status(422, "Invalid"),
        Reply::Body(page(&[service_json("gone", "10.0.0.1", 1)], "t")),
        Reply::Status(410, "Expired"),
        Reply::Body(page(&[service_json("b", "10.0.0.2", 2)], "")),
    ];
    let server = Server::default().on(SERVICES, script);
    let feed = Feed::start(&server.client(), quick());
    assert_eq!(events(&mut feed.subscribe(), 1).await, ["+b [10.0.0.2]"]);
    assert_eq!(server.asked(SERVICES)[3], "limit=0&resourceVersion=0");
}

#[allow(clippy::disallowed_methods, reason = "the test's own, paused clock")]
#[tokio::test(start_paused = true)]
async fn a_server_that_streams_no_list_to_its_end_is_asked_for_pages_after_a_wait() {
    let part = || Reply::Stay(service("ADDED", "a", "10.0.0.1", 1));
    // What it answers to streamed lists, and seconds until it was asked for pages: silence, and half of the waits.
    let rows = [
        (vec![Reply::Stay(String::new())], 10 + 20),
        (vec![part(), part()], 15 + 20 + 15 + 40),
        (vec![part(), Reply::Stay(String::new())], 15 + 20 + 10 + 40),
    ];
    for (streams, least) in rows {
        let count = streams.len();
        let pages = Reply::Body(page(&[service_json("b", "10.0.0.2", 2)], ""));
        let script = streams.into_iter().chain([pages]);
        let server = Server::default().on(SERVICES, script);
        let retry = Retry {
            first: Duration::from_secs(40),
            longest: Duration::from_secs(80),
            longest_away: Duration::from_secs(80),
        };
        let config = Config { retry, ..quick() };
        let began = tokio::time::Instant::now();
        let feed = Feed::start(&server.client(), config);
        let first = feed.subscribe().next().await.unwrap();
        assert_eq!(words(&first), ["+b [10.0.0.2]"]);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(least), "{least}: {took:?}");
        // Twice the least, and the time that the clock does not count in whole steps.
        assert!(
            took <= Duration::from_secs(least * 2 + 1),
            "{least}: {took:?}"
        );
        let asked = server.asked(SERVICES);
        let streamed = |query: &&String| query.contains("sendInitialEvents");
        assert_eq!(
            asked.iter().take_while(streamed).count(),
            count,
            "{asked:?}"
        );
        let failures = &feed.metrics().kind(Kind::Service).failures;
        assert_eq!(failures.load(Ordering::Relaxed), count as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_pauses_is_waited_for_and_not_asked_for_again() {
    let (said, stream) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::default().on(SERVICES, [Reply::Live(stream)]);
    let feed = Feed::start(&server.client(), quick());
    for number in 1..5 {
        let name = format!("s{number}");
        let line = service("ADDED", &name, &format!("10.0.0.{number}"), number);
        said.send(line).unwrap();
        tokio::time::sleep(Duration::from_secs(14)).await;
    }
    said.send(end("9")).unwrap();
    assert_eq!(feed.subscribe().next().await.unwrap().events.len(), 4);
    assert_eq!(server.asked(SERVICES).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_opened_again_where_it_stood() {
    let script = [
        Reply::Stay(service("ADDED", "a", "10.0.0.1", 1) + &end("5")),
        Reply::Stay(service("DELETED", "a", "10.0.0.1", 6)),
    ];
    let server = Server::default().on(SERVICES, script);
    let feed = Feed::start(&server.client(), quick());
    let mut subscription = feed.subscribe();
    assert_eq!(
        words(&subscription.next().await.unwrap()),
        ["+a [10.0.0.1]"]
    );
    assert_eq!(words(&subscription.next().await.unwrap()), ["-a"]);
    assert!(server.asked(SERVICES)[1].ends_with("resourceVersion=5"));
}

#[tokio::test]
async fn a_cluster_without_the_pool_kinds_has_no_pools_until_they_come() {
    let pool = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"p\",\"namespace\":\"m\"},\
                \"spec\":{\"addresses\":[\"172.30.0.200-172.30.0.250\"]}}}\n";
    let server = Server::default()
        .on(
            POOLS,
            [
                Reply::Status(404, "NotFound"),
                Reply::Stay(pool.to_owned() + &end("9")),
            ],
        )
        .on(
            ADVERTISEMENTS,
            (0..100).map(|_| Reply::Status(404, "NotFound")),
        );
    let config = Config {
        pools: Wanted::Yes,
        absent: quick().retry,
        ..quick()
    };
    let feed = Feed::start(&server.client(), config);
    let mut subscription = feed.subscribe();
    assert!(subscription.next().await.unwrap().events.is_empty());
    let next = subscription.next().await.unwrap();
    assert!(matches!(&next.events[..], [Event::Pool(_, Some(pool))] if pool.ranges.len() == 1));
}

#[tokio::test]
async fn all_nodes_carry_the_own_one_along() {
    let node = |name: &str| {
        format!(
            "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"{name}\"}},\
             \"spec\":{{\"podCIDRs\":[\"10.244.1.0/24\"]}}}}}}\n"
        )
    };
    let lines = node("node-1") + &node("node-2") + &end("3");
    let server = Server::default().on("/api/v1/nodes", [Reply::Stay(lines)]);
    let config = Config {
        nodes: Nodes::All {
            own: Some("node-2".into()),
        },
        ..quick()
    };
    let feed = Feed::start(&server.client(), config);
    let first = feed.subscribe().next().await.unwrap();
    let own = first
        .events
        .iter()
        .filter(|event| matches!(event, Event::Model(Change::Node(Some(_)))))
        .count();
    let all = first
        .events
        .iter()
        .filter(|event| matches!(event, Event::Node(_, Some(_))))
        .count();
    assert_eq!((own, all), (1, 2));
}

#[tokio::test]
async fn a_slow_subscriber_gets_one_event_for_each_object() {
    let (live, receiver) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::default().on(SERVICES, [Reply::Live(receiver)]);
    let feed = Feed::start(&server.client(), quick());
    let (mut quick, mut slow) = (feed.subscribe(), feed.subscribe());
    live.send(end("1")).unwrap();
    let mut last = quick.next().await.unwrap().number;
    for revision in 2..302 {
        let ip = format!("10.0.{}.{}", revision / 200, revision % 200);
        live.send(service("MODIFIED", "a", &ip, revision)).unwrap();
        last = quick.next().await.unwrap().number;
    }
    live.send(service("ADDED", "b", "10.9.9.9", 400)).unwrap();
    last = last.max(quick.next().await.unwrap().number);
    let merged = slow.next().await.unwrap();
    assert_eq!((merged.number, merged.scope), (last, Scope::Everything));
    assert_eq!(words(&merged), ["+a [10.0.1.101]", "+b [10.9.9.9]"]);
}

#[tokio::test]
async fn a_dropped_feed_ends_its_subscriptions() {
    let feed = Feed::start(&Server::default().client(), quick());
    let mut subscription = feed.subscribe();
    subscription.next().await.unwrap();
    drop(feed);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), subscription.next())
            .await
            .unwrap()
            .is_none()
    );
}
