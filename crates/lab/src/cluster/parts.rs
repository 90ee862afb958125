//! Which processes of a lab run, and how the others ended.

use std::io;

use serde::{Deserialize, Serialize};

use super::kubeconfig::write_private;
use super::{Cluster, Running};
use crate::child::Child;

/// A process of a lab, as the lab's keeper last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// `api`, `controller`, `agent-NODE`, `kubelet-NODE` or `outside`.
    pub name: String,
    /// Its process id inside the lab.
    pub pid: u32,
    /// How it ended; nothing while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

impl PartState {
    fn of(name: String, child: &mut Child) -> Self {
        Self {
            name,
            pid: child.pid(),
            ended: child.ended().map(|status| status.to_string()),
        }
    }
}

impl Cluster {
    /// The state of every process, in order.
    pub fn part_states(&mut self) -> Vec<PartState> {
        let parts = self.parts.iter_mut();
        parts
            .map(|(part, child)| PartState::of(part.to_string(), child))
            .collect()
    }

    /// Writes the state of every process into the state folder, for [`Running::part_states`].
    ///
    /// # Errors
    /// As the file system gives them.
    pub fn write_part_states(&mut self) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&self.part_states())?;
        write_private(&self.spec.state.join(FILE), &text)
    }
}

impl Running {
    /// The state of every process, as its keeper wrote it down; nothing of a lab that writes none.
    pub fn part_states(&self) -> Vec<PartState> {
        std::fs::read_to_string(self.state().join(FILE))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }
}

/// Why a lab's API does not answer: a part that ended explains more than what the client saw.
pub(super) fn explain(parts: &[PartState], seen: &str) -> String {
    let ended: Vec<String> = parts
        .iter()
        .filter_map(|part| Some(format!("{} ended ({})", part.name, part.ended.as_ref()?)))
        .collect();
    if ended.is_empty() {
        return format!("the API does not answer: {seen}");
    }
    format!(
        "the API does not answer: {}; logs/ in the lab's folder may say why, daymark lab down and up build it anew",
        ended.join(", ")
    )
}

const FILE: &str = "parts.json";

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    fn part(name: &str, ended: Option<&str>) -> PartState {
        PartState {
            name: name.to_owned(),
            pid: 7,
            ended: ended.map(str::to_owned),
        }
    }

    #[test]
    fn an_api_that_does_not_answer_is_explained_by_what_ended() {
        let dead = [
            part("api", Some("signal: 9 (SIGKILL)")),
            part("outside", None),
        ];
        let text = explain(&dead, "no answer within 5 s");
        assert!(text.contains("api ended (signal: 9 (SIGKILL));"), "{text}");
        assert_eq!(
            explain(&[part("api", None)], "no answer within 5 s"),
            "the API does not answer: no answer within 5 s"
        );
    }

    #[test]
    fn a_process_is_seen_running_and_then_how_it_ended() {
        let log =
            std::env::temp_dir().join(format!("daymark-part-state-{}.log", std::process::id()));
        let mut command = Command::new("/bin/sleep");
        let mut child = Child::start("api", log.clone(), command.arg("60")).unwrap();
        assert_eq!(PartState::of("api".to_owned(), &mut child).ended, None);
        let raw = rustix::process::Pid::from_raw(child.pid().cast_signed()).unwrap();
        rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
        let ended = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            PartState::of("api".to_owned(), &mut child).ended
        });
        assert_eq!(ended.as_deref(), Some("signal: 9 (SIGKILL)"));
        std::fs::remove_file(log).unwrap();
    }
}
