//! Steps, taken.

mod ask;
mod judge;
mod objects;
mod refer;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use kube::Client;
use thiserror::Error;

use super::{Action, Manifest, Scenario, Step};
use crate::clock;
use crate::cluster::{ChildError, Cluster, CreateError, Part, PlaceError, UpError, Where};
use crate::net::Cable;

/// What became of a step that held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The line's number in the file.
    pub line: usize,
    /// The line.
    pub text: String,
    /// How long it took.
    pub took: Duration,
    /// What was counted, where the step counts.
    pub measured: String,
}

/// Why a scenario did not hold.
#[derive(Debug, Error)]
#[error("line {line} ({text}): {reason}")]
pub struct Failure {
    /// The line's number in the file.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Why.
    pub reason: StepError,
}

/// Why a step did not hold.
#[derive(Debug, Error)]
pub enum StepError {
    /// A manifest cannot be read.
    #[error("{0}")]
    File(String),
    /// A manifest was refused.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The API refused a request.
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
    /// The API refused a change of an object.
    #[error("{object}: {message}")]
    Refused {
        /// The object.
        object: String,
        /// The API's answer.
        message: String,
    },
    /// The API did not refuse what it should, or for another reason.
    #[error("it should be refused with {says:?}, but {found}")]
    NotRefused {
        /// What the answer should say.
        says: String,
        /// What happened.
        found: String,
    },
    /// No client could be made.
    #[error(transparent)]
    Client(#[from] Box<UpError>),
    /// A place, cable or namespace.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// It did not come true in time.
    #[error("not within {} ms: {missing}", within.as_millis())]
    Late {
        /// What is missing.
        missing: String,
        /// How long was waited.
        within: Duration,
    },
    /// Too many requests of a load failed.
    #[error("{failed} of {asked} requests failed, {allowed} may; the first: {first}")]
    Failures {
        /// How many failed.
        failed: usize,
        /// How many were sent.
        asked: usize,
        /// How many may fail.
        allowed: usize,
        /// What the first that failed said.
        first: String,
    },
    /// A command failed.
    #[error("{status}: {output}")]
    Command {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// There is no load of this name.
    #[error("no load is called {0}")]
    NoLoad(String),
    /// The step acts on the whole lab, which others use too.
    #[error("the lab is shared with other scenarios: this step needs a lab of its own")]
    Shared,
}

/// The lab that a scenario happens in.
pub enum Lab<'a> {
    /// Its own.
    Own(&'a mut Cluster),
    /// One in which others happen too.
    Shared(&'a Cluster),
}

impl Lab<'_> {
    fn cluster(&self) -> &Cluster {
        match self {
            Self::Own(cluster) => cluster,
            Self::Shared(cluster) => cluster,
        }
    }

    fn change(&mut self) -> Result<&mut Cluster, StepError> {
        match self {
            Self::Own(cluster) => Ok(cluster),
            Self::Shared(_) => Err(StepError::Shared),
        }
    }
}

/// Takes every step, until one does not hold. `folder` is where manifests are found; `said` hears of each step.
///
/// # Errors
/// [`Failure`] with the line that did not hold.
pub async fn run(
    lab: Lab<'_>,
    scenario: &Scenario,
    folder: &Path,
    mut said: impl FnMut(&Report),
) -> Result<(), Failure> {
    let mut stage = Performance {
        lab,
        namespace: &scenario.namespace,
        folder,
        loads: BTreeMap::new(),
    };
    for step in &scenario.steps {
        let begun = clock::instant();
        let failed = |reason| Failure {
            line: step.line,
            text: step.text.clone(),
            reason,
        };
        let measured = stage.take(step).await.map_err(failed)?;
        said(&Report {
            line: step.line,
            text: step.text.clone(),
            took: clock::instant() - begun,
            measured,
        });
    }
    Ok(())
}

/// [`run`], in a namespace that is made for it and ends with it: others may happen in the lab.
///
/// # Errors
/// [`Failure`]; line 0 is the namespace.
pub async fn run_in_namespace(
    cluster: &Cluster,
    scenario: &Scenario,
    folder: &Path,
) -> Result<(), Failure> {
    let around = |reason| Failure {
        line: 0,
        text: format!("namespace {}", scenario.namespace),
        reason,
    };
    let stage = Performance {
        lab: Lab::Shared(cluster),
        namespace: &scenario.namespace,
        folder,
        loads: BTreeMap::new(),
    };
    stage.enter_namespace().await.map_err(around)?;
    let outcome = run(Lab::Shared(cluster), scenario, folder, |_| ()).await;
    let left = stage.leave_namespace().await.map_err(around);
    // Why the scenario failed is what counts, if it did.
    outcome.and(left)
}

struct Performance<'a> {
    lab: Lab<'a>,
    namespace: &'a str,
    folder: &'a Path,
    /// Loads under way: what each has printed, once it has ended.
    loads: BTreeMap<String, tokio::task::JoinHandle<std::io::Result<Output>>>,
}

impl Performance<'_> {
    /// One step; what it counted, in words.
    async fn take(&mut self, step: &Step) -> Result<String, StepError> {
        match &step.action {
            Action::Apply(_) | Action::Pod(_) | Action::Patch { .. } | Action::Delete { .. } => {
                self.write(&step.action).await?;
            }
            Action::DeleteEvery { kind, selector } => self.delete_every(*kind, selector).await?,
            Action::Refused { says, action } => return self.refused(says, action).await,
            Action::WaitPods { within } => self.wait_pods(*within).await?,
            Action::WaitApi { within } => self.wait_api(*within).await?,
            Action::WaitService { name, within } => self.wait_service(name, *within).await?,
            Action::WaitGone { object, within } => self.wait_gone(object, *within).await?,
            Action::Cut(node) => self.lab.change()?.set_cable(node, Cable::Cut)?,
            Action::Restore(node) => self.lab.change()?.set_cable(node, Cable::Connected)?,
            Action::Kill(part) => self.lab.change()?.kill(part)?,
            Action::Start(part) => self.restart(part)?,
            Action::Sleep(duration) => tokio::time::sleep(*duration).await,
            Action::Load(load) => self.load(load).await?,
            Action::ExpectLoad { name, failures } => {
                return self.expect_load(name, *failures).await;
            }
            Action::Expect(expectation) => return self.expect(expectation).await,
            Action::ExpectField {
                object,
                path,
                wanted,
                within,
            } => self.expect_field(object, path, wanted, *within).await?,
            Action::ExpectEndpoints {
                service,
                endpoints,
                within,
            } => self.expect_endpoints(service, endpoints, *within).await?,
            Action::ExpectSlices {
                service,
                count,
                within,
            } => self.expect_slices(service, *count, *within).await?,
            Action::ExpectEvents {
                service,
                reason,
                count,
                within,
            } => {
                self.expect_events(service, reason, *count, *within).await?;
            }
            Action::Run { place, command } => self.command(place, command).await?,
        }
        Ok(String::new())
    }

    async fn client(&self) -> Result<Client, StepError> {
        Ok(self.lab.cluster().client().await.map_err(Box::new)?)
    }

    fn restart(&mut self, part: &Part) -> Result<(), StepError> {
        Ok(self.lab.change()?.start(part)?)
    }

    fn manifest(&self, manifest: &Manifest) -> Result<String, StepError> {
        match manifest {
            Manifest::Inline(text) => Ok(text.clone()),
            Manifest::File(file) => {
                let path = self.folder.join(file);
                std::fs::read_to_string(&path)
                    .map_err(|error| StepError::File(format!("{}: {error}", path.display())))
            }
        }
    }

    /// A Pod that was just created is a place some moments later.
    async fn await_place(&self, place: &Where) -> Result<(), StepError> {
        let cluster = self.lab.cluster();
        until(PATIENCE, || async {
            let found = cluster.spaces(place);
            found.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    async fn command(&self, place: &Where, words: &[String]) -> Result<(), StepError> {
        let enter = |source| PlaceError::Enter {
            place: place.clone(),
            source,
        };
        let mut expanded = Vec::new();
        for word in words {
            expanded.push(self.refer(word).await?);
        }
        self.await_place(place).await?;
        let cluster = self.lab.cluster();
        if expanded[0] == "daymark" {
            expanded[0] = cluster.spec().binary.to_string_lossy().into_owned();
        }
        let mut command = cluster.command(place, &expanded[0])?;
        command.args(&expanded[1..]).stdin(Stdio::null());
        let Output {
            status,
            stdout,
            stderr,
        } = tokio::process::Command::from(command)
            .output()
            .await
            .map_err(enter)?;
        if status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&[stdout, stderr].concat())
            .trim()
            .to_owned();
        Err(StepError::Command { status, output })
    }
}

/// Asks every few milliseconds whether it holds; the error says what is missing.
async fn until<F>(within: Duration, holds: impl Fn() -> F) -> Result<(), StepError>
where
    F: Future<Output = Result<(), String>>,
{
    let end = clock::instant() + within;
    loop {
        match holds().await {
            Ok(()) => return Ok(()),
            Err(missing) if clock::instant() >= end => {
                return Err(StepError::Late { missing, within });
            }
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}

/// How long what was asked for may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);
