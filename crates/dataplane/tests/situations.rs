//! Settings of the kernel that machines have and labs do not: Services work under each. Real packets.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod traffic;

use std::time::Duration;

use daymark_case::Case;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Plane;
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol, Spec};
use daymark_model::World;
use daymark_sys::ns::isolated_test;

use traffic::{ip, kernel, lab_of, lead, node};

/// An endpoint on each node, and one of the client's own node alone for whom the source is kept.
const CASE: &str = "\
node node-1 172.30.0.11 fd00:30::11 pods=10.244.1.0/24,fd00:10:244:1::/64
service both LoadBalancer 80->8080/TCP@30080 cluster=10.96.0.20,fd00:10:96::20 lb=172.30.0.200,fd00:30::200
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.2.5 ready on node-2
endpoint fd00:10:244:1::5 ready on node-1
endpoint fd00:10:244:2::5 ready on node-2
service here LoadBalancer 80->8080/TCP@30081 cluster=10.96.0.21,fd00:10:96::21 lb=172.30.0.201,fd00:30::201 external-policy=Local
endpoint 10.244.1.5 ready on node-1
endpoint fd00:10:244:1::5 ready on node-1
";

const ASKED: [(bool, &str); 10] = [
    (true, "172.30.0.11:30080"),
    (true, "[fd00:30::11]:30080"),
    (true, "172.30.0.11:30081"),
    (true, "172.30.0.200:80"),
    (true, "[fd00:30::200]:80"),
    (true, "172.30.0.201:80"),
    (false, "10.96.0.20:80"),
    (false, "[fd00:10:96::20]:80"),
    (false, "172.30.0.11:30080"),
    (false, "172.30.0.200:80"),
];

/// Connects from outside and from an own Pod, until every endpoint was chosen for sure.
fn assert_served(lab: &BareLab, what: &str) {
    let probe = |(outside, to): &(bool, &str)| Probe {
        from: if *outside {
            Place::Outside
        } else {
            Place::Pod("pod-9".to_owned())
        },
        source: None,
        to: to.parse().expect("an address and port"),
        protocol: Protocol::Tcp,
    };
    let probes: Vec<Probe> = ASKED.iter().map(probe).collect();
    for _ in 0..20 {
        let outcomes = lab.probe_all(&probes, Duration::from_secs(3));
        for (probe, outcome) in probes.iter().zip(outcomes) {
            let reached = matches!(&outcome, Ok(Outcome::Reached(answer)) if answer.arrived_at.port() == 8080);
            assert!(reached, "{what}: {probe:?}: {outcome:?}");
        }
    }
}

#[test]
fn node_ports_and_load_balancers_work_under_every_rp_filter() {
    let test = "node_ports_and_load_balancers_work_under_every_rp_filter";
    isolated_test(test, || {
        let mut lab = lab_of(Spec {
            nodes: vec![node(1, [5, 9]), node(2, [5])],
            outside: ["172.30.0.100", "fd00:30::100"].map(ip).into(),
            ports: vec![8080],
        });
        let led = [
            "172.30.0.200",
            "172.30.0.201",
            "fd00:30::200",
            "fd00:30::201",
        ];
        lead(&mut lab, &led);
        let (mut plane, _) = Plane::start(kernel(&lab), TableFlags::NONE).expect("a plane");
        let case = Case::parse("inline", CASE).expect("a case");
        let mut world = World::default();
        world.apply(case.steps[0].changes.iter().cloned());
        plane.reconcile(world.desired().clone()).expect("a load");
        // Of a machine's and an interface's value the higher one counts (Documentation/networking/ip-sysctl.rst).
        for value in ["0", "1", "2"] {
            for name in ["node-1", "node-2"] {
                let ns = lab.ns(&Place::Node(name.to_owned())).expect("a node");
                let set = || set_rp_filter(value);
                ns.within(set).expect("on the node");
            }
            assert_served(&lab, &format!("rp_filter={value}"));
        }
    });
}

fn set_rp_filter(value: &str) {
    let folder = std::fs::read_dir("/proc/sys/net/ipv4/conf").expect("settings");
    for interface in folder {
        let file = interface.expect("an interface").path().join("rp_filter");
        std::fs::write(&file, value).expect("a setting of this namespace");
        let held = std::fs::read_to_string(&file).expect("readable");
        assert_eq!(held.trim(), value);
    }
}
