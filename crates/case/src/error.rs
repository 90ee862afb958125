//! What is wrong with a case's text.

use std::fmt;

/// Why a text is not a case: where, what could stand there, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The file, as it was named to the parser.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What could stand there, with the words allowed.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            expected,
            found,
        } = self;
        write!(out, "{file}:{line}: expected {expected}, found {found}")
    }
}

impl std::error::Error for ParseError {}
