//! From text to steps.

mod expect;
#[cfg(test)]
mod tests;
mod words;

use thiserror::Error;

use super::{
    Action, Kind, Load, Manifest, Manners, NewPod, Object, PodNetwork, PodReadiness, Scenario,
    Scope, Step,
};
use crate::cluster::Part;
use words::{Words, duration};

/// What is wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Reads a scenario. Empty lines and those that begin with `#` are skipped; indented lines belong to the `apply` above
/// them. What names no namespace is in `namespace`.
///
/// # Errors
/// [`ParseError`] with the first line that says nothing a scenario knows.
pub fn parse(text: &str, namespace: &str) -> Result<Scenario, ParseError> {
    let mut scenario = Scenario {
        nodes: 3,
        agents: Vec::new(),
        asks: Manners::Together,
        namespace: namespace.to_owned(),
        steps: Vec::new(),
    };
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .peekable();
    let mut refusal: Option<(usize, String)> = None;
    while let Some((number, line)) = lines.next() {
        let fail = |reason| ParseError {
            line: number,
            reason,
        };
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            return Err(fail(
                "an indented line belongs to an apply without FILE above it".to_owned(),
            ));
        }
        let line = line.trim_end();
        let mut words = Words::new(line, namespace);
        if words.take("nodes") {
            if !scenario.steps.is_empty() {
                return Err(fail("nodes must come before everything else".to_owned()));
            }
            scenario.nodes = words.number("nodes").map_err(fail)?;
        } else if words.take("alone") {
            scenario.asks = Manners::Alone;
        } else if words.take("agents") {
            if !scenario.steps.is_empty() {
                return Err(fail("agents must come before every step".to_owned()));
            }
            scenario.agents = words.rest();
        } else if words.take("refuse") {
            refusal = Some((number, words.rest_of_line("TEXT").map_err(fail)?));
        } else {
            let action = if line == "apply" {
                words.rest();
                inline(&mut lines).map_err(fail)?
            } else {
                action(&mut words).map_err(fail)?
            };
            let action = match refusal.take() {
                None => action,
                Some((_, says)) => refused(says, action).map_err(fail)?,
            };
            scenario.steps.push(Step {
                line: number,
                text: line.to_owned(),
                action,
            });
        }
        words.end().map_err(fail)?;
    }
    match refusal {
        None => Ok(scenario),
        Some((line, _)) => Err(ParseError {
            line,
            reason: "no step follows that could be refused".to_owned(),
        }),
    }
}

fn refused(says: String, action: Action) -> Result<Action, String> {
    match action {
        Action::Apply(_) | Action::Pod(_) | Action::Patch { .. } | Action::Delete { .. } => {
            Ok(Action::Refused {
                says,
                action: Box::new(action),
            })
        }
        _ => Err("after refuse comes apply, pod, patch or delete".to_owned()),
    }
}

/// The manifest below an `apply`: every line that is indented or empty.
fn inline<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>,
) -> Result<Action, String> {
    let mut text = String::new();
    while let Some((_, line)) =
        lines.next_if(|(_, line)| line.trim().is_empty() || line.starts_with([' ', '\t']))
    {
        // A document of its own begins where a person would see it.
        let document = if line.trim() == "---" { "---" } else { line };
        text.push_str(document);
        text.push('\n');
    }
    if text.trim().is_empty() {
        return Err("apply: a FILE must follow, or a manifest on indented lines".to_owned());
    }
    Ok(Action::Apply(Manifest::Inline(text)))
}

fn action(words: &mut Words<'_>) -> Result<Action, String> {
    match words.next("a step")? {
        "apply" => Ok(Action::Apply(Manifest::File(words.next("FILE")?.into()))),
        "pod" => pod(words),
        "patch" => patch(words),
        "wait" => wait(words),
        "delete" => delete(words),
        "cut" => Ok(Action::Cut(words.next("NODE")?.to_owned())),
        "restore" => Ok(Action::Restore(words.next("NODE")?.to_owned())),
        "kill" => Ok(Action::Kill(part(words)?)),
        "start" => Ok(Action::Start(part(words)?)),
        "sleep" => Ok(Action::Sleep(duration(words.next("DURATION")?)?)),
        "load" => load(words),
        "expect" => expect::expect(words),
        "run" => {
            let place = words.place()?;
            words.expect("--")?;
            let command: Vec<String> = words.rest();
            if command.is_empty() {
                Err("a COMMAND must follow --".to_owned())
            } else {
                Ok(Action::Run { place, command })
            }
        }
        other => Err(format!(
            "{other:?} is no step: apply, pod, patch, delete, refuse, wait, cut, restore, kill, start, sleep, load, \
             expect, run"
        )),
    }
}

/// `NAME [on NODE] [label K=V]... [port N]... [host] [probed|unready] [lingers SECONDS]`
fn pod(words: &mut Words<'_>) -> Result<Action, String> {
    let mut pod = NewPod {
        name: words.next("NAME")?.to_owned(),
        node: None,
        labels: Vec::new(),
        ports: Vec::new(),
        network: PodNetwork::Own,
        readiness: PodReadiness::AtOnce,
        lingers: None,
    };
    while let Some(word) = words.next_if_any() {
        match word {
            "on" => pod.node = Some(words.next("NODE")?.to_owned()),
            "label" => {
                let label = words.next("KEY=VALUE")?;
                let (key, value) = label
                    .split_once('=')
                    .ok_or_else(|| format!("label {label}: write KEY=VALUE"))?;
                pod.labels.push((key.to_owned(), value.to_owned()));
            }
            "port" => pod.ports.push(words.number("port")?),
            "host" => pod.network = PodNetwork::Host,
            "probed" => pod.readiness = PodReadiness::Probed,
            "unready" => pod.readiness = PodReadiness::Never,
            "lingers" => pod.lingers = Some(words.number("lingers")?),
            other => {
                return Err(format!(
                    "pod {}: {other:?}: on NODE, label KEY=VALUE, port N, host, probed, unready, lingers SECONDS",
                    pod.name
                ));
            }
        }
    }
    Ok(Action::Pod(pod))
}

fn patch(words: &mut Words<'_>) -> Result<Action, String> {
    let object = words.object()?;
    let subresource = words.take("status").then(|| "status".to_owned());
    let patch = words.rest_of_line("a patch in YAML")?;
    Ok(Action::Patch {
        object,
        subresource,
        patch,
    })
}

/// `pod NAME`, `KIND/NAME` or `every KIND with LABEL=VALUE`
fn delete(words: &mut Words<'_>) -> Result<Action, String> {
    if words.take("every") {
        let kind = Kind::find(words.next("KIND")?)?;
        words.expect("with")?;
        return Ok(Action::DeleteEvery {
            kind,
            selector: words.next("LABEL=VALUE")?.to_owned(),
        });
    }
    let object = if words.take("pod") {
        words.named("pod")?
    } else {
        words.object()?
    };
    let grace = if words.take("grace") {
        Some(words.number("grace")?)
    } else {
        None
    };
    Ok(Action::Delete { object, grace })
}

fn wait(words: &mut Words<'_>) -> Result<Action, String> {
    match words.next("pods, pod, service, api or KIND/NAME")? {
        "pods" => {
            words.expect("ready")?;
            Ok(Action::WaitPods {
                within: words.within()?,
            })
        }
        "api" => {
            words.expect("ready")?;
            Ok(Action::WaitApi {
                within: words.within()?,
            })
        }
        "pod" => {
            let object = words.named("pod")?;
            gone(words, object)
        }
        "service" => {
            let name = words.name("NAME")?;
            words.expect("addresses")?;
            Ok(Action::WaitService {
                name,
                within: words.within()?,
            })
        }
        other if other.contains('/') => {
            let object = Object::read(other, words.namespace)?;
            gone(words, object)
        }
        other => Err(format!(
            "wait {other}: write wait pods ready, wait api ready, wait pod NAME gone, wait KIND/NAME gone or wait service NAME \
             addresses"
        )),
    }
}

fn gone(words: &mut Words<'_>, object: Object) -> Result<Action, String> {
    words.expect("gone")?;
    Ok(Action::WaitGone {
        object,
        within: words.within()?,
    })
}

fn part(words: &mut Words<'_>) -> Result<Part, String> {
    match words.next("api, controller, agent or kubelet")? {
        "api" => Ok(Part::Api),
        "controller" => Ok(Part::Controller),
        "agent" => Ok(Part::Agent(words.next("NODE")?.to_owned())),
        "kubelet" => Ok(Part::Kubelet(words.next("NODE")?.to_owned())),
        other => Err(format!(
            "{other:?} is no part of a lab: api, controller, agent NODE, kubelet NODE"
        )),
    }
}

fn load(words: &mut Words<'_>) -> Result<Action, String> {
    let name = words.next("NAME")?.to_owned();
    words.expect("from")?;
    let from = words.place()?;
    words.expect("to")?;
    let to = expect::target(words)?;
    words.expect("rate")?;
    let rate = words.number("rate")?;
    words.expect("for")?;
    let lasting = duration(words.next("DURATION")?)?;
    Ok(Action::Load(Load {
        name,
        from,
        to,
        rate,
        lasting,
    }))
}

impl Words<'_> {
    /// `KIND/NAME`
    fn object(&mut self) -> Result<Object, String> {
        let text = self.next("KIND/NAME")?;
        Object::read(text, self.namespace)
    }

    /// `[NS/]NAME` of a kind.
    fn named(&mut self, kind: &str) -> Result<Object, String> {
        let kind = Kind::find(kind)?;
        let name = self.name("NAME")?;
        debug_assert_eq!(kind.scope, Scope::Namespace);
        Ok(Object {
            kind,
            namespace: name.namespace,
            name: name.name,
        })
    }
}
