//! Endpoints come and go as fast as they can while clients connect: no connection is lost.

mod common;
#[path = "churn/ranges.rs"]
mod ranges;
#[path = "kernel/setup.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod setup;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daymark_case::Case;
use daymark_case::random::Random;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Kernel, Plane};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol, Spec};
use daymark_model::World;
use daymark_sys::ns::{NetNs, isolated_test};

use common::pieces;
use setup::{canonical, held};
use traffic::{lab_of, node, some};

const CHANGES: usize = 2_500;
const DEATHS: usize = 10;
const CHANGES_BEFORE_DEATH: usize = 2;
const PODS: u8 = 8;
/// Below a second: then the kernel would send a lost SYN again, unseen (RFC 6298, section 2.1).
const PATIENCE: Duration = Duration::from_millis(950);
const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web ClusterIP 80->8080/TCP cluster=10.96.0.20,fd00:10:96::20
";

fn lab() -> BareLab {
    lab_of(Spec {
        // One more than there are endpoints: the client.
        nodes: vec![node(1, 1..=PODS + 1)],
        outside: Vec::new(),
        ports: vec![8080],
    })
}

/// The Service with every Pod as endpoint.
fn everybody() -> World {
    let endpoints = (1..=PODS).map(|number| {
        format!(
            "endpoint 10.244.1.{number} ready on node-1\n\
             endpoint fd00:10:244:1::{number} ready on node-1\n"
        )
    });
    let text = CASE.to_owned() + &endpoints.collect::<String>();
    let case = Case::parse("inline", &text).expect("a case");
    let mut world = World::default();
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

/// Changes the endpoints over and over.
fn churn(plane: &mut Plane<Netlink>, mut world: World) {
    let whole = world.inputs().slices_in_order();
    let mut random = Random::new(1);
    for _ in 0..CHANGES {
        let delta = world.apply(some(&mut random, &whole));
        plane.update(&delta).expect("a commit");
    }
}

/// One agent after the other changes the endpoints: each dies at some commit of its last change, and the next one
/// adopts what is there. After every change the kernel holds what the program says.
fn die_and_adopt(node: &NetNs, first: Plane<Netlink>, mut world: World) {
    let whole = world.inputs().slices_in_order();
    let mut random = Random::new(2);
    let mut plane = first;
    for death in 0..DEATHS {
        for _ in 0..CHANGES_BEFORE_DEATH {
            let delta = world.apply(some(&mut random, &whole));
            plane.update(&delta).expect("a commit");
            assert_holds(node, &plane, death);
        }
        let pieces = pieces(
            &plane
                .compiler()
                .clone()
                .update(&world.apply(some(&mut random, &whole))),
        );
        let cut = random.below(pieces.len() + 1);
        drop(plane);
        let mut dying = opened(node);
        for piece in &pieces[..cut] {
            dying.commit(piece).expect("what the compiler sends");
        }
        drop(dying);
        let (next, found) = Plane::start(opened(node), TableFlags::NONE).expect("a plane");
        assert_eq!(found, Found::Adopted, "death {death}");
        plane = next;
        plane
            .reconcile(world.desired().clone())
            .expect("the state that the last one left undone");
        assert_holds(node, &plane, death);
    }
}

fn assert_holds(node: &NetNs, plane: &Plane<Netlink>, death: usize) {
    let held = node.within(held).expect("on the node");
    assert_eq!(held, canonical(plane.compiler().program()), "death {death}");
}

fn opened(node: &NetNs) -> Netlink {
    let kernel = node.within(Netlink::open).expect("on the node");
    kernel.expect("a netfilter socket")
}

/// Changes the plane of a node with all endpoints, while clients connect: how long it took, and the number of
/// connections, of which none was lost.
fn under_load<F>(change: F) -> (Duration, usize)
where
    F: FnOnce(&NetNs, Plane<Netlink>, World) + Send,
{
    let lab = lab();
    let node = lab.ns(&Place::Node("node-1".to_owned())).expect("a node");
    let (mut plane, _) = Plane::start(opened(node), TableFlags::NONE).expect("a plane");
    let world = everybody();
    plane
        .reconcile(world.desired().clone())
        .expect("the first state");
    let done = AtomicBool::new(false);
    let (took, outcomes) = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let _done = Done(&done);
            let started = now();
            change(node, plane, world);
            now() - started
        });
        let mut outcomes = Vec::new();
        while !done.load(Ordering::Acquire) {
            outcomes.extend(lab.probe_all(&probes(), PATIENCE));
        }
        let took = changing.join().expect("every commit went through");
        (took, outcomes)
    });
    let reached = |outcome: &Result<Outcome, _>| matches!(outcome, Ok(Outcome::Reached(answer)) if answer.arrived_at.port() == 8080);
    let lost: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !reached(outcome))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} connections in {took:?}: {:?}",
        lost.len(),
        outcomes.len(),
        lost.first()
    );
    (took, outcomes.len())
}

/// Says that the changes are over, also when they panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn no_connection_is_lost_while_endpoints_come_and_go() {
    isolated_test("no_connection_is_lost_while_endpoints_come_and_go", || {
        let (took, connections) = under_load(|_, mut plane, world| churn(&mut plane, world));
        assert!(took < Duration::from_secs(60), "{took:?}");
        let rate = connections as f64 / took.as_secs_f64();
        assert!(rate >= 200.0, "only {rate:.0} connections a second");
    });
}

#[test]
fn no_connection_is_lost_while_agents_die_and_others_adopt() {
    let test = "no_connection_is_lost_while_agents_die_and_others_adopt";
    isolated_test(test, || {
        let (took, connections) = under_load(die_and_adopt);
        assert!(
            connections >= DEATHS,
            "only {connections} connections in {took:?}"
        );
    });
}

fn probes() -> Vec<Probe> {
    let to = |service: &str| Probe {
        from: Place::Pod(format!("pod-{}", PODS + 1)),
        source: None,
        to: service.parse().expect("an address and port"),
        protocol: Protocol::Tcp,
    };
    [to("10.96.0.20:80"), to("[fd00:10:96::20]:80")]
        .iter()
        .cycle()
        .take(50)
        .cloned()
        .collect()
}

#[allow(clippy::disallowed_methods, reason = "a test that measures a rate")]
fn now() -> Instant {
    Instant::now()
}
