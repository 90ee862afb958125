use std::os::unix::fs::MetadataExt;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Kernel, Plane};
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Program;
use daymark_feed::{PlaneStatus, plane_channel};
use daymark_model::Change;
use daymark_netlink::nft::{Message, Name, Ruleset, SetElem, TableId};
use tokio::io::AsyncReadExt;

use super::super::explain;
use super::*;
use crate::ask::wire::{Explain, From, Nothing};
use crate::events::board;
use crate::metrics::Metrics;
use crate::proxy::Proxy;

fn path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("daymark-ask-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder.join("node.sock")
}

fn remove(path: &Path) {
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn the_socket_is_this_users_alone_and_goes_with_the_agent() {
    let path = path("mode");
    let listener = Listener::bind(&path).unwrap();
    for file in ["node.sock", "node.sock.lock"] {
        let mode = std::fs::metadata(path.with_file_name(file)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    drop(listener);
    assert!(!path.exists());
    remove(&path);
}

#[tokio::test]
async fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
    let path = path("stale");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead agent leaves its socket");
    let living = Listener::bind(&path).unwrap();
    let error = Listener::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("--socket"), "{error}");
    // The refused one took nothing away.
    UnixStream::connect(&path).await.unwrap();
    drop(living);
    drop(Listener::bind(&path).unwrap());
    remove(&path);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let path = path("file");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::NoSocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    remove(&path);
}

#[test]
fn a_place_is_vacant_only_if_that_is_known() {
    let path = path("vacant");
    assert!(vacancy(&path).unwrap()._lock.is_none(), "no folder");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let held = vacancy(&path).unwrap();
    let error = vacancy(&path).unwrap_err();
    assert!(matches!(error, SocketError::Locked { .. }), "{error}");
    drop(held);
    // What is asked about a folder that is a file is an error, as it is where a folder cannot be read.
    std::fs::write(&path, "").unwrap();
    let error = vacancy(&path.join("deeper/node.sock")).unwrap_err();
    assert!(matches!(error, SocketError::Io { .. }), "{error}");
    remove(&path);
    for (socket, expected) in [("node.sock", "."), ("here/node.sock", "here"), ("/s", "/")] {
        let folder = lock::folder(Path::new(socket));
        assert_eq!(folder, Path::new(expected), "{socket}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_waits_for_a_cleanup_and_not_for_another_agent() {
    let path = path("cleanup");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let cleanup = vacancy(&path).unwrap();
    let starting = tokio::spawn({
        let path = path.clone();
        async move { Listener::bind_after_cleanup(&path).await }
    });
    tokio::time::sleep(LOOK * LOOKS / 2).await;
    assert!(!starting.is_finished(), "the cleanup goes on");
    drop(cleanup);
    let begins = timeout(LOOK * 2, starting).await;
    let agent = begins.expect("the place is free").unwrap().unwrap();
    let second = timeout(LOOK / 2, Listener::bind_after_cleanup(&path)).await;
    let error = second.expect("an agent answers").unwrap_err();
    assert!(matches!(error, SocketError::Taken { .. }), "{error}");
    drop(agent);
    // One that hangs does not keep the node without an agent.
    let _hangs = vacancy(&path).unwrap();
    let begins = timeout(LOOK * LOOKS * 2, Listener::bind_after_cleanup(&path)).await;
    begins.expect("an end of waiting").unwrap_err();
    remove(&path);
}

/// A kernel that a test can look into, and edit.
#[derive(Clone, Default)]
struct Shared(Arc<std::sync::Mutex<Program>>);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Program> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel for Shared {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        self.lock().commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.lock().read(table)
    }

    fn element(
        &mut self,
        table: &TableId,
        set: &Name,
        key: &SetElem,
    ) -> Result<Option<SetElem>, CommitError> {
        self.lock().element(table, set, key)
    }
}

/// An agent whose kernel is a program, over the state of a case.
struct Fixture {
    path: PathBuf,
    kernel: Shared,
    orders: Sender<Order>,
    reads: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    task: tokio::task::JoinHandle<()>,
}

const WEB: &str = "node node-1 172.30.0.11 pods=10.244.1.0/24\n\
    service web ClusterIP 80->8080/TCP cluster=10.96.0.7\n\
    endpoint 10.244.1.5 ready on node-1\n\
    endpoint 10.244.1.6 not-ready on node-1\n";

fn fixture(name: &str, case: &str) -> Fixture {
    disturbed(name, case, 0)
}

/// One whose tables change while they are read, so many times.
fn disturbed(name: &str, case: &str, times: usize) -> Fixture {
    built(name, case, times, |_| {})
}

/// One with another desk.
fn built(name: &str, case: &str, times: usize, change_desk: impl FnOnce(&mut Desk)) -> Fixture {
    let kernel = Shared::default();
    let (plane, _) = Plane::start(kernel.clone(), TableFlags::NONE).unwrap();
    let (status, _) = plane_channel(PlaneStatus::Starting);
    let (notices, _) = board();
    let cleaner = channel();
    let metrics = Arc::new(Metrics::default());
    let (orders, inbox) = channel();
    let proxy = Proxy::new(
        plane,
        daymark_model::Options::default(),
        status,
        Arc::clone(&metrics),
        cleaner.0,
        notices,
    );
    std::thread::spawn(move || {
        proxy.run(&inbox);
        drop(cleaner.1);
    });
    let case = Case::parse("here", case).unwrap();
    let mut changes = case.steps[0].changes.clone();
    changes.push(Change::MachineAddresses(Arc::new([])));
    let order = Order::Changes {
        batch: Some(7),
        changes,
        arrived: crate::clock::now(),
        taken: None,
    };
    orders.send(order).unwrap();
    let path = path(name);
    let mut desk = Desk::new(orders.clone(), Arc::new(Vec::new));
    let (read, count) = (kernel.clone(), Arc::new(AtomicUsize::new(0)));
    desk.read = Arc::new({
        let (orders, count) = (std::sync::Mutex::new(orders.clone()), Arc::clone(&count));
        move || {
            let held = compare::read(&mut read.clone());
            let number = count.fetch_add(1, Ordering::SeqCst);
            if number < times {
                change(
                    &orders.lock().unwrap_or_else(PoisonError::into_inner),
                    number,
                );
            }
            held
        }
    });
    change_desk(&mut desk);
    let listener = Listener::bind(&path).unwrap();
    Fixture {
        path,
        kernel,
        orders,
        reads: count,
        metrics,
        task: tokio::spawn(listener.serve(desk)),
    }
}

/// One more Service, in the tables before this returns.
fn change(orders: &Sender<Order>, number: usize) {
    let text = format!("service other-{number} ClusterIP 80/TCP cluster=10.96.1.{number}\n");
    let case = Case::parse("here", &text).unwrap();
    let (taken, is_taken) = oneshot::channel();
    let order = Order::Changes {
        batch: None,
        changes: case.steps[0].changes.clone(),
        arrived: crate::clock::now(),
        taken: Some(taken),
    };
    orders.send(order).unwrap();
    // The sender is dropped, not used.
    let _ = is_taken.blocking_recv();
}

impl Fixture {
    async fn send(&self, text: &[u8]) -> Reply {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        // An answer may come before all of it is sent.
        let _ = stream.write_all(text).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        serde_json::from_str(&answer).unwrap()
    }

    async fn ask(&self, request: &Request) -> Reply {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.send(&line).await
    }

    async fn status(&self) -> wire::Status {
        match self.ask(&Request::Status(Nothing {})).await {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    async fn explain(&self, name: &str, from: From) -> wire::Explained {
        let request = Request::Explain(Explain {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            port: None,
            address: None,
            from,
        });
        match self.ask(&request).await {
            Reply::Explained(explained) => explained,
            other => panic!("{other:?}"),
        }
    }

    fn end(self) {
        self.task.abort();
        remove(&self.path);
    }
}

#[tokio::test]
async fn a_place_is_explained_with_what_the_kernel_holds() {
    let fixture = fixture("explain", WEB);
    let told = fixture.explain("web", From::OwnPod).await;
    assert_eq!((told.node.as_str(), told.stale), ("node-1", None));
    let [answer] = &told.answers[..] else {
        panic!("{:?}", told.answers)
    };
    assert!(answer.forwarded);
    let standings: Vec<_> = answer
        .endpoints
        .iter()
        .map(|e| e.standing.as_str())
        .collect();
    assert_eq!(standings, ["used", "not-ready"]);
    let kernel = answer.kernel.as_ref().unwrap();
    assert!(kernel.agrees, "{kernel:?}");
    let objects: Vec<_> = kernel.objects.iter().map(|o| o.object.as_str()).collect();
    let expected = [
        "fe-a",
        "service-addrs",
        "plans",
        "chain to-1",
        "slots",
        "local-backends",
    ];
    assert_eq!(objects, expected);
    // What somebody takes away is seen at once.
    for table in fixture.kernel.lock().tables_mut() {
        table.sets.get_mut(set::SLOTS).unwrap().elems.clear();
    }
    let told = fixture.explain("web", From::Node).await;
    let kernel = told.answers[0].kernel.as_ref().unwrap();
    assert!(!kernel.agrees);
    let missing = kernel.objects.iter().filter(|o| o.agreement == "missing");
    assert_eq!(
        missing.map(|o| o.object.as_str()).collect::<Vec<_>>(),
        ["slots"]
    );
    let told = fixture.explain("nothing", From::Outside).await;
    assert_eq!(told.cause.unwrap().code, "no-service");
    fixture.end();
}

/// A Service at so many external IPs, with so many endpoints, of which two are not ready.
fn wide(addresses: usize, endpoints: usize) -> String {
    let ips: Vec<String> = (0..addresses).map(|n| format!("203.0.113.{n}")).collect();
    let mut text = format!(
        "node node-1 172.30.0.11 pods=10.244.1.0/24\n\
         service web ClusterIP 80->8080/TCP cluster=10.96.0.7 external={}\n",
        ips.join(",")
    );
    for number in 0..endpoints {
        let state = if number < 2 { "not-ready" } else { "ready" };
        let (high, low) = (number / 250, number % 250 + 1);
        text += &format!("endpoint 10.245.{high}.{low} {state} on node-2\n");
    }
    text
}

/// How many endpoints an answer counts of each standing, how many it lists, and how many slots it knows of.
fn counted(answer: &wire::Answer) -> (Vec<(&str, usize)>, usize, usize) {
    let standings = answer.standings.iter();
    let standings = standings.map(|s| (s.standing.as_str(), s.endpoints));
    let kernel = answer.kernel.as_ref().unwrap();
    assert!(kernel.agrees && kernel.unasked == 0, "{kernel:?}");
    let listed = kernel.objects.iter().filter(|o| o.object == "slots");
    let more = kernel.more.iter().filter(|more| more.object == "slots");
    let slots = listed.count() + more.map(|more| more.same).sum::<usize>();
    (standings.collect(), answer.endpoints.len(), slots)
}

#[tokio::test]
async fn an_answer_counts_thousands_of_endpoints_and_has_an_end() {
    let fixture = fixture("wide", &wide(60, 5000));
    let told = fixture.explain("web", From::Outside).await;
    // Each place is a look at every endpoint.
    assert_eq!((told.answers.len(), told.untold), (40, 21));
    for (index, answer) in told.answers.iter().enumerate() {
        let listed = if index < 4 { 5000 } else { 2 + explain::FIRST };
        let expected = (vec![("not-ready", 2), ("used", 4998)], listed, 4998);
        assert_eq!(counted(answer), expected, "{}", answer.at);
    }
    let bytes = serde_json::to_vec(&told).unwrap().len();
    assert!(bytes < 8 << 20, "{bytes} bytes");
    fixture.end();
}

#[tokio::test]
async fn of_a_place_with_few_endpoints_all_are_listed() {
    let fixture = fixture("narrow", &wide(150, 300));
    let told = fixture.explain("web", From::Outside).await;
    assert_eq!((told.answers.len(), told.untold), (100, 51));
    let expected = (vec![("not-ready", 2), ("used", 298)], 300, 298);
    assert_eq!(counted(&told.answers[0]), expected);
    fixture.end();
}

#[tokio::test]
async fn a_status_counts_and_names_what_differs() {
    let fixture = fixture("status", WEB);
    let status = fixture.status().await;
    assert!(status.healthy, "{status:?}");
    assert_eq!(
        (status.node.as_str(), status.differences_total),
        ("node-1", 0)
    );
    let names: Vec<_> = status.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["plane", "conntrack", "listeners"]);
    assert!(status.parts[0].text.contains("generation 7: 1 Services"));
    assert_eq!(status.generation, Some(7));
    assert!(
        status
            .last_change_seconds
            .is_some_and(|seconds| seconds < 60.0)
    );
    let fe = status
        .counts
        .iter()
        .find(|c| c.of == "fe-a" && c.table == "ip daymark");
    assert_eq!(
        fe.map(|count| (count.wanted, count.held)),
        Some((Some(1), Some(1)))
    );
    let sticky = status.counts.iter().find(|c| c.of == "sticky").unwrap();
    assert_eq!(sticky.wanted, None);

    for table in fixture.kernel.lock().tables_mut() {
        table.sets.get_mut(set::FRONTENDS[0]).unwrap().elems.clear();
    }
    let status = fixture.status().await;
    assert!(!status.healthy);
    let [difference] = &status.differences[..] else {
        panic!("{:?}", status.differences)
    };
    assert_eq!(difference.object.as_deref(), Some("fe-a"));
    assert_eq!(difference.agreement, "missing");
    assert_eq!(difference.about, ["Service port default/web/TCP"]);
    fixture.end();
}

#[tokio::test]
async fn tables_that_change_while_they_are_read_are_read_again() {
    // In the end the plane's thread reads them itself.
    for (times, reads) in [(0, 1), (2, 3), (TRIES, TRIES), (100, TRIES)] {
        let fixture = disturbed("moving", WEB, times);
        let status = fixture.status().await;
        assert!(status.healthy, "{times}: {status:?}");
        let fe = status
            .counts
            .iter()
            .find(|c| c.of == "fe-a" && c.table == "ip daymark");
        let held = times.min(TRIES) + 1;
        assert_eq!(
            fe.map(|count| (count.wanted, count.held)),
            Some((Some(held), Some(held)))
        );
        assert_eq!(fixture.reads.load(Ordering::SeqCst), reads, "{times}");
        fixture.end();
    }
}

#[tokio::test]
async fn a_part_that_fails_makes_the_node_unhealthy_and_says_why() {
    let fixture = fixture("part", WEB);
    fixture
        .metrics
        .set_conntrack_failure(Some("netlink: no buffer".to_owned()));
    let status = fixture.status().await;
    assert!(!status.healthy);
    let conntrack = &status.parts[1];
    assert!(
        conntrack.text.ends_with("netlink: no buffer"),
        "{conntrack:?}"
    );
    fixture.metrics.set_conntrack_failure(None);
    assert!(fixture.status().await.healthy);
    fixture.end();
}

#[tokio::test]
async fn before_the_first_state_the_agent_says_what_it_waits_for() {
    let fixture = fixture("waits", "service web ClusterIP 80/TCP cluster=10.96.0.7\n");
    let status = fixture.status().await;
    assert!(!status.healthy);
    let plane = &status.parts[0];
    assert!(
        plane.text.contains("waits for the Node object"),
        "{plane:?}"
    );
    let told = fixture.explain("web", From::Outside).await;
    assert!(told.stale.unwrap().contains("waits for the Node object"));
    fixture.end();
}

#[tokio::test]
async fn an_older_services_place_is_a_conflict_and_no_fault() {
    let text = "node node-1 172.30.0.11\n\
        service old ClusterIP 80/TCP cluster=10.96.0.7 external=172.30.0.9 created=1\n\
        service web ClusterIP 80/TCP cluster=10.96.0.8 external=172.30.0.9 created=2\n";
    let fixture = fixture("conflict", text);
    let status = fixture.status().await;
    assert!(status.healthy);
    let conflict = &status.conflicts[0];
    let told = (
        conflict.port.as_str(),
        conflict.at.as_str(),
        conflict.held_by.as_str(),
    );
    assert_eq!(
        told,
        ("default/web/TCP", "172.30.0.9:80/TCP", "default/old/TCP")
    );
    fixture.end();
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong_and_end_nothing() {
    let fixture = fixture("bad", WEB);
    for bad in [
        "",
        "\n",
        "{}\n",
        "{\"status\":{\"x\":1}}\n",
        "{\"explain\":{}}\n",
        "\u{0}\n",
    ] {
        let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
        stream.write_all(bad.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let said = error(serde_json::from_str(&answer).unwrap());
        assert!(said.starts_with("not a request"), "{bad:?}: {said}");
    }
    let long = vec![b' '; 40_000];
    let said = error(fixture.send(&long).await);
    assert_eq!(said, "a request has at most 16384 bytes");
    assert!(fixture.status().await.healthy);
    fixture.end();
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_sent_away() {
    let fixture = fixture("silent", WEB);
    // As many as are answered at a time: they keep nobody out for longer than their patience.
    let mut silent = Vec::new();
    for _ in 0..AT_ONCE {
        silent.push(UnixStream::connect(&fixture.path).await.unwrap());
    }
    for mut stream in silent {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let said = error(serde_json::from_str(&answer).unwrap());
        assert!(said.starts_with("no request within 5 s"), "{said}");
    }
    fixture.end();
}

#[tokio::test]
async fn without_the_planes_thread_a_question_is_answered_so() {
    let fixture = fixture("dead", WEB);
    fixture.orders.send(Order::Stop).unwrap();
    let said = error(fixture.ask(&Request::Status(Nothing {})).await);
    assert!(said.contains("the plane's thread has ended"), "{said}");
    fixture.end();
}

#[tokio::test]
async fn who_asks_what_panics_is_told_so_and_the_next_is_answered() {
    let fixture = built("panics", WEB, 0, |desk| {
        let (parts, read) = (Arc::clone(&desk.parts), Arc::clone(&desk.read));
        let asked = AtomicUsize::new(0);
        desk.parts = Arc::new(move || match asked.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("such a part"),
            _ => parts(),
        });
        let asked = AtomicUsize::new(0);
        desk.read = Arc::new(move || match asked.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("such a table"),
            _ => read(),
        });
    });
    for panics in ["such a part", "such a table"] {
        let said = error(fixture.ask(&Request::Status(Nothing {})).await);
        assert!(
            said.starts_with("it panicked") && said.ends_with(panics),
            "{said}"
        );
    }
    assert!(fixture.status().await.healthy);
    fixture.end();
}
