//! Which rule the cases send packets through, in each family, from each kind of client, at each kind of address: the table
//! in docs/matrix.md is what this test finds, and no cell of it is empty without a reason.

#[path = "matrix/cell.rs"]
mod cell;
#[path = "matrix/impossible.rs"]
mod impossible;
#[path = "matrix/rule.rs"]
mod rule;
#[path = "matrix/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daymark_case::Case;
use daymark_model::World;

use cell::{Cell, cells};
use impossible::reason;

/// How many packets meet a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Of cases that all three judges judge.
    in_kernel: usize,
    /// Of those that no lab can show.
    unseen: usize,
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(folder)).expect("the folder of cases");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "case"))
        .collect();
    files.sort();
    files
}

/// Calls `visit` with each cell that a packet of a case meets.
fn walk(case: &Case, mut visit: impl FnMut(Cell)) {
    let mut world = World::new(case.options.clone());
    for step in &case.steps {
        world.apply(step.changes.iter().cloned());
        for check in &step.checks {
            cell::met(&world, &check.packet).for_each(&mut visit);
        }
    }
}

fn counted() -> BTreeMap<Cell, Count> {
    let mut counts: BTreeMap<Cell, Count> = BTreeMap::new();
    for folder in ["cases", "cases/unseen"] {
        for path in files(folder) {
            let text = std::fs::read_to_string(&path).expect("a case");
            let case = Case::parse(&path.to_string_lossy(), &text).expect("a case that parses");
            walk(&case, |cell| {
                let count = counts.entry(cell).or_default();
                match folder {
                    "cases" => count.in_kernel += 1,
                    _ => count.unseen += 1,
                }
            });
        }
    }
    counts
}

#[test]
fn every_cell_has_a_packet_in_the_kernel_or_a_reason() {
    let counts = counted();
    let mut complaints = Vec::new();
    for cell in cells() {
        let count = counts.get(&cell).copied().unwrap_or_default();
        let any = count.in_kernel + count.unseen > 0;
        match reason(&cell) {
            None if count.in_kernel == 0 => {
                complaints.push(format!("{cell}: no case sends such a packet"));
            }
            Some(reason) if any => {
                complaints.push(format!("{cell}: met, though it is said that {reason}"));
            }
            _ => {}
        }
    }
    assert!(
        complaints.is_empty(),
        "{} cells:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn the_table_of_the_documentation_says_no_more_than_the_cases_cover() {
    let path = repository().join("docs/matrix.md");
    let text = std::fs::read_to_string(&path).expect("docs/matrix.md");
    let (before, rest) = text.split_once(table::BEGIN).expect("where it begins");
    let (told, after) = rest.split_once(table::END).expect("where it ends");
    let (begin, end) = (table::BEGIN, table::END);
    let shown = table::shown(&counted());
    if !table::is_covered(told, &shown) {
        let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("matrix.md");
        let right = format!("{before}{begin}\n{shown}\n{end}{after}");
        std::fs::write(&into, right).expect("the table is written");
        panic!(
            "docs/matrix.md is not what the cases cover; the right one is {}",
            into.display()
        );
    }
}

#[test]
fn a_table_may_tell_of_fewer_packets_and_of_nothing_else() {
    let now = "| hints | node | 12 | a |\n- a: because.\n";
    assert!(table::is_covered(now, now));
    assert!(table::is_covered(&now.replace("12", "3"), now));
    for (right, wrong) in [
        ("12", "13"),
        ("12", "0"),
        ("12", "b"),
        ("| a |", "| 1 |"),
        ("hints", "affinity"),
        ("because", "why"),
        ("| a |", "| a | a |"),
    ] {
        let told = now.replace(right, wrong);
        assert!(!table::is_covered(&told, now), "{told}");
    }
    assert!(!table::is_covered("", now));
}
