use std::sync::mpsc::channel;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Committed, Refusal};
use daymark_dataplane::nft::program::Program;
use daymark_feed::trouble::{REMIND, Tell};
use daymark_feed::{PlaneReceiver, plane_channel};
use daymark_model::{Node, ServiceKey};
use daymark_netlink::nft::{Blame, Message, Part, Ruleset, TableId};

use super::due::FIRST_WAIT;
use super::*;
use crate::events::{Board, Severity, board};

/// A kernel that refuses as often as it was told, once it took the tables and so many transactions more.
#[derive(Debug, Default)]
struct Moody {
    program: Program,
    patience: usize,
    refusals: usize,
    up: bool,
    /// The cluster IP at which no frontend can be.
    disliked: Option<std::net::Ipv4Addr>,
    /// How many tables were read.
    reads: usize,
}

impl Moody {
    fn dislikes(&self, message: &Message) -> Option<Part> {
        let Message::NewElems { elements, .. } = message else {
            return None;
        };
        let ip = self.disliked?.octets();
        let mut elems = elements.elems.iter();
        let at =
            elems.position(|elem| elements.set.starts_with("fe-") && elem.key.starts_with(&ip));
        at.map(Part::Element)
    }
}

impl Kernel for Moody {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        if self.up && self.patience == 0 && self.refusals > 0 {
            self.refusals -= 1;
            return Err(CommitError::Socket("not now".to_owned()));
        }
        let mut all = messages.iter().enumerate();
        if let Some((message, part)) =
            all.find_map(|(index, message)| Some((index, self.dislikes(message)?)))
        {
            return Err(CommitError::Refused(Box::new(Refusal {
                shown: "an element of fe-a".to_owned(),
                reason: "Invalid argument (os error 22)".to_owned(),
                errno: 22,
                blame: vec![Blame { message, part }],
                committed: Committed::default(),
            })));
        }
        self.patience = self.patience.saturating_sub(usize::from(self.up));
        self.up = true;
        self.program.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.reads += 1;
        self.program.read(table)
    }
}

struct Fixture {
    proxy: Proxy<Moody>,
    status: PlaneReceiver,
    metrics: Arc<Metrics>,
    board: Board,
    told: Receiver<Told>,
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
    let (cleaner, told) = channel();
    let (notices, board) = board();
    let proxy = Proxy::new(
        plane,
        Options::default(),
        sender,
        Arc::clone(&metrics),
        cleaner,
        notices,
    );
    Fixture {
        proxy,
        status,
        metrics,
        board,
        told,
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
        assert_eq!(fixture.proxy.take(first, &inbox), Next::GoOn);
        fixture.proxy.catch_up();
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
        let synced = |it: &Fixture, wanted| it.metrics.families().contains(wanted);
        assert_eq!(*it.status.borrow(), PlaneStatus::Starting, "{what}");
        assert!(synced(&it, "\ndaymark_synced 0\n"), "{what}");
        run(&mut it, vec![no_addresses(), batch()]);
        let committed = PlaneStatus::Committed { generation: 2 };
        assert_eq!(*it.status.borrow(), committed, "{what}");
        assert!(synced(&it, "\ndaymark_synced 1\n"), "{what}");
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
        let failed = it.proxy.plane.kernel().refusals == 0;
        std::thread::sleep(FIRST_WAIT * 2);
        it.proxy.catch_up();
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
fn the_kernel_is_behind_since_the_changes_came_that_it_did_not_take() {
    let mut it = fixture(0);
    run(&mut it, vec![order(Some(1), vec![node("192.0.2.1")])]);
    it.proxy.plane.kernel().refusals = usize::MAX;
    let waited = Duration::from_secs(9);
    let late = Order::Changes {
        batch: Some(2),
        changes: vec![node("192.0.2.2")],
        arrived: clock::now() - waited,
        taken: None,
    };
    run(&mut it, vec![late]);
    assert!(it.metrics.behind() >= Some(waited));
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
    it.proxy.catch_up();
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
    assert_eq!(it.proxy.plane.kernel().program, whole);
}

/// How often the thread wakes up within a moment, after these orders.
fn wakes(it: &mut Fixture, orders: Vec<Order>) -> usize {
    let (sender, inbox) = channel();
    for order in orders {
        sender.send(order).unwrap();
    }
    let end = std::thread::spawn(move || {
        std::thread::sleep(FIRST_WAIT * 20);
        sender.send(Order::Stop).unwrap();
    });
    let wakes = std::iter::from_fn(|| (it.proxy.wake(&inbox) == Next::GoOn).then_some(()));
    let count = wakes.count();
    end.join().unwrap();
    count
}

#[test]
fn a_foreign_commit_that_cannot_be_looked_at_yet_does_not_keep_the_thread_awake() {
    let mut it = over(Moody::default());
    assert_eq!(
        wakes(&mut it, vec![Order::ForeignCommit]),
        1,
        "no state yet"
    );
    assert!(it.proxy.foreign.pending, "it waits for the first one");

    let mut it = fixture(usize::MAX);
    let first = order(Some(1), vec![node("192.0.2.1")]);
    run(&mut it, vec![first, Order::ForeignCommit]);
    let count = wakes(&mut it, Vec::new());
    // After 10, 20, 40, 80 and 160 ms.
    assert!((1..=6).contains(&count), "behind: {count}");
    assert!(it.metrics.behind().is_some());
}

#[test]
fn a_look_is_left_out_where_the_tables_were_read_for_another_reason() {
    let mut it = fixture(1);
    let first = order(Some(1), vec![node("192.0.2.1")]);
    run(&mut it, vec![first, Order::ForeignCommit]);
    assert!(it.metrics.behind().is_some() && it.proxy.foreign.pending);
    std::thread::sleep(FIRST_WAIT * 2);
    it.proxy.catch_up();
    assert_eq!(it.metrics.behind(), None);
    assert!(!it.proxy.foreign.pending, "a failed state is read back");
    assert_eq!(it.proxy.next_wait(), None);

    // The tables were read when the agent came up, and not since.
    let mut it = over(Moody::default());
    run(&mut it, vec![no_addresses(), Order::ForeignCommit]);
    let reads = it.proxy.plane.kernel().reads;
    run(&mut it, vec![order(Some(1), vec![node("192.0.2.1")])]);
    assert!(it.proxy.plane.kernel().reads > reads, "looked at");
    assert!(!it.proxy.foreign.pending);
}

/// Two Services, one of which is at an address that the kernel dislikes.
fn two_services() -> Vec<Change> {
    let text = "service good ClusterIP 80/TCP cluster=10.96.0.1\n\
                service bad ClusterIP 80/TCP cluster=10.96.0.2\n";
    let case = daymark_case::Case::parse("inline", text).unwrap();
    let mut changes = case.steps[0].changes.clone();
    changes.push(node("192.0.2.1"));
    changes
}

#[test]
fn what_the_kernel_refuses_costs_one_service_an_event_and_a_metric() {
    let mut it = over(Moody {
        disliked: Some([10, 96, 0, 2].into()),
        ..Moody::default()
    });
    run(
        &mut it,
        vec![no_addresses(), order(Some(1), two_services())],
    );
    assert_eq!(
        *it.status.borrow(),
        PlaneStatus::Committed { generation: 1 },
        "the node is in step"
    );
    assert_eq!(it.metrics.behind(), None, "and healthy");
    assert_eq!(it.proxy.plane.compiler().desired().frontends.len(), 1);
    let notice = it.board.take().expect("an Event");
    assert_eq!(notice.about.to_string(), "default/bad");
    assert_eq!(
        (notice.severity, notice.reason),
        (Severity::Warning, "NotProgrammed")
    );
    assert!(
        notice.message.contains("Invalid argument"),
        "{}",
        notice.message
    );
    assert_eq!(it.board.take(), None, "one Event");
    let text = it.metrics.families();
    assert!(text.contains("daymark_isolated 1\n"), "{text}");
    assert!(text.contains("daymark_isolations_total 1\n"), "{text}");

    // Another change passes by; nothing new is said.
    run(&mut it, vec![order(Some(2), vec![node("192.0.2.2")])]);
    assert_eq!(it.board.take(), None);

    // A change of that Service is tried at once.
    it.proxy.plane.kernel().disliked = None;
    let text = "service bad ClusterIP 81/TCP cluster=10.96.0.2\n";
    let case = daymark_case::Case::parse("inline", text).unwrap();
    run(&mut it, vec![order(Some(3), case.steps[0].changes.clone())]);
    assert_eq!(
        it.proxy.plane.compiler().desired(),
        it.proxy.world.desired()
    );
    let notice = it.board.take().expect("an Event");
    assert_eq!(
        (notice.severity, notice.reason),
        (Severity::Normal, "Programmed")
    );
    assert!(it.metrics.families().contains("daymark_isolated 0\n"));
}

#[test]
fn what_was_refused_is_tried_again_after_waits_that_double() {
    let mut it = over(Moody {
        disliked: Some([10, 96, 0, 2].into()),
        ..Moody::default()
    });
    run(
        &mut it,
        vec![no_addresses(), order(Some(1), two_services())],
    );
    let mut now = clock::now();
    for expected in [1, 2, 4, 8] {
        let due = it.proxy.isolated.due().expect("tried again");
        let wait = due.saturating_duration_since(now).as_secs_f64();
        let expected = f64::from(expected);
        assert!(
            (expected - 0.5..=expected).contains(&wait),
            "{wait} of {expected}"
        );
        let ripe = it.proxy.isolated.ripe(due);
        assert_eq!(ripe.len(), 1);
        it.proxy.plane.retry(&ripe).unwrap();
        let news = it.proxy.isolated.follow(it.proxy.plane.withheld(), due);
        assert_eq!(news, [], "nothing new is said");
        now = due;
    }
    it.proxy.plane.kernel().disliked = None;
    let due = it.proxy.isolated.due().expect("tried again");
    it.proxy.plane.retry(&it.proxy.isolated.ripe(due)).unwrap();
    let news = it.proxy.isolated.follow(it.proxy.plane.withheld(), due);
    assert_eq!((news.len(), it.proxy.isolated.due()), (1, None));
}

#[test]
fn flows_to_a_service_that_went_while_no_agent_was_here_are_judged() {
    let text = "service kept ClusterIP 80/TCP cluster=10.96.0.1\n\
                endpoint 10.244.1.5 ready on node-1\n";
    let case = daymark_case::Case::parse("inline", text).unwrap();
    let mut both = case.steps[0].changes.clone();
    both.extend(
        two_services()
            .into_iter()
            .filter(|change| !matches!(change, Change::Service(key, _) if *key.name == *"good")),
    );
    let mut before = over(Moody::default());
    run(&mut before, vec![no_addresses(), order(Some(1), both)]);
    let Told { verdicts, .. } = before.told.try_recv().expect("flows to look for");
    assert!(
        !verdicts.concern_abandoned(),
        "nobody is known to have left"
    );
    let kernel = std::mem::take(before.proxy.plane.kernel());

    let mut it = over(kernel);
    let mut now = case.steps[0].changes.clone();
    now.push(node("192.0.2.1"));
    run(&mut it, vec![no_addresses(), order(Some(1), now)]);
    let Told { verdicts, .. } = it.told.try_recv().expect("flows to look for");
    assert!(
        verdicts.concern_abandoned(),
        "nobody knows who left meanwhile"
    );
    for (original, answers, stale) in [
        ("10.96.0.2:80", "10.244.1.9:80", true),
        ("10.96.0.1:80", "10.244.1.9:80", true),
        ("10.96.0.1:80", "10.244.1.5:80", false),
        ("10.96.0.3:80", "10.244.1.9:80", false),
    ] {
        let flow = flows::Flow {
            protocol: daymark_model::Protocol::Tcp,
            stage: flows::Stage::Opening,
            original: original.parse().unwrap(),
            answers: answers.parse().unwrap(),
        };
        assert_eq!(verdicts.is_stale(&flow), stale, "{original} {answers}");
    }
    assert!(it.told.try_recv().is_err(), "one look");
}

#[test]
fn flows_of_every_frontend_are_judged_anew_when_that_is_asked_for() {
    let opening = |ip: &str| flows::Flow {
        protocol: daymark_model::Protocol::Tcp,
        stage: flows::Stage::Opening,
        original: format!("{ip}:80").parse().unwrap(),
        answers: "10.244.1.9:80".parse().unwrap(),
    };
    let judged = |it: &mut Fixture| {
        let all: Vec<Verdicts> = it.told.try_iter().map(|told| told.verdicts).collect();
        let stale = |ip| all.iter().any(|one| one.is_stale(&opening(ip)));
        (all.len(), ["10.96.0.1", "10.96.0.2"].map(stale))
    };
    let mut it = fixture(0);
    run(&mut it, vec![Order::JudgeFlows]);
    assert_eq!(judged(&mut it), (0, [false; 2]), "no state yet");
    run(&mut it, vec![order(Some(1), two_services())]);
    assert_eq!(judged(&mut it), (1, [true; 2]));
    run(&mut it, vec![Order::JudgeFlows]);
    assert_eq!(judged(&mut it), (1, [true; 2]));

    // While the kernel does not follow, nothing is said of its flows.
    it.proxy.plane.kernel().refusals = 1;
    let gone = Change::Service(ServiceKey::new("default", "good"), None);
    run(&mut it, vec![order(Some(2), vec![gone]), Order::JudgeFlows]);
    assert!(it.metrics.behind().is_some());
    assert_eq!(judged(&mut it), (0, [false; 2]));
    std::thread::sleep(FIRST_WAIT * 2);
    it.proxy.catch_up();
    assert_eq!(judged(&mut it), (1, [true; 2]), "the place that went too");
}

#[test]
fn a_conntrack_thread_that_ended_is_told_once_there_is_something_for_it() {
    let mut it = fixture(0);
    let Fixture { told, .. } = &mut it;
    *told = channel().1;
    run(&mut it, vec![order(Some(1), two_services())]);
    let failing = |it: &Fixture| {
        it.metrics
            .families()
            .contains("daymark_conntrack_failing 1\n")
    };
    let gone = Change::Service(ServiceKey::new("default", "good"), None);
    run(&mut it, vec![order(Some(2), vec![gone])]);
    assert!(failing(&it), "{:?}", it.metrics.conntrack_failure());
    let why = it.metrics.conntrack_failure().expect("a failure");
    assert!(why.contains("restart the agent"), "{why}");
    assert_eq!(
        *it.status.borrow(),
        PlaneStatus::Committed { generation: 2 },
        "everything else goes on"
    );
}

#[test]
fn a_failure_that_stays_is_in_the_log_once_and_its_end_too() {
    let mut it = fixture(3);
    run(&mut it, vec![order(Some(1), vec![node("192.0.2.1")])]);
    let same = it.proxy.last_error.clone().expect("an error");
    for _ in 0..2 {
        std::thread::sleep(FIRST_WAIT * 5);
        it.proxy.catch_up();
        assert!(it.metrics.behind().is_some());
        assert_eq!(it.proxy.last_error.as_ref(), Some(&same));
        assert_eq!(
            it.proxy.trouble.again(&same, clock::now(), REMIND),
            Tell::Lately
        );
    }
    std::thread::sleep(FIRST_WAIT * 10);
    it.proxy.catch_up();
    assert_eq!(it.metrics.behind(), None);
    assert_eq!(
        it.proxy.trouble.is_over(),
        Before::Success,
        "its end was told"
    );
}
