use proptest::prelude::*;

use super::*;
use crate::reserved::{Reserved, default_service_cidrs};
use crate::testing::{asks, ip, node, pool, service};

fn pools(pools: &[(&str, &[&str])]) -> Pools {
    let records: Vec<_> = pools
        .iter()
        .map(|(name, ranges)| Arc::new(pool(name, ranges)))
        .collect();
    Pools::new(&records, Reserved::default())
}

/// Runs one round, each Service holding what its status says.
fn run(pools: &Pools, services: &[Service]) -> Assignments {
    let claim = |service| Claim {
        service,
        held: held(service),
    };
    allocate(pools, services.iter().map(claim).collect())
}

fn held(service: &Service) -> Vec<IpAddr> {
    service.ingress.iter().map(|ingress| ingress.ip).collect()
}

fn shown(outcome: &Outcome) -> String {
    let given = outcome.given.iter().map(|(address, _)| address.to_string());
    let refused = outcome
        .refused
        .iter()
        .map(|refusal| refusal.reason().to_owned());
    given.chain(refused).collect::<Vec<_>>().join(" ")
}

fn check(pools: &Pools, services: &[Service], expected: &[(&str, &str)]) {
    let all = run(pools, services);
    let found: Vec<_> = all
        .services
        .iter()
        .map(|(key, outcome)| (key.name.to_string(), shown(outcome)))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()))
        .collect();
    assert_eq!(found, expected);
}

fn of_families(mut service: Service, families: &[Family]) -> Service {
    service.families = families.to_vec();
    service
}

fn born(mut service: Service, created: i64) -> Service {
    service.created = created;
    service
}

const BOTH: [Family; 2] = [Family::V4, Family::V6];
const BACK: [Family; 2] = [Family::V6, Family::V4];

#[test]
fn the_lowest_free_address_goes_to_the_oldest_service() {
    let pools = pools(&[("p", &["10.0.0.1-10.0.0.9"])]);
    let services = [
        born(service("a", &[]), 5),
        born(service("b", &[]), 1),
        service("c", &["10.0.0.1"]),
    ];
    check(
        &pools,
        &services,
        &[("a", "10.0.0.3"), ("b", "10.0.0.2"), ("c", "10.0.0.1")],
    );
}

#[test]
fn an_address_in_status_is_kept_whoever_comes() {
    let pools = pools(&[("p", &["10.0.0.1-10.0.0.9"])]);
    let services = [
        born(service("new", &[]), 1),
        born(service("old", &["10.0.0.7"]), 9),
    ];
    check(
        &pools,
        &services,
        &[("new", "10.0.0.1"), ("old", "10.0.0.7")],
    );
}

#[test]
fn what_may_not_be_kept_is_given_up_with_a_reason() {
    let one = pools(&[("p", &["10.0.0.1-10.0.0.9"]), ("q", &["10.1.0.1/32"])]);
    let taken = [
        born(service("a", &["10.0.0.1"]), 1),
        born(service("b", &["10.0.0.1"]), 2),
    ];
    let found = run(&one, &taken);
    let loser = &found.services[&taken[1].key];
    assert_eq!(
        loser.lost,
        [(ip("10.0.0.1"), Lost::Taken(taken[0].key.clone()))]
    );
    assert_eq!(loser.addresses(), [ip("10.0.0.2")]);

    let check = |service: Service, expected: Lost| {
        let found = run(&one, std::slice::from_ref(&service));
        assert_eq!(
            found.services[&service.key].lost,
            [(held(&service)[0], expected)]
        );
    };
    check(service("a", &["10.9.9.9"]), Lost::NoPool);
    check(service("a", &["fd00::1"]), Lost::NoPool);
    check(
        asks(service("a", &["10.0.0.1"]), &["10.0.0.2"], None),
        Lost::NotAsked,
    );
    check(
        asks(service("a", &["10.0.0.1"]), &[], Some("q")),
        Lost::OtherPool("q".into()),
    );
    check(
        of_families(service("a", &["10.0.0.1"]), &[Family::V6]),
        Lost::Family,
    );
}

#[test]
fn each_family_gets_an_address_in_the_order_of_the_service() {
    let both = pools(&[
        ("four", &["10.0.0.1-10.0.0.9"]),
        ("six", &["fd00::1-fd00::9"]),
    ]);
    check(
        &both,
        &[of_families(service("a", &[]), &BOTH)],
        &[("a", "10.0.0.1 fd00::1")],
    );
    check(
        &both,
        &[of_families(service("a", &[]), &BACK)],
        &[("a", "fd00::1 10.0.0.1")],
    );
    check(
        &both,
        &[of_families(service("a", &["10.0.0.4"]), &BACK)],
        &[("a", "fd00::1 10.0.0.4")],
    );
    let four = pools(&[("four", &["10.0.0.1-10.0.0.9"])]);
    check(
        &four,
        &[of_families(service("a", &[]), &BOTH)],
        &[("a", "10.0.0.1 NoPoolOfFamily")],
    );
}

#[test]
fn wishes_are_granted_or_refused_with_the_reason() {
    let pools = pools(&[
        ("p", &["10.0.0.1-10.0.0.2", "fd00::1/128"]),
        ("q", &["10.1.0.1/32"]),
    ]);
    let alone = |service: Service, expected: &str| {
        check(
            &pools,
            std::slice::from_ref(&service),
            &[(&service.key.name, expected)],
        );
    };
    alone(asks(service("a", &[]), &["10.0.0.2"], None), "10.0.0.2");
    alone(
        asks(service("a", &[]), &["10.9.0.2"], None),
        "AddressOutsidePools",
    );
    alone(
        asks(service("a", &[]), &["10.0.0.2"], Some("q")),
        "AddressOutsidePool",
    );
    alone(
        asks(service("a", &[]), &["10.0.0.2"], Some("p")),
        "10.0.0.2",
    );
    alone(asks(service("a", &[]), &["fd00::1"], None), "WrongFamily");
    alone(
        asks(service("a", &[]), &["10.0.0.1", "10.0.0.2"], None),
        "10.0.0.1 SecondOfFamily",
    );
    alone(
        of_families(
            asks(service("a", &[]), &["fd00::1", "10.0.0.2"], None),
            &BOTH,
        ),
        "10.0.0.2 fd00::1",
    );
    alone(asks(service("a", &[]), &[], Some("q")), "10.1.0.1");
    alone(asks(service("a", &[]), &[], Some("r")), "NoSuchPool");
    alone(
        of_families(asks(service("a", &[]), &[], Some("q")), &[Family::V6]),
        "PoolLacksFamily",
    );
    let rivals = [
        born(asks(service("a", &[]), &["10.0.0.2"], None), 2),
        born(service("b", &["10.0.0.2"]), 3),
    ];
    check(&pools, &rivals, &[("a", "AddressTaken"), ("b", "10.0.0.2")]);
}

#[test]
fn a_wish_that_is_no_address_is_refused_and_nothing_else_is_given() {
    let pools = pools(&[("p", &["10.0.0.1-10.0.0.9"])]);
    let misspelt = |addresses: &[&str]| {
        let mut one = asks(service("a", &[]), addresses, None);
        if let Some(request) = &mut one.load_balancer {
            request.unreadable = vec!["foo".into()];
        }
        one
    };
    check(&pools, &[misspelt(&[])], &[("a", "AddressUnreadable")]);
    let both = [misspelt(&["10.0.0.3"])];
    check(&pools, &both, &[("a", "10.0.0.3 AddressUnreadable")]);
}

#[test]
fn a_wish_is_granted_before_somebody_gets_that_address_by_chance() {
    let pools = pools(&[("p", &["10.0.0.1-10.0.0.9"])]);
    let services = [
        born(service("any", &[]), 1),
        born(asks(service("asks", &[]), &["10.0.0.1"], None), 2),
    ];
    check(
        &pools,
        &services,
        &[("any", "10.0.0.2"), ("asks", "10.0.0.1")],
    );
}

#[test]
fn an_exhausted_pool_is_named_and_a_freed_address_heals_it() {
    let small = pools(&[("p", &["10.0.0.1/32"]), ("r", &["10.0.1.1/32"])]);
    let mut services = vec![service("a", &[]), service("b", &[]), service("c", &[])];
    check(
        &small,
        &services,
        &[("a", "10.0.0.1"), ("b", "10.0.1.1"), ("c", "PoolExhausted")],
    );
    let told = run(&small, &services).services[&services[2].key].refused[0].to_string();
    assert_eq!(
        told,
        "no free IPv4 address in IPAddressPool metallb-system/p, metallb-system/r: add addresses to spec.addresses, \
         or delete Services that no longer need theirs"
    );
    services.remove(0);
    check(&small, &services, &[("b", "10.0.0.1"), ("c", "10.0.1.1")]);
}

#[test]
fn a_pool_without_auto_assign_gives_only_when_asked() {
    let mut record = pool("p", &["10.0.0.1/32"]);
    record.assignment = Assignment::OnRequest;
    let pools = Pools::new([&Arc::new(record)], Reserved::default());
    check(&pools, &[service("a", &[])], &[("a", "NoPoolOfFamily")]);
    check(
        &pools,
        &[asks(service("a", &[]), &[], Some("p"))],
        &[("a", "10.0.0.1")],
    );
    check(
        &pools,
        &[asks(service("a", &[]), &["10.0.0.1"], None)],
        &[("a", "10.0.0.1")],
    );
}

#[test]
fn a_pool_with_an_unknown_restriction_gives_nothing_new_and_takes_nothing_away() {
    let mut record = pool("p", &["10.0.0.1-10.0.0.2"]);
    record.other_fields = vec!["serviceAllocation".into()];
    let pools = Pools::new([&Arc::new(record)], Reserved::default());
    let services = [
        service("has", &["10.0.0.2"]),
        asks(service("wants", &[]), &[], Some("p")),
    ];
    check(
        &pools,
        &services,
        &[("has", "10.0.0.2"), ("wants", "PoolUnsupported")],
    );
    check(&Pools::default(), &[service("a", &[])], &[("a", "NoPools")]);
}

#[test]
fn an_address_of_a_node_or_a_cluster_ip_is_neither_given_nor_kept() {
    let mut one = node("node-1");
    one.addresses = vec![ip("172.30.0.11")];
    let records = [
        Arc::new(pool("a", &["10.96.0.0/16"])),
        Arc::new(pool("b", &["172.30.0.11-172.30.0.12"])),
    ];
    let reserved = Reserved::new([&Arc::new(one)], &default_service_cidrs());
    let pools = Pools::new(&records, reserved);
    let services = [
        service("any", &["172.30.0.11"]),
        asks(service("asks", &[]), &["172.30.0.11"], None),
        asks(service("dns", &[]), &["10.96.0.10"], None),
    ];
    check(
        &pools,
        &services,
        &[
            ("any", "172.30.0.12"),
            ("asks", "AddressReserved"),
            ("dns", "AddressReserved"),
        ],
    );
    let found = run(&pools, &services);
    let lost = &found.services[&services[0].key].lost[0].1;
    assert_eq!(
        lost.to_string(),
        "it is never given, because 172.30.0.11 is the address of Node node-1"
    );
    let refused = found.services[&services[2].key].refused[0].to_string();
    assert!(refused.contains("10.96.0.0/16"), "{refused}");
}

#[test]
fn an_address_stays_with_the_pool_that_gave_it_when_an_older_one_grows_over_it() {
    let pools = pools(&[("a", &["10.0.0.0/24"]), ("b", &["10.0.0.7/32"])]);
    let mut one = asks(service("s", &["10.0.0.7"]), &[], None);
    if let Some(request) = &mut one.load_balancer {
        request.given_from = vec!["b".into()];
    }
    let from = |service: &Service| {
        let found = run(&pools, std::slice::from_ref(service));
        found.services[&service.key].given[0].1.name.to_string()
    };
    assert_eq!(from(&one), "b");
    assert_eq!(from(&service("s", &["10.0.0.7"])), "a");
}

#[test]
fn usage_counts_what_is_given_and_what_is_left() {
    let pools = pools(&[("p", &["10.0.0.0/29", "fd00::/126"])]);
    let services = [of_families(service("a", &[]), &BOTH), service("b", &[])];
    let found = run(&pools, &services);
    let expected = Usage {
        assigned_v4: 2,
        assigned_v6: 1,
        available_v4: 6,
        available_v6: 3,
    };
    assert_eq!(
        found.usage.values().copied().collect::<Vec<_>>(),
        [expected]
    );
}

fn arbitrary_service() -> impl Strategy<Value = Service> {
    let number = 0u8..16;
    let ask = prop_oneof![3 => Just(None), 1 => number.clone().prop_map(Some)];
    let has = prop_oneof![2 => Just(None), 1 => number.clone().prop_map(Some)];
    (0u32..40, 0i64..4, ask, has, any::<bool>()).prop_map(|(name, created, ask, has, dual)| {
        let held: Vec<String> = has.iter().map(|n| format!("10.0.0.{n}")).collect();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let mut one = born(service(&format!("s{name}"), &held), created);
        if let Some(n) = ask {
            one = asks(one, &[&format!("10.0.0.{n}")], None);
        }
        if dual { of_families(one, &BOTH) } else { one }
    })
}

proptest! {
    #[test]
    fn no_address_is_given_twice_and_a_second_round_changes_nothing(
        services in prop::collection::vec(arbitrary_service(), 0..30)
    ) {
        let pools = pools(&[("p", &["10.0.0.2-10.0.0.11", "fd00::1-fd00::3"]), ("q", &["10.0.0.10-10.0.0.12"])]);
        let services: BTreeMap<_, _> = services.into_iter().map(|s| (s.key.clone(), s)).collect();
        let mut services: Vec<Service> = services.into_values().collect();
        let first = run(&pools, &services);
        let given: Vec<IpAddr> = first.services.values().flat_map(Outcome::addresses).collect();
        prop_assert_eq!(given.len(), given.iter().collect::<BTreeSet<_>>().len());
        prop_assert!(given.iter().all(|address| pools.of(*address).is_some()));

        services.reverse();
        prop_assert_eq!(&run(&pools, &services), &first);

        for service in &mut services {
            let addresses = first.services[&service.key].addresses();
            service.ingress = addresses
                .into_iter()
                .map(|ip| daymark_model::input::Ingress { ip, mode: daymark_model::input::IngressMode::Vip })
                .collect();
        }
        let second = run(&pools, &services);
        for (key, outcome) in &second.services {
            prop_assert_eq!(outcome.addresses(), first.services[key].addresses());
            prop_assert!(outcome.lost.is_empty());
        }
    }
}
