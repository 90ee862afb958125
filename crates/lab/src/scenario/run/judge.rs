//! What is made of the answers to requests.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::cluster::node_plan;
use crate::scenario::{Finding, Seen};

/// What one request found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This Pod answered, and saw this client.
    Pod { name: String, client: IpAddr },
    /// An HTTP server.
    Code { code: u16, body: String },
    /// Nobody.
    Error(String),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod { name, client } => write!(f, "answered by {name}, which saw {client}"),
            Self::Code { code, body } => write!(f, "{code} {body}"),
            Self::Error(text) => f.write_str(text),
        }
    }
}

/// The lines of `daymark ask`.
pub(super) fn read(output: &[u8]) -> Vec<Answer> {
    String::from_utf8_lossy(output)
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let answer = match words.as_slice() {
                [_, _, "ok", pod, _, client] => client.parse().ok().map(|client| Answer::Pod {
                    name: (*pod).to_owned(),
                    client,
                }),
                [_, _, "code", code, body @ ..] => code.parse().ok().map(|code| Answer::Code {
                    code,
                    body: body.join(" "),
                }),
                [_, _, "error", text @ ..] => Some(Answer::Error(text.join(" "))),
                _ => None,
            };
            answer.unwrap_or_else(|| Answer::Error(format!("not understood: {line}")))
        })
        .collect()
}

/// How many requests a finding needs: one of five Pods is missed once in a million rounds.
pub(super) fn requests(finding: &Finding) -> usize {
    match finding {
        Finding::OnlyBy { pods, .. } => 14 * pods.len(),
        Finding::OneForAll | Finding::Several { every: None } => 20,
        _ => 1,
    }
}

/// Between the requests of a finding that counts what earlier ones found.
pub(super) fn pause(finding: &Finding) -> Option<Duration> {
    match finding {
        Finding::Several { every } => *every,
        _ => None,
    }
}

/// Whether the answers are what was expected: what was found, or what is missing.
pub(super) fn judge(
    finding: &Finding,
    answers: &[Answer],
    own: &[IpAddr],
) -> Result<String, String> {
    let first = answers.first().ok_or("it never asked")?;
    let found: BTreeSet<&str> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Pod { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let holds = match finding {
        Finding::Answered { by, seen } => {
            let right = |name: &str| by.as_ref().is_none_or(|by| by == name);
            matches!(first, Answer::Pod { name, .. } if right(name))
                && saw(answers, seen.as_ref(), own)
        }
        Finding::OnlyBy { pods, seen } => {
            all_answered(answers)
                && found.iter().copied().eq(pods.iter().map(String::as_str))
                && saw(answers, seen.as_ref(), own)
        }
        Finding::OneForAll => all_answered(answers) && found.len() == 1,
        Finding::Several { .. } => all_answered(answers) && found.len() > 1,
        Finding::Unanswered => matches!(first, Answer::Error(_)),
        Finding::Refused => matches!(first, Answer::Error(text) if text.contains(REFUSED)),
        Finding::Silence => matches!(first, Answer::Error(text) if text.contains(SILENCE)),
        Finding::Code { code, body } => {
            let says = |text: &str| body.as_ref().is_none_or(|body| text.contains(body));
            matches!(first, Answer::Code { code: found, body } if found == code && says(body))
        }
    };
    let summary = summary(answers, &found);
    if holds { Ok(summary) } else { Err(summary) }
}

fn all_answered(answers: &[Answer]) -> bool {
    let is_answer = |answer: &Answer| matches!(answer, Answer::Pod { .. });
    answers.iter().all(is_answer)
}

/// Whether every Pod that answered saw the source that it should.
fn saw(answers: &[Answer], seen: Option<&Seen>, own: &[IpAddr]) -> bool {
    answers.iter().all(|answer| match (answer, seen) {
        (Answer::Pod { client, .. }, Some(Seen::Itself)) => own.contains(client),
        (Answer::Pod { client, .. }, Some(Seen::Another)) => !own.contains(client),
        (Answer::Pod { client, .. }, Some(Seen::Node(node))) => {
            node_addresses(node).contains(client)
        }
        _ => true,
    })
}

/// What was found, in few words: Pods, and the first of whatever is no Pod.
fn summary(answers: &[Answer], found: &BTreeSet<&str>) -> String {
    if let [only] = answers {
        return only.to_string();
    }
    let pods: Vec<&str> = found.iter().copied().collect();
    let mut text = format!(
        "{} requests, answered by {}",
        answers.len(),
        pods.join(", ")
    );
    if let Some(other) = answers
        .iter()
        .find(|answer| !matches!(answer, Answer::Pod { .. }))
    {
        text += &format!("; {other}");
    }
    text
}

/// The addresses of `node-N`.
pub(super) fn node_addresses(name: &str) -> Vec<IpAddr> {
    let number = name
        .strip_prefix("node-")
        .and_then(|text| text.parse().ok());
    let plan = number.map(node_plan);
    let addresses = plan.iter().flat_map(|plan| &plan.addresses);
    addresses.map(|prefix| prefix.address).collect()
}

const REFUSED: &str = "os error 111";
const SILENCE: &str = "no answer in time";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(finding: &Finding, output: &str) -> bool {
        let own = ["10.244.1.5".parse().unwrap()];
        judge(finding, &read(output.as_bytes()), &own).is_ok()
    }

    #[test]
    fn answers_are_judged_by_who_answered() {
        let only = |pods: &[&str]| Finding::OnlyBy {
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
            seen: None,
        };
        let two = "1 2 ok a n 10.0.0.1\n1 2 ok b n 10.0.0.1";
        let one = "1 2 ok a n 10.0.0.1\n1 2 ok a n 10.0.0.1";
        let lost = "1 2 ok a n 10.0.0.1\n1 2 error no answer in time";
        for (finding, output, holds) in [
            (only(&["a", "b"]), two, true),
            (only(&["a"]), two, false),
            (only(&["a", "b"]), one, false),
            (only(&["a"]), lost, false),
            (Finding::OneForAll, one, true),
            (Finding::OneForAll, two, false),
            (Finding::OneForAll, lost, false),
            (Finding::Several { every: None }, two, true),
            (Finding::Several { every: None }, one, false),
            (Finding::Unanswered, one, false),
            (Finding::Unanswered, "1 2 error x", true),
            (
                Finding::Refused,
                "1 2 error connect: refused (os error 111)",
                true,
            ),
            (Finding::Refused, "1 2 error no answer in time", false),
            (Finding::Silence, "1 2 error no answer in time", true),
            (
                Finding::Silence,
                "1 2 error connect: refused (os error 111)",
                false,
            ),
            (Finding::Silence, "", false),
        ] {
            assert_eq!(found(&finding, output), holds, "{finding:?} {output}");
        }
    }

    #[test]
    fn answers_are_judged_by_the_source_seen() {
        let answered = |by: Option<&str>, seen| Finding::Answered {
            by: by.map(str::to_owned),
            seen,
        };
        let own = "1 2 ok a n 10.244.1.5";
        let node = "1 2 ok a n 172.30.0.12";
        for (finding, output, holds) in [
            (answered(None, Some(Seen::Itself)), own, true),
            (answered(None, Some(Seen::Itself)), node, false),
            (answered(None, Some(Seen::Another)), own, false),
            (answered(None, Some(Seen::Another)), node, true),
            (
                answered(None, Some(Seen::Node("node-2".into()))),
                node,
                true,
            ),
            (
                answered(None, Some(Seen::Node("node-1".into()))),
                node,
                false,
            ),
            (answered(Some("a"), None), node, true),
            (answered(Some("b"), None), node, false),
        ] {
            assert_eq!(found(&finding, output), holds, "{finding:?} {output}");
        }
    }

    #[test]
    fn a_status_code_is_judged_with_its_body() {
        let code = |code, body: Option<&str>| Finding::Code {
            code,
            body: body.map(str::to_owned),
        };
        let output = "1 2 code 503 {\"localEndpoints\": 0}";
        assert!(found(&code(503, None), output));
        assert!(found(&code(503, Some("\"localEndpoints\": 0")), output));
        assert!(!found(&code(503, Some("1")), output));
        assert!(!found(&code(200, None), output));
    }
}
