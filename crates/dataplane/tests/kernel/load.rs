//! What is loaded is what is read back, and a plane that finds it has nothing to do.

use std::collections::BTreeSet;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Found, Plane};
use daymark_dataplane::nft::compile::Compiler;
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Contents;
use daymark_model::Delta;
use daymark_netlink::nft::{Expr, Name, Value, Verdict};
use daymark_sys::ns::isolated_test;

use crate::common::{EVERY_CHAIN, compiled, every_plan, sizes, world_of};
use crate::setup::{canonical, held, plane, plane_of};

#[test]
fn a_program_with_every_kind_of_plan_is_read_back_as_it_was_sent() {
    let test = "load::a_program_with_every_kind_of_plan_is_read_back_as_it_was_sent";
    isolated_test(test, || {
        let plane = plane_of(&every_plan(), TableFlags::NONE);
        let program = plane.compiler().program();
        assert_eq!(held(), canonical(program));
        for table in program.tables() {
            let plans = table.elements(set::PLANS);
            let mut chains: Vec<String> = plans
                .filter_map(|elem| match &elem.value {
                    Value::Verdict(Verdict::Jump(chain)) => Some(chain.to_string()),
                    _ => None,
                })
                .collect();
            chains.sort();
            for wanted in EVERY_CHAIN {
                assert!(
                    chains.iter().any(|chain| chain == wanted),
                    "{wanted} in {chains:?}"
                );
            }
        }
    });
}

#[test]
fn adopting_what_is_wanted_sends_nothing() {
    isolated_test("load::adopting_what_is_wanted_sends_nothing", || {
        let world = every_plan();
        let first = plane_of(&world, TableFlags::NONE);
        let before = held();
        drop(first);
        let (mut second, found) = plane(TableFlags::NONE);
        assert_eq!(found, Found::Adopted);
        let update = second
            .reconcile(world.desired().clone())
            .expect("no change");
        assert!(update == 0, "{update}");
        assert_eq!(held(), before);
    });
}

#[test]
fn tables_that_have_counted_packets_are_adopted() {
    let world = every_plan();
    let mut busy = compiled(&world);
    let mut counters = 0;
    for table in busy.tables_mut() {
        let rules = table.chains.values_mut().flat_map(|(_, rules)| rules);
        for expr in rules.flat_map(|rule| &mut rule.exprs) {
            if let Expr::Counter(counter) = expr {
                (counter.packets, counter.bytes) = (3, 180);
                counters += 1;
            }
        }
    }
    assert!(counters > 20, "only {counters} counters");
    let adopted = Compiler::adopt(busy, TableFlags::NONE);
    let mut adopted = adopted.expect("of this layout, whatever was counted");
    let update = adopted.reconcile(world.desired().clone());
    let sent: usize = update.transactions.iter().map(Vec::len).sum();
    assert_eq!(sent, 0, "nothing is to be changed");
}

/// As those of a build whose layout had the same number before it was released.
#[test]
fn tables_that_lack_a_set_are_not_adopted() {
    let whole = compiled(&every_plan());
    let names = |table: &Contents| table.sets.keys().cloned().collect::<Vec<_>>();
    let names: BTreeSet<Name> = whole.tables().flat_map(names).collect();
    assert!(set::RANGES.iter().all(|name| names.contains(*name)));
    for name in names {
        let mut lacking = whole.clone();
        for table in lacking.tables_mut() {
            table.sets.remove(&name);
        }
        let why = Compiler::adopt(lacking, TableFlags::NONE).expect_err("not this layout");
        assert!(why.contains(&*name), "{name}: {why}");
    }
}

/// A load balancer for clients in these prefixes.
fn with_ranges(ranges: &str, policy: &str) -> String {
    format!(
        "node node-1 172.30.0.11\n\
         service web LoadBalancer 80/TCP cluster=10.96.0.20 lb=172.30.0.200 {policy}{ranges}\n\
         endpoint 10.244.1.5 ready on node-1\n"
    )
}

#[test]
fn ranges_of_any_number_change_into_any_others() {
    isolated_test("load::ranges_of_any_number_change_into_any_others", || {
        let hosts = |net: u16, count: u16| {
            let all = (0..count).map(|n| format!("10.{net}.{}.{}/32", n >> 8, n & 0xff));
            all.collect::<Vec<_>>().join(",")
        };
        let states = [
            hosts(1, 2_500),
            // None of them overlaps: more than one transaction holds.
            hosts(2, 2_500),
            // One holds them all, and the other way round.
            "10.2.0.0/16".to_owned(),
            hosts(2, 2_500),
            // A few change places with a wider one, the others stay.
            hosts(2, 2_250) + ",10.2.9.0/24",
            String::new(),
        ];
        let (mut plane, _) = plane(TableFlags::NONE);
        for ranges in states {
            let ranges = if ranges.is_empty() {
                ranges
            } else {
                format!("ranges={ranges}")
            };
            let world = world_of(&with_ranges(&ranges, ""));
            let delta = Delta::between(plane.compiler().desired(), world.desired());
            plane.update(&delta).expect("a commit");
            assert_eq!(held(), canonical(plane.compiler().program()));
            assert_eq!(
                sizes(plane.compiler().program()),
                sizes(&compiled(&world)),
                "nothing is missing or left over"
            );
        }
    });
}

#[test]
fn plans_that_nobody_uses_do_not_pile_up() {
    isolated_test("load::plans_that_nobody_uses_do_not_pile_up", || {
        let (mut plane, _) = plane(TableFlags::NONE);
        let chains = |plane: &Plane<_>| -> usize {
            let tables = plane.compiler().program().tables();
            tables.map(|table| table.chains.len()).sum()
        };
        let (bare, mut most) = (chains(&plane), 0);
        for timeout in 1..=300 {
            let world = world_of(&with_ranges("", &format!("affinity=ClientIP:{timeout} ")));
            let delta = Delta::between(plane.compiler().desired(), world.desired());
            plane.update(&delta).expect("a commit");
            most = most.max(chains(&plane));
        }
        // 64 of a family are kept, and those of the last update.
        assert!(most < bare + 70, "{most} chains, {bare} without plans");
        assert_eq!(held(), canonical(plane.compiler().program()));
    });
}
