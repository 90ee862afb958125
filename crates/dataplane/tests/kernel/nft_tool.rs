//! What `nft` makes of our tables, where it is installed.

use std::io::Write;
use std::process::Command;

use daymark_dataplane::nft::TableFlags;
use daymark_sys::ns::isolated_test;

use crate::common::every_plan;
use crate::setup::plane_of;

/// nft 1.0.6 ends itself over a rule that it cannot print, for instance one in which a concatenation begins
/// with the result of a map.
#[test]
fn nft_can_list_every_plan() {
    isolated_test("nft_tool::nft_can_list_every_plan", || {
        let plane = plane_of(&every_plan(), TableFlags::NONE);
        let listed = Command::new("nft").args(["list", "ruleset"]).output();
        let Ok(listed) = listed else {
            // Not the print macros, which libtest swallows for a test that passes.
            let _ = writeln!(
                std::io::stderr(),
                "test nft_can_list_every_plan ... SKIPPED: nft is not installed"
            );
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
