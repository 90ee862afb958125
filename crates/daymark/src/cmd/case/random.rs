//! `daymark case --random`: clusters that nobody thought of.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

use anyhow::Context;
use daymark_case::Case;
use daymark_case::random::{self, Manner, Size};

use crate::out::warn_line;

/// What a lab can build, and judges in about a second: few packets, because each is sent to every endpoint many times.
const SIZE: Size = Size {
    manner: Manner::Buildable,
    start: 25,
    steps: 2,
    changes: 5,
    packets: 12,
};

/// Flags for random cases.
#[derive(clap::Args)]
pub(super) struct Draw {
    /// Also judges so many random cases, each from the next seed: clusters that a lab can build, with what the model says
    /// of each packet.
    #[arg(long, value_name = "N")]
    random: Option<u64>,

    /// The first seed; drawn and printed unless given. With `--random 1` it is one case again.
    #[arg(long, requires = "random")]
    seed: Option<u64>,

    /// The folder for random cases that fail, each as a case file.
    #[arg(long, requires = "random", value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Draw {
    /// The random cases that are asked for.
    pub(super) fn cases(&self) -> impl Iterator<Item = Case> + use<> {
        let count = self.random.unwrap_or(0);
        let first = self.seed.unwrap_or_else(drawn);
        if count > 0 {
            said(first, count);
        }
        (first..first.saturating_add(count)).map(|seed| random::case(seed, SIZE))
    }

    /// Writes a case that failed where it was asked to be kept.
    pub(super) fn keep(&self, case: &Case) -> anyhow::Result<()> {
        let Some(folder) = &self.keep else {
            return Ok(());
        };
        std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
        let path = folder.join(&case.file);
        std::fs::write(&path, case.to_string()).with_context(|| path.display().to_string())
    }
}

/// A seed that is another in each run: that of a hash table, which the standard library draws for every process. A
/// million at most, so that it can be read out and typed again.
fn drawn() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000
}

fn said(first: u64, count: u64) {
    warn_line!("{count} random cases, --seed {first}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use daymark_case::Case;

    use super::Draw;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        random: Draw,
    }

    fn flags(line: &[&str]) -> Draw {
        let line = ["case"].iter().chain(line);
        Flags::try_parse_from(line).expect("flags").random
    }

    #[test]
    fn a_seed_gives_the_same_cases_again_and_each_reads_as_it_was_written() {
        let cases: Vec<Case> = flags(&["--random", "3", "--seed", "7"]).cases().collect();
        let names: Vec<&str> = cases.iter().map(|case| &*case.file).collect();
        assert_eq!(names, ["seed-7.case", "seed-8.case", "seed-9.case"]);
        let second: Vec<Case> = flags(&["--random", "1", "--seed", "8"]).cases().collect();
        assert_eq!(second, cases[1..2]);
        for case in &cases {
            let again = Case::parse(&case.file, &case.to_string()).expect("a case");
            assert_eq!(again.checks(), case.checks());
            assert!(case.checks() > 0);
        }
        assert_eq!(flags(&[]).cases().count(), 0);
    }

    #[test]
    fn a_case_that_failed_is_kept_as_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("found");
        let shown = into.to_str().expect("a path");
        let args = flags(&["--random", "1", "--seed", "7", "--keep", shown]);
        let case = args.cases().next().expect("a case");
        args.keep(&case).expect("it is written");
        let text = std::fs::read_to_string(into.join("seed-7.case")).expect("the file");
        assert_eq!(text, case.to_string());
    }
}
