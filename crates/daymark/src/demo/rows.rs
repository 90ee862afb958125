//! The table of verdicts.

use serde::Serialize;

use crate::out::{say, warn_line};

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What must hold.
    pub(crate) name: String,
    /// Whether it does.
    pub(crate) verdict: Verdict,
    /// What was measured.
    pub(crate) measured: String,
    /// What it is held against.
    pub(crate) limit: String,
}

/// Whether a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    Fails,
}

impl Row {
    /// A row that holds if `good`.
    pub(crate) fn new(
        name: impl Into<String>,
        good: bool,
        measured: impl Into<String>,
        limit: &str,
    ) -> Self {
        let verdict = if good { Verdict::Holds } else { Verdict::Fails };
        Self {
            name: name.into(),
            verdict,
            measured: measured.into(),
            limit: limit.to_owned(),
        }
    }
}

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A line at a time, as they come.
    Text,
    /// One array at the end.
    Json,
}

/// The rows so far.
#[derive(Debug)]
pub(crate) struct Table {
    output: Output,
    rows: Vec<Row>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            rows: Vec::new(),
        }
    }

    /// A heading, and a sign that something goes on.
    pub(crate) fn heading(&self, text: &str) {
        match self.output {
            Output::Text => say!("\n{text}"),
            Output::Json => warn_line!("{text}"),
        }
    }

    /// Adds a row and shows it.
    pub(crate) fn add(&mut self, row: Row) {
        if self.output == Output::Text {
            let word = match row.verdict {
                Verdict::Holds => "holds",
                Verdict::Fails => "FAILS",
            };
            say!(
                "  {word}  {:<66} {}  (limit: {})",
                row.name,
                row.measured,
                row.limit
            );
        }
        self.rows.push(row);
    }

    /// Ends the table; true if every row holds.
    pub(crate) fn finish(&self) -> anyhow::Result<bool> {
        let failed = self
            .rows
            .iter()
            .filter(|row| row.verdict == Verdict::Fails)
            .count();
        match self.output {
            Output::Text => say!("\n{} passed, {failed} failed", self.rows.len() - failed),
            Output::Json => say!("{}", serde_json::to_string_pretty(&self.rows)?),
        }
        Ok(failed == 0 && !self.rows.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(good: bool) -> Row {
        Row::new("a Service answers", good, "3 ms", "at most 5 ms")
    }

    #[test]
    fn a_row_is_four_fields_for_programs() {
        for (good, verdict) in [(true, "holds"), (false, "fails")] {
            let expected = json!({
                "name": "a Service answers",
                "verdict": verdict,
                "measured": "3 ms",
                "limit": "at most 5 ms",
            });
            assert_eq!(serde_json::to_value(row(good)).unwrap(), expected);
        }
    }

    #[test]
    fn a_table_holds_if_it_has_rows_and_all_of_them_do() {
        let tables: [(&[bool], bool); 5] = [
            (&[], false),
            (&[true], true),
            (&[true, true], true),
            (&[true, false, true], false),
            (&[false], false),
        ];
        for output in [Output::Text, Output::Json] {
            for (rows, holds) in tables {
                let mut table = Table::new(output);
                for good in rows {
                    table.add(row(*good));
                }
                assert_eq!(table.finish().unwrap(), holds, "{output:?} {rows:?}");
            }
        }
    }
}
