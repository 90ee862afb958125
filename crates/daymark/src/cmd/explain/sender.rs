//! Who sends: what the API knows of a Pod, and whether an answer is about it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use daymark_node::ask::wire::From;
use kube::Client;

use super::{Findings, Who, pods};

/// Who sends, resolved.
pub(super) struct Sender {
    pub(super) name: String,
    pub(super) from: From,
    /// The node whose agent decides about its packets.
    pub(super) node: Option<String>,
}

impl Sender {
    /// A Pod, as the API has it.
    ///
    /// # Errors
    /// If there is no API at hand, no such Pod in it, or no answer in time.
    pub(super) async fn pod(
        api: Option<&Client>,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Self> {
        let api = api.with_context(|| {
            format!(
                "--from pod/{name}: its address is in the API: give --kubeconfig, or the address itself, as --from ADDRESS, which \
                 kubectl -n {namespace} get pod {name} -o jsonpath='{{.status.podIP}}' prints"
            )
        })?;
        let found = tokio::time::timeout(PATIENCE, pods::client(api, namespace, name)).await;
        let (from, node) = found.with_context(|| {
            format!(
                "--from pod/{name}: the API did not answer within {} s",
                PATIENCE.as_secs()
            )
        })??;
        Ok(Self {
            name: format!("pod/{name}"),
            from,
            node,
        })
    }

    /// Whoever has these addresses.
    pub(super) fn addresses(ips: &[IpAddr]) -> Self {
        Self {
            name: listed(ips),
            from: From::Addresses(ips.to_vec()),
            node: None,
        }
    }

    /// Whom `--from` beside `--answer` says that an answer is about.
    ///
    /// # Errors
    /// Those of [`Self::pod`], and for whoever is known where the agent was asked alone.
    pub(super) async fn claimed(
        who: &Who,
        api: Option<&Client>,
        namespace: &str,
    ) -> anyhow::Result<Self> {
        match who {
            Who::Pod(other, name) => {
                Self::pod(api, other.as_deref().unwrap_or(namespace), name).await
            }
            Who::Addresses(ips) => Ok(Self::addresses(ips)),
            Who::OwnPod | Who::Node(_) | Who::Outside => bail!(
                "--answer is about who it says; --from beside it may be pod/NAME or addresses, which are held against that: give any other \
                 where the agent is asked"
            ),
        }
    }

    /// What to know if an agent answered that does not decide about these packets.
    pub(super) fn elsewhere(&self, answered: &str) -> Option<String> {
        let node = self.node.as_deref().filter(|node| *node != answered)?;
        Some(format!(
            "{} is on {node}, whose agent decides about its packets: ask that one. This is what {answered} does with such packets",
            self.name
        ))
    }

    /// Nothing if an answer that was given elsewhere is about this one. One address of several will do: an agent answers for those that
    /// it was told.
    ///
    /// # Errors
    /// How to ask for one that is.
    pub(super) fn is_meant_by(&self, findings: &Findings) -> anyhow::Result<()> {
        let (name, client) = (&self.name, &findings.explained.client);
        let about = format!("the answer is about {} ({})", findings.from, listed(client));
        let agent = match &self.node {
            Some(node) => format!("the agent of {node}"),
            None => "the agent".to_owned(),
        };
        match &self.from {
            From::Pod { addresses, .. } | From::Addresses(addresses) => {
                let is_theirs = client.iter().all(|ip| addresses.contains(ip));
                let has = listed(addresses);
                ensure!(
                    is_theirs && !client.is_empty(),
                    "--from {name}: {about}, and not about {has}: ask {agent} with --from {has}"
                );
            }
            From::Node | From::OwnPod | From::Outside => {
                let is_node = findings.from == NODE || findings.from.starts_with("node/");
                ensure!(
                    is_node,
                    "--from {name}: {about}, and that Pod is in its node's network: ask {agent} with --from node"
                );
            }
        }
        Ok(())
    }
}

fn listed(ips: &[IpAddr]) -> String {
    let shown: Vec<String> = ips.iter().map(ToString::to_string).collect();
    shown.join(",")
}

/// The node of the agent, for people.
pub(super) const NODE: &str = "the node itself";
/// How long the API may take.
const PATIENCE: Duration = Duration::from_secs(5);
