//! Steps, taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use thiserror::Error;

use super::{Action, Expectation, Finding, Load, Name, Scenario, Step};
use crate::clock;
use crate::cluster::{
    ChildError, Cluster, CreateError, Part, PlaceError, UpError, Where, create_all,
};
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
}

/// Takes every step, until one does not hold. `folder` is where manifests are found; `said` hears of each step.
///
/// # Errors
/// [`Failure`] with the line that did not hold.
pub async fn run(
    cluster: &mut Cluster,
    scenario: &Scenario,
    folder: &Path,
    mut said: impl FnMut(&Report),
) -> Result<(), Failure> {
    let mut stage = Performance {
        cluster,
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

struct Performance<'a> {
    cluster: &'a mut Cluster,
    folder: &'a Path,
    /// Loads under way: what each has printed, once it has ended.
    loads: BTreeMap<String, tokio::task::JoinHandle<std::io::Result<Output>>>,
}

impl Performance<'_> {
    /// One step; what it counted, in words.
    async fn take(&mut self, step: &Step) -> Result<String, StepError> {
        match &step.action {
            Action::Apply(file) => {
                let path = self.folder.join(file);
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| StepError::File(format!("{}: {error}", path.display())))?;
                create_all(&self.client().await?, &text).await?;
            }
            Action::WaitPods { within } => self.wait_pods(*within).await?,
            Action::WaitService { name, within } => self.wait_service(name, *within).await?,
            Action::WaitGone { name, within } => self.wait_gone(name, *within).await?,
            Action::DeletePod { name, grace } => {
                let params = DeleteParams {
                    grace_period_seconds: *grace,
                    ..DeleteParams::default()
                };
                self.pods(name)
                    .await?
                    .delete(&name.name, &params)
                    .await
                    .map_err(Box::new)?;
            }
            Action::Cut(node) => self.cluster.set_cable(node, Cable::Cut)?,
            Action::Restore(node) => self.cluster.set_cable(node, Cable::Connected)?,
            Action::Kill(part) => self.cluster.kill(part)?,
            Action::Start(part) => self.restart(part)?,
            Action::Sleep(duration) => tokio::time::sleep(*duration).await,
            Action::Load(load) => self.load(load)?,
            Action::ExpectLoad { name, failures } => {
                return self.expect_load(name, *failures).await;
            }
            Action::Expect(expectation) => return self.expect(expectation).await,
            Action::Run {
                place,
                command,
                within,
            } => self.run_until(place, command, *within).await?,
            Action::PatchService { name, patch } => {
                let services: Api<Service> = Api::namespaced(self.client().await?, &name.namespace);
                let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
                let patched = services.patch(&name.name, &params, &patch).await;
                patched.map_err(Box::new)?;
            }
        }
        Ok(String::new())
    }

    async fn client(&self) -> Result<Client, StepError> {
        Ok(self.cluster.client().await.map_err(Box::new)?)
    }

    async fn pods(&self, name: &Name) -> Result<Api<Pod>, StepError> {
        Ok(Api::namespaced(self.client().await?, &name.namespace))
    }

    fn restart(&mut self, part: &Part) -> Result<(), StepError> {
        Ok(self.cluster.start(part)?)
    }

    async fn wait_pods(&self, within: Duration) -> Result<(), StepError> {
        let pods: Api<Pod> = Api::all(self.client().await?);
        let all = ListParams::default();
        until(within, || async {
            let list = pods.list(&all).await.map_err(|error| error.to_string())?;
            let unready: Vec<_> = list
                .iter()
                .filter(|pod| !is_ready(pod))
                .filter_map(|pod| pod.metadata.name.clone())
                .collect();
            if unready.is_empty() {
                Ok(())
            } else {
                Err(format!("{} not ready", unready.join(", ")))
            }
        })
        .await
    }

    async fn wait_service(&self, name: &Name, within: Duration) -> Result<(), StepError> {
        let services: Api<Service> = Api::namespaced(self.client().await?, &name.namespace);
        until(within, || async {
            let service = services
                .get(&name.name)
                .await
                .map_err(|error| error.to_string())?;
            let wanted = service
                .spec
                .and_then(|spec| spec.ip_families)
                .map_or(1, |families| families.len());
            let balancer = service.status.and_then(|status| status.load_balancer);
            let given = balancer
                .and_then(|balancer| balancer.ingress)
                .map_or(0, |ingress| ingress.len());
            if given >= wanted {
                Ok(())
            } else {
                Err(format!("{given} of {wanted} addresses"))
            }
        })
        .await
    }

    async fn wait_gone(&self, name: &Name, within: Duration) -> Result<(), StepError> {
        let pods = self.pods(name).await?;
        until(within, || async {
            match pods
                .get_opt(&name.name)
                .await
                .map_err(|error| error.to_string())?
            {
                None => Ok(()),
                Some(_) => Err(format!("Pod {} is there", name.name)),
            }
        })
        .await
    }

    fn ask(
        &self,
        from: &Where,
        to: &str,
        more: &[String],
    ) -> Result<tokio::process::Command, StepError> {
        let binary = self.cluster.spec().binary.to_string_lossy().into_owned();
        let mut command = self.cluster.command(from, &binary)?;
        command
            .args(["ask", to])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    fn load(&mut self, load: &Load) -> Result<(), StepError> {
        let count = (load.lasting.as_secs_f64() * f64::from(load.rate)).ceil();
        let more = [
            "--rate".to_owned(),
            load.rate.to_string(),
            "--count".to_owned(),
            format!("{count:.0}"),
        ];
        let mut command = self.ask(&load.from, &load.to, &more)?;
        let ended = tokio::spawn(async move { command.output().await });
        self.loads.insert(load.name.clone(), ended);
        Ok(())
    }

    async fn expect_load(&mut self, name: &str, allowed: usize) -> Result<String, StepError> {
        let load = self
            .loads
            .remove(name)
            .ok_or_else(|| StepError::NoLoad(name.to_owned()))?;
        let output = load.await.map_err(std::io::Error::other).flatten();
        let output = output.map_err(|error| StepError::File(format!("load {name}: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let failed: Vec<&String> = lines.iter().filter(|line| !is_answer(line)).collect();
        if failed.len() > allowed || lines.is_empty() {
            let first = failed
                .first()
                .map_or_else(|| "it never asked".to_owned(), |line| (*line).clone());
            return Err(StepError::Failures {
                failed: failed.len(),
                asked: lines.len(),
                allowed,
                first,
            });
        }
        Ok(format!(
            "{} of {} requests failed",
            failed.len(),
            lines.len()
        ))
    }

    async fn expect(&self, expectation: &Expectation) -> Result<String, StepError> {
        let enter = |source| PlaceError::Enter {
            place: expectation.from.clone(),
            source,
        };
        let end = clock::instant() + expectation.within;
        loop {
            let more = ["--timeout".to_owned(), "1".to_owned()];
            let mut command = self.ask(&expectation.from, &expectation.to, &more)?;
            let output = command.output().await.map_err(enter)?;
            let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let pod = answering_pod(&line);
            let holds = match &expectation.finding {
                Finding::Answered => pod.is_some(),
                Finding::AnsweredBy(wanted) => pod == Some(wanted),
                Finding::Unanswered => pod.is_none(),
            };
            if holds {
                return Ok(pod.map(|pod| format!("answered by {pod}")).unwrap_or(line));
            }
            if clock::instant() >= end {
                return Err(StepError::Late {
                    missing: line,
                    within: expectation.within,
                });
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Runs a command until it ends well, or once.
    async fn run_until(
        &self,
        place: &Where,
        words: &[String],
        within: Option<Duration>,
    ) -> Result<(), StepError> {
        let end = clock::instant() + within.unwrap_or_default();
        loop {
            match self.command(place, words).await {
                Err(StepError::Command { .. }) if clock::instant() < end => {
                    tokio::time::sleep(STEP).await;
                }
                done => return done,
            }
        }
    }

    async fn command(&self, place: &Where, words: &[String]) -> Result<(), StepError> {
        let enter = |source| PlaceError::Enter {
            place: place.clone(),
            source,
        };
        let binary = self.cluster.spec().binary.to_string_lossy();
        let program = match words[0].as_str() {
            "daymark" => &binary,
            other => other,
        };
        let mut command = self.cluster.command(place, program)?;
        command.args(&words[1..]).stdin(Stdio::null());
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

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A line of `daymark ask`: START TOOK ok POD NODE CLIENT, or START TOOK error TEXT.
fn answering_pod(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip(2);
    (words.next() == Some("ok")).then(|| words.next()).flatten()
}

fn is_answer(line: &str) -> bool {
    answering_pod(line).is_some()
}

const STEP: Duration = Duration::from_millis(20);
