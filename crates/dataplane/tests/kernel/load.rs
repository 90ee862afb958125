//! What is loaded is what is read back, and a plane that finds it has nothing to do.

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::Found;
use daymark_dataplane::nft::layout::set;
use daymark_netlink::nft::{Value, Verdict};
use daymark_sys::ns::isolated_test;

use crate::common::{EVERY_CHAIN, every_plan};
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
