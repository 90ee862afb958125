//! From text to steps.

use std::time::Duration;

use thiserror::Error;

use super::{Action, Expectation, Finding, Load, Name, Scenario, Step};
use crate::cluster::{Part, Where};

/// What is wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Reads a scenario. Empty lines and those that begin with `#` are skipped.
///
/// # Errors
/// [`ParseError`] with the first line that says nothing a scenario knows.
pub fn parse(text: &str) -> Result<Scenario, ParseError> {
    let mut scenario = Scenario {
        nodes: 3,
        agent_args: Vec::new(),
        steps: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let (line_number, line) = (number + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = Words(line.split_whitespace().collect());
        let fail = |reason| ParseError {
            line: line_number,
            reason,
        };
        let late = |word: &str| fail(format!("{word} must come before everything else"));
        let begun = !scenario.steps.is_empty();
        if words.take("nodes") {
            if begun {
                return Err(late("nodes"));
            }
            scenario.nodes = words.number("nodes").map_err(fail)?;
        } else if words.take("agents") {
            if begun {
                return Err(late("agents"));
            }
            scenario.agent_args = words.rest();
        } else {
            let action = action(&mut words).map_err(fail)?;
            scenario.steps.push(Step {
                line: line_number,
                text: line.to_owned(),
                action,
            });
        }
        words.end().map_err(fail)?;
    }
    Ok(scenario)
}

fn action(words: &mut Words<'_>) -> Result<Action, String> {
    match words.next("a step")? {
        "apply" => Ok(Action::Apply(words.next("FILE")?.into())),
        "wait" => wait(words),
        "delete" => {
            words.expect("pod")?;
            let name = words.name("NAME")?;
            let grace = if words.take("grace") {
                Some(words.number("grace")?)
            } else {
                None
            };
            Ok(Action::DeletePod { name, grace })
        }
        "cut" => Ok(Action::Cut(words.next("NODE")?.to_owned())),
        "restore" => Ok(Action::Restore(words.next("NODE")?.to_owned())),
        "kill" => Ok(Action::Kill(part(words)?)),
        "start" => Ok(Action::Start(part(words)?)),
        "patch" => {
            words.expect("service")?;
            let name = words.name("NAME")?;
            let text = words.rest().join(" ");
            let patch = serde_json::from_str(&text)
                .map_err(|error| format!("{text:?} is no JSON: {error}"))?;
            Ok(Action::PatchService { name, patch })
        }
        "sleep" => Ok(Action::Sleep(duration(words.next("DURATION")?)?)),
        "load" => load(words),
        "expect" => expect(words),
        "run" => {
            let place = words.place()?;
            let within = match words.0.front() {
                Some(&"within") => Some(words.within()?),
                _ => None,
            };
            words.expect("--")?;
            let command: Vec<String> = words.rest();
            if command.is_empty() {
                Err("a COMMAND must follow --".to_owned())
            } else {
                Ok(Action::Run {
                    place,
                    command,
                    within,
                })
            }
        }
        other => Err(format!(
            "{other:?} is no step: apply, wait, delete, patch, cut, restore, kill, start, sleep, load, expect, run"
        )),
    }
}

fn wait(words: &mut Words<'_>) -> Result<Action, String> {
    match words.next("pods, pod or service")? {
        "pods" => {
            words.expect("ready")?;
            Ok(Action::WaitPods {
                within: words.within()?,
            })
        }
        "pod" => {
            let name = words.name("NAME")?;
            words.expect("gone")?;
            Ok(Action::WaitGone {
                name,
                within: words.within()?,
            })
        }
        "service" => {
            let name = words.name("NAME")?;
            words.expect("addresses")?;
            Ok(Action::WaitService {
                name,
                within: words.within()?,
            })
        }
        other => Err(format!(
            "wait {other}: write wait pods ready, wait pod NAME gone or wait service NAME addresses"
        )),
    }
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
    let to = words.next("HOST:PORT")?.to_owned();
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

fn expect(words: &mut Words<'_>) -> Result<Action, String> {
    if words.take("load") {
        let name = words.next("NAME")?.to_owned();
        for word in ["failures", "at", "most"] {
            words.expect(word)?;
        }
        return Ok(Action::ExpectLoad {
            name,
            failures: words.number("failures at most")?,
        });
    }
    let from = words.place()?;
    let (to, finding) = match words.next("reaches or misses")? {
        "reaches" => {
            let to = words.next("HOST:PORT")?.to_owned();
            let by = if words.take("at") {
                Some(words.next("POD")?.to_owned())
            } else {
                None
            };
            (to, by.map_or(Finding::Answered, Finding::AnsweredBy))
        }
        "misses" => (words.next("HOST:PORT")?.to_owned(), Finding::Unanswered),
        other => return Err(format!("expect {from} {other}: write reaches or misses")),
    };
    Ok(Action::Expect(Expectation {
        from,
        to,
        finding,
        within: words.within()?,
    }))
}

/// `200ms`, `2s` or `0.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parse = || {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 0.001),
            None => (text.strip_suffix('s')?, 1.0),
        };
        Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
    };
    parse().ok_or_else(|| format!("{text:?} is no duration such as 200ms or 2s"))
}

/// The words of a line that are still to be read.
struct Words<'a>(std::collections::VecDeque<&'a str>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.0
            .pop_front()
            .ok_or_else(|| format!("the line ends where {what} was expected"))
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.0.front() == Some(&word);
        if there {
            self.0.pop_front();
        }
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        match self.next(word)? {
            found if found == word => Ok(()),
            found => Err(format!("{found:?} where {word:?} was expected")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next("a number")?;
        word.parse()
            .map_err(|_| format!("{what} {word}: not a number that fits"))
    }

    fn place(&mut self) -> Result<Where, String> {
        self.next("a place")?
            .parse()
            .map_err(|error: crate::cluster::ParsePlaceError| error.to_string())
    }

    fn name(&mut self, what: &str) -> Result<Name, String> {
        let word = self.next(what)?;
        let (namespace, name) = word.split_once('/').unwrap_or(("default", word));
        Ok(Name {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn within(&mut self) -> Result<Duration, String> {
        if self.take("within") {
            duration(self.next("DURATION")?)
        } else {
            Ok(PATIENCE)
        }
    }

    fn rest(&mut self) -> Vec<String> {
        self.0.drain(..).map(str::to_owned).collect()
    }

    fn end(mut self) -> Result<(), String> {
        let rest = self.rest();
        if rest.is_empty() {
            Ok(())
        } else {
            Err(format!("{:?} is too much", rest.join(" ")))
        }
    }
}

/// How long a step may take that does not say so.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn action_of(line: &str) -> Result<Action, String> {
        parse(line)
            .map(|mut scenario| scenario.steps.remove(0).action)
            .map_err(|error| error.reason)
    }

    #[test]
    fn every_step_is_read() {
        let pod = |name: &str| Where::Pod {
            namespace: "default".into(),
            name: name.into(),
        };
        let name = |namespace: &str, name: &str| Name {
            namespace: namespace.into(),
            name: name.into(),
        };
        let ten = Duration::from_secs(10);
        for (line, action) in [
            ("apply web.yaml", Action::Apply("web.yaml".into())),
            ("wait pods ready", Action::WaitPods { within: ten }),
            (
                "wait pod shop/a gone within 500ms",
                Action::WaitGone {
                    name: name("shop", "a"),
                    within: Duration::from_millis(500),
                },
            ),
            (
                "wait service web addresses",
                Action::WaitService {
                    name: name("default", "web"),
                    within: ten,
                },
            ),
            (
                "patch service shop/web {\"spec\": {\"type\": \"NodePort\"}}",
                Action::PatchService {
                    name: name("shop", "web"),
                    patch: serde_json::json!({"spec": {"type": "NodePort"}}),
                },
            ),
            (
                "delete pod a grace 0",
                Action::DeletePod {
                    name: name("default", "a"),
                    grace: Some(0),
                },
            ),
            ("cut node-2", Action::Cut("node-2".into())),
            ("restore node-2", Action::Restore("node-2".into())),
            (
                "kill agent node-1",
                Action::Kill(Part::Agent("node-1".into())),
            ),
            ("start api", Action::Start(Part::Api)),
            ("sleep 0.5s", Action::Sleep(Duration::from_millis(500))),
            (
                "load l from pod/c to web:80 rate 200 for 2s",
                Action::Load(Load {
                    name: "l".into(),
                    from: pod("c"),
                    to: "web:80".into(),
                    rate: 200,
                    lasting: Duration::from_secs(2),
                }),
            ),
            (
                "expect load l failures at most 0",
                Action::ExpectLoad {
                    name: "l".into(),
                    failures: 0,
                },
            ),
            (
                "expect outside misses 10.96.0.1:443 within 1s",
                Action::Expect(Expectation {
                    from: Where::Outside,
                    to: "10.96.0.1:443".into(),
                    finding: Finding::Unanswered,
                    within: Duration::from_secs(1),
                }),
            ),
            (
                "expect pod/c reaches web:80 at web-0",
                Action::Expect(Expectation {
                    from: pod("c"),
                    to: "web:80".into(),
                    finding: Finding::AnsweredBy("web-0".into()),
                    within: ten,
                }),
            ),
            (
                "run node-1 -- true x",
                Action::Run {
                    place: Where::Node("node-1".into()),
                    command: vec!["true".into(), "x".into()],
                    within: None,
                },
            ),
            (
                "run outside within 2s -- daymark ask web:80",
                Action::Run {
                    place: Where::Outside,
                    command: vec!["daymark".into(), "ask".into(), "web:80".into()],
                    within: Some(Duration::from_secs(2)),
                },
            ),
        ] {
            assert_eq!(action_of(line).as_ref(), Ok(&action), "{line}");
        }
    }

    #[test]
    fn a_bad_line_is_named_with_what_would_be_right() {
        for (text, line, reason) in [
            ("\n# x\nfly", 3, "\"fly\" is no step"),
            ("sleep 5", 1, "\"5\" is no duration such as 200ms or 2s"),
            ("wait pods", 1, "the line ends where ready was expected"),
            ("cut node-1 now", 1, "\"now\" is too much"),
            (
                "cut a\nnodes 2",
                2,
                "nodes must come before everything else",
            ),
            (
                "cut a\nagents --announce",
                2,
                "agents must come before everything else",
            ),
            ("patch service a {spec}", 1, "\"{spec}\" is no JSON"),
            ("nodes 900", 1, "nodes 900: not a number that fits"),
            ("kill dns", 1, "\"dns\" is no part of a lab"),
            (
                "expect pod/a sees b:1",
                1,
                "expect pod/default/a sees: write reaches or misses",
            ),
            ("run node-1 --", 1, "a COMMAND must follow --"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.reason.starts_with(reason), "{text}: {}", error.reason);
        }
    }

    #[test]
    fn a_scenario_may_choose_its_number_of_nodes() {
        assert_eq!(parse("nodes 5\nsleep 1s").unwrap().nodes, 5);
        assert_eq!(parse("sleep 1s").unwrap().nodes, 3);
    }
}
