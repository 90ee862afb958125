//! What `nft` makes of our tables, where it is installed.

use std::io::Write;
use std::process::{Command, Output};

use daymark_dataplane::nft::TableFlags;
use daymark_sys::ns::isolated_test;

use crate::common::every_plan;
use crate::setup::{canonical, held, owned, plane_of};

/// nft 1.0.6 ends itself over a rule that it cannot print, for instance one in which a concatenation begins
/// with the result of a map.
#[test]
fn nft_can_list_every_plan() {
    isolated_test("nft_tool::nft_can_list_every_plan", || {
        let plane = plane_of(&every_plan(), TableFlags::NONE);
        let Some(listed) = nft("nft_can_list_every_plan", &["list", "ruleset"]) else {
            return;
        };
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).expect("nft prints text");
        for table in plane.compiler().program().tables() {
            for chain in table.chains.keys() {
                assert!(
                    text.contains(&format!("chain {chain} ")),
                    "{chain} in {text}"
                );
            }
            for set in table.sets.keys() {
                assert!(text.contains(&**set), "{set} in {text}");
            }
        }
    });
}

/// Runs nft; says so if there is none.
fn nft(test: &str, args: &[&str]) -> Option<Output> {
    let ran = Command::new("nft").args(args).output();
    if ran.is_err() {
        skipped(test, "nft is not installed");
    }
    ran.ok()
}

fn skipped(test: &str, why: &str) {
    // Not the print macros, which libtest swallows for a test that passes.
    let _ = writeln!(std::io::stderr(), "test {test} ... SKIPPED: {why}");
}

const DELETE: &[&str] = &["delete", "table", "ip", "daymark"];
const FLUSH: &[&str] = &["flush", "ruleset"];

#[test]
fn nft_cannot_take_owned_tables_away() {
    let test = "nft_tool::nft_cannot_take_owned_tables_away";
    isolated_test(test, || {
        let Some(flags) = owned() else {
            return skipped(test, "needs Linux 6.9");
        };
        let mut plane = plane_of(&every_plan(), flags);
        let before = held();
        let Some(deleted) = nft(test, DELETE) else {
            return;
        };
        assert!(!deleted.status.success(), "it belongs to the agent");
        assert_eq!(held(), before);
        // Which passes by what is not its own, without a word.
        let flushed = nft(test, FLUSH).expect("it was there");
        assert!(flushed.status.success(), "{flushed:?}");
        assert_eq!(held(), before);
        assert_eq!(plane.verify(), Ok(0));
    });
}

#[test]
fn what_nft_takes_away_is_built_again() {
    let test = "nft_tool::what_nft_takes_away_is_built_again";
    isolated_test(test, || {
        let mut plane = plane_of(&every_plan(), TableFlags::NONE);
        for (args, left) in [(DELETE, 1), (FLUSH, 0)] {
            let Some(ran) = nft(test, args) else { return };
            assert!(ran.status.success(), "{ran:?}");
            assert_eq!(held().len(), left, "{args:?}");
            assert!(plane.verify().expect("mended") > 0);
            assert_eq!(held(), canonical(plane.compiler().program()));
            assert_eq!(held().len(), 2);
        }
    });
}
