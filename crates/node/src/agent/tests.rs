use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use daymark_dataplane::nft::apply::CommitError;
use daymark_dataplane::nft::program::Program;
use daymark_feed::{Config, Feed, PlaneStatus, plane_channel};
use daymark_netlink::nft::{Message, Ruleset, TableId};
use futures::StreamExt;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};

use super::*;
use crate::ask::Ask;
use crate::events::board;
use crate::health::{Health, health};

/// A kernel that cannot be read back.
struct Breaks(Program);

impl Kernel for Breaks {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        self.0.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        assert_eq!(self.0.tables().count(), 0, "read after the tables came up");
        self.0.read(table)
    }
}

fn start(kernel: impl Kernel + Send + 'static) -> Agent {
    let (status, _plane) = plane_channel(PlaneStatus::Starting);
    let started = Agent::start(
        kernel,
        TableFlags::NONE,
        Options::default(),
        status,
        Arc::default(),
        board().0,
    );
    started.unwrap()
}

#[tokio::test]
async fn the_threads_of_one_that_is_dropped_end() {
    let agent = start(Program::default());
    let mut alive = agent.alive.clone();
    drop(agent);
    let ended = timeout(Duration::from_secs(30), alive.changed()).await;
    ended.expect("it ends").unwrap_err();
}

#[tokio::test]
async fn that_the_planes_thread_has_ended_is_noticed_without_a_batch() {
    let agent = start(Breaks(Program::default()));
    // An API that never answers.
    let api = Router::new().fallback(std::future::pending::<()>);
    let client = kube::Client::new(api, "default");
    let feed = Feed::start(&client, Config::node("node-1"));
    let soon = Duration::from_secs(30);
    let follows = agent.follow(feed.subscribe(), None);
    let (reply, answer) = oneshot::channel();
    let look = async {
        agent.orders().send(Order::Ask(Ask::Look(reply))).unwrap();
        answer.await.unwrap_err();
    };
    let (ended, ()) = tokio::join!(timeout(soon, follows), look);
    assert_eq!(ended.expect("noticed"), Ended::Plane);
}

/// A kernel in which somebody else's commit may be under way.
struct Busy(Program, Arc<Mutex<()>>);

impl Kernel for Busy {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        let _mine = self.1.blocking_lock();
        self.0.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.0.read(table)
    }
}

fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn service(name: &str, revision: u32) -> String {
    let object = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"ns","resourceVersion":"{revision}"}},"spec":{{"clusterIP":"10.96.0.{revision}","clusterIPs":["10.96.0.{revision}"],"ports":[{{"port":80}}]}}}}"#
    );
    line("ADDED", &object)
}

/// These lines and the end of a list, then what a test says.
fn streamed(lines: String, rest: mpsc::UnboundedReceiver<String>) -> Body {
    let end = r#"{"metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}"#;
    let first = futures::stream::iter([lines + &line("BOOKMARK", end)]);
    let rest = futures::stream::unfold(rest, |mut rest| async {
        match rest.recv().await {
            Some(text) => Some((text, rest)),
            None => std::future::pending().await,
        }
    });
    Body::from_stream(
        first
            .chain(rest)
            .map(|text| Ok::<_, io::Error>(Bytes::from(text))),
    )
}

/// An API with a Node and no Services, until the test tells of some.
fn api(services: mpsc::UnboundedReceiver<String>) -> kube::Client {
    let silent = || mpsc::unbounded_channel().1;
    let node = line(
        "ADDED",
        r#"{"metadata":{"name":"node-1","resourceVersion":"1"}}"#,
    );
    let services = Arc::new(std::sync::Mutex::new(Some(services)));
    let told = move || {
        let mut services = services.lock().unwrap();
        std::future::ready(streamed(String::new(), services.take().unwrap()))
    };
    let api = Router::new()
        .route("/api/v1/services", get(told))
        .route(
            "/api/v1/nodes",
            get(async move || streamed(node.clone(), silent())),
        )
        .fallback(async move || streamed(String::new(), silent()));
    kube::Client::new(api, "default")
}

/// A time of the metrics; 0 before it is set.
fn time(metrics: &Metrics, name: &str) -> f64 {
    let families = metrics.families();
    let start = format!("kubeproxy_sync_proxy_rules_{name}_seconds{{ip_family=\"IPv4\"}} ");
    let found = families.lines().find_map(|line| line.strip_prefix(&start));
    found.map_or(0.0, |value| value.parse().unwrap())
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

#[tokio::test]
async fn a_commit_that_does_not_return_is_no_health_and_what_comes_meanwhile_is_queued() {
    let held = Arc::new(Mutex::new(()));
    let (status, plane) = plane_channel(PlaneStatus::Starting);
    let metrics = Arc::<Metrics>::default();
    let kernel = Busy(Program::default(), Arc::clone(&held));
    let (flags, counted) = (TableFlags::NONE, Arc::clone(&metrics));
    let start = move || {
        Agent::start(
            kernel,
            flags,
            Options::default(),
            status,
            counted,
            board().0,
        )
    };
    let started = tokio::task::spawn_blocking(start).await;
    let agent = started.unwrap().unwrap();
    let (services, told) = mpsc::unbounded_channel();
    let feed = Feed::start(&api(told), Config::node("node-1").without_dns());
    let feeds = feed.subscribe();
    let follows = tokio::spawn(async move { agent.follow(feeds, None).await });

    let patience = Duration::from_millis(200);
    let is = || health(&plane, &metrics, patience);
    until("the first state", || is() == Health::Healthy).await;
    let other = held.lock().await;
    services.send(service("a", 2)).unwrap();
    until("a commit that takes long", || is() == Health::Unhealthy).await;
    let queued = time(&metrics, "last_queued_timestamp");
    assert!(queued > time(&metrics, "last_timestamp"), "{queued}");
    services.send(service("b", 3)).unwrap();
    let again = || time(&metrics, "last_queued_timestamp") > queued;
    until("another change that waits", again).await;
    assert_eq!((is(), metrics.behind()), (Health::Unhealthy, None));
    drop(other);
    until("both are carried out", || {
        metrics.families().contains("daymark_frontends 2\n")
    })
    .await;
    until("health", || is() == Health::Healthy).await;
    assert!(time(&metrics, "last_timestamp") >= time(&metrics, "last_queued_timestamp"));
    follows.abort();
}
