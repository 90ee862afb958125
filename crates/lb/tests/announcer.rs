//! Two announcers, a client and the embedded API server, in network namespaces of their own: what a Linux
//! neighbour table says.
#![allow(clippy::unwrap_used, reason = "a test: whatever is missing fails it")]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use common::*;
use daymark_feed::{Config as Feeds, Feed, PlaneStatus, plane_channel};
use daymark_lb::membership::Timing;
use daymark_lb::{Metrics, announcer, controller};
use daymark_sys::ns::{NetNs, isolated_test};
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};
use serde_json::json;
use tokio::sync::watch;

type Mac = [u8; 6];

const VIPS: [&str; 2] = ["172.30.0.200", "fd00:30::200"];
const NODES: [(&str, &str, &str); 2] = [
    ("node-1", "172.30.0.11", "fd00:30::11"),
    ("node-2", "172.30.0.12", "fd00:30::12"),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Runs something asynchronous in a network namespace, on a runtime of its own.
fn within<R: Send>(ns: &NetNs, f: impl AsyncFnOnce(Handle) -> R + Send) -> R {
    ns.run(|| {
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            f(handle).await
        })
    })
    .unwrap()
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.unwrap().unwrap().header.index
}

/// A namespace with one interface `eth0` on the bridge of this one.
fn host(name: &str, addresses: &[&str]) -> NetNs {
    let ns = NetNs::create().unwrap();
    within(&NetNs::current().unwrap(), async |handle| {
        use std::os::fd::AsRawFd;
        handle
            .link()
            .add(LinkVeth::new(name, "eth0").build())
            .execute()
            .await
            .unwrap();
        let inner = index(&handle, "eth0").await;
        handle
            .link()
            .set(
                LinkUnspec::new_with_index(inner)
                    .setns_by_fd(ns.as_raw_fd())
                    .build(),
            )
            .execute()
            .await
            .unwrap();
        let bridge = index(&handle, "fabric").await;
        let outer = LinkUnspec::new_with_index(index(&handle, name).await)
            .controller(bridge)
            .up()
            .build();
        handle.link().set(outer).execute().await.unwrap();
    });
    within(&ns, async |handle| {
        // Addresses are usable at once instead of after a second of duplicate detection.
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").unwrap();
        let eth0 = index(&handle, "eth0").await;
        for address in addresses {
            let address: IpAddr = address.parse().unwrap();
            let length = if address.is_ipv4() { 24 } else { 64 };
            handle
                .address()
                .add(eth0, address, length)
                .execute()
                .await
                .unwrap();
        }
        handle
            .link()
            .set(LinkUnspec::new_with_index(eth0).up().build())
            .execute()
            .await
            .unwrap();
    });
    ns
}

fn mac_of(ns: &NetNs) -> Mac {
    within(ns, async |handle| {
        let mut links = handle.link().get().match_name("eth0".to_owned()).execute();
        let link = links.try_next().await.unwrap().unwrap();
        let found = link.attributes.iter().find_map(|one| match one {
            LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        });
        found.unwrap()
    })
}

/// What a namespace's neighbour table says about an address.
fn neighbour(ns: &NetNs, address: IpAddr) -> Option<Mac> {
    within(ns, async |handle| {
        let mut entries = handle.neighbours().get().execute();
        while let Some(entry) = entries.try_next().await.unwrap() {
            let mut found = None;
            let mut here = false;
            for attribute in &entry.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(four)) => {
                        here |= address == IpAddr::V4(*four)
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(six)) => {
                        here |= address == IpAddr::V6(*six)
                    }
                    NeighbourAttribute::LinkLayerAddress(mac) => {
                        found = mac.as_slice().try_into().ok()
                    }
                    _ => {}
                }
            }
            if here {
                return found;
            }
        }
        None
    })
}

/// Makes the kernel of a namespace look for a neighbour.
fn look_for(ns: &NetNs, address: IpAddr) {
    ns.run(|| {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        // Only the question matters, not whether anybody is there.
        let _ = socket.send_to(b"?", (address, 9));
    })
    .unwrap();
}

/// How an agent finds the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    There,
    /// It is read, and refuses writes.
    Read,
    /// It is away, and what was open is cut.
    Away,
}

/// Lets a request through to the API, as far as it is there.
async fn gate(mut api: watch::Receiver<Api>, request: Request, next: Next) -> Response {
    let refused = match *api.borrow() {
        Api::There => false,
        Api::Read => request.method() != Method::GET,
        Api::Away => true,
    };
    if refused {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let (head, body) = next.run(request).await.into_parts();
    let cut = async move {
        if api.wait_for(|api| *api == Api::Away).await.is_err() {
            std::future::pending().await
        }
    };
    let body = body.into_data_stream().take_until(Box::pin(cut));
    Response::from_parts(head, Body::from_stream(body))
}

/// An agent in its namespace. Dropping it is what SIGKILL is to a process: no word to anybody.
struct Agent {
    metrics: Arc<Metrics>,
    api: watch::Sender<Api>,
    end: tokio::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    fn start(ns: &NetNs, node: &'static str, router: Router, timing: Timing) -> Self {
        let metrics = Arc::new(Metrics::default());
        let (api, is_there) = watch::channel(Api::There);
        let (end, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let (ns, counted) = (ns.clone(), Arc::clone(&metrics));
        let thread = std::thread::spawn(move || {
            ns.move_thread().unwrap();
            runtime().block_on(async {
                let gate = from_fn(move |request, next| gate(is_there.clone(), request, next));
                let client = Client::new(router.layer(gate), "default");
                let feed = Feed::start(&client, Feeds::node_with_load_balancer(node));
                let (_plane, status) = plane_channel(PlaneStatus::NoPlane);
                let config = announcer::Config {
                    timing,
                    ..announcer::Config::new(node)
                };
                let run = announcer::run(
                    client,
                    feed.subscribe(),
                    status,
                    config,
                    counted,
                    std::future::pending(),
                );
                tokio::select! {
                    done = run => done.unwrap(),
                    _ = ended.recv() => {}
                }
            });
        });
        Self {
            metrics,
            api,
            end,
            thread: Some(thread),
        }
    }

    fn finds_api(&self, api: Api) {
        self.api.send_replace(api);
    }

    fn answers(&self, vip: IpAddr) -> bool {
        self.metrics.answering().contains_key(&vip)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.end.try_send(());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The capabilities of the threads that read frames, as /proc shows them.
fn responder_capabilities() -> Vec<String> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").starts_with("l2-") {
            let status = read("status");
            found.extend(
                status
                    .lines()
                    .filter(|line| line.starts_with("CapEff") || line.starts_with("CapPrm"))
                    .map(str::to_owned),
            );
        }
    }
    found
}

async fn objects(client: &Client) {
    metallb_namespace(client).await;
    call(
        client,
        "POST",
        POOLS,
        pool(
            "p",
            &VIPS
                .map(|vip| format!("{vip}-{vip}"))
                .each_ref()
                .map(String::as_str),
        ),
    )
    .await;
    call(client, "POST", ADVERTISEMENTS, advertisement(&["p"])).await;
    for (name, four, six) in NODES {
        let addresses =
            [four, six].map(|address| json!({ "type": "InternalIP", "address": address }));
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "status": { "addresses": addresses } });
        call(client, "POST", "/api/v1/nodes", node).await;
    }
    call(
        client,
        "POST",
        SERVICES,
        service(
            "web",
            json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } }),
        ),
    )
    .await;
    for (family, address) in [("IPv4", "10.244.1.7"), ("IPv6", "fd00:10:244:1::7")] {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": { "name": format!("web-{}", family.to_lowercase()), "labels": { "kubernetes.io/service-name": "web" } },
            "endpoints": [{ "addresses": [address], "conditions": { "ready": true }, "nodeName": "node-1" }],
            "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        });
        call(
            client,
            "POST",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            slice,
        )
        .await;
    }
}

/// A client, two nodes and an API with a Service; then what is to happen.
fn at_a_site(timing: Timing, story: fn(&NetNs, &[Mac; 2], &dyn Fn(usize) -> Agent)) {
    within(&NetNs::current().unwrap(), async |handle| {
        handle
            .link()
            .add(LinkBridge::new("fabric").up().build())
            .execute()
            .await
            .unwrap();
    });
    let hosts = NODES.map(|(name, four, six)| host(name, &[four, six]));
    let macs = hosts.each_ref().map(mac_of);
    let outside = host("outside", &["172.30.0.100", "fd00:30::100"]);
    let server = server();
    let router = server.router();
    let controlling = runtime();
    let client = controlling.block_on(async { Client::new(router.clone(), "default") });
    controlling.block_on(objects(&client));
    let _controller = std::thread::spawn(move || {
        controlling.block_on(async {
            let feed = Feed::start(
                &client,
                Feeds {
                    pools: daymark_feed::Wanted::Yes,
                    ..Feeds::default()
                },
            );
            controller::run(
                client.clone(),
                feed.subscribe(),
                controller::Config::default(),
                std::future::pending(),
            )
            .await;
        });
    });
    let start = |at: usize| Agent::start(&hosts[at], NODES[at].0, router.clone(), timing);
    story(&outside, &macs, &start);
}

#[test]
fn a_client_finds_the_address_and_follows_it_to_another_node() {
    isolated_test(
        "a_client_finds_the_address_and_follows_it_to_another_node",
        || at_a_site(Timing::default(), story),
    );
}

/// Shorter than the default, so that several absences of the API fit into a test.
fn quick() -> Timing {
    Timing::new(Duration::from_millis(600), Duration::from_secs(2)).unwrap()
}

#[test]
fn no_address_moves_while_the_api_is_away_nor_when_it_is_back() {
    let test = "no_address_moves_while_the_api_is_away_nor_when_it_is_back";
    isolated_test(test, || at_a_site(quick(), absences));
}

#[test]
fn of_two_that_start_in_the_same_moment_one_answers_from_the_beginning() {
    let test = "of_two_that_start_in_the_same_moment_one_answers_from_the_beginning";
    isolated_test(test, || at_a_site(Timing::default(), beginnings));
}

fn beginnings(_: &NetNs, _: &[Mac; 2], start: &dyn Fn(usize) -> Agent) {
    let agents = [0, 1].map(start);
    let vips = VIPS.map(|vip| vip.parse::<IpAddr>().unwrap());
    let mut owners = [None; 2];
    // Six seconds: they have begun after one.
    for _ in 0..6_000 {
        std::thread::sleep(Duration::from_millis(1));
        for (vip, owner) in vips.iter().zip(&mut owners) {
            let answering = [0, 1].into_iter().filter(|at| agents[*at].answers(*vip));
            let answering: Vec<usize> = answering.collect();
            match (&answering[..], *owner) {
                ([], None) => {}
                ([now], None) => *owner = Some(*now),
                ([now], Some(first)) if *now == first => {}
                _ => panic!("{vip} was with {owner:?}, and is with {answering:?}"),
            }
        }
    }
    assert!(owners.iter().all(Option::is_some), "{owners:?}");
}

fn absences(_: &NetNs, _: &[Mac; 2], start: &dyn Fn(usize) -> Agent) {
    let agents = [0, 1].map(start);
    let vips = VIPS.map(|vip| vip.parse::<IpAddr>().unwrap());
    let answering = || vips.map(|vip| agents.each_ref().map(|agent| agent.answers(vip)));
    let settled = || {
        let at_one = |now: [bool; 2]| now[0] != now[1];
        let living = |agent: &Agent| agent.metrics.lively.load(Ordering::Relaxed);
        agents.iter().all(living) && answering().into_iter().all(at_one)
    };
    runtime().block_on(until("both live", Duration::from_secs(15), async || {
        let told = || format!("{:?}", answering());
        settled().then_some(()).ok_or_else(told)
    }));
    let owned = answering();
    let watch_for = |what: &str, millis: u64| {
        for _ in 0..millis / 10 {
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(answering(), owned, "{what}");
        }
    };
    let owner = usize::from(owned[0][1]);
    let both = |api| agents.iter().for_each(|agent| agent.finds_api(api));
    for (what, first) in [("the owner", owner), ("the other", 1 - owner)] {
        // It dies by degrees: one node renews for the last time a little before the other.
        agents[first].finds_api(Api::Read);
        watch_for("the API refuses writes of one", 500);
        both(Api::Away);
        watch_for("the API is away", 4_000);
        // It is back, but cannot write: nobody renews.
        both(Api::Read);
        watch_for("the API is read again", 3_000);
        // One of them finds it later than the other.
        agents[1 - first].finds_api(Api::There);
        watch_for("the API is there for one", 1_200);
        agents[first].finds_api(Api::There);
        watch_for("the API is there for both", 3_500);
        assert!(settled(), "{what} and the other live");
    }
}

fn story(outside: &NetNs, macs: &[Mac; 2], start: &dyn Fn(usize) -> Agent) {
    let mut agents = [0, 1].map(|at| Some(start(at)));
    let vips = VIPS.map(|vip| vip.parse::<IpAddr>().unwrap());
    let timer = runtime();
    let wait = |what: &str, limit: u64, ask: &dyn Fn() -> Result<(), String>| {
        let limit = Duration::from_secs(limit);
        timer.block_on(until(what, limit, || async { ask() }));
    };
    let is_at = |vip: IpAddr, mac: Mac| {
        let found = neighbour(outside, vip);
        match found == Some(mac) {
            true => Ok(()),
            false => Err(format!("{vip} at {found:?}, expected {mac:?}")),
        }
    };
    // Each address is answered for by one node, and the client finds that one.
    for vip in vips {
        wait("the address has one owner", 15, &|| {
            let answering = agents
                .iter()
                .flatten()
                .filter(|agent| agent.answers(vip))
                .count();
            let owners: Vec<_> = agents
                .iter()
                .flatten()
                .map(|agent| format!("{:?}", agent.metrics.owners()))
                .collect();
            // One that is not yet alive, or not yet heard, may still take the address.
            let living = |agent: &Agent| agent.metrics.lively.load(Ordering::Relaxed);
            let all_live = agents.iter().flatten().all(living);
            if answering == 1 && all_live && owners[0] == owners[1] {
                Ok(())
            } else {
                Err(format!(
                    "{answering} answer for {vip}, all live: {all_live}; {owners:?}"
                ))
            }
        });
        let owner = agents
            .iter()
            .position(|agent| agent.as_ref().is_some_and(|agent| agent.answers(vip)))
            .unwrap();
        wait("the client finds the address", 5, &|| {
            look_for(outside, vip);
            is_at(vip, macs[owner])
        });
    }
    let capabilities = responder_capabilities();
    assert!(!capabilities.is_empty());
    assert!(
        capabilities
            .iter()
            .all(|line| line.ends_with("0000000000000000")),
        "{capabilities:?}"
    );
    // One agent dies without a word: the other has everything within five seconds, and the client knows it
    // without having asked again.
    let owner = agents
        .iter()
        .position(|agent| agent.as_ref().is_some_and(|agent| agent.answers(vips[0])))
        .unwrap();
    let other = 1 - owner;
    agents[owner] = None;
    for vip in vips {
        wait("the client follows the address", 5, &|| {
            is_at(vip, macs[other])
        });
    }
    // The one that is left loses the API. It is alone, so that nobody claims what it had: it goes on.
    let last = agents[other].as_ref().unwrap();
    assert!(vips.iter().all(|vip| last.answers(*vip)));
    last.finds_api(Api::Away);
    wait("the node that cannot renew its Lease knows it", 5, &|| {
        let lively = last.metrics.lively.load(Ordering::Relaxed);
        (!lively).then_some(()).ok_or_else(|| "lively".to_owned())
    });
    for vip in vips {
        assert!(
            last.answers(vip),
            "{vip} is given up, and nobody else has it"
        );
    }
    // The first comes back, hears nothing of the other, and takes over; the other yields to it.
    agents[owner] = Some(start(owner));
    for vip in vips {
        wait("the client follows the address back", 10, &|| {
            is_at(vip, macs[owner])
        });
    }
    for _ in 0..20 {
        for vip in vips {
            look_for(outside, vip);
            assert_eq!(
                neighbour(outside, vip),
                Some(macs[owner]),
                "{vip} moved again"
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
