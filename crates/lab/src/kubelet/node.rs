//! The Node object and its Lease: how the cluster knows that this node lives.

use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Config;
use super::api::in_time;
use super::worker::Kubelet;
use crate::clock;
use crate::cluster::whole_seconds;

/// Registers the Node and keeps it alive, for ever. A failed second is tried again the next.
pub(super) async fn keep_alive(kubelet: Rc<Kubelet>) {
    let mut outage = true;
    loop {
        match in_time(beat(&kubelet, outage)).await {
            Some(Ok(())) => {
                if std::mem::take(&mut outage) {
                    tracing::info!(node = %kubelet.config.node, "registered with the API");
                    kubelet.session.back();
                }
                tokio::time::sleep(kubelet.config.lease_renew).await;
            }
            failed => {
                outage = true;
                let error = failed.map_or_else(
                    || "no answer in time".to_owned(),
                    |result| format!("{result:?}"),
                );
                tracing::warn!(node = %kubelet.config.node, %error, "the API is out of reach");
                kubelet.session.renew().await;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The Lease comes first: after an outage it is what the cluster waits for, and the rest may take its time.
async fn beat(kubelet: &Kubelet, after_outage: bool) -> Result<(), kube::Error> {
    renew_lease(kubelet).await?;
    let nodes: Api<Node> = Api::all(kubelet.session.client());
    let name = &kubelet.config.node;
    match nodes.get_opt(name).await? {
        Some(node) if is_ready(&node) && !after_outage => {}
        Some(_) => {
            let body = registration(&kubelet.config);
            nodes
                .patch(name, &PatchParams::default(), &Patch::Merge(&body))
                .await?;
            report(&nodes, &kubelet.config).await?;
        }
        None => {
            let node = serde_json::from_value(registration(&kubelet.config))
                .map_err(kube::Error::SerdeError)?;
            nodes.create(&PostParams::default(), &node).await?;
            report(&nodes, &kubelet.config).await?;
        }
    }
    Ok(())
}

async fn report(nodes: &Api<Node>, config: &Config) -> Result<(), kube::Error> {
    let status = json!({ "status": status(config, Time(clock::now())) });
    nodes
        .patch_status(
            &config.node,
            &PatchParams::default(),
            &Patch::Merge(&status),
        )
        .await
        .map(drop)
}

async fn renew_lease(kubelet: &Kubelet) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(kubelet.session.client(), LEASES);
    let name = &kubelet.config.node;
    let body = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": lease_seconds(kubelet.config.lease_renew),
            "renewTime": MicroTime(clock::now()),
        },
    });
    match leases
        .patch(name, &PatchParams::default(), &Patch::Merge(&body))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
            leases
                .create(&PostParams::default(), &lease)
                .await
                .map(drop)
        }
        other => other.map(drop),
    }
}

/// Three renewals, so that one that is late does no harm.
fn lease_seconds(renew: Duration) -> u64 {
    whole_seconds(renew.saturating_mul(3)).as_secs()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The Node without its status.
fn registration(config: &Config) -> Value {
    let labels: serde_json::Map<String, Value> = config
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.clone())))
        .collect();
    let cidrs: Vec<String> = config.pod_cidrs.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": config.node, "labels": labels },
        "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs },
    })
}

fn status(config: &Config, now: Time) -> Value {
    let addresses = config
        .addresses
        .iter()
        .map(|prefix| json!({ "type": "InternalIP", "address": prefix.address }));
    let hostname = json!({ "type": "Hostname", "address": config.node });
    json!({
        "addresses": addresses.chain([hostname]).collect::<Vec<_>>(),
        "capacity": { "cpu": "1", "memory": "1Gi", "pods": "110" },
        "allocatable": { "cpu": "1", "memory": "1Gi", "pods": "110" },
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "the lab's kubelet runs",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "architecture": std::env::consts::ARCH,
            "operatingSystem": "linux",
            "osImage": "daymark lab",
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-daymark-lab"),
            "kubeProxyVersion": "",
            "containerRuntimeVersion": "lab://processes",
            "kernelVersion": kernel_version(),
            "bootID": "",
            "machineID": "",
            "systemUUID": "",
        },
    })
}

fn kernel_version() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

const LEASES: &str = "kube-node-lease";
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_for_three_renewals_in_whole_seconds() {
        let check = |renew, seconds| {
            assert_eq!(
                lease_seconds(Duration::from_millis(renew)),
                seconds,
                "{renew}"
            );
        };
        check(1000, 3);
        check(1, 1);
        check(333, 1);
        check(334, 2);
        check(10_000, 30);
    }
}
