//! Tables without an owner: what another program does to them is heard of and mended by a running agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Kernel, Plane};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::{Words, set};
use daymark_feed::{PlaneReceiver, PlaneStatus, plane_channel};
use daymark_model::{Change, Family, World};
use daymark_netlink::nft::{Chain, ChainKind, Elements, Exists, Message, Ruleset};
use daymark_node::agent::Agent;
use daymark_node::metrics::Metrics;
use daymark_node::proxy::Order;
use daymark_node::{events, foreign};
use daymark_sys::ns::isolated_test;

const WORLD: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service web NodePort 80->8080/TCP@30001 cluster=10.96.0.20,fd00:10:96::20
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1
endpoint fd00:10:244:2::5 ready on node-2
";

const A_SECOND: Duration = Duration::from_secs(1);

/// What another program does, and how it does it.
type Edit = (&'static str, fn(&[Ruleset]) -> Vec<Message>);

const EDITS: [Edit; 3] = [
    ("one element is deleted", |held| first_of(held, set::SLOTS)),
    ("both tables are deleted", |_| {
        Family::BOTH
            .map(|family| Message::DelTable {
                table: Words::of(family).table(),
            })
            .into()
    }),
    ("one element is deleted again", |held| {
        first_of(held, set::FRONTENDS[0])
    }),
];

fn first_of(held: &[Ruleset], name: &str) -> Vec<Message> {
    let table = held.first().expect("our table");
    let elements = table.elements.iter().find(|list| *list.set == *name);
    let elements = elements.expect("a set with elements");
    vec![Message::DelElems {
        table: table.table.id.clone(),
        elements: Elements {
            set: elements.set.clone(),
            elems: vec![elements.elems.first().expect("an element").clone()],
        },
    }]
}

/// What the kernel holds, table by table.
fn held(kernel: &mut Netlink) -> Vec<Ruleset> {
    let tables = Family::BOTH.map(|family| Words::of(family).table());
    let read = tables
        .iter()
        .filter_map(|table| kernel.read(table).expect("readable"));
    read.collect()
}

/// How many elements each set has. Frontends may be in either of two maps, and plans stay.
fn sizes(held: &[Ruleset]) -> BTreeMap<String, usize> {
    let mut sizes = BTreeMap::new();
    for ruleset in held {
        for filled in &ruleset.elements {
            if *filled.set != *set::PLANS {
                let name = filled.set.trim_end_matches("-a").trim_end_matches("-b");
                let size = sizes.entry(format!("{} {name}", ruleset.table.id));
                *size.or_default() += filled.elems.len();
            }
        }
    }
    sizes
}

#[test]
fn what_another_program_does_to_the_tables_is_mended_within_a_second() {
    let test = "what_another_program_does_to_the_tables_is_mended_within_a_second";
    isolated_test(test, || {
        let case = Case::parse("inline.case", WORLD).expect("a case that parses");
        let (agent, metrics) = running_agent(&case);
        let mut other = Netlink::open().expect("a netfilter socket");
        let whole = sizes(&held(&mut other));
        assert!(!whole.is_empty());
        for (index, (what, edit)) in EDITS.iter().enumerate() {
            let messages = edit(&held(&mut other));
            other
                .commit(&messages)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            within(A_SECOND, what, || sizes(&held(&mut other)) == whole);
            // Counted behind the commit that was just seen.
            let repairs = format!("daymark_plane_repairs_total {}\n", index + 1);
            within(A_SECOND, &repairs, || metrics.families().contains(&repairs));
            assert_nothing_to_do(&case, what);
        }
        agent.stop();
        assert_nothing_to_do(&case, "the tables outlive the agent");
    });
}

#[test]
fn tables_that_are_to_be_replaced_serve_until_then_if_they_are_whole() {
    let test = "tables_that_are_to_be_replaced_serve_until_then_if_they_are_whole";
    isolated_test(test, || {
        let case = Case::parse("inline.case", WORLD).expect("a case that parses");
        let ids = Family::BOTH.map(|family| Words::of(family).table());
        let adopted = || {
            let metrics = Arc::new(Metrics::default());
            start(&case, &metrics).0.stop();
            metrics.adopted()
        };
        let mut other = Netlink::open().expect("a netfilter socket");
        assert!(!adopted(), "there were none");
        assert!(!adopted(), "they were never filled");
        running_agent(&case).0.stop();
        assert!(adopted(), "they serve");
        // A chain of somebody else's makes them of no layout.
        let chain = Message::NewChain {
            table: ids[0].clone(),
            chain: Chain {
                name: "theirs".into(),
                kind: ChainKind::Regular,
                comment: None,
            },
            exists: Exists::Refuse,
        };
        other.commit(&[chain]).expect("a chain more");
        let (_, found) =
            Plane::start(Netlink::open().expect("a socket"), TableFlags::NONE).expect("a plane");
        assert!(matches!(found, Found::ToReplace { .. }), "{found:?}");
        assert!(adopted(), "both tables go on");
        let table = ids[1].clone();
        other
            .commit(&[Message::DelTable { table }])
            .expect("one table less");
        assert!(!adopted(), "a family is not served");
    });
}

/// The kernel holds what the case wants: whoever adopts the tables changes nothing.
fn assert_nothing_to_do(case: &Case, what: &str) {
    let kernel = Netlink::open().expect("a netfilter socket");
    let (mut plane, found) = Plane::start(kernel, TableFlags::NONE).expect("a plane");
    assert_eq!(found, Found::Adopted, "{what}");
    let mut world = World::new(case.options.clone());
    world.apply(changes(case));
    let changed = plane.reconcile(world.desired().clone());
    assert_eq!(changed.expect("no change"), 0, "{what}");
}

fn changes(case: &Case) -> Vec<Change> {
    let steps = case.steps.iter();
    steps.flat_map(|step| step.changes.clone()).collect()
}

/// An agent that holds a case in tables without an owner and follows foreign commits.
fn running_agent(case: &Case) -> (Agent, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (agent, plane) = start(case, &metrics);
    let addresses = Change::MachineAddresses(Arc::from([]));
    let order = Order::Changes {
        batch: Some(1),
        changes: changes(case).into_iter().chain([addresses]).collect(),
        arrived: now(),
        taken: None,
    };
    agent.orders().send(order).expect("the plane's thread");
    within(Duration::from_secs(5), "the first state", || {
        plane.borrow().holds(1)
    });
    (agent, metrics)
}

/// An agent that was told nothing yet.
fn start(case: &Case, metrics: &Arc<Metrics>) -> (Agent, PlaneReceiver) {
    let kernel = Netlink::open().expect("a netfilter socket");
    let own = kernel.port();
    let (status, plane) = plane_channel(PlaneStatus::Starting);
    let agent = Agent::start(
        kernel,
        TableFlags::NONE,
        case.options.clone(),
        status,
        Arc::clone(metrics),
        events::board().0,
    )
    .expect("an agent");
    foreign::follow(own, agent.orders()).expect("a watch");
    (agent, plane)
}

/// Waits until something holds.
fn within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let until = now() + patience;
    while !holds() {
        assert!(now() < until, "not within {patience:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

#[allow(clippy::disallowed_methods, reason = "a test measures time")]
fn now() -> Instant {
    Instant::now()
}
