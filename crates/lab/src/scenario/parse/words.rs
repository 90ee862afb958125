//! The words of a line.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cluster::Where;
use crate::scenario::Name;

/// The words of a line that are still to be read.
pub(super) struct Words<'a> {
    words: VecDeque<&'a str>,
    /// The namespace of what names none.
    pub(super) namespace: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str, namespace: &'a str) -> Self {
        Self {
            words: line.split_whitespace().collect(),
            namespace,
        }
    }

    pub(super) fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.next_if_any()
            .ok_or_else(|| format!("the line ends where {what} was expected"))
    }

    pub(super) fn next_if_any(&mut self) -> Option<&'a str> {
        self.words.pop_front()
    }

    pub(super) fn take(&mut self, word: &str) -> bool {
        let there = self.words.front() == Some(&word);
        if there {
            self.words.pop_front();
        }
        there
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), String> {
        match self.next(word)? {
            found if found == word => Ok(()),
            found => Err(format!("{found:?} where {word:?} was expected")),
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next("a number")?;
        word.parse()
            .map_err(|_| format!("{what} {word}: not a number that fits"))
    }

    pub(super) fn place(&mut self) -> Result<Where, String> {
        let word = self.next("a place")?;
        let place = word
            .parse()
            .map_err(|error: crate::cluster::ParsePlaceError| error.to_string())?;
        Ok(match place {
            // Without a namespace of its own.
            Where::Pod { name, .. } if word.matches('/').count() == 1 => Where::Pod {
                namespace: self.namespace.to_owned(),
                name,
            },
            other => other,
        })
    }

    pub(super) fn name(&mut self, what: &str) -> Result<Name, String> {
        let word = self.next(what)?;
        let (namespace, name) = word.split_once('/').unwrap_or((self.namespace, word));
        Ok(Name {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    pub(super) fn within(&mut self) -> Result<Duration, String> {
        if self.take("within") {
            duration(self.next("DURATION")?)
        } else {
            Ok(PATIENCE)
        }
    }

    pub(super) fn rest(&mut self) -> Vec<String> {
        self.words.drain(..).map(str::to_owned).collect()
    }

    /// The words that are left, at least one, with a space between them.
    pub(super) fn rest_of_line(&mut self, what: &str) -> Result<String, String> {
        let first = self.next(what)?.to_owned();
        Ok(std::iter::once(first)
            .chain(self.rest())
            .collect::<Vec<_>>()
            .join(" "))
    }

    pub(super) fn end(mut self) -> Result<(), String> {
        let rest = self.rest();
        if rest.is_empty() {
            Ok(())
        } else {
            Err(format!("{:?} is too much", rest.join(" ")))
        }
    }
}

/// `200ms`, `2s` or `0.5s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parse = || {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 0.001),
            None => (text.strip_suffix('s')?, 1.0),
        };
        Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
    };
    parse().ok_or_else(|| format!("{text:?} is no duration such as 200ms or 2s"))
}

/// How long a step may take that does not say so.
const PATIENCE: Duration = Duration::from_secs(10);
