use std::sync::mpsc::channel;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::program::Program;
use daymark_feed::{PlaneReceiver, plane_channel};
use daymark_model::Node;
use daymark_netlink::nft::{Message, Ruleset, TableId};

use super::*;

/// A kernel that refuses as often as it was told, once it took the tables and so many transactions more.
#[derive(Debug, Default)]
struct Moody {
    program: Program,
    patience: usize,
    refusals: usize,
    up: bool,
}

impl Kernel for Moody {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        if self.up && self.patience == 0 && self.refusals > 0 {
            self.refusals -= 1;
            return Err(CommitError::Socket("not now".to_owned()));
        }
        self.patience = self.patience.saturating_sub(usize::from(self.up));
        self.up = true;
        self.program.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.program.read(table)
    }
}

struct Fixture {
    proxy: Proxy<Moody>,
    status: PlaneReceiver,
    metrics: Arc<Metrics>,
}

/// A proxy that knows the machine's addresses: none.
fn fixture(refusals: usize) -> Fixture {
    let kernel = Moody {
        refusals,
        ..Moody::default()
    };
    let mut fixture = over(kernel);
    run(&mut fixture, vec![no_addresses()]);
    fixture
}

fn no_addresses() -> Order {
    order(None, vec![Change::MachineAddresses(Arc::from([]))])
}

fn over(kernel: Moody) -> Fixture {
    let (plane, _) = Plane::start(kernel, TableFlags::NONE).unwrap();
    let (sender, status) = plane_channel(PlaneStatus::Starting);
    let metrics = Arc::new(Metrics::default());
    let (cleaner, _) = channel();
    let proxy = Proxy::new(
        plane,
        Options::default(),
        sender,
        Arc::clone(&metrics),
        cleaner,
    );
    Fixture {
        proxy,
        status,
        metrics,
    }
}

fn node(address: &str) -> Change {
    let addresses = vec![address.parse().unwrap()];
    Change::Node(Some(Arc::new(Node {
        name: "node-1".into(),
        addresses,
        ..Node::default()
    })))
}

fn order(batch: Option<u64>, changes: Vec<Change>) -> Order {
    Order::Changes {
        batch,
        changes,
        arrived: clock::now(),
        taken: None,
    }
}

/// Runs the proxy over orders that are there already, one batch at a time, until it has nothing to do.
fn run(fixture: &mut Fixture, orders: Vec<Order>) {
    for order in orders {
        let (sender, inbox) = channel();
        sender.send(order).unwrap();
        let first = inbox.recv().unwrap();
        let mut foreign = Foreign::default();
        assert!(fixture.proxy.take(first, &inbox, &mut foreign) == Next::GoOn);
        fixture.proxy.catch_up(&mut foreign);
    }
}

#[test]
fn nothing_is_committed_before_a_batch_the_machines_addresses_and_the_node_object() {
    let batch = || order(Some(2), vec![node("192.0.2.1")]);
    let rows = [
        (
            "no batch",
            vec![no_addresses(), order(None, vec![node("192.0.2.1")])],
        ),
        ("no addresses", vec![batch()]),
        ("no Node", vec![no_addresses(), order(Some(1), Vec::new())]),
    ];
    for (what, orders) in rows {
        let mut it = over(Moody::default());
        run(&mut it, orders);
        assert_eq!(*it.status.borrow(), PlaneStatus::Starting, "{what}");
        run(&mut it, vec![no_addresses(), batch()]);
        let committed = PlaneStatus::Committed { generation: 2 };
        assert_eq!(*it.status.borrow(), committed, "{what}");
    }
}

#[test]
fn a_first_load_of_many_pieces_that_fails_anywhere_ends_right() {
    let services = (0..1_200_u32).map(|number| {
        let text = format!(
            "service s{number} ClusterIP 80/TCP cluster=10.96.{}.{}\n",
            number >> 8,
            number & 0xff
        );
        let case = daymark_case::Case::parse("inline", &text).unwrap();
        case.steps[0].changes.clone()
    });
    let mut changes: Vec<Change> = services.flatten().collect();
    changes.push(node("192.0.2.1"));
    let mut commits = 0;
    for patience in 0..12 {
        let mut it = over(Moody {
            patience,
            refusals: 1,
            ..Moody::default()
        });
        run(
            &mut it,
            vec![no_addresses(), order(Some(1), changes.clone())],
        );
        let failed = it.metrics.behind().is_some();
        assert_eq!(failed, it.proxy.plane.kernel().refusals == 0);
        std::thread::sleep(FIRST_WAIT * 2);
        it.proxy.catch_up(&mut Foreign::default());
        assert_eq!(it.metrics.behind(), None, "after {patience} transactions");
        let held = it.proxy.plane.kernel().program.clone();
        assert_eq!(held, *it.proxy.plane.compiler().program());
        assert_eq!(
            it.proxy.plane.compiler().desired(),
            it.proxy.world.desired()
        );
        commits += usize::from(failed);
    }
    assert!(commits >= 3, "it failed in {commits} places");
}

#[test]
fn a_batch_without_changes_is_published_and_counts_as_no_commit() {
    let mut it = fixture(0);
    run(&mut it, vec![order(Some(1), vec![node("192.0.2.1")])]);
    let commits = it.metrics.commits();
    run(&mut it, vec![order(Some(2), Vec::new())]);
    assert_eq!(
        *it.status.borrow(),
        PlaneStatus::Committed { generation: 2 }
    );
    assert_eq!(it.metrics.commits(), commits);
}

#[test]
fn a_refused_commit_is_tried_again_when_due_with_all_that_came_meanwhile() {
    let mut it = fixture(1);
    run(
        &mut it,
        vec![
            order(Some(1), vec![node("192.0.2.1")]),
            order(Some(2), vec![node("192.0.2.2")]),
        ],
    );
    assert!(it.metrics.behind().is_some());
    assert_eq!(
        *it.status.borrow(),
        PlaneStatus::Starting,
        "nothing is said of what is not in the kernel"
    );

    std::thread::sleep(FIRST_WAIT * 2);
    it.proxy.catch_up(&mut Foreign::default());
    assert_eq!(
        *it.status.borrow(),
        PlaneStatus::Committed { generation: 2 }
    );
    assert_eq!(it.metrics.behind(), None);
    let held = it.proxy.plane.kernel().program.clone();
    assert_eq!(held, *it.proxy.plane.compiler().program());
}

#[test]
fn an_element_that_somebody_removed_is_put_back() {
    let mut it = fixture(0);
    run(&mut it, vec![order(Some(1), vec![node("192.0.2.1")])]);
    let whole = it.proxy.plane.kernel().program.clone();
    let bare = Program::from_rulesets(whole.tables().map(|table| Ruleset {
        elements: Vec::new(),
        ..table.ruleset()
    }));
    it.proxy.plane.kernel().program = bare.unwrap();
    assert_ne!(it.proxy.plane.kernel().program, whole);

    run(&mut it, vec![Order::ForeignCommit]);
    let mut foreign = Foreign {
        pending: true,
        rest: None,
    };
    it.proxy.catch_up(&mut foreign);
    assert_eq!(it.proxy.plane.kernel().program, whole);
}
