//! When an answer changes, seen without sockets.

use std::sync::OnceLock;
use std::sync::mpsc::channel;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Kernel, Plane};
use daymark_dataplane::nft::program::Program;
use daymark_feed::{PlaneStatus, plane_channel};
use daymark_model::Options;
use daymark_netlink::nft::{Message, Ruleset, TableId};
use tokio::sync::oneshot;

use super::*;
use crate::events::board;
use crate::proxy::{Order, Proxy};

fn at(port: u16) -> HealthCheckKey {
    HealthCheckKey {
        family: daymark_model::Family::V4,
        port,
    }
}

fn check(endpoints: usize) -> Arc<HealthCheck> {
    let all: [IpAddr; 3] = ["10.244.1.5", "10.244.1.6", "10.244.1.7"].map(|ip| ip.parse().unwrap());
    Arc::new(HealthCheck {
        service: ServiceKey::new("default", "web"),
        endpoints: all[..endpoints].to_vec(),
    })
}

/// A plane whose health check 32000 has so many endpoints, or none at all.
fn desired(endpoints: Option<usize>) -> Desired {
    let checks = endpoints.map(|count| (at(32000), check(count)));
    Desired {
        health_checks: checks.into_iter().collect(),
        health_check_addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        ..Desired::default()
    }
}

fn told(teller: &Teller) -> Option<usize> {
    let check = teller.shared().of(at(32000));
    check.map(|check| check.endpoints.len())
}

#[test]
fn bad_news_go_before_the_kernel_and_good_ones_after_it() {
    let rows = [
        // Told before; wanted; told while the kernel is changed.
        (None, Some(2), None),
        (None, Some(0), None),
        (Some(0), Some(1), Some(0)),
        (Some(1), Some(3), Some(1)),
        (Some(3), Some(1), Some(1)),
        (Some(1), Some(0), Some(0)),
        (Some(2), None, None),
    ];
    for (old, new, between) in rows {
        let mut teller = Teller::default();
        teller.before(&Delta::between(&Desired::default(), &desired(old)));
        teller.after(&desired(old), BTreeSet::new());
        assert_eq!(told(&teller), old);
        teller.before(&Delta::between(&desired(old), &desired(new)));
        assert_eq!(told(&teller), between, "{old:?} to {new:?}");
        teller.after(&desired(new), BTreeSet::new());
        assert_eq!(told(&teller), new, "{old:?} to {new:?}");
    }
}

#[test]
fn while_the_kernel_does_not_follow_the_worst_of_all_is_told() {
    let mut teller = Teller::default();
    teller.before(&Delta::between(&Desired::default(), &desired(Some(2))));
    teller.after(&desired(Some(2)), BTreeSet::new());
    // The commits of these fail.
    for (old, new, expected) in [(2, 3, 2), (3, 1, 1), (1, 2, 1), (2, 0, 0), (0, 3, 0)] {
        teller.before(&Delta::between(&desired(Some(old)), &desired(Some(new))));
        assert_eq!(told(&teller), Some(expected), "{old} to {new}");
    }
    teller.after(&desired(Some(3)), BTreeSet::new());
    assert_eq!(told(&teller), Some(3));
}

#[test]
fn endpoints_of_a_service_that_the_kernel_refused_are_none() {
    let mut teller = Teller::default();
    teller.before(&Delta::between(&Desired::default(), &desired(Some(2))));
    let web = || BTreeSet::from([ServiceKey::new("default", "web")]);
    teller.after(&desired(Some(2)), web());
    assert_eq!(told(&teller), Some(0));
    teller.after(&desired(Some(2)), BTreeSet::new());
    assert_eq!(told(&teller), Some(2));
    teller.after(
        &desired(Some(2)),
        BTreeSet::from([ServiceKey::new("shop", "web")]),
    );
    assert_eq!(told(&teller), Some(2));
}

#[test]
fn sockets_are_looked_after_only_when_ports_or_addresses_come_or_go() {
    let mut teller = Teller::default();
    let shared = teller.shared();
    let mut changed = shared.changed.subscribe();
    let mut step = |old: Option<usize>, new: Option<usize>| {
        changed.mark_unchanged();
        teller.before(&Delta::between(&desired(old), &desired(new)));
        teller.after(&desired(new), BTreeSet::new());
        changed.has_changed().unwrap()
    };
    // The address comes with the first state.
    assert!(step(None, None));
    assert!(step(None, Some(1)));
    assert!(!step(Some(1), Some(2)));
    assert!(!step(Some(2), Some(0)));
    assert!(step(Some(0), None));
    assert!(!step(None, None));
    let wanted: Vec<_> = shared.wanted().into_keys().collect();
    assert_eq!(wanted, []);
}

/// A kernel that notes at each commit what was told.
struct Noting {
    program: Program,
    checks: Arc<OnceLock<Arc<HealthChecks>>>,
    told: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Kernel for Noting {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        if let Some(checks) = self.checks.get() {
            let now = checks.of(at(32000)).map(|check| check.endpoints.len());
            self.told.lock().unwrap().push(now);
        }
        self.program.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.program.read(table)
    }
}

#[test]
fn a_commit_that_takes_endpoints_away_comes_after_their_health_check() {
    let checks = Arc::new(OnceLock::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let kernel = Noting {
        program: Program::default(),
        checks: Arc::clone(&checks),
        told: Arc::clone(&told),
    };
    let (plane, _) = Plane::start(kernel, TableFlags::NONE).unwrap();
    let (status, _plane) = plane_channel(PlaneStatus::Starting);
    let (cleaner, _stale) = channel();
    let metrics = Arc::new(crate::metrics::Metrics::default());
    let (notices, _board) = board();
    let proxy = Proxy::new(plane, Options::default(), status, metrics, cleaner, notices);
    checks.set(proxy.health_checks()).unwrap();
    let (orders, inbox) = channel();
    let proxy = std::thread::spawn(move || proxy.run(&inbox));
    let case = Case::parse(
        "here",
        "node node-1 172.30.0.11\nmachine 172.30.0.11\n\
         service web LoadBalancer 80/TCP cluster=10.96.0.20 external-policy=Local health=32000\n\
         endpoint 10.244.1.5 ready on node-1\n\
         step it goes\nremove endpoint 10.244.1.5 of web\n\
         step it comes back\nendpoint 10.244.1.5 ready on node-1 of web\n",
    );
    let mut commits = Vec::new();
    for (number, step) in (1..).zip(case.unwrap().steps) {
        let (taken, is_taken) = oneshot::channel::<()>();
        let order = Order::Changes {
            batch: Some(number),
            changes: step.changes,
            arrived: clock::now(),
            taken: Some(taken),
        };
        orders.send(order).unwrap();
        let _ = is_taken.blocking_recv();
        commits.push(std::mem::take(&mut *told.lock().unwrap()));
    }
    orders.send(Order::Stop).unwrap();
    proxy.join().unwrap();
    let seen: Vec<_> = commits
        .into_iter()
        .map(|told| (!told.is_empty(), told.into_iter().collect::<BTreeSet<_>>()))
        .collect();
    let only = |told| (true, BTreeSet::from([told]));
    assert_eq!(seen, [only(None), only(Some(0)), only(Some(0))]);
}
