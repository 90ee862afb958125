//! Tests that need namespaces: run again as a process of their own, inside fresh ones.

use std::io::{self, Write};
use std::process::{Command, Output};

use crate::process::{Isolation, Namespaces};

/// How a test body came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// In a process of its own, which passed.
    Isolated,
    /// Not at all: this machine forbids namespaces. It was said on standard error.
    Skipped,
}

/// Runs `body` as root in fresh user, mount, network, IPC and UTS namespaces, rootless.
///
/// The test process has threads and so cannot move itself; it starts itself again, with `test` as the one
/// test to run, and checks that exactly that test ran and passed. `test` is the test's full path as libtest
/// prints it (`net::tests::pods_reach_each_other`).
///
/// A machine that forbids namespaces skips the test: that is written to standard error past libtest's
/// capture as `test NAME ... SKIPPED: reason`, and is a failure when `DAYMARK_FAIL_ON_SKIP` is set.
///
/// # Panics
/// When the test fails inside, or `test` names no test.
pub fn isolated_test(test: &str, body: impl FnOnce()) -> Ran {
    if std::env::var_os(MARK).is_some() {
        body();
        return Ran::Isolated;
    }
    match rerun(test) {
        Ok(output) => {
            let text = [output.stdout, output.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert!(
                output.status.success(),
                "{test} failed in its namespaces:\n{}\n{}",
                text[0],
                text[1]
            );
            assert!(
                text[0].contains("1 passed"),
                "no test is called {test}:\n{}",
                text[0]
            );
            // What the body said of itself, which nobody else would pass on.
            for line in text[1]
                .lines()
                .filter(|line| line.contains(" ... SKIPPED: "))
            {
                let _ = writeln!(io::stderr(), "{line}");
            }
            Ran::Isolated
        }
        Err(error) => skip(test, &error),
    }
}

fn rerun(test: &str) -> io::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(MARK, "1");
    Isolation {
        namespaces: Namespaces::Fresh,
        ..Isolation::default()
    }
    .apply(&mut command);
    command.output()
}

fn skip(test: &str, error: &io::Error) -> Ran {
    assert!(
        std::env::var_os("DAYMARK_FAIL_ON_SKIP").is_none(),
        "{test} cannot run: no namespaces: {error}"
    );
    // Not the print macros, which libtest swallows for a test that passes.
    let _ = writeln!(
        io::stderr(),
        "test {test} ... SKIPPED: no namespaces: {error}"
    );
    Ran::Skipped
}

/// Set in the environment of the second process.
const MARK: &str = "DAYMARK_ISOLATED_TEST";
