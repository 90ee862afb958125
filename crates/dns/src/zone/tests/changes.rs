//! Services and endpoints that come, go and wait.

use super::*;

#[test]
fn a_new_cluster_ip_waits_for_the_plane_and_nothing_else_does() {
    let mut zone = zone(&Config::default());
    let fresh = |ip: &str| {
        put(service(
            "fresh",
            allocated(&[ip]),
            &[("", Protocol::Tcp, 80)],
        ))
    };
    assert_eq!(
        zone.apply(&batch(2, vec![fresh("10.96.0.50")]), Hold::ForPlane, 8),
        1
    );
    assert_eq!(ask(&zone, "fresh.test.svc A"), "NXDOMAIN");
    assert_eq!(ask(&zone, "50.0.96.10.in-addr.arpa. PTR"), "elsewhere");

    // It changes while it waits: its turn stays. Other Services change at once.
    let headless = put(service("late", ClusterIps::Headless, &[]));
    let pods = slice("late", "late-a", &[], &["10.244.3.1"]);
    let elsewhere = Service {
        proxy_name: Some("other".into()),
        ..service("other", allocated(&["10.96.0.60"]), &[])
    };
    let events = vec![fresh("10.96.0.50"), headless, pods, put(elsewhere)];
    assert_eq!(zone.apply(&batch(3, events), Hold::ForPlane, 9), 0);
    assert_eq!(ask(&zone, "late.test.svc A"), "10.244.3.1");
    assert_eq!(ask(&zone, "other.test.svc A"), "10.96.0.60");

    assert_eq!(zone.release(1), 0);
    assert_eq!(zone.release(2), 1);
    assert_eq!(ask(&zone, "fresh.test.svc A"), "10.96.0.50");
    assert_eq!(
        ask(&zone, "50.0.96.10.in-addr.arpa. PTR"),
        "fresh.test.svc.cluster.local."
    );
}

#[test]
fn a_changed_address_keeps_the_old_one_until_the_plane_has_it() {
    let mut zone = zone(&Config::default());
    let moved = put(service(
        "single",
        allocated(&["10.96.9.9"]),
        &[("", Protocol::Tcp, 80)],
    ));
    assert_eq!(zone.apply(&batch(2, vec![moved]), Hold::ForPlane, 8), 1);
    assert_eq!(ask(&zone, "single.test.svc A"), "10.96.0.2");
    zone.release(2);
    assert_eq!(ask(&zone, "single.test.svc A"), "10.96.9.9");
    assert_eq!(ask(&zone, "2.0.96.10.in-addr.arpa. PTR"), "elsewhere");
}

#[test]
fn a_service_that_goes_while_it_waits_never_appears() {
    let mut zone = zone(&Config::default());
    let fresh = put(service("fresh", allocated(&["10.96.0.50"]), &[]));
    zone.apply(&batch(2, vec![fresh]), Hold::ForPlane, 8);
    zone.apply(
        &batch(3, vec![gone("fresh"), gone("web")]),
        Hold::ForPlane,
        9,
    );
    assert_eq!(zone.release(9), 0);
    assert_eq!(ask(&zone, "fresh.test.svc A"), "NXDOMAIN");
    assert_eq!(ask(&zone, "web.test.svc A"), "NXDOMAIN");
}

#[test]
fn slices_come_go_and_move_between_services() {
    let mut zone = zone(&Config::default());
    let ports = [("http", Protocol::Tcp, 8080)];
    // An endpoint in two slices stays as long as one of them has it.
    zone.apply(
        &batch(2, vec![slice("pods", "pods-a", &ports, &["10.244.1.9"])]),
        Hold::Nothing,
        8,
    );
    assert_eq!(
        ask(&zone, "pods.test.svc A"),
        "10.244.1.2, 10.244.1.9, 10.244.2.1"
    );
    assert_eq!(
        ask(&zone, "2.1.244.10.in-addr.arpa. PTR"),
        "10-244-1-2.pods.test.svc.cluster.local."
    );
    zone.apply(
        &batch(
            3,
            vec![
                slice_gone("pods-b"),
                slice("only6", "pods-a", &ports, &["10.244.1.9"]),
            ],
        ),
        Hold::Nothing,
        9,
    );
    assert_eq!(ask(&zone, "pods.test.svc A"), "NODATA");
    assert_eq!(ask(&zone, "only6.test.svc A"), "10.244.1.9");
    assert_eq!(
        ask(&zone, "9.1.244.10.in-addr.arpa. PTR"),
        "10-244-1-9.only6.test.svc.cluster.local."
    );
    assert_eq!(ask(&zone, "2.1.244.10.in-addr.arpa. PTR"), "elsewhere");
    zone.apply(
        &batch(
            4,
            vec![
                slice_gone("pods-6"),
                slice_gone("pods-a"),
                slice_gone("only6-a"),
            ],
        ),
        Hold::Nothing,
        9,
    );
    assert_eq!(ask(&zone, "pods.test.svc A"), "NXDOMAIN");
    assert_eq!(ask(&zone, "only6.test.svc AAAA"), "NXDOMAIN");
}

#[test]
fn a_namespace_exists_while_it_or_a_service_in_it_does() {
    let mut zone = zone(&Config::default());
    let early = put(service("early/web", allocated(&["10.96.0.70"]), &[]));
    zone.apply(
        &batch(2, vec![early, Event::Namespace("empty".into(), None)]),
        Hold::Nothing,
        8,
    );
    assert_eq!(ask(&zone, "early.svc A"), "NODATA");
    assert_eq!(ask(&zone, "empty.svc A"), "NXDOMAIN");
    let key = ServiceKey::new("early", "web");
    zone.apply(
        &batch(3, vec![Event::Model(Change::Service(key, None))]),
        Hold::Nothing,
        8,
    );
    assert_eq!(ask(&zone, "early.svc A"), "NXDOMAIN");
}

proptest::proptest! {
    #[test]
    fn dashed_addresses_are_labels_and_read_back(address: IpAddr) {
        let label = endpoints::dashed(address);
        proptest::prop_assert!(label.len() < 64 && !label.starts_with('-') && !label.ends_with('-'), "{label}");
        if !matches!(address, IpAddr::V6(six) if six.to_ipv4().is_some() || six.to_ipv4_mapped().is_some()) {
            proptest::prop_assert_eq!(endpoints::undashed(&label), Some(address), "{}", label);
        }
    }
}
