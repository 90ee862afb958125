//! Ten thousand changes at once: few commits, and the kernel holds the last state.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_feed::{PlaneStatus, plane_channel};
use daymark_model::{Change, Slice, World};
use daymark_node::agent::Agent;
use daymark_node::events;
use daymark_node::metrics::Metrics;
use daymark_node::proxy::Order;
use daymark_sys::ns::isolated_test;

const SERVICES: usize = 500;
const CHANGES: usize = 10_000;

fn case() -> Case {
    let mut text = "node node-1 172.30.0.11 pods=10.244.1.0/24\n".to_owned();
    for number in 0..SERVICES {
        let (high, low) = (number / 200, number % 200);
        let _ = writeln!(
            text,
            "service s{number} ClusterIP 80->8080/TCP cluster=10.96.{high}.{low}"
        );
        for endpoint in 1..=4 {
            let ip = format!("10.244.{}.{low}", endpoint * 10 + high);
            let _ = writeln!(text, "endpoint {ip} ready on node-{endpoint}");
        }
    }
    Case::parse("burst", &text).expect("a case")
}

/// The slice of a Service without one of its endpoints, another each time.
fn changed(slices: &[Arc<Slice>], number: usize) -> Change {
    let mut slice = Slice::clone(&slices[number % slices.len()]);
    slice
        .endpoints
        .remove(number / slices.len() % slice.endpoints.len());
    Change::Slice(slice.key.clone(), Some(Arc::new(slice)))
}

#[test]
fn a_burst_of_ten_thousand_changes_is_a_few_commits() {
    isolated_test("a_burst_of_ten_thousand_changes_is_a_few_commits", || {
        let case = case();
        let metrics = Arc::new(Metrics::default());
        let (status, plane) = plane_channel(PlaneStatus::Starting);
        let agent = Agent::start(
            Netlink::open().expect("a netfilter socket"),
            TableFlags::NONE,
            case.options.clone(),
            status,
            Arc::clone(&metrics),
            events::board().0,
        )
        .expect("an agent");
        let send = |batch: usize, changes: Vec<Change>| {
            let order = Order::Changes {
                batch: Some(batch as u64),
                changes,
                arrived: now(),
                taken: None,
            };
            agent.orders().send(order).expect("the plane's thread");
        };
        let mut world = World::new(case.options.clone());
        let mut first = case.steps[0].changes.clone();
        first.push(Change::MachineAddresses(Arc::from([])));
        world.apply(first.iter().cloned());
        let slices = world.inputs().slices_in_order();
        send(1, first);
        wait(|| plane.borrow().holds(1));
        let before = metrics.commits();
        for number in 0..CHANGES {
            let change = changed(&slices, number);
            world.apply([change.clone()]);
            send(number + 2, vec![change]);
        }
        wait(|| plane.borrow().holds(CHANGES as u64 + 1));
        let commits = metrics.commits() - before;
        assert!(commits < CHANGES as u64 / 2, "{commits} commits");
        assert_eq!(metrics.behind(), None);
        agent.stop();
        let kernel = Netlink::open().expect("a netfilter socket");
        let (mut plane, _) = Plane::start(kernel, TableFlags::NONE).expect("a plane");
        let left = plane.reconcile(world.desired().clone()).expect("adopted");
        assert_eq!(left, 0, "the kernel holds the last state");
    });
}

fn wait(mut holds: impl FnMut() -> bool) {
    let until = now() + Duration::from_secs(60);
    while !holds() {
        assert!(now() < until, "not within a minute");
        sleep(Duration::from_millis(2));
    }
}

#[allow(clippy::disallowed_methods, reason = "a test measures time")]
fn now() -> Instant {
    Instant::now()
}
