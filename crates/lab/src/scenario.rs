//! Scenarios: what happens to a lab, line by line, and what must hold meanwhile (docs/lab.md has the format).

mod parse;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

pub use parse::{ParseError, parse};
pub use run::{Failure, Report, run};

use crate::cluster::{Part, Where};

/// A scenario as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How many nodes the lab has.
    pub nodes: u8,
    /// More flags for `daymark node`.
    pub agent_args: Vec<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One line of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number in the file, from 1.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What it asks for.
    pub action: Action,
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the objects of a manifest, whose path is relative to the scenario's.
    Apply(PathBuf),
    /// Wait until every Pod is ready.
    WaitPods {
        /// The longest it may take.
        within: Duration,
    },
    /// Wait until a LoadBalancer Service has its addresses.
    WaitService {
        /// Namespace and name.
        name: Name,
        /// The longest it may take.
        within: Duration,
    },
    /// Wait until a Pod is gone.
    WaitGone {
        /// Namespace and name.
        name: Name,
        /// The longest it may take.
        within: Duration,
    },
    /// Delete a Pod.
    DeletePod {
        /// Namespace and name.
        name: Name,
        /// Its grace period in seconds; its own without.
        grace: Option<u32>,
    },
    /// Cut a node's cable.
    Cut(String),
    /// Plug it in again.
    Restore(String),
    /// End a process with SIGKILL.
    Kill(Part),
    /// Start it again.
    Start(Part),
    /// Do nothing for a while.
    Sleep(Duration),
    /// Start asking at a steady rate, one TCP connection a request.
    Load(Load),
    /// Wait for the end of a load, and count.
    ExpectLoad {
        /// Its name.
        name: String,
        /// How many requests may have failed.
        failures: usize,
    },
    /// Ask once, again and again until it holds or the time is over.
    Expect(Expectation),
    /// Run a command, again and again until it ends with exit code 0 or the time is over.
    Run {
        /// Where.
        place: Where,
        /// The words of the command; `daymark` is the running binary.
        command: Vec<String>,
        /// The longest it may take; once, if there is none.
        within: Option<Duration>,
    },
    /// Change a Service by a JSON merge patch (RFC 7396).
    PatchService {
        /// Namespace and name.
        name: Name,
        /// The patch.
        patch: serde_json::Value,
    },
}

/// A namespace and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A steady load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its name in the scenario.
    pub name: String,
    /// Who asks.
    pub from: Where,
    /// Host and port.
    pub to: String,
    /// Requests a second.
    pub rate: u32,
    /// For how long.
    pub lasting: Duration,
}

/// What one request must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Who asks.
    pub from: Where,
    /// Host and port.
    pub to: String,
    /// What must come of it.
    pub finding: Finding,
    /// The longest it may take to hold.
    pub within: Duration,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Any Pod answers.
    Answered,
    /// This Pod answers.
    AnsweredBy(String),
    /// Nobody answers: refused, or no answer in a second.
    Unanswered,
}

/// Why a scenario file could not be run at all.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is none of a scenario.
    #[error("{}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        error: ParseError,
    },
}

/// Reads a scenario file.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &std::path::Path) -> Result<Scenario, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|error| LoadError::Parse {
        path: path.to_owned(),
        error,
    })
}
