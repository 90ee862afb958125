//! What a running lab looks like from outside.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

use super::Part;
use super::kubeconfig::KubeconfigError;
use super::parts::{PartState, explain};
use super::running::{Running, RunningError};

/// The processes of a lab, and its nodes and Pods, as its API knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The API's address for this machine's shells.
    pub api: String,
    /// The processes.
    pub parts: Vec<PartState>,
    /// Why the API does not answer; then nodes and Pods are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The nodes.
    pub nodes: Vec<Line>,
    /// The Pods of every namespace.
    pub pods: Vec<Line>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its name; of a Pod, after its namespace.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The node it runs on; of a node, nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Running {
    /// Asks the lab's API over the machine's loopback, for some seconds at most.
    pub async fn overview(&self) -> Overview {
        let parts = self.part_states();
        let dead = |part: &PartState| part.name == Part::Api.to_string() && part.ended.is_some();
        // The lab keeps the API's sockets open: without a server, who asks would wait for nothing.
        let answer = if parts.iter().any(dead) {
            Err("no process serves it".to_owned())
        } else {
            tokio::time::timeout(PATIENCE, self.ask())
                .await
                .map_err(|_| format!("nothing came within {} s", PATIENCE.as_secs()))
                .and_then(|answer| answer.map_err(|error| error.to_string()))
        };
        let (problem, (nodes, pods)) = match answer {
            Ok(lines) => (None, lines),
            // Read again: what ended may have ended just now.
            Err(seen) => (
                Some(explain(&self.part_states(), &seen)),
                Default::default(),
            ),
        };
        let port = self.record().api_port;
        Overview {
            api: port.map_or_else(String::new, |port| format!("https://127.0.0.1:{port}/")),
            parts,
            problem,
            nodes,
            pods,
        }
    }

    /// The nodes and the Pods.
    async fn ask(&self) -> Result<(Vec<Line>, Vec<Line>), RunningError> {
        let path = self.kubeconfig();
        let bad = |reason: String| KubeconfigError::Read {
            path: path.clone(),
            reason,
        };
        let file = Kubeconfig::read_from(&path).map_err(|error| bad(error.to_string()))?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let config = config.map_err(|error| bad(error.to_string()))?;
        let client = Client::try_from(config).map_err(|error| bad(error.to_string()))?;
        let nodes = Api::<Node>::all(client.clone())
            .list(&ListParams::default())
            .await?;
        let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
        Ok((
            nodes.iter().map(node).collect(),
            pods.iter().map(pod).collect(),
        ))
    }
}

fn node(node: &Node) -> Line {
    let status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let internal = status
        .addresses
        .unwrap_or_default()
        .into_iter()
        .filter(|address| address.type_ == "InternalIP");
    Line {
        name: node.metadata.name.clone().unwrap_or_default(),
        ready: conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        addresses: internal.map(|address| address.address).collect(),
        node: None,
    }
}

fn pod(pod: &Pod) -> Line {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
    Line {
        name: format!(
            "{}/{}",
            namespace.unwrap_or_default(),
            name.unwrap_or_default()
        ),
        ready: conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        addresses: status
            .pod_ips
            .unwrap_or_default()
            .into_iter()
            .map(|ip| ip.ip)
            .collect(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "API  {}", self.api)?;
        for part in &self.parts {
            let (state, how) = match &part.ended {
                None => ("running", format!("pid {} in the lab", part.pid)),
                Some(how) => ("ended", how.clone()),
            };
            writeln!(f, "part {:<32} {state:<9}  {how}", part.name)?;
        }
        for (kind, lines) in [("node", &self.nodes), ("pod", &self.pods)] {
            for line in lines {
                let ready = if line.ready { "ready" } else { "not ready" };
                let at = line
                    .node
                    .as_ref()
                    .map(|node| format!("  on {node}"))
                    .unwrap_or_default();
                writeln!(
                    f,
                    "{kind:<4} {:<32} {ready:<9}  {}{at}",
                    line.name,
                    line.addresses.join(" ")
                )?;
            }
        }
        Ok(())
    }
}

/// How long the API may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_has_a_line_that_says_how() {
        let part = |name: &str, ended: Option<&str>| PartState {
            name: name.to_owned(),
            pid: 12,
            ended: ended.map(str::to_owned),
        };
        let overview = Overview {
            api: "https://127.0.0.1:1/".to_owned(),
            parts: vec![
                part("api", None),
                part("agent-node-1", Some("signal: 9 (SIGKILL)")),
            ],
            problem: None,
            nodes: Vec::new(),
            pods: Vec::new(),
        };
        let text = overview.to_string();
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[1],
            ["part", "api", "running", "pid", "12", "in", "the", "lab"]
        );
        assert_eq!(
            words[2],
            ["part", "agent-node-1", "ended", "signal:", "9", "(SIGKILL)"]
        );
    }
}
