//! What is wrong with a configuration: all of it at once.

use std::fmt;

use super::tree::Tree;

/// What was found while reading.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Fields that are not known or stand there twice: read over, and said.
    pub(crate) ignored: Vec<Remark>,
    /// Values that cannot be used: nothing starts.
    pub(crate) refused: Vec<Remark>,
}

/// A field, and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Its path in the file, or its flag.
    pub(crate) field: String,
    /// What is wrong, and what to write instead.
    pub(crate) why: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.why)
    }
}

impl Report {
    /// Refuses a value.
    pub(crate) fn refuse(&mut self, field: &str, value: impl fmt::Display, why: &str) {
        self.refused.push(Remark {
            field: field.to_owned(),
            why: format!("{value} cannot be used: {why}"),
        });
    }

    /// The fields of a group in order, with their paths. Of repeated ones the last counts.
    pub(crate) fn fields<'a>(
        &mut self,
        at: &str,
        tree: &'a Tree,
    ) -> Vec<(&'a str, String, &'a Tree)> {
        let Tree::Map(fields) = tree else {
            if *tree != Tree::Null {
                self.refuse(at, tree, "this is a group of fields");
            }
            return Vec::new();
        };
        let mut found = Vec::with_capacity(fields.len());
        for (index, (key, value)) in fields.iter().enumerate() {
            let path = below(at, key);
            if fields[index + 1..].iter().any(|(later, _)| later == key) {
                self.ignore(
                    &path,
                    "it stands there again further down, and the last one counts",
                );
                continue;
            }
            found.push((key.as_str(), path, value));
        }
        found
    }

    /// Reads over a field that nobody knows.
    pub(crate) fn unknown(&mut self, field: &str) {
        self.ignore(
            field,
            "there is no such field; check its spelling and its place",
        );
    }

    fn ignore(&mut self, field: &str, why: &str) {
        self.ignored.push(Remark {
            field: field.to_owned(),
            why: why.to_owned(),
        });
    }
}

/// The path of a field.
pub(crate) fn below(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}
