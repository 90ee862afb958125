use std::collections::BTreeMap;
use std::net::IpAddr;

use daymark_model::decide::Arrival;
use daymark_model::input::Detector;
use daymark_model::{Family, World};

use super::{Manner, Random, Size, case};
use crate::{Case, Expect, judge_model};

#[test]
fn a_seed_gives_the_same_numbers_everywhere() {
    let mut random = Random::new(1_234_567);
    let drawn: Vec<u64> = (0..3).map(|_| random.draw()).collect();
    // The reference implementation's first outputs for this seed.
    assert_eq!(
        drawn,
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423
        ]
    );
}

#[test]
fn a_random_case_is_the_same_after_it_was_written_and_read() {
    for seed in 0..200 {
        let case = case(seed, Size::default());
        let text = case.to_string();
        let again = Case::parse(&case.file, &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(
            again.clone().without_places(),
            case.without_places(),
            "{text}"
        );
        assert_eq!(again.to_string(), text);
    }
}

#[test]
fn a_random_case_holds_in_the_model() {
    for seed in 0..50 {
        let report = judge_model(&case(seed, Size::default()));
        assert_eq!(report.failures, []);
    }
}

#[test]
fn a_buildable_case_meets_every_verdict_too() {
    let size = Size {
        manner: Manner::Buildable,
        ..Size::default()
    };
    let cases: Vec<Case> = (0..40).map(|seed| case(seed, size)).collect();
    let met = |wanted: fn(&Expect) -> bool| {
        let checks = cases
            .iter()
            .flat_map(|case| &case.steps)
            .flat_map(|step| &step.checks);
        checks.filter(|check| wanted(&check.expect)).count()
    };
    assert!(met(|expect| matches!(expect, Expect::Forward { .. })) > 100);
    assert!(met(|expect| matches!(expect, Expect::Refuse(_))) > 100);
    assert!(met(|expect| matches!(expect, Expect::Drop(_))) > 20);
    assert!(met(|expect| matches!(expect, Expect::Untouched)) > 100);
}

#[test]
fn buildable_cases_have_detectors_by_interface_and_nodes_that_change() {
    let size = Size {
        manner: Manner::Buildable,
        ..Size::default()
    };
    let (mut inside, mut outside, mut zones, mut addresses, mut prefixes) = (0, 0, 0, 0, 0);
    for seed in 0..300 {
        let case = case(seed, size);
        let mut world = World::new(case.options.clone());
        for (number, step) in case.steps.iter().enumerate() {
            let before = world.here().node.clone();
            world.apply(step.changes.iter().cloned());
            let after = &world.here().node;
            if number > 0 {
                zones += usize::from(before.zone != after.zone);
                addresses += usize::from(before.addresses != after.addresses);
                prefixes += usize::from(before.pod_cidrs != after.pod_cidrs);
            }
            let Detector::Interface(pattern) = case.options.detector else {
                continue;
            };
            let mut links: BTreeMap<String, IpAddr> = BTreeMap::new();
            let checks = step.checks.iter();
            for packet in checks.map(|check| check.packet) {
                let Some(interface) = packet.interface else {
                    assert_eq!(packet.arrival, Arrival::Node);
                    continue;
                };
                let own = pattern.fits(interface);
                (inside, outside) = (inside + usize::from(own), outside + usize::from(!own));
                // A lab builds one Pod an interface, with one address of each family.
                let key = format!("{interface} {}", Family::of(packet.source));
                let first = *links.entry(key).or_insert(packet.source);
                assert!(interface.to_string() == "eth0" || first == packet.source);
            }
        }
    }
    assert!(inside > 100 && outside > 300, "{inside} {outside}");
    assert!(
        zones.min(addresses).min(prefixes) > 30,
        "{zones} {addresses} {prefixes}"
    );
}

#[test]
fn random_packets_meet_every_verdict_often() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..200 {
        let case = case(seed, Size::default());
        for check in case.steps.iter().flat_map(|step| &step.checks) {
            let what = match &check.expect {
                Expect::Forward { targets, choice } => {
                    let agreed = targets.iter().all(|t| t.source == targets[0].source);
                    let source = if agreed {
                        format!("{:?}", targets[0].source)
                    } else {
                        "mixed".to_owned()
                    };
                    format!("{source} {choice:?}")
                }
                other => other.to_string(),
            };
            *met.entry(what).or_default() += 1;
        }
    }
    assert!(met.get("mixed Anew") > Some(&50), "{met:?}");
    for what in [
        "Kept Anew",
        "Kept Sticky",
        "Masqueraded Anew",
        "Masqueraded Sticky",
        "refuse because no-endpoint",
        "refuse because unknown-port",
        "drop because no-local-endpoint",
        "drop because source-range",
        "untouched",
    ] {
        assert!(met.get(what) > Some(&100), "{what}: {met:?}");
    }
}

#[test]
fn a_lab_gets_as_many_packets_as_were_asked_for_and_none_twice() {
    for manner in [Manner::Buildable, Manner::Admissible] {
        let size = Size {
            manner,
            packets: 60,
            ..Size::default()
        };
        for seed in 0..50 {
            for step in case(seed, size).steps {
                let mut packets: Vec<_> = step.checks.iter().map(|check| check.packet).collect();
                packets.sort_unstable_by_key(|packet| format!("{packet:?}"));
                packets.dedup();
                assert_eq!(packets.len(), 60, "seed {seed}, {manner:?}");
            }
        }
    }
}

#[test]
fn an_admissible_case_has_no_conflicts_and_meets_every_verdict() {
    let size = Size {
        manner: Manner::Admissible,
        steps: 1,
        ..Size::default()
    };
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..200 {
        let case = case(seed, size);
        let mut world = World::new(case.options.clone());
        for step in &case.steps {
            world.apply(step.changes.iter().cloned());
            assert_eq!(world.refusals(), [], "{case}");
            for check in &step.checks {
                let what = match &check.expect {
                    Expect::Forward { choice, .. } => format!("{choice:?}"),
                    other => other.to_string(),
                };
                *met.entry(what).or_default() += 1;
            }
        }
    }
    for what in [
        "Anew",
        "Sticky",
        "refuse because no-endpoint",
        "refuse because unknown-port",
        "drop because no-local-endpoint",
        "drop because source-range",
        "untouched",
    ] {
        assert!(met.get(what) > Some(&50), "{what}: {met:?}");
    }
}
