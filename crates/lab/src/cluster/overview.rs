//! What a running lab looks like from outside.

use std::fmt;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

use super::kubeconfig::KubeconfigError;
use super::running::{Running, RunningError};

/// The nodes and Pods of a lab, as its API knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The API's address for this machine's shells.
    pub api: String,
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
    /// Asks the lab's API over the machine's loopback.
    ///
    /// # Errors
    /// [`RunningError::Api`].
    pub async fn overview(&self) -> Result<Overview, RunningError> {
        let path = self.kubeconfig();
        let bad = |reason: String| KubeconfigError::Read {
            path: path.clone(),
            reason,
        };
        let file = Kubeconfig::read_from(&path).map_err(|error| bad(error.to_string()))?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let config = config.map_err(|error| bad(error.to_string()))?;
        let api = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| bad(error.to_string()))?;
        let nodes = Api::<Node>::all(client.clone())
            .list(&ListParams::default())
            .await?;
        let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
        Ok(Overview {
            api,
            nodes: nodes.iter().map(node).collect(),
            pods: pods.iter().map(pod).collect(),
        })
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
