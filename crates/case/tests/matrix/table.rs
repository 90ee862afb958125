//! The matrix as a table of Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use daymark_model::Family;

use crate::Count;
use crate::cell::{Cell, KINDS, Source};
use crate::impossible::{REASONS, reason};
use crate::rule::Rule;

/// Where the table begins in docs/matrix.md.
pub(crate) const BEGIN: &str = "<!-- the table begins -->";
/// Where it ends.
pub(crate) const END: &str = "<!-- the table ends -->";

/// The table, and the notes below it.
pub(crate) fn shown(counts: &BTreeMap<Cell, Count>) -> String {
    let mut columns = Vec::new();
    for family in Family::BOTH {
        columns.extend(Source::ALL.map(|source| format!("{family} {}", source.word())));
    }
    let mut text = format!("\n| rule | at | {} |\n", columns.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(columns.len()));
    for rule in Rule::ALL {
        for (index, kind) in KINDS.into_iter().enumerate() {
            let rule_once = if index == 0 { rule.words() } else { "" };
            let _ = write!(text, "| {rule_once} | {} |", kind.words());
            for family in Family::BOTH {
                for source in Source::ALL {
                    let cell = Cell {
                        rule,
                        kind,
                        source,
                        family,
                    };
                    let _ = write!(text, " {} |", count(&cell, counts));
                }
            }
            text.push('\n');
        }
    }
    text.push('\n');
    for (letter, reason) in ('a'..).zip(REASONS) {
        let _ = writeln!(text, "- {letter}: {reason}.");
    }
    text
}

/// A cell's packets, or the letter of the reason why there are none.
fn count(cell: &Cell, counts: &BTreeMap<Cell, Count>) -> String {
    match reason(cell) {
        Some(why) => ('a'..)
            .zip(REASONS)
            .find(|(_, reason)| *reason == why)
            .map_or_else(String::new, |(letter, _)| letter.to_string()),
        None => {
            let count = counts.get(cell).copied().unwrap_or_default();
            count.in_kernel.to_string()
        }
    }
}

/// Whether a table that was written down still holds: cases may have come since, so that cells have more packets.
pub(crate) fn is_covered(told: &str, now: &str) -> bool {
    let cells = |text: &str| -> Vec<String> {
        let words = text.trim().split(['|', '\n']).map(str::trim);
        words.map(str::to_owned).collect()
    };
    let (told, now) = (cells(told), cells(now));
    let holds = |(told, now): (&String, &String)| match (told.parse::<usize>(), now.parse()) {
        (Ok(told), Ok(now)) => 0 < told && told <= now,
        _ => told == now,
    };
    told.len() == now.len() && told.iter().zip(&now).all(holds)
}
