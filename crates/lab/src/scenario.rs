//! Scenarios: what happens to a lab, line by line, and what must hold meanwhile (docs/lab.md has the format).

mod kind;
mod parse;
mod run;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

pub use kind::{Kind, Object, Scope};
pub use parse::{ParseError, parse};
pub use run::{Failure, Lab, Report, run, run_in_namespace};

use crate::cluster::{Part, Where};

/// A scenario as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How many nodes the lab has.
    pub nodes: u8,
    /// More flags for the agent of each node.
    pub agents: Vec<String>,
    /// The namespace of everything that names none.
    pub namespace: String,
    /// Whether it says itself that it needs a lab of its own.
    pub asks: Manners,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Whether other scenarios may run in the same lab at the same time: none of the steps touches more than objects
    /// of its own namespace.
    #[must_use]
    pub fn manners(&self) -> Manners {
        if self.steps.iter().any(|step| step.action.is_lab_wide()) {
            Manners::Alone
        } else {
            self.asks
        }
    }
}

/// Whether a scenario needs a lab of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It kills parts, cuts cables or changes Nodes and other objects that belong to the whole cluster.
    Alone,
    /// It does not.
    Together,
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
    /// Create the objects of a manifest.
    Apply(Manifest),
    /// Create a Pod.
    Pod(NewPod),
    /// Change an object by a JSON merge patch (RFC 7396), written as YAML.
    Patch {
        /// The object.
        object: Object,
        /// `status`, where it is that which is changed.
        subresource: Option<String>,
        /// The patch.
        patch: String,
    },
    /// Delete an object.
    Delete {
        /// The object.
        object: Object,
        /// The grace period of a Pod in seconds; its own without.
        grace: Option<u32>,
    },
    /// Delete all objects of a kind, in the scenario's namespace, that have a label.
    DeleteEvery {
        /// The kind.
        kind: Kind,
        /// The label selector.
        selector: String,
    },
    /// The API refuses a step.
    Refused {
        /// What its answer must say.
        says: String,
        /// The step.
        action: Box<Action>,
    },
    /// Wait until every Pod of the scenario's namespace is ready.
    WaitPods {
        /// The longest it may take.
        within: Duration,
    },
    /// Wait until the API server says that it is ready.
    WaitApi {
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
    /// Wait until an object is gone.
    WaitGone {
        /// The object.
        object: Object,
        /// The longest it may take.
        within: Duration,
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
    /// Ask, again and again until it holds or the time is over.
    Expect(Expectation),
    /// A field of an object.
    ExpectField {
        /// The object.
        object: Object,
        /// The way to the field: names and numbers between dots.
        path: String,
        /// What it must be.
        wanted: Wanted,
        /// The longest it may take.
        within: Duration,
    },
    /// The ready endpoints in the slices of a Service.
    ExpectEndpoints {
        /// Namespace and name.
        service: Name,
        /// `POD:PORT` of each, or `ADDRESS:PORT` where no Pod is behind.
        endpoints: BTreeSet<String>,
        /// The longest it may take.
        within: Duration,
    },
    /// How many EndpointSlices a Service has.
    ExpectSlices {
        /// Namespace and name.
        service: Name,
        /// How many.
        count: usize,
        /// The longest it may take.
        within: Duration,
    },
    /// How many Events are about a Service, of one reason.
    ExpectEvents {
        /// Namespace and name.
        service: Name,
        /// The reason.
        reason: String,
        /// How many.
        count: usize,
        /// The longest it may take.
        within: Duration,
    },
    /// Run a command, which must end with exit code 0.
    Run {
        /// Where.
        place: Where,
        /// The words of the command.
        command: Vec<String>,
    },
}

impl Action {
    fn is_lab_wide(&self) -> bool {
        match self {
            Self::Cut(_) | Self::Restore(_) | Self::Kill(_) | Self::Start(_) => true,
            Self::Patch { object, .. } | Self::Delete { object, .. } => {
                object.kind.scope == Scope::Cluster
            }
            Self::Refused { action, .. } => action.is_lab_wide(),
            _ => false,
        }
    }
}

/// Where a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// In a file, whose path is relative to the scenario's.
    File(PathBuf),
    /// In the scenario: the lines below the step.
    Inline(String),
}

/// A Pod in few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    /// Its name.
    pub name: String,
    /// Its node; the scheduler's choice without.
    pub node: Option<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// The ports it answers on; 8080 without.
    pub ports: Vec<u16>,
    /// Whose network it has.
    pub network: PodNetwork,
    /// When it is ready.
    pub readiness: PodReadiness,
    /// How long it goes on after its deletion, in seconds.
    pub lingers: Option<u32>,
}

/// Whose network a Pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodNetwork {
    /// Its own.
    Own,
    /// Its node's.
    Host,
}

/// When a Pod is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodReadiness {
    /// Once it runs.
    AtOnce,
    /// While its `/healthz` is good, which `POST /fail` and `POST /heal` set.
    Probed,
    /// Never.
    Never,
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
    /// Whom.
    pub to: Target,
    /// Requests a second.
    pub rate: u32,
    /// For how long.
    pub lasting: Duration,
}

/// Whom a request asks, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port, with references.
    pub address: String,
    /// By which protocol.
    pub protocol: Transport,
    /// The client's own port; any without.
    pub from_port: Option<u16>,
    /// How many bytes the request carries, which the answer must bring back.
    pub bytes: usize,
}

/// A protocol that requests are sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP over TCP.
    Tcp,
    /// One datagram each way.
    Udp,
}

/// What requests must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Who asks.
    pub from: Where,
    /// Whom.
    pub to: Target,
    /// What must come of it.
    pub finding: Finding,
    /// The longest it may take to hold.
    pub within: Duration,
}

/// What comes of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Somebody answers one request.
    Answered {
        /// This Pod.
        by: Option<String>,
        /// And saw this source.
        seen: Option<Seen>,
    },
    /// Of many requests all are answered, by each of these Pods and no other.
    OnlyBy {
        /// The Pods.
        pods: BTreeSet<String>,
        /// The source that each saw.
        seen: Option<Seen>,
    },
    /// One Pod answers all of many requests.
    OneForAll,
    /// At least two Pods answer many requests.
    Several {
        /// With this pause between them.
        every: Option<Duration>,
    },
    /// Nobody answers: refused, or no answer in a second.
    Unanswered,
    /// It is refused at once.
    Refused,
    /// Nothing is heard within a second.
    Silence,
    /// An HTTP answer with this code.
    Code {
        /// The code.
        code: u16,
        /// What its body says, in some place.
        body: Option<String>,
    },
}

/// The source address that a Pod sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One of the client's own.
    Itself,
    /// None of the client's own.
    Another,
    /// One of this node's.
    Node(String),
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// There, whatever it is.
    Present,
    /// Not there, or null.
    Absent,
    /// This, written as YAML.
    Equal(serde_json::Value),
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

/// Reads a scenario file. What names no namespace is in `namespace`.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &std::path::Path, namespace: &str) -> Result<Scenario, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, namespace).map_err(|error| LoadError::Parse {
        path: path.to_owned(),
        error,
    })
}
