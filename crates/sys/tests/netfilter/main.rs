//! nf_tables and conntrack against the kernel of this machine, each test in a network namespace of its own.
//!
//! The namespaces are made before there is a second thread, so that no test harness is used: this program runs
//! its tests one by one and prints one line each. What cannot run is printed and counted as skipped.
#![allow(
    clippy::disallowed_macros,
    reason = "a test program without harness prints its own lines"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test program reads its arguments and the clock, and ends itself"
)]

mod conntrack;
mod everything;
mod generation;
mod load;
mod nft_tool;
mod objects;
mod probes;
mod refusals;
mod sandbox;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// How a test ended, if it did not panic.
enum Outcome {
    Passed,
    /// And why.
    Skipped(String),
}

type Test = (&'static str, fn() -> Outcome);

const TESTS: &[Test] = &[
    (
        "a_table_with_every_kind_of_object_is_read_back_as_it_was_sent",
        objects::every_object,
    ),
    (
        "elements_and_chains_are_read_one_by_one",
        objects::one_by_one,
    ),
    (
        "an_owned_table_outlives_its_socket_and_is_adopted",
        objects::owned_table,
    ),
    ("a_missing_table_is_none", objects::missing_table),
    ("a_refused_element_is_named_by_its_index", refusals::element),
    (
        "every_refused_message_of_a_batch_is_named",
        refusals::several,
    ),
    (
        "more_refusals_than_the_socket_holds_are_told_to_be_missing",
        refusals::overrun,
    ),
    (
        "a_refused_expression_is_named_by_its_index",
        refusals::expression,
    ),
    (
        "a_stale_generation_is_refused_as_a_whole",
        refusals::generation,
    ),
    (
        "a_transaction_beyond_the_send_buffer_is_too_large",
        refusals::too_large,
    ),
    (
        "without_privilege_the_transaction_is_refused",
        refusals::unprivileged,
    ),
    (
        "a_hundred_thousand_elements_load_under_the_default_send_buffer",
        load::hundred_thousand,
    ),
    ("one_element_commits_in_microseconds", load::single_element),
    ("a_commit_is_seen_with_its_sender", generation::watch),
    ("elements_are_not_heard_by_a_watch", generation::quiet),
    (
        "whoever_changes_a_table_is_told_from_those_who_change_others",
        generation::reach,
    ),
    ("probes_say_what_works_and_change_nothing", probes::probes),
    ("show_prints_what_nft_prints", nft_tool::same_text),
    ("nft_can_list_what_daymark_writes", nft_tool::can_list),
    (
        "a_connection_is_listed_filtered_and_deleted",
        conntrack::list_and_delete,
    ),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if let Err(reason) = sandbox::enter_user_namespace() {
        println!("SKIPPED {} tests: no user namespace: {reason}", TESTS.len());
        return ExitCode::SUCCESS;
    }
    let (mut failed, mut skipped, mut passed) = (0, 0, 0);
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        match run(*test) {
            Some(Outcome::Passed) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Some(Outcome::Skipped(reason)) => {
                skipped += 1;
                println!("test {name} ... SKIPPED: {reason}");
            }
            None => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    println!("{passed} passed; {failed} failed; {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(test: fn() -> Outcome) -> Option<Outcome> {
    catch_unwind(AssertUnwindSafe(|| {
        sandbox::enter_network_namespace().expect("the user namespace owns its network namespaces");
        test()
    }))
    .ok()
}
