//! Lists and watches through a kube client in process.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{CONFIG_MAPS, ask, client, config_map, json_request, send, server};
use daymark_apiserver::{ApiServer, Config, Object};
use daymark_store::{History, Options, Store};
use futures::{StreamExt, TryStreamExt};
use http::Method;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tower::ServiceExt;

async fn put(server: &ApiServer, name: &str, value: &str) -> u64 {
    let url = format!("{CONFIG_MAPS}/{name}");
    let (code, body) = json_request(server, Method::PUT, &url, config_map(name, value)).await;
    let (code, body) = match code {
        404 => json_request(server, Method::POST, CONFIG_MAPS, config_map(name, value)).await,
        _ => (code, body),
    };
    assert!(code < 300, "{body}");
    body["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

async fn delete(server: &ApiServer, name: &str) {
    json_request(
        server,
        Method::DELETE,
        &format!("{CONFIG_MAPS}/{name}"),
        Value::Null,
    )
    .await;
}

/// Reads the events of a watch until it ends (give it a timeout).
async fn events(server: &ApiServer, query: &str) -> Vec<Value> {
    let response = send(
        server,
        Method::GET,
        &format!("{CONFIG_MAPS}?watch=1&{query}"),
        "",
        Value::Null,
    )
    .await;
    assert_eq!(response.status(), 200, "{query}");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Type and name of each event.
fn short(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                text(&event["type"]),
                text(&event["object"]["metadata"]["name"])
            )
        })
        .collect()
}

#[tokio::test]
async fn pages_stay_at_the_version_of_the_first_one() {
    let server = server();
    for name in ["a", "b", "c", "d", "e"] {
        put(&server, name, "1").await;
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (2, Some(3))
    );
    put(&server, "bb", "1").await;
    delete(&server, "d").await;
    let mut names = Vec::new();
    let mut token = first.metadata.continue_.clone();
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        let page = maps
            .list(&ListParams::default().limit(2).continue_token(&next))
            .await
            .unwrap();
        assert_eq!(
            page.metadata.resource_version,
            first.metadata.resource_version
        );
        names.extend(page.items.into_iter().filter_map(|map| map.metadata.name));
        token = page.metadata.continue_;
    }
    assert_eq!(names, ["c", "d", "e"]);
}

#[tokio::test]
async fn versions_of_lists_follow_upstream() {
    let server = server();
    let first = put(&server, "a", "1").await;
    put(&server, "a", "2").await;
    put(&server, "b", "1").await;
    let future = server.store().revision() + 1000;
    let rows = [
        (String::new(), 200, 2),
        ("resourceVersion=0&limit=1".to_owned(), 200, 2),
        (
            format!("resourceVersion={first}&resourceVersionMatch=Exact"),
            200,
            1,
        ),
        (format!("resourceVersion={first}"), 200, 2),
        (format!("resourceVersion={future}"), 504, 0),
        ("resourceVersion=x".to_owned(), 400, 0),
        ("continue=x".to_owned(), 400, 0),
        ("fieldSelector=metadata.name%3Da".to_owned(), 200, 1),
        ("labelSelector=v+in+(2,3)".to_owned(), 200, 1),
        ("fieldSelector=spec.x%3Da".to_owned(), 400, 0),
    ];
    for (query, code, count) in rows {
        let (found, list) = json_request(
            &server,
            Method::GET,
            &format!("{CONFIG_MAPS}?{query}"),
            Value::Null,
        )
        .await;
        let items = list["items"].as_array().map_or(0, Vec::len);
        assert_eq!((found, items), (code, count), "{query}: {list}");
    }
}

#[tokio::test]
async fn a_watch_sends_what_comes_after_its_version() {
    let server = server();
    let from = put(&server, "a", "1").await;
    put(&server, "b", "1").await;
    put(&server, "b", "2").await;
    delete(&server, "a").await;
    let found = events(&server, &format!("resourceVersion={from}&timeoutSeconds=1")).await;
    assert_eq!(short(&found), ["ADDED b", "MODIFIED b", "DELETED a"]);
    let versions: Vec<u64> = found
        .iter()
        .map(|e| {
            e["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(versions.is_sorted() && versions[0] > from, "{versions:?}");
    let present = events(&server, "timeoutSeconds=1").await;
    assert_eq!(short(&present), ["ADDED b"]);
}

#[tokio::test]
async fn leaving_a_selection_is_a_deletion_with_the_old_content_and_the_new_version() {
    let server = server();
    let from = put(&server, "a", "1").await;
    let left = put(&server, "a", "2").await;
    let back = put(&server, "a", "1").await;
    let found = events(
        &server,
        &format!("resourceVersion={from}&labelSelector=v%3D1&timeoutSeconds=1"),
    )
    .await;
    assert_eq!(short(&found), ["DELETED a", "ADDED a"]);
    let object = |index: usize| &found[index]["object"];
    assert_eq!(object(0)["data"]["v"], "1");
    assert_eq!(
        object(0)["metadata"]["resourceVersion"],
        json!(left.to_string())
    );
    assert_eq!(
        object(1)["metadata"]["resourceVersion"],
        json!(back.to_string())
    );
}

#[tokio::test]
async fn a_watch_list_ends_its_present_with_the_annotated_bookmark() {
    let server = server();
    put(&server, "a", "1").await;
    let last = put(&server, "b", "1").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let found = events(&server, query).await;
    assert_eq!(short(&found)[..2], ["ADDED a", "ADDED b"]);
    let mark = &found[2];
    assert_eq!(mark["type"], "BOOKMARK");
    let metadata = &mark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(
        metadata["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= last
    );
    let (code, _, _) = ask(
        &server,
        Method::GET,
        &format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true"),
        "",
        Value::Null,
    )
    .await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn a_bookmark_comes_before_the_end() {
    let server = server();
    put(&server, "a", "1").await;
    let revision = server.store().revision();
    let query = format!("resourceVersion={revision}&allowWatchBookmarks=true&timeoutSeconds=3");
    let found = events(&server, &query).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["type"], "BOOKMARK");
    assert_eq!(
        found[0]["object"]["metadata"],
        json!({ "resourceVersion": revision.to_string() })
    );
}

/// A server whose history is as short as it can be.
fn forgetful() -> ApiServer {
    let history = History {
        min_entries: 1,
        min_age: Duration::ZERO,
        max_entries: 4,
    };
    let store: Store<Object> = Store::open(Options::in_memory().with_history(history)).unwrap();
    ApiServer::over(store, Config::default()).unwrap()
}

#[tokio::test]
async fn a_version_that_is_gone_is_an_error_in_the_stream() {
    let server = forgetful();
    let from = put(&server, "a", "0").await;
    for value in 1..50 {
        put(&server, "a", &value.to_string()).await;
    }
    let found = events(&server, &format!("resourceVersion={from}&timeoutSeconds=5")).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["type"], "ERROR");
    let status = &found[0]["object"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(410), &json!("Expired"))
    );
    let exact = format!("{CONFIG_MAPS}?resourceVersion={from}&resourceVersionMatch=Exact");
    assert_eq!(
        json_request(&server, Method::GET, &exact, Value::Null)
            .await
            .0,
        410
    );
}

#[tokio::test]
async fn a_version_of_another_store_is_an_error_in_the_stream() {
    let server = server();
    put(&server, "a", "1").await;
    let newest = server.store().revision();
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&";
    let rows = [
        (String::new(), None, "ADDED a"),
        (String::new(), Some(0), "ADDED a"),
        (String::new(), Some(newest), ""),
        (String::new(), Some(newest + 1), "ERROR "),
        (String::new(), Some(u64::MAX), "ERROR "),
        (list.to_owned(), Some(newest), "ADDED a, BOOKMARK "),
        (list.to_owned(), Some(newest + 1), "ERROR "),
        (
            "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&".to_owned(),
            Some(newest + 1),
            "ERROR ",
        ),
    ];
    for (how, version, expected) in rows {
        let version = version.map_or_else(String::new, |version: u64| version.to_string());
        let query = format!("{how}resourceVersion={version}&timeoutSeconds=1");
        let found = events(&server, &query).await;
        assert_eq!(short(&found).join(", "), expected, "{query}: {found:?}");
        let Some(error) = found.iter().find(|event| event["type"] == "ERROR") else {
            continue;
        };
        let status = &error["object"];
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&json!(410), &json!("Expired"))
        );
        let message = status["message"].as_str().unwrap();
        assert!(message.contains("restored from a backup"), "{message}");
    }
}

#[tokio::test]
async fn kubes_watcher_forgets_what_a_restored_store_does_not_hold() {
    // The store runs ahead of its backup while a client watches; then the backup is served to that client.
    let (backup, ahead) = (server(), server());
    put(&backup, "kept", "1").await;
    put(&ahead, "kept", "1").await;
    for value in 1..20 {
        put(&ahead, "lost", &value.to_string()).await;
    }
    let current = Arc::new(Mutex::new(ahead.clone()));
    let service = {
        let current = Arc::clone(&current);
        tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let router = current.lock().unwrap().router();
            router.oneshot(request.map(axum::body::Body::new))
        })
    };
    let maps: Api<ConfigMap> = Api::default_namespaced(kube::Client::new(service, "default"));
    // Each watch ends after a second; the next one goes on at the version that was seen last.
    let config = watcher::Config::default().timeout(1);
    let mut stream = pin!(watcher(maps, config));
    let mut names = Vec::new();
    loop {
        match next(&mut stream).await {
            Event::InitApply(map) => names.extend(map.metadata.name),
            Event::InitDone => break,
            _ => {}
        }
    }
    assert_eq!(names, ["kept", "lost"]);

    *current.lock().unwrap() = backup.clone();
    names.clear();
    let relisted = async {
        loop {
            match stream.try_next().await {
                Ok(Some(Event::InitApply(map))) => names.extend(map.metadata.name),
                Ok(Some(Event::InitDone)) => return,
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => panic!("the stream ended"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), relisted)
        .await
        .expect("a new list");
    assert_eq!(names, ["kept"]);
}

#[tokio::test]
async fn an_expired_page_comes_with_a_token_to_go_on() {
    let server = forgetful();
    for name in ["a", "b", "c"] {
        put(&server, name, "0").await;
    }
    let (_, first) = json_request(
        &server,
        Method::GET,
        &format!("{CONFIG_MAPS}?limit=1"),
        Value::Null,
    )
    .await;
    for value in 1..50 {
        put(&server, "c", &value.to_string()).await;
    }
    let url = |token: &Value| format!("{CONFIG_MAPS}?limit=5&continue={}", token.as_str().unwrap());
    let (code, expired) = json_request(
        &server,
        Method::GET,
        &url(&first["metadata"]["continue"]),
        Value::Null,
    )
    .await;
    assert_eq!((code, &expired["reason"]), (410, &json!("Expired")));
    let (code, rest) = json_request(
        &server,
        Method::GET,
        &url(&expired["metadata"]["continue"]),
        Value::Null,
    )
    .await;
    assert_eq!(
        (code, rest["items"].as_array().map(Vec::len)),
        (200, Some(2))
    );
}

async fn next<S>(stream: &mut S) -> Event<ConfigMap>
where
    S: futures::Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + Unpin,
{
    let next = tokio::time::timeout(Duration::from_secs(10), stream.next());
    next.await
        .expect("an event in time")
        .expect("the stream goes on")
        .expect("no error")
}

#[tokio::test]
async fn kubes_watcher_follows_in_both_list_modes() {
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let server = server();
        put(&server, "a", "1").await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
        let mut stream = pin!(watcher(maps, config));
        assert!(matches!(next(&mut stream).await, Event::Init));
        assert!(
            matches!(next(&mut stream).await, Event::InitApply(map) if map.metadata.name.as_deref() == Some("a"))
        );
        assert!(matches!(next(&mut stream).await, Event::InitDone));
        put(&server, "b", "1").await;
        assert!(
            matches!(next(&mut stream).await, Event::Apply(map) if map.metadata.name.as_deref() == Some("b"))
        );
        delete(&server, "a").await;
        assert!(
            matches!(next(&mut stream).await, Event::Delete(map) if map.metadata.name.as_deref() == Some("a"))
        );
    }
}

#[tokio::test]
async fn kubes_watcher_starts_over_after_a_410() {
    let server = forgetful();
    put(&server, "a", "0").await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let config = watcher::Config::default().timeout(1);
    let mut stream = pin!(watcher(maps, config));
    while !matches!(next(&mut stream).await, Event::InitDone) {}
    // Nobody reads the stream while the history runs away.
    for value in 1..100 {
        put(&server, "a", &value.to_string()).await;
    }
    let relisted = async {
        loop {
            match stream.try_next().await {
                Ok(Some(Event::Init)) => return,
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => panic!("the stream ended"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), relisted)
        .await
        .expect("a new list");
}

#[tokio::test]
async fn tables_carry_columns_once_in_a_watch() {
    let server = server();
    put(&server, "a", "1").await;
    put(&server, "b", "1").await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let get = |query: &str| {
        let request = http::Request::get(format!("{CONFIG_MAPS}?{query}")).header("accept", table);
        server
            .router()
            .oneshot(request.body(axum::body::Body::empty()).unwrap())
    };
    let list = get("")
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(
        (&list["kind"], &list["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let watched = get("watch=1&timeoutSeconds=1")
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let frames: Vec<Value> = watched
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let columns: Vec<usize> = frames
        .iter()
        .map(|frame| {
            frame["object"]["columnDefinitions"]
                .as_array()
                .map_or(0, Vec::len)
        })
        .collect();
    assert_eq!(columns, [3, 0]);
}

#[tokio::test]
async fn discovery_names_every_kind_in_both_forms() {
    let server = server();
    let client = client(&server);
    for aggregated in [false, true] {
        let discovery = kube::Discovery::new(client.clone());
        let discovery = if aggregated {
            discovery.run_aggregated().await
        } else {
            discovery.run().await
        }
        .unwrap();
        let kinds: usize = discovery
            .groups()
            .map(|group| group.recommended_resources().len())
            .sum();
        assert_eq!(kinds, 14, "aggregated: {aggregated}");
    }
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "37")
    );
}
