//! An agent with a real kernel and real sockets, in namespaces of its own, brought from step to step of a case.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use daymark_case::Case;
use daymark_case::value::Step;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_feed::{PlaneStatus, plane_channel};
use daymark_node::agent::Agent;
use daymark_node::events::{self, Board};
use daymark_node::health::Health;
use daymark_node::metrics::Metrics;
use daymark_node::proxy::Order;
use daymark_node::{health_check, loopback};
use futures::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use tokio::runtime::Runtime;

/// An agent in namespaces of its own, and what its health checks are told.
pub(crate) struct Fixture {
    runtime: Runtime,
    agent: Agent,
    pub(crate) health: Arc<Mutex<Health>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Board,
    batch: u64,
    pub(crate) case: Case,
}

impl Fixture {
    /// An agent that holds the first step of a case, on a machine with these addresses.
    pub(crate) fn new(addresses: &[&str], text: &str) -> Self {
        let case = Case::parse("inline.case", text).expect("a case that parses");
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(add_addresses(addresses));
        let kernel = Netlink::open().expect("a netfilter socket");
        let (status, plane) = plane_channel(PlaneStatus::Starting);
        let options = case.options.clone();
        let metrics = Arc::new(Metrics::default());
        let (notices, board) = events::board();
        let agent = Agent::start(
            kernel,
            TableFlags::NONE,
            options,
            status,
            Arc::clone(&metrics),
            notices.clone(),
        );
        let mut fixture = Self {
            runtime,
            agent: agent.expect("an agent"),
            health: Arc::new(Mutex::new(Health::Healthy)),
            metrics,
            board,
            batch: 0,
            case,
        };
        // The plane's status has a reader for as long as the agent runs.
        fixture.runtime.spawn(async move {
            let _plane = plane;
            std::future::pending::<()>().await;
        });
        let health = Arc::clone(&fixture.health);
        fixture.runtime.spawn(health_check::serve(
            fixture.agent.health_checks(),
            Arc::new(move || *health.lock().expect("a lock")),
            notices.clone(),
        ));
        let metrics = Arc::clone(&fixture.metrics);
        let ports = loopback::serve(fixture.agent.loopback(), metrics, notices);
        fixture.runtime.spawn(ports);
        fixture.next();
        fixture
    }

    /// Brings the agent to the next step of the case.
    pub(crate) fn next(&mut self) {
        let Step { changes, .. } = self.case.steps.remove(0);
        self.batch += 1;
        let (taken, is_taken) = tokio::sync::oneshot::channel::<()>();
        let order = Order::Changes {
            batch: Some(self.batch),
            changes,
            arrived: now(),
            taken: Some(taken),
        };
        self.agent
            .orders()
            .send(order)
            .expect("the plane's thread lives");
        let _ = is_taken.blocking_recv();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test waits for what other threads do"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Puts loopback up and gives it these addresses.
pub(crate) async fn add_addresses(addresses: &[&str]) {
    let (handle, lo) = loopback_link().await;
    let up = rtnetlink::LinkUnspec::new_with_index(lo).up().build();
    handle.link().set(up).execute().await.expect("lo goes up");
    for address in addresses {
        let ip: IpAddr = address.parse().expect("an address");
        let length = if ip.is_ipv4() { 32 } else { 128 };
        let added = handle.address().add(lo, ip, length).execute().await;
        added.unwrap_or_else(|error| panic!("{address}: {error}"));
    }
}

/// Takes an IPv4 address from loopback.
pub(crate) async fn remove_address(address: &str) {
    let (handle, lo) = loopback_link().await;
    let ip: IpAddr = address.parse().expect("an address");
    let mut held = handle.address().get().set_link_index_filter(lo).execute();
    while let Some(message) = held.try_next().await.expect("addresses") {
        if message.attributes.contains(&AddressAttribute::Local(ip)) {
            let removed = handle.address().del(message).execute().await;
            return removed.unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    }
    panic!("lo does not have {address}");
}

async fn loopback_link() -> (rtnetlink::Handle, u32) {
    let (connection, handle, _) = rtnetlink::new_connection().expect("a route socket");
    tokio::spawn(connection);
    let mut links = handle.link().get().match_name("lo".to_owned()).execute();
    let lo = links.try_next().await.expect("links").expect("lo");
    (handle, lo.header.index)
}

/// Waits until something holds: sockets are opened by a task.
pub(crate) fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let start = now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "not within 5 s: {what}"
        );
        sleep(Duration::from_millis(5));
    }
}
