//! The world is the same by whatever changes it came about, and says exactly what changed.

use daymark_case::Case;
use daymark_case::random::{self, Random, packets};
use daymark_model::input::{ClusterIps, SliceAudience};
use daymark_model::{Change, Delta, Options, Verdict, World, decide};
use proptest::collection::vec;
use proptest::prelude::*;

/// A history: the proxy's settings, and batches of changes, each drawn from a seed of its own so that
/// a failing history can be made shorter.
fn history() -> impl Strategy<Value = (u64, Vec<Vec<u64>>)> {
    (any::<u64>(), vec(vec(any::<u64>(), 0..12), 1..12))
}

fn settings(seed: u64) -> Options {
    random::options(&mut Random::new(seed))
}

fn drawn(seeds: &[u64]) -> Vec<Change> {
    seeds.iter().map(|seed| random::change(*seed)).collect()
}

/// The inputs of a world as changes of an empty one.
fn as_changes(world: &World) -> Vec<Change> {
    let inputs = world.inputs();
    let services = inputs.services.iter();
    let slices = inputs.slices_in_order().into_iter();
    let service_cidrs = inputs.service_cidrs.iter();
    services
        .map(|(key, service)| Change::Service(key.clone(), Some(service.clone())))
        .chain(slices.map(|slice| Change::Slice(slice.key.clone(), Some(slice))))
        .chain(
            service_cidrs.map(|(name, cidr)| Change::ServiceCidr(name.clone(), Some(cidr.clone()))),
        )
        .chain([
            Change::Node(inputs.node.clone()),
            Change::MachineAddresses(inputs.machine_addresses.clone()),
        ])
        .collect()
}

fn from_scratch(options: &Options, changes: Vec<Change>) -> World {
    let mut world = World::new(options.clone());
    world.apply(changes);
    world
}

/// A change as the API server tells it who selects `spec.clusterIP!=None` and `!service.kubernetes.io/headless`.
fn selected(change: Change) -> Change {
    match change {
        Change::Service(key, Some(service)) if service.cluster_ips == ClusterIps::Headless => {
            Change::Service(key, None)
        }
        Change::Slice(key, Some(slice)) if slice.audience == SliceAudience::DnsOnly => {
            Change::Slice(key, None)
        }
        other => other,
    }
}

fn shuffle(random: &mut Random, changes: &mut [Change]) {
    for last in (1..changes.len()).rev() {
        changes.swap(last, random.below(last + 1));
    }
}

/// The claims of a batch are settled together: what changes hands and comes back did not change.
#[test]
fn a_holder_that_stays_is_not_in_the_delta() {
    let text = |alpha: &str, beta: &str| {
        format!(
            "service alpha LoadBalancer 80/TCP cluster=10.96.0.20 {alpha}\n\
             service beta LoadBalancer 80/TCP cluster=10.96.0.21 lb=172.30.0.200 {beta}\n"
        )
    };
    let changes = |text: &str| {
        let case = Case::parse("here", text).expect("the text is a case");
        case.steps[0].changes.clone()
    };
    let mut world = World::default();
    world.apply(changes(&text("", "created=1000")));
    let delta = world.apply(changes(&text("created=500 lb=172.30.0.200", "created=100")));
    assert_eq!(delta, Delta::default());
    assert_eq!(world.refusals().len(), 1);
}

/// Applies each text to one world, and says whether refusals may be others after it.
fn stirred(texts: &[&str]) -> Vec<bool> {
    let mut world = World::default();
    let apply = |text: &&str| {
        let case = Case::parse("here", text).expect("the text is a case");
        world.apply(case.steps[0].changes.clone());
        let stirred = world.take_refusals_stirred();
        assert!(!world.take_refusals_stirred(), "it is asked once: {text}");
        stirred
    };
    texts.iter().map(apply).collect()
}

#[test]
fn refusals_are_stirred_where_several_ask_for_a_place_and_nowhere_else() {
    let place = |name: &str, rest: &str| {
        format!("service {name} LoadBalancer 80/TCP cluster=10.96.0.20 lb=172.30.0.200 {rest}\n")
            .replace(
                "10.96.0.20",
                if name == "alpha" {
                    "10.96.0.20"
                } else {
                    "10.96.0.21"
                },
            )
    };
    let (alpha, beta) = (place("alpha", ""), place("beta", ""));
    let elsewhere = "service gamma ClusterIP 80/TCP cluster=10.96.0.22\n";
    let gone = "service beta ClusterIP 80/TCP cluster=10.96.0.21\n";
    let texts = [&*alpha, elsewhere, &beta, &beta, elsewhere, gone, &alpha];
    let expected = [false, false, true, false, false, true, false];
    assert_eq!(stirred(&texts), expected);
    // The same for health checks, whose Services have no address in common, and for both at once.
    let checked = |name: &str, ip: &str, lb: &str| {
        format!(
            "service {name} LoadBalancer 80/TCP cluster={ip} {lb} external-policy=Local health=31000\n"
        )
    };
    let alpha = checked("alpha", "10.96.0.20", "");
    let beta = checked("beta", "10.96.0.21", "");
    assert_eq!(stirred(&[&alpha, &beta, gone]), [false, true, true]);
    let alpha = checked("alpha", "10.96.0.20", "lb=172.30.0.200");
    let beta = checked("beta", "10.96.0.21", "lb=172.30.0.200");
    assert_eq!(stirred(&[&alpha, &beta, gone]), [false, true, true]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_world_kept_up_to_date_equals_one_made_anew((seed, batches) in history()) {
        let options = settings(seed);
        let mut world = World::new(options.clone());
        for batch in batches {
            world.apply(drawn(&batch));
            let fresh = from_scratch(&options, as_changes(&world));
            prop_assert_eq!(world.desired(), fresh.desired());
            prop_assert_eq!(world.refusals(), fresh.refusals());
            prop_assert_eq!(world.health_check_refusals(), fresh.health_check_refusals());
        }
    }

    #[test]
    fn a_delta_is_the_whole_difference_and_nothing_else((seed, batches) in history()) {
        let mut world = World::new(settings(seed));
        for batch in batches {
            let old = world.desired().clone();
            let delta = world.apply(drawn(&batch));
            prop_assert_eq!(&delta, &Delta::between(&old, world.desired()));
            let mut followed = old;
            delta.apply_to(&mut followed);
            prop_assert_eq!(&followed, world.desired());
        }
    }

    #[test]
    fn the_order_of_changes_does_not_matter((seed, batches) in history(), order in any::<u64>()) {
        let options = settings(seed);
        let all: Vec<u64> = batches.concat();
        let reference = from_scratch(&options, drawn(&all));
        let mut changes = as_changes(&reference);
        shuffle(&mut Random::new(order), &mut changes);
        let mut world = World::new(options);
        for change in changes {
            world.apply([change]);
        }
        prop_assert_eq!(world.desired(), reference.desired());
        prop_assert_eq!(world.refusals(), reference.refusals());
    }

    #[test]
    fn a_batch_may_be_split_anywhere((seed, batches) in history()) {
        let mut whole = World::new(settings(seed));
        let mut split = whole.clone();
        split.apply([]);
        for batch in batches {
            whole.apply(drawn(&batch));
            for change in drawn(&batch) {
                split.apply([change]);
            }
            prop_assert_eq!(whole.desired(), split.desired());
        }
    }

    /// What an agent without DNS does not ask for (daymark-feed, `Selection::Proxied`): a headless Service and a slice that is hidden from
    /// proxies come and go as far as the agent is told.
    #[test]
    fn what_no_proxy_serves_need_not_be_told((seed, batches) in history()) {
        let options = settings(seed);
        let (mut all, mut told) = (World::new(options.clone()), World::new(options));
        for seeds in batches {
            let changes = drawn(&seeds);
            told.apply(changes.iter().cloned().map(selected));
            all.apply(changes);
            prop_assert_eq!(all.desired(), told.desired());
            prop_assert_eq!(all.refusals(), told.refusals());
            prop_assert_eq!(all.health_check_refusals(), told.health_check_refusals());
            prop_assert_eq!(all.beyond(), told.beyond());
        }
    }

    #[test]
    fn saying_the_same_again_changes_nothing((seed, batches) in history()) {
        let mut world = World::new(settings(seed));
        world.apply(drawn(&batches.concat()));
        let again = as_changes(&world);
        prop_assert!(world.apply(again).is_empty());
    }

    #[test]
    fn taking_everything_away_leaves_nothing((seed, batches) in history()) {
        let mut world = World::new(settings(seed));
        world.apply(drawn(&batches.concat()));
        let gone = as_changes(&world).into_iter().filter_map(|change| match change {
            Change::Service(key, _) => Some(Change::Service(key, None)),
            Change::Slice(key, _) => Some(Change::Slice(key, None)),
            Change::Node(_) | Change::MachineAddresses(_) | Change::ServiceCidr(..) => None,
        });
        let gone: Vec<Change> = gone.collect();
        world.apply(gone);
        let desired = world.desired();
        prop_assert!(desired.frontends.is_empty());
        prop_assert!(desired.pools.is_empty());
        prop_assert!(desired.service_addresses.is_empty());
        prop_assert!(desired.outer_addresses.is_empty());
        prop_assert!(desired.local_backends.is_empty());
    }

    #[test]
    fn what_is_forwarded_has_somewhere_to_go((seed, batches) in history()) {
        let mut world = World::new(settings(seed));
        world.apply(drawn(&batches.concat()));
        for packet in packets(&mut Random::new(seed), &world, 40) {
            if let Verdict::Forward(targets) = decide(world.desired(), &packet) {
                prop_assert!(!targets.is_empty(), "{packet:?}");
                prop_assert!(targets.is_sorted(), "{packet:?}");
            }
        }
    }
}
